"""Listings of a bucket of 1,000 objects that have a million old versions and delete markers, from
one `s3d` over HTTP; the old bodies lie in the metadata.

    versions.list         a page of ListObjectsV2, all 1,000 objects; yardstick: of a bucket of as
                          many objects with one version each
    versions.list.all     a page of ListObjectVersions, 1,000 of them, at changing places;
                          yardstick: the same of the other bucket
    versions.member.list  what the page of ListObjectsV2 takes without S3, by the member's client;
                          yardstick: the same of the other bucket
    versions.member.list.all  the same of ListObjectVersions
    versions.memory       anonymous memory of the process, a member and five nodes, in MiB, when
                          all rows are there and listed; yardstick: before

VERSIONS=n for fewer than a million.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from benchmarks.asking import S3
from benchmarks.measure import Row, medians_row
from benchmarks.served import Served, s3d, scratch
from predastore._fast.crc import crc32c
from predastore.base import config
from predastore.catalog import keys, refusals
from predastore.catalog.keys import BUCKETS, INLINE, OBJECTS, VERSIONS
from predastore.catalog.procedures.questions import ListedVersions, ListVersions
from predastore.catalog.rows import (
    NO_LAYOUT,
    BucketRow,
    CurrentRow,
    Detail,
    Kind,
    Summary,
    VersionRow,
)
from predastore.process import credentials
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.client import Client
from predastore.s3db.commands import Put, batch
from predastore.storage.formats import decode, encode, pack

OLD: Final = int(os.environ.get("VERSIONS", "1000000"))
OBJECTS_COUNT: Final = 1_000
PUTS_PER_COMMIT: Final = 4_000
LOADERS: Final = 2
PAGES: Final = 40
BODY: Final = os.urandom(256)
RAFT_PORT: Final = 7660
MANY, FEW = "many", "few"
_DETAIL: Final = msgspec.Raw(pack(Detail("image/jpeg")))
_ENABLED: Final = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Status>Enabled</Status></VersioningConfiguration>"
)


def rows() -> list[Row]:
    with scratch() as folder, s3d(folder) as served:
        return asyncio.run(_measured(served))


async def _measured(served: Served) -> list[Row]:
    with closing(S3(served)) as s3:
        for bucket in (MANY, FEW):
            s3.ask("PUT", f"/{bucket}")
            s3.ask("PUT", f"/{bucket}", "versioning=", _ENABLED)
        before = _anonymous_mib(served)
        settings = config.load(served.folder / "bench.toml")
        key = credentials.cluster_key(settings, settings.auth)
        endpoint = Endpoint(cluster_key=key, certificate=self_signed(), name="bench")
        try:
            endpoint.add_peer("db/1", served.host, RAFT_PORT)
            client = Client(endpoint, [1], None)
            ids = {bucket: await _bucket_id(client, bucket) for bucket in (MANY, FEW)}
            for bucket, old in ((MANY, OLD // OBJECTS_COUNT), (FEW, 0)):
                await _load(client, bucket, ids[bucket], old)
            await _check(client, ids[MANY])
            found = [_list(s3), _list_all(s3)]
            found += await _by_member(client, ids)
        finally:
            await endpoint.close()
        after = _anonymous_mib(served)
    return [*found, medians_row("versions.memory", "MiB", [after], "before", [before])]


async def _bucket_id(client: Client, bucket: str) -> bytes:
    stored = await client.get(BUCKETS, keys.bucket(bucket))
    if stored is None:
        raise RuntimeError(f"there is no bucket {bucket}")
    return decode(BucketRow, stored).id


def _anonymous_mib(served: Served) -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


# --- the rows that are there ----------------------------------------------------------------


async def _load(client: Client, bucket: str, bucket_id: bytes, old: int) -> None:
    """Of each object a version without bytes on top, below it markers and versions by turns."""
    puts = _puts(bucket, bucket_id, old)

    async def loader() -> None:
        while some := list(islice(puts, PUTS_PER_COMMIT)):
            await client.commit(batch(*some), timeout_ms=60_000)

    await asyncio.gather(*(loader() for _ in range(LOADERS)))


def _puts(bucket: str, bucket_id: bytes, old: int) -> Iterator[Put]:
    for number in range(OBJECTS_COUNT):
        key = _key(number)
        for order in range(1, old + 1):
            yield from _version(bucket_id, key, order, is_marker=order % 2 == 1)
        order = old + 1
        yield from _version(bucket_id, key, order)
        current = CurrentRow(order, bytes(8), _summary(0))
        yield Put(OBJECTS, keys.current(bucket, key), encode(current))


def _version(bucket_id: bytes, key: str, order: int, *, is_marker: bool | None = None) -> list[Put]:
    """`is_marker`: None for an object of no bytes."""
    has_body = is_marker is False
    layout = os.urandom(32) if has_body else NO_LAYOUT
    row = VersionRow(
        random=bytes(8),
        is_null=False,
        is_marker=bool(is_marker),
        kind=Kind.INLINE if has_body else Kind.NOWHERE,
        layout=layout,
        summary=_summary(len(BODY) if has_body else 0),
        detail=_DETAIL,
    )
    puts = [Put(VERSIONS, keys.version(bucket_id, key, order), encode(row))]
    if has_body:
        puts.append(Put(INLINE, layout, crc32c(BODY).to_bytes(4, "big") + BODY))
    return puts


async def _check(client: Client, bucket_id: bytes) -> None:
    """Lists them all; RuntimeError unless they are as many as they should be."""
    count, key, order, has_more = 0, "", None, True
    while has_more:
        asked = ListVersions(bucket_id, "", "", key, order, OBJECTS_COUNT)
        answer = await client.ask("version.list", asked.encode())
        page = refusals.read(ListedVersions, answer)
        count += len(page.versions)
        key, order, has_more = page.next_key, page.next_order, page.is_truncated
    if count != OBJECTS_COUNT * (OLD // OBJECTS_COUNT + 1):
        raise RuntimeError(f"there are {count} versions")


def _key(number: int) -> str:
    return f"photos/2026/{number:06d}.jpg"


def _summary(size: int) -> Summary:
    return Summary(size, "d41d8cd98f00b204e9800998ecf8427e", 1_790_000_000_000, "000000000001")


# --- what is measured -----------------------------------------------------------------------


def _timed_page(s3: S3, bucket: str, query: str, entries: bytes) -> float:
    """Milliseconds of a page of a thousand; RuntimeError for one of fewer."""
    began = time.perf_counter()
    found = s3.ask("GET", f"/{bucket}", query)
    taken_ms = (time.perf_counter() - began) * 1e3
    if len(re.findall(entries, found)) != OBJECTS_COUNT:
        raise RuntimeError(f"a page of {query} is not whole")
    return taken_ms


def _list(s3: S3) -> Row:
    many, few = [], []
    for _ in range(PAGES):
        many.append(_timed_page(s3, MANY, "list-type=2", rb"<Contents>"))
        few.append(_timed_page(s3, FEW, "list-type=2", rb"<Contents>"))
    return medians_row("versions.list", "ms", many, "one version each", few)


def _list_all(s3: S3) -> Row:
    many, few = [], []
    for key in _places():
        query = f"key-marker={quote(key, safe='')}&versions="
        many.append(_timed_page(s3, MANY, query, rb"<(?:Version|DeleteMarker)>"))
        few.append(_timed_page(s3, FEW, "versions=", rb"<(?:Version|DeleteMarker)>"))
    return medians_row("versions.list.all", "ms", many, "one version each", few)


def _places() -> Iterator[str]:
    """Keys behind which there is a page, where there are so many old versions."""
    choose = random.Random(1)
    last = OBJECTS_COUNT - OBJECTS_COUNT // max(1, OLD // OBJECTS_COUNT) - 1
    for _ in range(PAGES):
        yield _key(choose.randrange(max(1, last)))


async def _by_member(client: Client, ids: dict[str, bytes]) -> list[Row]:
    async def list_objects(bucket: str) -> object:
        prefix = keys.current_prefix(bucket)
        return await client.list(OBJECTS, prefix, b"", b"", OBJECTS_COUNT)

    async def list_versions(bucket: str) -> object:
        asked = ListVersions(ids[bucket], "", "", "", None, OBJECTS_COUNT)
        return await client.ask("version.list", asked.encode())

    return [
        await _timed("versions.member.list", list_objects),
        await _timed("versions.member.list.all", list_versions),
    ]


async def _timed(name: str, work: Callable[[str], Awaitable[object]]) -> Row:
    taken: dict[str, list[float]] = {MANY: [], FEW: []}
    for _ in range(PAGES):
        for bucket, values in taken.items():
            began = time.perf_counter()
            await work(bucket)
            values.append((time.perf_counter() - began) * 1e3)
    return medians_row(name, "ms", taken[MANY], "one version each", taken[FEW])

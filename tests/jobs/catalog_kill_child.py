"""A process that does one operation of the catalog after the other, until it is killed.

`python catalog_kill_child.py BACKEND DIRECTORY OPERATION STEP PASSAGE` prints "begin OPERATION"
before each, and "end OPERATION" behind it; the step is armed when OPERATION begins. `Model` is what
there has to be after each.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from predastore.base import failpoints
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Versioning
from predastore.catalog.uploads import Upload
from predastore.jobs import garbage
from support.backends import OWNER, BytesSource, Harness, filesystem, some_bytes
from support.healing import cluster
from support.waiting import until

INLINE_MAX = 200
GRACE_S = 0.2


def small(seed: int) -> bytes:
    return some_bytes(100, seed)


def large(seed: int) -> bytes:
    return some_bytes(30_000, seed)


@dataclass
class Model:
    """Of each bucket and key the bodies of its versions, the newest first, None for a delete
    marker; of each upload the digests of its parts."""

    versions: dict[str, dict[str, list[bytes | None]]] = field(default_factory=dict)
    uploads: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)

    def put(self, bucket: str, key: str, body: bytes | None) -> None:
        chain = self.versions[bucket].setdefault(key, [])
        if bucket != "bucket":
            chain.clear()
        chain.insert(0, body)

    def remove(self, bucket: str, key: str) -> None:
        """The newest version."""
        chain = self.versions[bucket][key]
        del chain[0]
        if not chain:
            del self.versions[bucket][key]

    def part(self, bucket: str, key: str, number: int, body: bytes) -> None:
        self.uploads[bucket, key][number] = hashlib.md5(body).hexdigest()

    def without(self, bucket: str) -> None:
        del self.versions[bucket]
        self.uploads = {of: parts for of, parts in self.uploads.items() if of[0] != bucket}


@dataclass(frozen=True)
class Operation:
    """`change`: what it does to the model."""

    do: Callable[[Harness], Awaitable[object]]
    change: Callable[[Model], object]


def create(bucket: str) -> Operation:
    return Operation(
        lambda at: at.catalog.create_bucket(bucket, OWNER.owner, "eu"),
        lambda model: model.versions.setdefault(bucket, {}),
    )


def put(bucket: str, key: str, body: bytes) -> Operation:
    return Operation(
        lambda at: at.put(key, body, bucket), lambda model: model.put(bucket, key, body)
    )


def copy(source: str, key: str) -> Operation:
    """Without bytes, where the backend can."""

    async def do(at: Harness) -> None:
        found = await at.found(source)
        if at.catalog.can_share(found):
            await at.catalog.copy(found, "bucket", key, OWNER)
        else:
            await at.copy(found, key)

    return Operation(
        do, lambda model: model.put("bucket", key, model.versions["bucket"][source][0])
    )


def remove(bucket: str, key: str) -> Operation:
    """The newest version, for good."""

    async def do(at: Harness) -> None:
        found = await at.found(key, bucket)
        await at.catalog.delete(bucket, key, found.version_id if bucket == "bucket" else "")

    return Operation(do, lambda model: model.remove(bucket, key))


def begin(bucket: str, key: str) -> Operation:
    return Operation(
        lambda at: at.catalog.create_upload(bucket, key, OWNER),
        lambda model: model.uploads.setdefault((bucket, key), {}),
    )


async def upload_of(at: Harness, bucket: str, key: str) -> Upload:
    """The only one of a key."""
    (row,) = (await at.catalog.list_uploads((await at.permit(bucket)).row, key)).uploads
    return await at.catalog.upload(bucket, key, row.upload_id)


def part(bucket: str, key: str, number: int, body: bytes) -> Operation:
    async def do(at: Harness) -> None:
        upload = await upload_of(at, bucket, key)
        await at.catalog.put_part(upload, number, BytesSource(body), len(body))

    return Operation(do, lambda model: model.part(bucket, key, number, body))


def complete(key: str, body: bytes) -> Operation:
    """With the first part alone."""

    async def do(at: Harness) -> None:
        upload = await upload_of(at, "bucket", key)
        first = (await at.catalog.list_parts(upload)).parts[0]
        await at.catalog.complete(upload, [CompletedPart(1, first.etag)])

    def change(model: Model) -> None:
        del model.uploads["bucket", key]
        model.put("bucket", key, body)

    return Operation(do, change)


def abort(key: str) -> Operation:
    async def do(at: Harness) -> None:
        await at.catalog.abort(await upload_of(at, "bucket", key))

    return Operation(do, lambda model: model.uploads.pop(("bucket", key)))


async def work_off(at: Harness) -> None:
    async def is_done() -> bool:
        return not await at.due()

    await until(is_done)


BEGIN = "versions"
OPERATIONS = {
    BEGIN: Operation(
        lambda at: at.version(Versioning.ENABLED),
        lambda model: model.versions.setdefault("bucket", {}),
    ),
    "plain": create("plain"),
    "doomed": create("doomed"),
    "small": put("bucket", "small", small(1)),
    "small again": put("bucket", "small", small(2)),
    "large": put("bucket", "large", large(3)),
    "large again": put("bucket", "large", large(4)),
    "plain small": put("plain", "a", small(5)),
    "plain large": put("plain", "b/c", large(6)),
    "small over small": put("plain", "a", small(7)),
    "large over small": put("plain", "a", large(8)),
    "large over large": put("plain", "b/c", large(9)),
    "small over large": put("plain", "b/c", small(10)),
    "copy": copy("large", "copy"),
    "copy of small": copy("small", "copy of small"),
    "promote": remove("bucket", "large"),
    "last that shares": remove("bucket", "copy"),
    "promote small": remove("bucket", "small"),
    "marker": Operation(
        lambda at: at.catalog.delete("bucket", "small"),
        lambda model: model.put("bucket", "small", None),
    ),
    "delete": remove("plain", "a"),
    "upload": begin("bucket", "upload"),
    "part": part("bucket", "upload", 1, large(11)),
    "part again": part("bucket", "upload", 1, large(12)),
    "other part": part("bucket", "upload", 2, large(13)),
    "complete": complete("upload", large(12)),
    "other upload": begin("bucket", "other"),
    "part of other": part("bucket", "other", 1, large(14)),
    "abort": abort("other"),
    "upload of a bucket": begin("doomed", "one"),
    "part of one": part("doomed", "one", 1, large(15)),
    "upload with two parts": begin("doomed", "two"),
    "part of two": part("doomed", "two", 1, large(16)),
    "second part": part("doomed", "two", 2, large(17)),
    "delete bucket": Operation(
        lambda at: at.catalog.delete_bucket("doomed"), lambda model: model.without("doomed")
    ),
    "garbage": Operation(work_off, lambda model: None),
}


BOTH = ("distributed", "filesystem")
OF_NODES = ("distributed",)
OF_FILES = ("filesystem",)

# An operation, what it is killed at, where; whether it is done then (None: it does not matter).
STEPS = [
    ("small again", "put.shards.durable", BOTH, False),
    ("small again", "put.committed", BOTH, True),
    ("small over small", "put.committed", BOTH, True),
    ("large over small", "put.committed", BOTH, True),
    ("large over large", "put.shards.durable", BOTH, False),
    ("large over large", "put.committed", BOTH, True),
    ("large over large", "file.published", OF_FILES, True),
    ("large over large", "collector.retired", OF_FILES, True),
    ("small over large", "put.committed", BOTH, True),
    ("large again", "put.shards.durable", BOTH, False),
    ("large again", "put.committed", BOTH, True),
    ("large again", "file.published", OF_FILES, True),
    ("copy", "put.committed", BOTH, True),
    ("copy of small", "put.committed", BOTH, True),
    ("promote", "delete.committed", BOTH, True),
    ("promote", "collector.retired", OF_FILES, True),
    ("last that shares", "delete.committed", BOTH, True),
    ("promote small", "delete.committed", BOTH, True),
    ("marker", "delete.committed", BOTH, True),
    ("delete", "delete.committed", BOTH, True),
    ("part again", "part.committed", BOTH, True),
    ("complete", "complete.committed", BOTH, True),
    ("abort", "abort.committed", BOTH, True),
    ("delete bucket", "bucket.deleted", BOTH, True),
    (BEGIN, "collector.released", BOTH, None),
    (BEGIN, "collector.settled", BOTH, None),
    (BEGIN, "uploads.released", BOTH, None),
    (BEGIN, "uploads.forgotten", BOTH, None),
    (BEGIN, "uploads.ended", BOTH, None),
]


def models(operation: str) -> tuple[Model, Model]:
    """Before and after it."""
    model = Model({"bucket": {}})
    for name, each in OPERATIONS.items():
        before = deepcopy(model)
        each.change(model)
        if name == operation:
            return before, model
    raise ValueError(operation)


async def seen(at: Harness) -> Model:
    """All that the catalog tells, read to the last byte."""
    model = Model()
    for bucket in await at.catalog.buckets():
        of = model.versions.setdefault(bucket.name, {})
        permit = await at.permit(bucket.name)
        for each in (await at.catalog.list_versions(permit)).versions:
            chain = of.setdefault(each.key, [])
            assert each.is_newest is not bool(chain)
            body = None
            if not each.is_marker:
                body = await at.get(each.key, bucket=bucket.name, version_id=each.version_id)
            chain.append(body)
        for row in (await at.catalog.list_uploads(bucket)).uploads:
            upload = await at.catalog.upload(bucket.name, row.key, row.upload_id)
            parts = (await at.catalog.list_parts(upload)).parts
            model.uploads[bucket.name, row.key] = {each.number: each.etag for each in parts}
    return model


@asynccontextmanager
async def opened(backend: str, base: Path) -> AsyncIterator[Harness]:
    if backend == "filesystem":
        async with filesystem(base) as at:
            yield at
    else:
        async with cluster(base, grace_s=GRACE_S, inline_max=INLINE_MAX) as nodes:
            yield nodes.at


async def main(backend: str, base: Path, operation: str, step: str, passage: int) -> None:
    garbage.GARBAGE_WAIT_S_MAX = 0.05
    async with opened(backend, base) as at:
        for name, each in OPERATIONS.items():
            if name == operation:
                failpoints.arm(step, "kill", passage)
            print(f"begin {name}", flush=True)
            await each.do(at)
            print(f"end {name}", flush=True)


if __name__ == "__main__":
    _, backend, base, operation, step, passage = sys.argv
    asyncio.run(main(backend, Path(base), operation, step, int(passage)))

"""Writers, deleters and readers at once, with answers that are lost, against a plain model.

Each call to the state is taken down when it is submitted, which is the order in which they are
applied. Afterwards the model does the same calls one by one: it has to come to the same answers,
and what the catalog tells at the end has to be what the model holds, with its bytes. What nobody
refers to has gone then, but for the bodies of those who were not told whether they were stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import ObjectReplaced, OutcomeUnknown
from predastore.catalog import keys, refusals
from predastore.catalog.errors import Contended, LayoutGone, NoSuchKey, NoSuchVersion
from predastore.catalog.procedures import arguments as a
from predastore.catalog.procedures.arguments import CompletedPart, Reason
from predastore.catalog.rows import Kind, PartRow, PlacementRow, Versioning, VersionRow
from predastore.s3db.commands import Applied
from predastore.storage.extents import FileExtent
from predastore.storage.formats import decode, unpack
from support.backends import (
    BACKENDS,
    OWNER,
    BytesSource,
    Harness,
    distributed,
    run,
    some_bytes,
)

KEYS = ("a", "b", "c")
WORKERS = 4
STEPS = 30
INLINE_MAX = 500
MAY_BE = (Contended, LayoutGone, NoSuchKey, NoSuchVersion, ObjectReplaced, OutcomeUnknown)


@dataclass
class Version:
    name: str
    order: int
    is_null: bool
    is_marker: bool
    etag: str


@dataclass
class Model:
    """A bucket: of each key its versions, the newest first."""

    versioning: Versioning = Versioning.NEVER
    chains: dict[str, list[Version]] = field(default_factory=lambda: {key: [] for key in KEYS})
    completed: dict[str, bytes] = field(default_factory=dict)  # what was told of an upload

    def add(self, key: str, order: int, random: bytes, etag: str, *, is_marker: bool) -> bool:
        """Whether it took the place of another."""
        chain = self.chains[key]
        is_null = self.versioning is not Versioning.ENABLED
        assert bool(order) is bool(self.versioning)
        assert all(order > each.order for each in chain) or not order
        replaced = [each for each in chain if is_null and each.is_null]
        chain[:] = [each for each in chain if each not in replaced]
        name = keys.version_id(order, random, is_null=is_null)
        chain.insert(0, Version(name, order, is_null, is_marker, etag))
        return bool(replaced)

    def remove(self, key: str, name: str) -> Version | None:
        for each in self.chains[key]:
            if each.name == name:
                self.chains[key].remove(each)
                return each
        return None

    def do(self, name: str, packed: bytes, answer: bytes) -> None:
        """What was called, and answered."""
        if refusals.reason_of(answer) is Reason.DONE and name in _DOES:
            _DOES[name](self, packed, answer)


def _put(model: Model, packed: bytes, answer: bytes) -> None:
    args, added = unpack(a.PutObject, packed), refusals.read(a.Added, answer)
    model.add(args.key, added.order, added.random, args.summary.etag, is_marker=False)
    assert added.is_null is model.chains[args.key][0].is_null


def _complete(model: Model, packed: bytes, answer: bytes) -> None:
    args, made = unpack(a.CompleteUpload, packed), refusals.read(a.Completed, answer)
    if args.upload_id in model.completed:
        assert answer == model.completed[args.upload_id]
        return
    model.completed[args.upload_id] = answer
    model.add(args.key, made.added.order, args.random, made.summary.etag, is_marker=False)


def _delete(model: Model, packed: bytes, answer: bytes) -> None:
    args, done = unpack(a.DeleteObjects, packed), refusals.read(a.Deletions, answer)
    for doomed, told in zip(args.doomed, done.deletions, strict=True):
        if doomed.version is None and model.versioning:
            existed = model.add(doomed.key, told.order, told.random, "", is_marker=True)
            assert (told.existed, told.is_marker) == (existed, True)
            continue
        name = "null"
        if doomed.version:
            order = int.from_bytes(doomed.version[: keys.ORDER_BYTES], "big")
            name = keys.version_id(order, doomed.version[keys.ORDER_BYTES :], is_null=False)
        gone = model.remove(doomed.key, name)
        assert told.existed is (gone is not None)
        assert told.is_marker is (gone is not None and gone.is_marker)


def _change(model: Model, packed: bytes, _: bytes) -> None:
    versioning = unpack(a.ChangeBucket, packed).versioning
    assert versioning is not None
    model.versioning = versioning


_DOES: dict[str, Callable[[Model, bytes, bytes], None]] = {
    "object.put": _put,
    "object.delete": _delete,
    "upload.complete": _complete,
    "bucket.change": _change,
}


class Recorded:
    """The calls to a state in their order; some answers, or calls, are lost."""

    def __init__(self, at: Harness, chance: random.Random, lost: float) -> None:
        self._call = at.state.call
        self._chance = chance
        self._lost = lost
        self.calls: list[list[Any]] = []
        self.orphans = 0  # bodies of which nobody knows whether they are named
        state: Any = at.state
        state.call = self.call

    async def call(self, name: str, arguments: bytes, checks: Any = ()) -> Applied:
        fate = self._chance.random()
        if fate < self._lost / 2:
            self.orphans += _has_body(name, arguments)
            raise OutcomeUnknown("it was never sent")
        entry = [name, arguments, b""]
        self.calls.append(entry)
        applied = await self._call(name, arguments, checks)
        entry[2] = applied.answer
        if fate > 1 - self._lost / 2:
            if refusals.reason_of(applied.answer) is not Reason.DONE:
                self.orphans += _has_body(name, arguments)
            raise OutcomeUnknown("it was done, or refused, and the answer lost")
        return applied


def _has_body(name: str, arguments: bytes) -> bool:
    """Whether bytes were written that only this call names."""
    if name == "upload.part":
        row = unpack(a.PutPart, arguments).row
        return bool(row.size) or isinstance(row.extent, FileExtent)
    return name == "object.put" and bool(unpack(a.PutObject, arguments).content.extents)


class Worker:
    """Does one thing after another, at random."""

    def __init__(self, at: Harness, seed: int, bodies: dict[str, bytes]) -> None:
        self._at = at
        self._chance = random.Random(seed)
        self._bodies = bodies

    async def run(self) -> None:
        steps = (self.put, self.put, self.copy, self.parts, self.delete, self.read)
        versions = (self.read, self.delete_version, self.delete_version, self.change)
        for _ in range(STEPS):
            step = self._chance.choice(steps + versions)
            try:
                await step(self._chance.choice(KEYS))
            except MAY_BE:
                continue

    def _body(self) -> bytes:
        size = self._chance.choice((0, 20, INLINE_MAX, 5000, 30_000))
        return some_bytes(size, self._chance.getrandbits(32))

    async def put(self, key: str) -> None:
        data = self._body()
        self._bodies[hashlib.md5(data).hexdigest()] = data
        await self._at.put(key, data)

    async def copy(self, key: str) -> None:
        source = await self._at.find(self._chance.choice(KEYS))
        if source is None:
            return
        if self._at.catalog.can_share(source):
            await self._at.catalog.copy(source, "bucket", key, OWNER)
        else:
            data = self._bodies[source.etag]
            self._bodies[hashlib.md5(data).hexdigest()] = data
            await self._at.copy(source, key)

    async def parts(self, key: str) -> None:
        upload, bodies, parts = await self._at.begin(key), [self._body(), self._body()], []
        for number, data in enumerate(bodies, 1):
            part = await self._at.catalog.put_part(upload, number, BytesSource(data), len(data))
            parts.append(CompletedPart(number, part.etag))
        md5s = b"".join(hashlib.md5(body).digest() for body in bodies)
        self._bodies[f"{hashlib.md5(md5s).hexdigest()}-2"] = b"".join(bodies)
        if self._chance.random() < 0.2:
            await self._at.catalog.abort(upload)
            return
        try:
            await self._at.catalog.complete(upload, parts)
        except OutcomeUnknown:  # as a client would
            await self._at.catalog.complete(upload, parts)

    async def delete(self, key: str) -> None:
        await self._at.catalog.delete("bucket", key)

    async def delete_version(self, key: str) -> None:
        page = await self._at.catalog.list_versions(await self._at.permit(), key)
        if page.versions:
            name = self._chance.choice(page.versions).version_id
            await self._at.catalog.delete("bucket", key, name)

    async def change(self, _: str) -> None:
        enabled = Versioning.ENABLED, Versioning.ENABLED, Versioning.SUSPENDED
        if self._chance.random() < 0.4:
            await self._at.version(self._chance.choice(enabled))

    async def read(self, key: str) -> None:
        with self._at.catalog.looking("bucket", key) as look:
            version = await self._at.find(key)
            if version is None:
                return
            stream = await self._at.catalog.open_read(version, 0, version.size, look)
        data = b"".join([bytes(buffer) async for buffer in stream])
        assert data == self._bodies[version.etag]


async def compare(at: Harness, model: Model, bodies: dict[str, bytes]) -> None:
    listed = (await at.catalog.list_versions(await at.permit())).versions
    assert [(each.key, each.version_id, each.is_marker, each.summary.etag) for each in listed] == [
        (key, each.name, each.is_marker, each.etag) for key in KEYS for each in model.chains[key]
    ]
    currents = {key: chain[0] for key, chain in model.chains.items() if chain}
    assert await at.keys() == [key for key, newest in currents.items() if not newest.is_marker]
    for key, chain in model.chains.items():
        for version in chain:
            if not version.is_marker:
                assert await at.get(key, version_id=version.name) == bodies[version.etag]
        newest = chain[0].name if chain else None
        finding = await at.finding(key)
        found = finding.version or finding.marker
        assert (found.version_id if found else None) == newest


async def extents(at: Harness) -> int:
    """That hold bytes, of all layouts, and of the parts of uploads that nobody has ended."""
    found = 0
    for stored in (await at.table(keys.PARTS)).values():
        found += bool(at.nodes is None or decode(PartRow, stored).size)
    rows = [decode(VersionRow, stored) for stored in (await at.table(keys.VERSIONS)).values()]
    named = {row.layout for row in rows if row.kind is Kind.PLACED}
    inline = {row.layout for row in rows if row.kind is Kind.INLINE}
    assert set(await at.table(keys.INLINE)) == inline
    pages = {
        place: decode(PlacementRow, stored)
        for place, stored in (await at.table(keys.OBJECTS)).items()
        if not place.startswith(keys.ARN)
    }
    assert set(pages) == named, "what is placed is named, and the other way round"
    for page in pages.values():
        found += sum(1 for extent in page.extents if extent.size or at.nodes is None)
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.catalog.procedures.completion.S3_PART_BYTES_MIN", 0)
    monkeypatch.setattr("predastore.jobs.due.GARBAGE_RETRY_S_MIN", 0.01)


def opened(name: str, base: Path) -> Any:
    if name == "inline":
        return distributed(base, inline_max=INLINE_MAX)
    return BACKENDS[name](base)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lost", [0.0, 0.1])
@pytest.mark.parametrize("name", [*BACKENDS, "inline"])
def test_what_happens_at_once_happened_one_by_one(
    tmp_path: Path, name: str, seed: int, lost: float
) -> None:
    async def main() -> None:
        async with opened(name, tmp_path) as at:
            bodies: dict[str, bytes] = {}
            recorded = Recorded(at, random.Random(seed), lost)
            workers = (Worker(at, 100 * seed + number, bodies) for number in range(WORKERS))
            await asyncio.gather(*(worker.run() for worker in workers))
            model = Model()
            for call in recorded.calls:
                model.do(*call)
            await compare(at, model, bodies)
            assert any(model.chains.values())
            await at.no_garbage()
            await compare(at, model, bodies)
            await at.holds_extents(await extents(at) + recorded.orphans)

    run(main())

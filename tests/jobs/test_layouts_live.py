"""Random histories of versions, copies, uploads, moves of shards and garbage, all at once.

No layout is let go of while a version names it, none stays when nothing does, and in the end the
nodes hold what is named and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from predastore.base.errors import PreconditionFailed
from predastore.catalog import keys
from predastore.catalog.errors import CatalogError
from predastore.catalog.keys import OBJECTS, REFS, VERSIONS
from predastore.catalog.procedures import completion
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Kind, Versioning, VersionRow
from predastore.catalog.uploads import Upload
from predastore.jobs import due
from predastore.jobs.healing.holders import WALKED, walk
from predastore.node.shard import ShardRef
from predastore.s3db.commands import batch
from predastore.storage.extents import MISSING, ShardExtent
from predastore.storage.formats import decode
from support.backends import OWNER, BytesSource, FakeNodes, Harness, distributed, run
from support.waiting import until

NAMES = [f"k{number}" for number in range(6)]
NODES = range(1, 11)
ROUNDS = 30


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "GARBAGE_RETRY_S_MIN", 0.001)
    monkeypatch.setattr("predastore.jobs.garbage.GARBAGE_WAIT_S_MAX", 0.01)
    monkeypatch.setattr(completion, "S3_PART_BYTES_MIN", 1)
    monkeypatch.setattr(completion, "PLACEMENT_PAGE_EXTENTS", 2)


class History:
    def __init__(self, at: Harness, seed: int) -> None:
        assert at.nodes is not None
        self.at = at
        self.nodes: FakeNodes = at.nodes
        self.random = random.Random(seed)
        self.uploads: list[tuple[Upload, list[CompletedPart]]] = []
        self.moving = asyncio.Lock()
        self.left_behind: list[tuple[int, bytes]] = []  # copies on the nodes that shards moved off

    async def round(self) -> None:
        """Some operations at once, no two of them on one key."""
        choose = self.random
        down = choose.choice([0, 0, *NODES])
        for node in NODES:
            self.nodes[node].down = node == down
        work: list[Callable[[str], Awaitable[None]]] = [
            *([self.put] * 3 + [self.copy] * 3 + [self.delete] * 2 + [self.delete_version] * 3),
            *(self.upload, self.upload, self.end_upload, self.move, self.move, self.move),
        ]
        if choose.random() < 0.1:
            await self.at.version(choose.choice([Versioning.ENABLED, Versioning.SUSPENDED]))
        names = choose.sample(NAMES, choose.randint(1, 4))
        await asyncio.gather(*(choose.choice(work)(name) for name in names))

    def body(self) -> bytes:
        return self.random.randbytes(self.random.choice([0, 30, 500, 9_000]))

    async def put(self, key: str) -> None:
        await self.at.put(key, self.body())

    async def copy(self, key: str) -> None:
        finding = await self.at.finding(self.random.choice(NAMES))
        if finding.version is not None:
            try:
                await self.at.catalog.copy(finding.version, "bucket", key, OWNER)
            except CatalogError as error:
                assert type(error).__name__ == "LayoutGone"

    async def delete(self, key: str) -> None:
        await self.at.catalog.delete("bucket", key)

    async def delete_version(self, key: str) -> None:
        ids = [each for name, each, _ in await versions(self.at) if name == key]
        if ids:
            await self.at.catalog.delete("bucket", key, self.random.choice(ids))

    async def upload(self, key: str) -> None:
        upload, parts = await self.at.begin(key), []
        for number in range(1, self.random.randint(2, 7)):
            for _ in range(self.random.choice([1, 1, 2])):  # the second one takes its place
                body = self.body() or b"one byte at least"
                part = await self.at.catalog.put_part(upload, number, BytesSource(body), len(body))
            parts.append(CompletedPart(number, part.etag))
        self.uploads.append((upload, parts))

    async def end_upload(self, _: str) -> None:
        if not self.uploads:
            return
        upload, parts = self.uploads.pop(self.random.randrange(len(self.uploads)))
        if self.random.random() < 0.3:
            await self.at.catalog.abort(upload)
        else:
            some = parts[self.random.randrange(len(parts)) :]
            await self.at.catalog.complete(upload, some)

    async def move(self, _: str) -> None:
        """One shard to another node, as healing does it: no two at a time."""
        async with self.moving:
            await self.move_one()

    async def move_one(self) -> None:
        found = [
            (holder, number, shard)
            for table in WALKED
            async for page, _ in walk(self.at.state, table)
            for holder in page
            for number, extent in enumerate(holder.extents)
            if isinstance(extent, ShardExtent)
            for shard, node in enumerate(extent.nodes)
            if node != MISSING
        ]
        if not found:
            return
        holder, number, shard = self.random.choice(found)
        extent = holder.extents[number]
        assert isinstance(extent, ShardExtent)
        name = ShardRef(extent.shard_hash, extent.write_id, shard).key()
        free = [
            node
            for node in NODES
            if node not in extent.nodes and (node, name) not in self.left_behind
        ]
        if not free:
            return
        own, other = extent.nodes[shard], self.random.choice(free)
        blocks = self.nodes[own].shards.get(name)
        if blocks is None:
            return  # let go of meanwhile
        self.nodes[other].shards[name] = blocks
        nodes = tuple(other if each == own else each for each in extent.nodes)
        new = holder.naming({number: msgspec.structs.replace(extent, nodes=nodes)})
        checks, ops = holder.replaced_by(new)
        try:
            await self.at.state.commit(batch(*ops, checks=tuple(checks)))
        except PreconditionFailed:
            self.nodes[other].shards.pop(name, None)
        else:
            self.left_behind.append((own, name))

    def let_go_of_copies(self) -> None:
        for node, name in self.left_behind:
            self.nodes[node].shards.pop(name, None)
        self.left_behind.clear()

    # --- what holds -----------------------------------------------------------------------

    async def check(self) -> None:
        """Between two rounds; garbage may be under way."""
        named: dict[bytes, set[bytes]] = {}
        for where, stored in (await self.at.table(VERSIONS)).items():
            row = decode(VersionRow, stored)
            if row.kind is Kind.PLACED:
                bucket_id, order = where[:16], keys.order_of(where)
                ref = keys.ref(row.layout, bucket_id, order, row.random)
                named.setdefault(row.layout, set()).add(ref)
        layouts = {
            where[:32]
            for where in await self.at.table(OBJECTS)
            if not where.startswith((keys.ARN, keys.DELETED))
        }
        assert layouts == named.keys()
        refs = {*await self.at.table(REFS)}
        for layout, wanted in named.items():
            had = {ref for ref in refs if ref.startswith(layout)}
            assert had == wanted or (not had and len(wanted) == 1)
            refs -= had
        assert not refs

    async def check_bodies(self) -> None:
        for key, version_id, row in await versions(self.at):
            body = await self.at.get(key, version_id=version_id)
            if "-" not in row.summary.etag:
                assert hashlib.md5(body).hexdigest() == row.summary.etag
            assert len(body) == row.summary.size

    async def check_nodes(self) -> None:
        """At rest: the nodes have what is named, and nothing else."""
        named = {
            (node, ShardRef(extent.shard_hash, extent.write_id, shard).key())
            for table in WALKED
            async for page, _ in walk(self.at.state, table)
            for holder in page
            for extent in holder.extents
            if isinstance(extent, ShardExtent)
            for shard, node in enumerate(extent.nodes)
            if node != MISSING
        }
        held = {(node, name) for node in NODES for name in self.nodes[node].shards}
        assert held == named
        assert not any(self.nodes[node].pending for node in NODES)


async def versions(at: Harness) -> list[tuple[str, str, VersionRow]]:
    """Key, version id and row of each that is an object."""
    found = []
    for where, stored in (await at.table(VERSIONS)).items():
        row = decode(VersionRow, stored)
        if not row.is_marker:
            version_id = keys.version_id(keys.order_of(where), row.random, is_null=row.is_null)
            found.append((where[17:-9].decode(), version_id, row))
    return found


@pytest.mark.parametrize("grace_s", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(6))
def test_layouts_live_as_long_as_they_are_named(tmp_path: Path, seed: int, grace_s: float) -> None:
    async def main() -> None:
        inline_max = 100 * (seed % 2)
        async with distributed(
            tmp_path, node_count=10, grace_s=grace_s, inline_max=inline_max
        ) as at:
            history = History(at, seed)
            for number in range(ROUNDS):
                await history.round()
                await history.check()
                if number % 10 == 9:
                    await history.check_bodies()
            for node in NODES:
                history.nodes[node].down = False

            async def is_over() -> bool:
                return not await at.due()

            await until(is_over)
            assert not await at.table(OBJECTS, keys.DELETED)
            history.let_go_of_copies()
            await history.check_nodes()
            await history.check_bodies()

    run(main())

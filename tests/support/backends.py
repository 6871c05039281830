"""The catalog over either byte store, and shard nodes that fail as they are told to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from predastore._fast.crc import crc32c
from predastore.base.errors import (
    CorruptData,
    DeadlineExceeded,
    NodeFull,
    PeerUnreachable,
    PredastoreError,
    ShardCorrupt,
    ShardNotFound,
)
from predastore.catalog import keys
from predastore.catalog.adoption import Adopted, Adoption
from predastore.catalog.catalog import Catalog
from predastore.catalog.files import Files
from predastore.catalog.permits import Permit, anybody
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.readers import Readers
from predastore.catalog.rows import GarbageRow, Versioning, Waste
from predastore.catalog.uploads import Upload
from predastore.catalog.values import Attributes, Finding, ObjectVersion, Stored
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.jobs.garbage import Garbage
from predastore.node.messages import NodeStatus
from predastore.node.shard import ShardRef
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore
from predastore.storage.extents import FileExtent
from predastore.storage.filesystem import FilesystemStore
from predastore.storage.formats import decode
from support.waiting import eventually_async

OWNER = Attributes(owner="000000000001")
KIB = 1024

E = TypeVar("E", bound=PredastoreError)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def some_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


async def failing(kind: type[E], work: Awaitable[Any]) -> E:
    """The error of `work`, which is of just this kind."""
    with pytest.raises(kind) as caught:
        await work
    assert type(caught.value) is kind
    return caught.value


class BytesSource:
    """A body that comes in pieces of at most `piece` bytes; `fail` is raised at its end."""

    def __init__(self, data: bytes, piece: int = 1 << 20, fail: Exception | None = None) -> None:
        self._rest = memoryview(data)
        self._piece = piece
        self._fail = fail

    async def readinto(self, buffer: memoryview) -> int:
        await asyncio.sleep(0)
        if not self._rest and self._fail is not None:
            raise self._fail
        count = min(len(buffer), self._piece, len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class StalledSource:
    """A body of which `data` comes (up to `stalls_at`), then nothing until `proceed` is set, then
    the rest and its end."""

    def __init__(self, data: bytes, stalls_at: int | None = None) -> None:
        self._source = BytesSource(data)
        self._left = len(data) if stalls_at is None else stalls_at
        self.stalled = asyncio.Event()
        self.proceed = asyncio.Event()

    async def readinto(self, buffer: memoryview) -> int:
        if not self._left:
            self.stalled.set()
            await self.proceed.wait()
            return await self._source.readinto(buffer)
        count = await self._source.readinto(buffer[: self._left])
        self._left -= count
        return count


@dataclass
class FakeNode:
    """`down`: refuses; `hangs`: never answers; `full`: takes no writes; `calls`: names in order."""

    down: bool = False
    hangs: bool = False
    full: bool = False
    shards: dict[bytes, dict[int, tuple[bytes, int]]] = field(default_factory=dict)
    pending: dict[bytes, dict[int, tuple[bytes, int]]] = field(default_factory=dict)
    corrupt: set[tuple[bytes, int]] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)


class FakeNodes:
    """node.client.NodeClient's interface over nodes in memory."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.nodes = {node: FakeNode() for node in ids}
        self.timeout_s: float | None = None  # in place of the callers' deadlines
        self.in_flight_bytes_max = 0

    def __getitem__(self, node: int) -> FakeNode:
        return self.nodes[node]

    async def _enter(self, node: int, call: str, timeout_ms: int, *, writes: bool) -> FakeNode:
        target = self.nodes[node]
        target.calls.append(call)
        await asyncio.sleep(0)
        if target.down:
            raise PeerUnreachable(f"node {node} is down")
        if target.hangs:
            try:
                async with asyncio.timeout(self.timeout_s or timeout_ms / 1000):
                    await asyncio.Event().wait()
            except TimeoutError:
                raise DeadlineExceeded(f"node {node} hangs") from None
        if target.full and writes:
            raise NodeFull(f"node {node} is full")
        return target

    async def put(self, node: int, ref: ShardRef, block: Any, crc: int, *, timeout_ms: int) -> None:
        target = await self._enter(node, "put", timeout_ms, writes=True)
        target.shards[ref.key()] = {0: _checked(block, crc)}

    async def append(
        self, node: int, ref: ShardRef, stripe: int, block: Any, crc: int, *, timeout_ms: int
    ) -> None:
        target = await self._enter(node, "append", timeout_ms, writes=True)
        blocks = target.pending.setdefault(ref.key(), {})
        assert stripe == len(blocks), "blocks come in order"
        blocks[stripe] = _checked(block, crc)

    async def commit(
        self, node: int, ref: ShardRef, block_count: int, byte_count: int, *, timeout_ms: int
    ) -> None:
        target = await self._enter(node, "commit", timeout_ms, writes=True)
        blocks = target.pending.pop(ref.key())
        assert len(blocks) == block_count
        assert sum(len(block) for block, _ in blocks.values()) == byte_count
        target.shards[ref.key()] = blocks

    async def read(
        self, node: int, ref: ShardRef, stripe: int, offset: int, length: int, *, timeout_ms: int
    ) -> memoryview:
        target = await self._enter(node, "read", timeout_ms, writes=False)
        shard = target.shards.get(ref.key())
        if shard is None or stripe not in shard:
            raise ShardNotFound(f"node {node} does not have it")
        if (ref.key(), stripe) in target.corrupt:
            raise ShardCorrupt(f"node {node}: bad CRC")
        block = shard[stripe][0]
        assert 0 < length <= len(block) - offset
        return memoryview(block)[offset : offset + length]

    async def delete(self, node: int, refs: Sequence[ShardRef], *, timeout_ms: int) -> None:
        target = await self._enter(node, "delete", timeout_ms, writes=False)
        for ref in refs:
            target.shards.pop(ref.key(), None)
            target.pending.pop(ref.key(), None)

    async def abort(self, node: int, ref: ShardRef, *, timeout_ms: int) -> None:
        target = await self._enter(node, "abort", timeout_ms, writes=False)
        target.pending.pop(ref.key(), None)

    async def status(self, node: int, *, timeout_ms: int) -> NodeStatus:
        target = await self._enter(node, "status", timeout_ms, writes=False)
        free_bytes = 0 if target.full else 1
        return NodeStatus(node, 0, free_bytes, 0, len(target.shards))

    # --- faults and looks -----------------------------------------------------------------

    def lose(self, node: int) -> None:
        """The node comes back with an empty disk."""
        self.nodes[node].shards.clear()

    def rot(self, node: int, stripe: int | None = None) -> None:
        """Blocks of a node (of one stripe, or all) no longer have their CRC."""
        target = self.nodes[node]
        for key, blocks in target.shards.items():
            target.corrupt |= {(key, each) for each in blocks if stripe in (None, each)}

    @property
    def shard_count(self) -> int:
        return sum(len(node.shards) + len(node.pending) for node in self.nodes.values())

    def calls(self, name: str) -> int:
        return sum(node.calls.count(name) for node in self.nodes.values())


def _checked(block: Any, crc: int) -> tuple[bytes, int]:
    data = bytes(block)
    if crc32c(data) != crc:
        raise CorruptData("damaged on the way")
    return data, crc


@dataclass
class Harness:
    """`nodes` is None for the filesystem, and `shards` 0: how many an extent has."""

    catalog: Catalog
    garbage: Garbage
    state: LocalState
    store: Any
    base: Path
    nodes: FakeNodes | None = None
    shards: int = 0

    async def adopt(self, bucket: str, owner: str) -> Adopted:
        return await Adoption(self.store, self.state).adopt(bucket, owner)

    async def put(self, key: str, data: bytes, bucket: str = "bucket", **more: Any) -> Stored:
        return await self.catalog.put(
            bucket, key, BytesSource(data), len(data), more.pop("attributes", OWNER), **more
        )

    async def begin(self, key: str, attributes: Attributes = OWNER, *checksum: str) -> Upload:
        """A multipart upload; `checksum`: its algorithm and type."""
        row = await self.catalog.create_upload("bucket", key, attributes, *checksum)
        return await self.catalog.upload("bucket", key, row.upload_id)

    async def copy(
        self, source: ObjectVersion, key: str, attributes: Attributes = OWNER, **more: Any
    ) -> Stored:
        """Byte by byte, also where a copy could share them."""
        async with await self.catalog.open_source(source, 0, source.size) as body:
            return await self.catalog.put("bucket", key, body, source.size, attributes, **more)

    async def permit(self, bucket: str = "bucket") -> Permit:
        return await self.catalog.permit(bucket, anybody)

    async def version(self, versioning: Versioning, bucket: str = "bucket") -> None:
        """Enables or suspends the versions of a bucket."""
        await self.catalog.change_bucket(await self.permit(bucket), versioning=versioning)

    async def finding(self, key: str, version_id: str = "") -> Finding:
        return await self.catalog.find("bucket", key, version_id)

    async def find(
        self, key: str, bucket: str = "bucket", version_id: str = ""
    ) -> ObjectVersion | None:
        return (await self.catalog.find(bucket, key, version_id)).version

    async def found(self, key: str, bucket: str = "bucket", version_id: str = "") -> ObjectVersion:
        version = await self.find(key, bucket, version_id)
        assert version is not None, f"{key} is not there"
        return version

    async def get(
        self,
        key: str,
        start: int = 0,
        end: int | None = None,
        bucket: str = "bucket",
        version_id: str = "",
    ) -> bytes:
        version = await self.found(key, bucket, version_id)
        return await self.read(version, start, version.size if end is None else end)

    async def read(self, version: ObjectVersion, start: int, end: int) -> bytes:
        stream = await self.catalog.open_read(version, start, end)
        return b"".join([bytes(buffer) async for buffer in stream])

    async def keys(self, **more: Any) -> list[str]:
        return [key for key, _ in (await self.catalog.list("bucket", **more)).entries]

    async def table(self, name: str, prefix: bytes = b"") -> Mapping[bytes, bytes]:
        return dict(await self.state.scan(name, prefix, b"", 10_000))

    async def due(self) -> list[GarbageRow]:
        """What waits to be worked off, but for what is remembered of completed uploads."""
        rows = [decode(GarbageRow, stored) for stored in (await self.table(keys.DUE)).values()]
        return [row for row in rows if row.waste is not Waste.COMPLETED]

    async def no_garbage(self) -> None:
        """All that is due has been worked off, and nothing of it is left in the tables."""
        deadline = asyncio.get_running_loop().time() + 10
        while await self.due():
            assert asyncio.get_running_loop().time() < deadline, "rows of due are left"
            await asyncio.sleep(0)
        assert not await self.table(keys.OBJECTS, keys.DELETED)

    async def holds_extents(self, count: int) -> None:
        """So many extents lie on the nodes, or in files; those that nobody wants have gone."""
        if self.nodes is not None:
            nodes = self.nodes
            await eventually_async(lambda: nodes.shard_count == count * self.shards)
        else:
            own = self.base / ".predastore" / "state"
            files = (path for path in self.base.rglob("*") if path.is_file())
            assert len([path for path in files if not path.is_relative_to(own)]) == count


class InlineState(LocalState):
    """One that takes bodies, as a cluster's does; `is_crowded`: no more of them."""

    is_crowded = False

    @property
    def takes_inline(self) -> bool:
        return not self.is_crowded


@asynccontextmanager
async def distributed(
    base: Path,
    code: tuple[int, int] = (3, 2),
    node_count: int = 6,
    block_bytes: int = 4 * KIB,
    grace_s: float = 0.0,
    nodes: FakeNodes | None = None,
    write_shards: int = 0,
    inline_max: int = 0,
) -> AsyncIterator[Harness]:
    ids = range(1, node_count + 1)
    nodes = nodes or FakeNodes(ids)
    state = InlineState(base / "state", PROCEDURES)
    ring = Ring([RingNode(node, f"host{node}") for node in ids])
    store = DistributedStore(
        nodes, ring, Code(*code), block_bytes, write_shards=write_shards, grace_s=grace_s
    )
    async with _opened(state, store, base, nodes, sum(code), inline_max) as harness:
        yield harness


@asynccontextmanager
async def filesystem(
    base: Path, pathnames: Mapping[str, Path] | None = None
) -> AsyncIterator[Harness]:
    state = LocalState(base / ".predastore" / "state", PROCEDURES)
    try:
        store = await FilesystemStore.open(base, state, Files(state), pathnames)
    except BaseException:
        await state.close()
        raise
    async with _opened(state, store, base, None, 0, 0) as harness:
        yield harness


@asynccontextmanager
async def _opened(
    state: LocalState,
    store: Any,
    base: Path,
    nodes: FakeNodes | None,
    shards: int,
    inline_max: int,
) -> AsyncIterator[Harness]:
    readers = Readers()
    garbage = Garbage(state, store, readers)
    catalog = Catalog(state, store, garbage, readers, inline_max=inline_max)
    harness = Harness(catalog, garbage, state, store, base, nodes, shards)
    garbage.start()
    try:
        await harness.catalog.create_bucket("bucket", "000000000001", "us-east-1")
        yield harness
    finally:
        await harness.catalog.close()
        await harness.garbage.close()
        await harness.store.close()
        await harness.state.close()


class SlowPublication:
    """Holds back the first publication until `proceed` is set."""

    def __init__(self, at: Harness) -> None:
        self.reached, self.proceed = asyncio.Event(), asyncio.Event()
        publish = at.store.publication.publish

        async def held_back(extent: FileExtent) -> None:
            at.store.publication.publish = publish
            self.reached.set()
            await self.proceed.wait()
            await publish(extent)

        at.store.publication.publish = held_back


BACKENDS = {"distributed": distributed, "filesystem": filesystem}

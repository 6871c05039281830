"""Repair and rebalancing of 20,000 objects over real stores on disk, RS(3,2), in one process.

    healing.refill.read      bytes read to fill a wiped node again; yardstick: k times what it held
    healing.refill.written   bytes written for that; yardstick: what it held
    healing.refill.rate      bytes of lost shards made anew a second, nobody else being served;
                             yardstick: bytes of shards that PUTs write a second
    healing.p99.get, .put    99th percentile under load while a wiped node is being filled again;
                             yardstick: the same load without
    healing.p99.all.get, .all.put  the same, while the other nodes compact and scrub as well
    healing.grow.moved       shards moved from 5 nodes to 8, under load; yardstick: the least
    healing.shrink.moved     from 8 nodes to 6; yardstick: the least
    healing.grow.time, .shrink.time  seconds until all lie where the ring wants them; yardstick:
                             the seconds that PUTs of as many bytes take

A request that fails, or a byte that differs, ends the run; after each part every shard is read and
compared with what its object's code makes of it, and must lie where the ring wants it.
HEALING_OBJECTS=n for fewer objects, HEALING_ROUNDS=n of the load with and without repair.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, row
from benchmarks.served import scratch
from predastore._fast.crc import crc32c
from predastore.base.limits import KIB, MIB
from predastore.catalog.catalog import Catalog
from predastore.catalog.keys import HEALING, REPAIR
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.readers import Readers
from predastore.catalog.values import Attributes
from predastore.coding import erasure
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.jobs.garbage import Garbage
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.holders import WALKED, walk
from predastore.jobs.healing.pace import HealingPace
from predastore.jobs.healing.records import NODE_PREFIX, NodeRecord, ProgressRecord
from predastore.node import server
from predastore.node.client import NodeClient
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore, ready_ring
from predastore.storage.extents import ShardExtent, now_ms
from predastore.storage.formats import decode

OBJECTS: Final = int(os.environ.get("HEALING_OBJECTS", "20000"))
SIZES: Final = (2 * KIB, 12 * KIB, 48 * KIB)
CODE: Final = Code(3, 2)
BLOCK_BYTES: Final = 64 * KIB
FIRST: Final = (1, 2, 3, 4, 5)
GROWN: Final = (1, 2, 3, 4, 5, 6, 7, 8)
SHRUNK: Final = (1, 2, 3, 6, 7, 8)
PACE: Final = HealingPace(beat_s=0.2, watch_s=0.2)
WRITERS: Final = 64
LOAD_S: Final = 6.0
LITTER_BLOCK_BYTES: Final = 64 * KIB
LITTER_BLOCKS: Final = 3_000  # 190 MiB a node and round
ROUNDS: Final = int(os.environ.get("HEALING_ROUNDS", "3"))
_NOBODY: Final = Attributes(owner="me")


def rows() -> list[Row]:
    logging.disable(logging.WARNING)  # each shard that a reader misses is one
    with scratch() as folder:
        return asyncio.run(_measured(folder))


async def _measured(folder: Path) -> list[Row]:
    async with _site(folder) as at:
        began = time.perf_counter()
        await at.put_many(range(OBJECTS))
        put_rate = at.shard_bytes() / (time.perf_counter() - began)
        await at.at_rest()
        found = await _refill(at, put_rate)
        found += await _percentiles(at)
        found += await _moves(at, put_rate)
        return found


# --- the rows -------------------------------------------------------------------------------


async def _refill(at: _Site, put_rate: float) -> list[Row]:
    lost = await at.wipe(2)
    before = at.done()
    began = time.perf_counter()
    await at.at_rest()
    seconds = time.perf_counter() - began
    await at.check()
    read, written = (now - then for now, then in zip(at.done(), before, strict=True))
    return [
        _row("healing.refill.read", read / 1e6, "MB", "k x what was lost", CODE.k * lost / 1e6),
        _row("healing.refill.written", written / 1e6, "MB", "what was lost", lost / 1e6),
        _row("healing.refill.rate", lost / seconds / 1e6, "MB/s", "shards by PUT", put_rate / 1e6),
    ]


async def _percentiles(at: _Site) -> list[Row]:
    plain: list[_Load] = []
    healing: list[_Load] = []
    everything: list[_Load] = []
    for _ in range(ROUNDS):
        plain.append(await _loaded(at))
        await at.wipe(4)
        await at.is_repairing()
        healing.append(await _loaded(at))
        await at.at_rest()
        await at.wipe(4)
        await at.is_repairing()
        async with at.upkeep((1, 2, 3, 5)):
            everything.append(await _loaded(at))
        await at.at_rest()
    return [
        row(
            f"healing.p99.{name}",
            statistics.median(found),
            "ms",
            spread=(max(found) - min(found)) / statistics.median(found),
            yardstick="without repair",
            yardstick_value=statistics.median(p99(getattr(each, kind)) for each in plain),
        )
        for name, loads, kind in (
            ("get", healing, "get"),
            ("put", healing, "put"),
            ("all.get", everything, "get"),
            ("all.put", everything, "put"),
        )
        if (found := [p99(getattr(each, kind)) for each in loads])
    ]


async def _moves(at: _Site, put_rate: float) -> list[Row]:
    found = []
    for name, nodes, draining in (("grow", GROWN, ()), ("shrink", SHRUNK, (4, 5))):
        least = await at.set_nodes(nodes, draining)
        moved, moved_bytes = at.moved()
        began = time.perf_counter()
        async with _load(at, asyncio.Event(), think_s=0.02):
            at.healing.config_changed()
            await at.has_moved()
        seconds = time.perf_counter() - began
        shards, byte_count = at.moved()[0] - moved, at.moved()[1] - moved_bytes
        by_put = byte_count / put_rate
        found += [
            _row(f"healing.{name}.moved", shards, "shards", "the least", least),
            _row(f"healing.{name}.time", seconds, "s", "PUTs of as many bytes", by_put),
        ]
        await at.check()
    return found


def _row(name: str, value: float, unit: str, yardstick: str, yardstick_value: float) -> Row:
    return row(name, value, unit, spread=0, yardstick=yardstick, yardstick_value=yardstick_value)


def p99(samples_ms: Sequence[float]) -> float:
    return sorted(samples_ms)[len(samples_ms) * 99 // 100]


# --- load -----------------------------------------------------------------------------------


@dataclass
class _Load:
    """Milliseconds of each request."""

    get: list[float] = field(default_factory=list)
    put: list[float] = field(default_factory=list)


async def _loaded(at: _Site) -> _Load:
    async with _load(at, asyncio.Event()) as taken:
        await asyncio.sleep(LOAD_S)
    return taken


@asynccontextmanager
async def _load(at: _Site, stopping: asyncio.Event, think_s: float = 0.0) -> AsyncIterator[_Load]:
    """Two readers and a writer, which rest so long after each request. What goes wrong with one
    comes up here."""
    taken = _Load()

    async def read(seed: int) -> None:
        choose = random.Random(seed)
        while not stopping.is_set():
            number = choose.randrange(OBJECTS)
            began = time.perf_counter()
            await at.verify(number)
            taken.get.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(think_s)

    async def write() -> None:
        number = OBJECTS
        while not stopping.is_set():
            number += 1
            began = time.perf_counter()
            await at.put(OBJECTS + number % 500)
            taken.put.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(think_s)

    async with asyncio.TaskGroup() as group:
        for work in (read(1), read(2), write()):
            group.create_task(work)
        try:
            yield taken
        finally:
            stopping.set()


# --- the cluster ----------------------------------------------------------------------------


class _Body:
    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    async def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Site:
    def __init__(self, folder: Path, state: LocalState) -> None:
        self._folder = folder
        self._state = state
        self._stores: dict[int, ShardStore] = {}
        self._endpoint = Endpoint(cluster_key=b"k" * 32, certificate=self_signed(), name="bench")
        self._began_ms = now_ms()
        self._noise = random.Random(1).randbytes(1 << 20)
        self.store = DistributedStore(
            NodeClient(self._endpoint), _ring(FIRST), CODE, BLOCK_BYTES, grace_s=2
        )
        readers = Readers()
        self.garbage = Garbage(state, self.store, readers)
        self.catalog = Catalog(state, self.store, self.garbage, readers)
        self.healing = Healing(state, self.store, "bench", pace=PACE)

    async def open(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._endpoint.close)
        stack.push_async_callback(self._close_stores)
        for node in FIRST:
            await self._run(node)
        stack.push_async_callback(self.store.close)
        stack.push_async_callback(self.garbage.close)
        stack.push_async_callback(self.catalog.close)
        self.garbage.start()
        await self.catalog.create_bucket("bucket", "me", "eu")
        stack.push_async_callback(self.healing.close)
        self.healing.start()

    async def _run(self, node: int) -> None:
        path = self._folder / f"node-{node}"
        self._stores[node] = await ShardStore.open(
            path, node_id=node, cluster_id=b"c" * 16, segment_bytes_max=16 * MIB
        )
        self._endpoint.serve(f"node/{node}", server.service(self._stores[node]))

    async def _close_stores(self) -> None:
        for store in self._stores.values():
            await store.close()

    async def wipe(self, node: int) -> int:
        """The node comes back with an empty directory; the bytes of its shards."""
        lost = 0
        after, more = b"", True
        while more:
            page = await self._stores[node].shards(after, 4096)
            lost += sum(each.byte_count for each in page.rows)
            more, after = page.more, page.rows[-1].ref.key() if page.rows else b""
        self._endpoint._local.pop(f"node/{node}")  # as if its process had ended
        await self._stores[node].close()
        shutil.rmtree(self._folder / f"node-{node}")
        await self._run(node)
        return lost

    @asynccontextmanager
    async def upkeep(self, nodes: Sequence[int]) -> AsyncIterator[None]:
        """Each of the nodes has much to compact, and scrubs; if one did not, that is raised."""
        stores = [self._stores[node] for node in nodes]
        await asyncio.gather(*(_litter(store) for store in stores))
        for store in stores:
            store.scrub(start=True)
        before = [await store.status() for store in stores]
        yield
        for store, then in zip(stores, before, strict=True):
            now = await store.status()
            if now.moved_bytes <= then.moved_bytes or now.scrub_started_ms <= self._began_ms:
                raise AssertionError("a node has not compacted, or not scrubbed")

    async def set_nodes(self, nodes: Sequence[int], draining: Sequence[int]) -> int:
        """How many shards have to move at least."""
        for node in nodes:
            if node not in self._stores:
                await self._run(node)
        ring = _ring(nodes)
        self.store.set_ring(ring, draining)
        return sum([len(_strangers(each, ring)) async for each in self._extents()])

    async def _extents(self) -> AsyncIterator[ShardExtent]:
        for table in WALKED:
            async for holders, _ in walk(self._state, table):
                for holder in holders:
                    for extent in holder.extents:
                        if isinstance(extent, ShardExtent) and extent.nodes:
                            yield extent

    # --- objects --------------------------------------------------------------------------

    def _body(self, number: int) -> bytes:
        start = number * 37 % (len(self._noise) - max(SIZES))
        return self._noise[start : start + SIZES[number % len(SIZES)]]

    async def put(self, number: int) -> None:
        body = self._body(number)
        await self.catalog.put("bucket", f"k{number}", _Body(body), len(body), _NOBODY)

    async def put_many(self, numbers: Iterable[int]) -> None:
        queue = iter(numbers)

        async def work() -> None:
            for number in queue:
                await self.put(number)

        await asyncio.gather(*(work() for _ in range(WRITERS)))

    async def verify(self, number: int) -> None:
        """Reads the object; what is wrong with it is raised."""
        version = (await self.catalog.find("bucket", f"k{number}")).version
        if version is None:
            raise AssertionError(f"object {number} is lost")
        stream = await self.catalog.open_read(version, 0, version.size)
        if b"".join([bytes(each) async for each in stream]) != self._body(number):
            raise AssertionError(f"object {number} has other bytes")

    async def check(self) -> None:
        """Every object is right, and so is every shard; all lie where the ring wants them."""
        for number in range(OBJECTS):
            await self.verify(number)
        ring = self.store.cluster.ring
        async for extent in self._extents():
            if _strangers(extent, ring):
                raise AssertionError("some shards are not where the ring wants them")
            await self._check_shards(extent)

    async def _check_shards(self, extent: ShardExtent) -> None:
        """Of an object of one stripe, as all of them are."""
        length = erasure.block_bytes(CODE, extent.size)
        found = bytearray()
        for shard, node in enumerate(extent.nodes):
            ref = ShardRef(extent.shard_hash, extent.write_id, shard)
            found += await self._stores[node].read(ref, 0, 0, length)
        made = found[: CODE.k * length] + bytes(CODE.m * length)
        erasure.encode_stripe(CODE, made, extent.size)
        if made != found:
            raise AssertionError(f"shards of {extent} are not what they should be")

    def shard_bytes(self) -> int:
        """Of all shards that `put_many` has written."""
        sizes = (SIZES[number % len(SIZES)] for number in range(OBJECTS))
        return sum(CODE.shards * -(-size // CODE.k) for size in sizes)

    # --- healing --------------------------------------------------------------------------

    async def _says(self) -> ProgressRecord:
        said = await self.healing.status()
        if said is None:
            raise AssertionError("nobody heals")
        return said

    def done(self) -> tuple[int, int]:
        """Bytes read and written by repair."""
        counts = self.healing._context.counts
        return counts.read_bytes, counts.repaired_bytes

    def moved(self) -> tuple[int, int]:
        counts = self.healing._context.counts
        return counts.moved_shards, counts.moved_bytes

    async def is_repairing(self) -> None:
        before = self.done()
        while True:
            if self.done() != before:
                return
            await asyncio.sleep(0.01)

    async def at_rest(self) -> None:
        """Until each node's directory has been looked through, and nothing is left to repair."""
        while True:
            stores = [(await store.status()).store_id for store in self._stores.values()]
            checked = [
                decode(NodeRecord, stored).store_id
                for _, stored in await self._state.scan(HEALING, NODE_PREFIX, b"", 100)
            ]
            notes = await self._state.list_keys(REPAIR, b"", 1)
            if sorted(stores) == sorted(checked) and not notes:
                return
            await asyncio.sleep(0.05)

    async def has_moved(self) -> None:
        await asyncio.sleep(1)
        while True:
            said = await self._says()
            if said.ring_settled and not said.moves_left:
                return
            await asyncio.sleep(0.1)


async def _litter(store: ShardStore) -> None:
    """Shards that nobody wants, every other of which is deleted again."""
    block = random.Random(2).randbytes(LITTER_BLOCK_BYTES)
    crc = crc32c(block)
    for _ in range(LITTER_BLOCKS // WRITERS):
        refs = [ShardRef(os.urandom(32), os.urandom(16), 0) for _ in range(WRITERS)]
        await asyncio.gather(*(store.put(ref, block, crc) for ref in refs))
        await store.delete(refs[::2])


def _strangers(extent: ShardExtent, ring: Ring) -> set[int]:
    return set(extent.nodes) - set(ring.place(extent.shard_hash, CODE.shards))


@asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[_Site]:
    async with AsyncExitStack() as stack:
        state = LocalState(folder / "state", PROCEDURES)
        stack.push_async_callback(state.close)
        at = _Site(folder, state)
        await at.open(stack)
        yield at


def _ring(nodes: Iterable[int]) -> Ring:
    return ready_ring([RingNode(node, f"host{node}") for node in nodes], CODE)

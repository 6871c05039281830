"""Objects and healing over real shard nodes, which can be stopped, wiped, added and taken away."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from predastore.base.config.model import ACTIVE, DRAINING
from predastore.base.errors import PredastoreError
from predastore.base.limits import KIB
from predastore.catalog import keys
from predastore.catalog.catalog import Catalog
from predastore.catalog.keys import HEALING, REPAIR
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.readers import Readers
from predastore.catalog.rows import PlacementRow, RepairRow
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.jobs.garbage import Garbage
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.holders import WALKED, walk
from predastore.jobs.healing.pace import HealingPace
from predastore.jobs.healing.records import NODE_PREFIX
from predastore.node import server
from predastore.node.client import NodeClient
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from predastore.process.commands import standing
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.commands import Delete, Put, batch
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore, ready_ring
from predastore.storage.extents import ShardExtent, now_ms
from predastore.storage.formats import decode, encode
from predastore.storage.ring_table import REMOVED, NodeRow, RingTable
from support.backends import BytesSource, Harness, InlineState, some_bytes

FAST = HealingPace(
    beat_s=0.05,
    expiry_s=0.5,
    watch_s=0.05,
    lost_s=3600,
    count_s=0.2,
    orphan_age_ms=60_000,
    clock_skew_ms=0,
    busy_pauses=0,
)
BLOCK = 4 * KIB
_PAUSE_S = 0.02


class Cluster:
    """RS(3, 2). `stores`: of the nodes that run."""

    def __init__(
        self,
        base: Path,
        state: LocalState,
        nodes: Iterable[int],
        grace_s: float = 0.0,
        inline_max: int = 0,
    ) -> None:
        self.base = base
        self.state = state
        self.stores: dict[int, ShardStore] = {}
        self.endpoint = Endpoint(cluster_key=b"k" * 32, certificate=self_signed(), name="test")
        ring = Ring([RingNode(node, f"host{node}") for node in nodes])
        self.store = DistributedStore(
            NodeClient(self.endpoint), ring, Code(3, 2), block_bytes=BLOCK, grace_s=grace_s
        )
        self.readers = Readers()
        self.garbage = Garbage(state, self.store, self.readers)
        self.catalog = Catalog(state, self.store, self.garbage, self.readers, inline_max=inline_max)
        self.at = Harness(self.catalog, self.garbage, state, self.store, base)
        self.bodies: dict[str, bytes] = {}
        self.removed: set[int] = set()

    # --- nodes ----------------------------------------------------------------------------

    def path(self, node: int) -> Path:
        return self.base / f"node-{node}"

    async def run_node(self, node: int) -> None:
        store = await ShardStore.open(self.path(node), node_id=node, cluster_id=b"c" * 16)
        self.stores[node] = store
        self.endpoint.serve(f"node/{node}", server.service(store))

    async def stop_node(self, node: int) -> None:
        self.endpoint._local.pop(f"node/{node}")  # as if its process had ended
        await self.stores.pop(node).close()

    async def wipe(self, node: int) -> None:
        await self.stop_node(node)
        shutil.rmtree(self.path(node))
        await self.run_node(node)

    async def close(self) -> None:
        for node in [*self.stores]:
            await self.stop_node(node)
        await self.endpoint.close()

    def set_nodes(self, nodes: Sequence[int], draining: Sequence[int] = ()) -> None:
        """The others have left."""
        ring = ready_ring([RingNode(node, f"host{node}") for node in nodes], Code(3, 2))
        self.removed |= self.store.cluster.known
        self.removed -= {*nodes, *draining}
        self.store.set_ring(ring, draining, self.removed)

    # --- what an operator sees ------------------------------------------------------------

    @property
    def table(self) -> RingTable:
        cluster = self.store.cluster

        def rows(nodes: Iterable[int], state: str) -> list[NodeRow]:
            return [NodeRow(node, f"host{node}", 1, state=state) for node in sorted(nodes)]

        there = [*rows(cluster.active, ACTIVE), *rows(cluster.known - cluster.active, DRAINING)]
        there.sort(key=lambda row: row.id)
        return RingTable(1, tuple(there), tuple(rows(cluster.removed, REMOVED)))

    async def status(self) -> dict[str, Any]:
        """What `s3d cluster status` says now."""
        return await standing.look(self.state, NodeClient(self.endpoint), self.table, (), 5)

    async def is_whole(self) -> bool:
        """Whether it says that nothing is missing, and all is where it belongs."""
        return standing.is_whole(await self.status())

    async def missing(self) -> set[tuple[bytes, int]]:
        """The truth: shards (write id, index) that records name, and that are not where they name
        them, or of which the node knows that they are bad."""
        bad = {
            (node, row.ref)
            for node, store in self.stores.items()
            for row in store.bad(b"", 4096).rows
        }
        found = set()
        for extent in await self.extents():
            for shard, node in enumerate(extent.nodes):
                ref = ShardRef(extent.shard_hash, extent.write_id, shard)
                if (node, ref) in bad or not await self._has(node, ref):
                    found.add((extent.write_id, shard))
        return found

    async def _has(self, node: int, ref: ShardRef) -> bool:
        store = self.stores.get(node)
        if store is None:
            return False
        try:
            await store.stat(ref)
        except PredastoreError:
            return False
        return True

    # --- contents -------------------------------------------------------------------------

    async def put_many(self, count: int, seed: int = 1, prefix: str = "k") -> None:
        sizes = random.Random(seed)
        for number in range(count):
            size = sizes.choice((1, 500, BLOCK, 3 * BLOCK, 3 * BLOCK + 1, 40_000))
            await self.put(f"{prefix}{number}", some_bytes(size, seed * 1000 + number))

    async def put(self, key: str, body: bytes) -> None:
        await self.at.put(key, body)
        self.bodies[key] = body

    async def put_part(self, key: str, *, complete: bool = True) -> None:
        """An upload with one part, completed or not."""
        body = some_bytes(100_000, 7)
        upload = await self.at.begin(key)
        part = await self.catalog.put_part(upload, 1, BytesSource(body), len(body))
        if complete:
            await self.catalog.complete(upload, [CompletedPart(1, part.etag)])
            self.bodies[key] = body

    async def forget(self, key: str) -> None:
        """Removes the object's rows alone: its shards are orphans now."""
        version = await self.at.found(key)
        (where,) = await self.at.table(keys.VERSIONS, keys.versions(version.bucket.id, key))
        ops = (
            Delete(keys.OBJECTS, version.row.layout),
            Delete(keys.OBJECTS, keys.current("bucket", key)),
            Delete(keys.VERSIONS, where),
        )
        await self.state.commit(batch(*ops))
        self.bodies.pop(key, None)

    async def extents(self) -> list[ShardExtent]:
        return [
            extent
            for table in WALKED
            async for holders, _ in walk(self.state, table)
            for holder in holders
            for extent in holder.extents
            if isinstance(extent, ShardExtent) and extent.nodes
        ]

    async def faults(self) -> list[str]:
        """What is missing, bad, too much, or not what it was."""
        named: set[tuple[int, ShardRef]] = set()
        wrong = []
        for extent in await self.extents():
            for shard, node in enumerate(extent.nodes):
                ref = ShardRef(extent.shard_hash, extent.write_id, shard)
                named.add((node, ref))
                if node not in self.stores or not await _is_good(self.stores[node], ref):
                    wrong.append(f"shard {shard} on node {node} is not there or bad")
        for node, store in self.stores.items():
            rows = (await store.shards(b"", 4096)).rows
            wrong += [f"orphan on {node}" for row in rows if (node, row.ref) not in named]
        for key, body in self.bodies.items():
            if await self.at.get(key) != body:
                wrong.append(f"{key} has other bytes")
        return wrong

    async def lies_where_the_ring_wants(self) -> bool:
        ring = self.store.cluster.ring
        return all(
            set(extent.nodes) == set(ring.place(extent.shard_hash, 5))
            for extent in await self.extents()
        )

    async def is_checked(self) -> bool:
        """Whether each node's directory has been looked through."""
        return len(await self.at.table(HEALING, NODE_PREFIX)) == len(self.stores)

    async def notes(self) -> int:
        return len(await self.at.table(REPAIR))

    async def extent_of(self, key: str) -> ShardExtent:
        """The only one of an object."""
        (extent,) = (await self.page_of(key)).extents
        assert isinstance(extent, ShardExtent)
        return extent

    async def page_of(self, key: str) -> PlacementRow:
        """The first one of an object's layout."""
        stored = await self.state.get(keys.OBJECTS, (await self.at.found(key)).row.layout)
        assert stored is not None
        return decode(PlacementRow, stored)

    async def note(
        self,
        key: str,
        layout: bytes,
        extent: ShardExtent,
        shards: tuple[int, ...],
        part: bytes = b"",
    ) -> None:
        """Puts shards on the repair table."""
        row = RepairRow("bucket", key, extent, shards, now_ms(), part)
        where = keys.repair(layout, extent.write_id)
        await self.state.commit(batch(Put(REPAIR, where, encode(row))))


async def _is_good(store: ShardStore, ref: ShardRef) -> bool:
    try:
        for stripe in range((await store.stat(ref)).block_count):
            await store.read(ref, stripe, 0, 1)
    except Exception:
        return False
    return True


class Truth:
    """Compares what the status says with what is so, all the time, whatever a test does."""

    def __init__(self, at: Cluster) -> None:
        self._at = at
        self._task = asyncio.ensure_future(self._run())
        self.lies: list[str] = []
        self.looks = 0

    async def _run(self) -> None:
        while True:
            before = await self._at.missing()
            found = await self._at.status()
            lacking = before & await self._at.missing()  # all the time that the look took
            self.looks += 1
            if lacking and standing.is_whole(found):
                self.lies.append(f"{len(lacking)} shards were missing at look {self.looks}")
            passed = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(_PAUSE_S, passed.set_result, None)
            await passed

    async def end(self) -> None:
        if self._task.done():
            self._task.result()
        self._task.cancel()
        await asyncio.wait((self._task,))
        assert self.lies == []
        assert self.looks


@asynccontextmanager
async def cluster(
    base: Path,
    nodes: Sequence[int] = (1, 2, 3, 4, 5),
    grace_s: float = 0.0,
    inline_max: int = 0,
) -> AsyncIterator[Cluster]:
    """With an `inline_max`, small bodies lie in the metadata."""
    async with AsyncExitStack() as stack:
        state = InlineState(base / "state", PROCEDURES)
        stack.push_async_callback(state.close)
        at = Cluster(base, state, nodes, grace_s, inline_max)
        stack.push_async_callback(at.close)
        for node in nodes:
            await at.run_node(node)
        stack.push_async_callback(at.store.close)
        at.garbage.start()
        stack.push_async_callback(at.garbage.close)
        stack.push_async_callback(at.catalog.close)
        await at.catalog.create_bucket("bucket", "me", "eu")
        truth = Truth(at)
        yield at
        await truth.end()


@asynccontextmanager
async def healing(
    at: Cluster, pace: HealingPace = FAST, name: str = "one"
) -> AsyncIterator[Healing]:
    healer = Healing(at.state, at.store, name, pace=pace)
    healer.start()
    try:
        yield healer
    finally:
        await healer.close()


async def until(probe: Callable[[], Awaitable[object]], within_s: float = 30.0) -> None:
    """Until `probe` gives something true; its last answer is in the error."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not (answer := await probe()):
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_s} s: {answer}")
        passed = loop.create_future()
        loop.call_later(_PAUSE_S, passed.set_result, None)
        await passed

"""DistributedStore: bytes as Reed-Solomon shards on the nodes that the ring names.

A part of an upload is placed by its own hash, so that a large object spreads over all nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence

from predastore.base import metrics
from predastore.base.config import Rs
from predastore.base.errors import CorruptData
from predastore.base.limits import BACKEND_GRACE_S
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.node.shard import ShardRef
from predastore.storage.cluster import Buffer, Nodes, ShardCluster
from predastore.storage.extents import HASH_BYTES, MISSING, Extent, ShardExtent
from predastore.storage.interface import Damaged, DigestSink, Opened, Place, Source, Written
from predastore.storage.stripe_reader import StripeReader
from predastore.storage.stripe_writer import StripeWriter

_SHORT = metrics.counter(
    "predastore_short_writes_total",
    "Bodies that were written with fewer than k + m shards, by how many they lack.",
    "missing",
)


class DistributedStore:
    """`ring` needs k + m nodes or more. `write_shards`: so many must be durable before a write is
    acknowledged; 0: as many as where no file says. Made in a running event loop."""

    def __init__(
        self,
        nodes: Nodes,
        ring: Ring,
        code: Code,
        block_bytes: int,
        *,
        write_shards: int = 0,
        draining: Iterable[int] = (),
        grace_s: float = BACKEND_GRACE_S,
    ) -> None:
        write_shards = write_shards or Rs(code.k, code.m).write_shards
        self._cluster = ShardCluster(nodes, ring, code, block_bytes, write_shards)
        self._cluster.set_ring(ring, draining)
        self._grace_s = grace_s
        ring.place(bytes(HASH_BYTES), code.shards)  # builds its table now

    @property
    def cluster(self) -> ShardCluster:
        """For healing, which works on the same nodes."""
        return self._cluster

    def set_ring(
        self, ring: Ring, draining: Iterable[int] = (), removed: Iterable[int] = ()
    ) -> None:
        """Takes in another configuration of nodes: new shards go to the nodes of `ring` (from
        `ready_ring`); `draining` ones keep what they have until healing has moved it; those that
        were `removed` are none any more. Writes under way end as they began."""
        self._cluster.set_ring(ring, draining, removed)

    @property
    def shares(self) -> bool:
        return True

    @property
    def grace_s(self) -> float:
        return self._grace_s

    async def write(
        self,
        place: Place,
        write_id: bytes,
        source: Source,
        size: int,
        digests: DigestSink,
        *,
        may_end: bool = False,
    ) -> Written:
        cluster = self._cluster
        writer = StripeWriter(cluster, place.name, write_id, size, may_end=may_end)
        try:
            await writer.write(source, digests)
        except BaseException:
            writer.abandon()
            raise
        extent = ShardExtent(
            shard_hash=place.name,
            write_id=write_id,
            k=cluster.code.k,
            m=cluster.code.m,
            block_bytes=cluster.block_bytes,
            size=writer.size,
            nodes=tuple(writer.nodes) if writer.size else (),
        )
        missing = tuple(shard for shard, node in enumerate(extent.nodes) if node == MISSING)
        if missing:
            _SHORT.child(str(len(missing))).value += 1
        return Written(extent, missing, writer.began_ms)

    def read(
        self,
        extent: Extent,
        start: int,
        end: int,
        damaged: Damaged,
        opened: Opened,
        *,
        certain: bool = False,
    ) -> AsyncGenerator[Buffer, None]:
        opened()  # the grace time is far longer than a look
        return StripeReader(self._cluster, _sharded(extent), damaged).read(start, end)

    async def replaced(self, written: Written, place: Place) -> Written:
        return written  # a shard's place is none of the bucket's

    async def publish(self, extent: Extent) -> None:
        """Nothing to do: shards are found by their extent."""

    async def discard(self, extents: Sequence[Extent]) -> None:
        self._cluster.drop_later(
            (node, ref) for extent in extents for node, ref in _placed(_sharded(extent))
        )

    async def release(self, extents: Sequence[Extent]) -> list[bool]:
        refs: dict[int, list[ShardRef]] = {}
        for extent in extents:
            for node, ref in _placed(_sharded(extent)):
                refs.setdefault(node, []).append(ref)
        gone = await asyncio.gather(*(self._cluster.delete(*item) for item in refs.items()))
        holding = {node for node, is_gone in zip(refs, gone, strict=True) if not is_gone}
        return [holding.isdisjoint(_sharded(extent).nodes) for extent in extents]

    async def check_room(self) -> None:
        """Nothing to look at: members of the metadata cluster have a reserve of their own."""

    async def write_obstacle(self) -> str:
        cluster = self._cluster
        count = await cluster.count_takers(cluster.write_shards)
        if count >= cluster.write_shards:
            return ""
        return (
            f"{count} of {len(cluster.active)} nodes take shards, and a write needs "
            f"{cluster.write_shards}"
        )

    def held_bytes(self) -> dict[str, int]:
        cluster = self._cluster
        return {
            "bodies_in": cluster.write_budget.held_bytes,
            "bodies_out": cluster.read_budget.held_bytes,
            "pool": cluster.pool.kept_bytes,
            "pool_used": cluster.pool.used_bytes,
        }

    def nodes_well(self) -> dict[int, bool]:
        """Of each node: did it do what was last asked of it (or has it answered since)."""
        return {node: self._cluster.health.is_well(node) for node in self._cluster.known}

    async def close(self) -> None:
        await self._cluster.close()


def ready_ring(nodes: Sequence[RingNode], code: Code) -> Ring:
    """A ring whose table is built, which takes some tens of milliseconds; ValueError for fewer
    nodes than an object has shards."""
    ring = Ring(nodes)
    ring.place(bytes(HASH_BYTES), code.shards)
    return ring


def _sharded(extent: Extent) -> ShardExtent:
    if not isinstance(extent, ShardExtent):
        raise CorruptData("this object was stored by the filesystem backend")
    return extent


def _placed(extent: ShardExtent) -> list[tuple[int, ShardRef]]:
    return [
        (node, ShardRef(extent.shard_hash, extent.write_id, shard))
        for shard, node in enumerate(extent.nodes)
        if node != MISSING
    ]

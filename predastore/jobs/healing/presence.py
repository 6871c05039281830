"""Which of the shards that records name are not on their nodes, or bad there.

Shards of objects that were put whole lie in the order of their records: the listing of each node
is read along with them, and nothing is asked shard by shard. Those of parts lie anywhere, and are
asked for one by one; a part has 5 MiB or more. What seems to be missing is asked for again, as a
listing may be older than a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from predastore.base.errors import ShardNotFound
from predastore.base.limits import HEALING_ASKED_AT_ONCE
from predastore.catalog import keys
from predastore.catalog.keys import OBJECTS, REPAIR
from predastore.catalog.rows import PlacementRow, RepairRow
from predastore.jobs.healing import targets
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.holders import Holder
from predastore.jobs.healing.listing import ShardListing
from predastore.s3db.commands import Op, Put
from predastore.storage.cluster import NODE_ERRORS
from predastore.storage.extents import MISSING, ShardExtent, now_ms
from predastore.storage.formats import encode


class ShardName(NamedTuple):
    """A shard on a node."""

    write_id: bytes
    shard: int
    node: int


@dataclass(frozen=True)
class Fault:
    """`shards` of `extent`, which `holder` names, are missing or bad."""

    holder: Holder
    extent: ShardExtent
    shards: tuple[int, ...]


class Presence:
    """Looks at `nodes`, as long as they answer; those that stop are taken out of `nodes`. `bad`:
    shards (write id, index, node) that nodes said are bad; those met are taken out. `sought`:
    shards, by write id, of extents that were of parts. `homeless_*`: shards of lost nodes that no
    other node can take. `named`: shards and bytes that records name on each node."""

    def __init__(
        self,
        context: HealingContext,
        nodes: Collection[int],
        bad: set[ShardName],
        sought: Mapping[bytes, tuple[int, ...]],
    ) -> None:
        self._context = context
        self.nodes = set(nodes)
        self.bad = bad
        self._sought = sought
        self.homeless_shards = self.homeless_bytes = 0
        self.named: dict[int, tuple[int, int]] = {}
        self._listings = {node: ShardListing(context.cluster.nodes, node) for node in nodes}
        self._asking = asyncio.Semaphore(HEALING_ASKED_AT_ONCE)

    async def check(self, holders: Sequence[Holder]) -> list[Fault]:
        """The faults of a page of records, which come in the order of a walk."""
        named = [
            (holder, extent)
            for holder in holders
            for extent in holder.extents
            if isinstance(extent, ShardExtent) and extent.nodes
        ]
        listed = await self._listed(holders, [extent for _, extent in named])
        shards = await asyncio.gather(
            *(self._faulty(holder, extent, listed) for holder, extent in named)
        )
        return [
            Fault(*each, tuple(found)) for each, found in zip(named, shards, strict=True) if found
        ]

    async def _listed(
        self, holders: Sequence[Holder], extents: Iterable[ShardExtent]
    ) -> set[ShardName]:
        """The shards that were put whole and are where they should be, and good."""
        if not self.nodes or not holders or holders[0].table != OBJECTS:
            return set()
        wanted = {extent.shard_hash for extent in extents}.intersection(
            holder.key for holder in holders
        )
        found: set[ShardName] = set()
        for node in sorted(self.nodes):
            try:
                for row in await self._listings[node].up_to(holders[-1].key, wanted):
                    if not row.bad:
                        found.add(ShardName(row.ref.write_id, row.ref.index, node))
            except NODE_ERRORS:
                self.nodes.discard(node)
        return found

    async def _faulty(
        self, holder: Holder, extent: ShardExtent, listed: set[ShardName]
    ) -> list[int]:
        self._count(extent)
        is_sought = holder.table == OBJECTS and extent.write_id in self._sought
        faulty = [*self._sought[extent.write_id]] if is_sought else []
        doubtful, homeless = [], []
        for shard, node in enumerate(extent.nodes):
            name = ShardName(extent.write_id, shard, node)
            if name in self.bad:
                self.bad.discard(name)
                faulty.append(shard)
            elif node == MISSING or self._context.watch.is_lost(node):
                homeless.append(shard)
            elif node in self.nodes and name not in listed:
                doubtful.append(shard)
        for shard in doubtful:
            if await self._is_faulty(extent, shard):
                faulty.append(shard)
        if homeless:  # noted only if something can be done about it
            ring, watch = self._context.cluster.ring, self._context.watch
            found = targets.for_lost(ring, watch, extent, homeless)
            faulty += found
            left = sum(extent.nodes[shard] != MISSING for shard in homeless if shard not in found)
            self.homeless_shards += left
            self.homeless_bytes += left * targets.bytes_of_shard(extent)
        return sorted(set(faulty))

    def _count(self, extent: ShardExtent) -> None:
        size = targets.bytes_of_shard(extent)
        for node in extent.nodes:
            shards, count = self.named.get(node, (0, 0))
            self.named[node] = shards + 1, count + size

    async def _is_faulty(self, extent: ShardExtent, shard: int) -> bool:
        node, ref = extent.nodes[shard], self._context.ref(extent, shard)
        async with self._asking:
            try:
                return bool(await self._context.bad_stripes(node, ref))
            except ShardNotFound:
                return True
            except NODE_ERRORS:
                self.nodes.discard(node)
                return False


def note_op(fault: Fault) -> Op:
    """Puts it on the repair table."""
    holder, extent = fault.holder, fault.extent
    row = holder.row
    if isinstance(row, PlacementRow):
        note = RepairRow(row.bucket, row.key, extent, fault.shards, now_ms())
        key = keys.repair(holder.layout, extent.write_id)
    else:
        note = RepairRow("", "", extent, fault.shards, now_ms(), holder.key)
        key = keys.repair(extent.shard_hash, extent.write_id)
    return Put(REPAIR, key, encode(note))

"""What all kinds of healing share, and the few commits that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from predastore.base.errors import PreconditionFailed
from predastore.base.limits import (
    HEALING_BYTES_MAX,
    HEALING_CALL_TIMEOUT_MS,
    HEALING_JOB_MS_MAX,
    HEALING_SOUGHT_MAX,
)
from predastore.catalog.keys import HEALING, PARTS, REPAIR
from predastore.jobs.healing.claims import Claims, name_of
from predastore.jobs.healing.holders import Holder, find
from predastore.jobs.healing.lease import Lease
from predastore.jobs.healing.records import MovedRecord, moved_key
from predastore.jobs.healing.throttle import Throttle
from predastore.jobs.healing.watch import Watch
from predastore.node.shard import ShardRef
from predastore.s3db.commands import Check, Delete, Equals, Op, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage import extents
from predastore.storage.buffers import Budget
from predastore.storage.cluster import ShardCluster
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import encode


@dataclass
class HealingCounts:
    """What was done since this process heals, and what is left, as far as is known."""

    objects_left: int = 0
    shards_left: int = 0
    bytes_left: int = 0
    stuck_shards: int = 0
    endangered_extents: int = 0
    repaired_shards: int = 0
    repaired_bytes: int = 0
    read_bytes: int = 0
    moved_shards: int = 0
    moved_bytes: int = 0
    moves_left: int = 0
    orphans_shards: int = 0
    orphans_bytes: int = 0
    last_pass_ms: int = 0

    def seconds_left(self, rate_bytes_s: int) -> int:
        """At this rate; -1: unknown."""
        if not self.bytes_left:
            return 0
        return self.bytes_left // rate_bytes_s if rate_bytes_s else -1


@dataclass
class HealingContext:
    state: GlobalState
    cluster: ShardCluster
    lease: Lease
    throttle: Throttle
    watch: Watch
    grace_s: float
    counts: HealingCounts = field(default_factory=HealingCounts)
    claims: Claims = field(default_factory=Claims)
    budget: Budget = field(default_factory=lambda: Budget(HEALING_BYTES_MAX))
    # Extents whose notes were of parts that are none any more, by write id: of which object, then?
    sought: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    _searched: set[bytes] = field(default_factory=set)  # a pass has looked for them

    def seek(self, write_id: bytes, shards: tuple[int, ...]) -> bool:
        """Whether a pass that began since this was first asked has looked for the object that the
        extent is of, and noted these shards of it."""
        if write_id in self._searched:
            self._searched.discard(write_id)
            return True
        if len(self.sought) < HEALING_SOUGHT_MAX:
            self.sought.setdefault(write_id, shards)
        return False

    def looked_for(self, sought: Iterable[bytes]) -> None:
        """A pass has looked for these."""
        for write_id in sought:
            self.sought.pop(write_id, None)
            self._searched.add(write_id)

    async def relocate(
        self,
        holder: Holder,
        new: Holder,
        left: Sequence[MovedRecord],
        began_ms: int,
        back: Iterable[tuple[bytes, bytes]] = (),
    ) -> bool:
        """Puts `new` in the place of a record, and notes the shards that were `left` behind; with
        `back`, the entries (key, value) of those that it takes back. False: the record or such an
        entry has changed, or the lease is lost, or the work since `began_ms` took too long for
        shards that no record names; then nothing has changed."""
        if extents.now_ms() - began_ms > HEALING_JOB_MS_MAX:
            return False
        checks, ops = holder.replaced_by(new)
        for each in left:
            where = moved_key(each.shard_hash, each.write_id, each.index, each.node)
            ops.append(Put(HEALING, where, encode(each)))
        for key, value in back:
            checks.append(Equals(HEALING, key, value))
            ops.append(Delete(HEALING, key))
        return await self._commit(ops, self.lease.check, *checks)

    async def drop_unnamed(
        self, holder: Holder, extent: ShardExtent, made: Mapping[int, int]
    ) -> None:
        """After a record could not be made to name the shards that were `made`: those that no
        record names, as the object was replaced or deleted meanwhile, are of no use. What another
        job makes too, or an upload that is complete may name, is left to the daily pass."""
        if not self.lease.is_held:
            return  # whoever has it now may be making the same
        part = holder.key if holder.table == PARTS else b""
        layout = extent.shard_hash if part else holder.layout
        names = {
            name_of(extent.write_id, shard, node): (shard, node) for shard, node in made.items()
        }
        mine = self.claims.of_one(names)
        with self.claims.deleting(mine):
            found = await find(self.state, layout, part)
            if part and not found:
                return
            named = {
                (shard, node)
                for one in found
                for each in one.extents
                if isinstance(each, ShardExtent) and each.write_id == extent.write_id
                for shard, node in enumerate(each.nodes)
            }
            for shard, node in {names[name] for name in mine} - named:
                await self.cluster.delete(node, (self.ref(extent, shard),))

    async def remove_notes(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Removes entries (key, value) of the repair table, unless they have changed."""
        for key, stored in entries:
            await self._commit([Delete(REPAIR, key)], Equals(REPAIR, key, stored))

    async def _commit(self, ops: Sequence[Op], *checks: Check) -> bool:
        try:
            await self.state.commit(batch(*ops, checks=checks))
        except PreconditionFailed:
            return False
        return True

    async def bad_stripes(self, node: int, ref: ShardRef) -> frozenset[int]:
        """The stripes of a shard whose blocks `node` knows to be bad. An error of NODE_ERRORS;
        ShardNotFound."""
        bad: set[int] = set()
        first, more = 0, True
        while more:
            places = await self.cluster.nodes.locate(
                node, ref, first, timeout_ms=HEALING_CALL_TIMEOUT_MS
            )
            bad.update(first + n for n, place in enumerate(places.blocks) if place.bad)
            first, more = first + len(places.blocks), places.more and bool(places.blocks)
        return frozenset(bad)

    def ref(self, extent: ShardExtent, shard: int) -> ShardRef:
        return ShardRef(extent.shard_hash, extent.write_id, shard)

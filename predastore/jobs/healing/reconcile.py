"""Compares what the nodes hold with what the records say that they should hold, both ways.

One walk over all records finds the shards that are missing or bad (presence.py), and notes them on
the repair table. It also remembers every shard that a record names. Then what was replaced and is
still to be let go of is remembered too, in the order in which it can move: parts, objects, deleted
entries, moved shards. What a node holds that is none of these, and that it has held since long
before the walk began, is an orphan: the rest of a write that died. Before it is deleted, the
horizon is stored, so that no such write can come back to life (fence.py). Ages are told by the
clocks of two hosts: where a node's is far from this process's, its orphans wait until one is set.

A pass that ends early is begun anew by whoever heals next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    HEALING_PAGE_RECORDS,
    NODE_DELETE_REFS_MAX,
    ORPHAN_AGE_MS,
    ORPHAN_CLOCK_SKEW_MS,
    REPAIR_BATCH_MAX,
    REPAIR_NOTES_PER_PASS_MAX,
)
from predastore.catalog.fence import HORIZON_KEY, HorizonRecord
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.claims import name_of
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.holders import WALKED, walk, walk_deleted
from predastore.jobs.healing.listing import ShardListing
from predastore.jobs.healing.presence import Fault, Presence, ShardName, note_op
from predastore.jobs.healing.records import MOVED_PREFIX, MovedRecord
from predastore.jobs.healing.sieve import Sieve
from predastore.node.messages import ShardRow
from predastore.node.shard import ShardRef
from predastore.s3db.commands import Op, Put, batch
from predastore.storage.cluster import NODE_ERRORS
from predastore.storage.extents import MISSING, Extent, ShardExtent, new_id, now_ms
from predastore.storage.formats import decode, encode

logger = logging.getLogger(__name__)


class Pass:
    """`nodes`: whose shards are looked for. `bad`, `sought`: as in Presence. `orphans`: whether to
    look for them too, on every node that answers. `was_complete`: all that was found was noted."""

    def __init__(
        self,
        context: HealingContext,
        nodes: Collection[int],
        *,
        bad: set[ShardName] | None = None,
        sought: Mapping[bytes, tuple[int, ...]] | None = None,
        orphans: bool = False,
        orphan_age_ms: int = ORPHAN_AGE_MS,
        clock_skew_ms: int = ORPHAN_CLOCK_SKEW_MS,
    ) -> None:
        self._context = context
        self.presence = Presence(context, nodes, set() if bad is None else bad, sought or {})
        self._orphans = orphans
        self._orphan_age_ms = orphan_age_ms
        self._clock_skew_ms = clock_skew_ms
        self._sieve = Sieve(context.watch.shard_count if orphans else 0)
        self.noted_count = 0
        self.was_complete = True
        self.percent = 0

    async def run(self) -> bool:
        """False: it ended early, as the lease is lost."""
        with self._context.claims.passing(self._sieve):
            return await self._run()

    async def _run(self) -> bool:
        clock = asyncio.get_running_loop().time
        began_s, before_ms = clock(), now_ms() - self._orphan_age_ms
        for table in WALKED:
            async for holders, behind in walk(self._context.state, table):
                if not self._context.lease.is_held:
                    return False
                async with self._context.throttle.slot():
                    for holder in holders:
                        self._remember(holder.extents)
                    await self._note(await self.presence.check(holders))
                if table == WALKED[-1] and behind:
                    self.percent = behind[0] * 100 // 256
        failpoint("healing.pass.walked")
        if self._orphans:
            # Again: the clock may have been set back meanwhile.
            walked_ms = int((clock() - began_s) * 1000)
            again_ms = now_ms() - walked_ms - self._orphan_age_ms
            return await self._collect(min(before_ms, again_ms))
        return True

    # --- missing and bad ones -------------------------------------------------------------

    async def _note(self, faults: Sequence[Fault]) -> None:
        ops: list[Op] = []
        for fault in faults:
            if self.noted_count >= REPAIR_NOTES_PER_PASS_MAX and not _is_urgent(fault):
                self.was_complete = False
                continue
            self.noted_count += 1
            ops.append(note_op(fault))
        for start in range(0, len(ops), REPAIR_BATCH_MAX):
            await self._context.state.commit(batch(*ops[start : start + REPAIR_BATCH_MAX]))

    # --- orphans --------------------------------------------------------------------------

    def _remember(self, extents: Sequence[Extent]) -> None:
        if not self._orphans:
            return
        for extent in extents:
            if isinstance(extent, ShardExtent):
                for shard, node in enumerate(extent.nodes):
                    if node != MISSING:
                        self._sieve.add(name_of(extent.write_id, shard, node))

    async def _collect(self, before_ms: int) -> bool:
        context = self._context
        async for extents in walk_deleted(context.state):
            self._remember(extents)
        after, truncated = b"", True
        while truncated:
            page = await context.state.list(HEALING, MOVED_PREFIX, b"", after, HEALING_PAGE_RECORDS)
            truncated, after = page.truncated, page.next or after
            for _, stored in page.entries:
                moved = decode(MovedRecord, stored)
                self._sieve.add(name_of(moved.write_id, moved.index, moved.node))
        horizon = HorizonRecord(before_ms, new_id())
        put = Put(HEALING, HORIZON_KEY, encode(horizon))
        await context.state.commit(batch(put, checks=(context.lease.check,)))
        failpoint("healing.pass.horizon")
        for node in context.watch.nodes_up:
            if not await self._collect_from(node, before_ms - self._clock_skew_ms):
                return False
        context.counts.last_pass_ms = now_ms()
        return True

    async def _collect_from(self, node: int, before_ms: int) -> bool:
        try:
            listing = ShardListing(self._context.cluster.nodes, node)
            async for rows in listing.pages():
                if not self._context.lease.is_held:
                    return False
                if abs(listing.clock_off_ms) > ORPHAN_CLOCK_SKEW_MS:
                    logger.warning(
                        "orphans wait until the clocks of two hosts agree: set them, with NTP",
                        extra={"node": node, "by_s": listing.clock_off_ms // 1000},
                    )
                    return True
                async with self._context.throttle.slot():
                    for start in range(0, len(rows), NODE_DELETE_REFS_MAX):
                        some = rows[start : start + NODE_DELETE_REFS_MAX]
                        orphans = [row for row in some if self._is_orphan(row, node, before_ms)]
                        if orphans:
                            await self._delete(node, orphans)
        except NODE_ERRORS as error:
            logger.info("orphans wait", extra={"node": node, "error": str(error)})
        return True

    def _is_orphan(self, row: ShardRow, node: int, before_ms: int) -> bool:
        written_ms = row.written_ms + 1000  # it is told to the second
        name = name_of(row.ref.write_id, row.ref.index, node)
        return written_ms < before_ms and name not in self._sieve

    async def _delete(self, node: int, rows: Sequence[ShardRow]) -> None:
        refs: list[ShardRef] = [row.ref for row in rows]
        logger.info("orphans are deleted", extra={"node": node, "shards": len(refs)})
        names = [name_of(ref.write_id, ref.index, node) for ref in refs]
        with self._context.claims.deleting(names):
            deleted = await self._context.cluster.delete(node, refs)
        if deleted:
            self._context.counts.orphans_shards += len(refs)
            self._context.counts.orphans_bytes += sum(row.byte_count for row in rows)
            failpoint("healing.pass.deleted")


def _is_urgent(fault: Fault) -> bool:
    """Another loss, and the object could not be read."""
    return len(fault.shards) >= fault.extent.m

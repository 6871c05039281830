"""After the ring has changed: moves shards to where it wants them now.

All records are walked over, the place that was reached is stored, and another process goes on from
there. A shard moves only if its node is none of those that the ring names, to one of these that has
no shard of the extent; so nothing moves twice, and nothing that need not. It is taken back where it
still lies from before, or copied, or built from others where its node does not answer any more.
Then one commit makes the record name the new nodes, if it is still what it was; the old copies go
after the readers' grace time (moved.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence

import msgspec

from predastore.base.errors import PredastoreError
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    HEALING_EXTENTS_PER_COMMIT,
    HEALING_JOBS,
    HEALING_LATE_PAUSE_S_MAX,
    HEALING_WALK_PAUSE_S_MAX,
)
from predastore.catalog.keys import HEALING
from predastore.coding.placement import Ring, RingNode
from predastore.jobs.healing import moved, targets
from predastore.jobs.healing.claims import Job as Claimed
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.holders import WALKED, Holder, walk
from predastore.jobs.healing.rebuild import Rebuild
from predastore.jobs.healing.records import RING_KEY, MovedRecord, RingRecord
from predastore.s3db.commands import Put, batch
from predastore.storage import extents
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import decode, encode

logger = logging.getLogger(__name__)


def digest(nodes: Sequence[RingNode]) -> bytes:
    """Of all that decides where shards go: the nodes of a ring."""
    described = [(node.id, node.host, node.weight) for node in nodes]
    return hashlib.sha256(msgspec.msgpack.encode(described)).digest()


class Rebalance:
    """One for the process that heals."""

    def __init__(self, context: HealingContext, *, pause_s: float) -> None:
        self._context = context
        self._pause_s_min = self._pause_s = pause_s
        self._after_s = 0.0  # loop time of the next walk
        self._seems_late = False
        self._storing = asyncio.Lock()
        self._walk_number = 0  # raised by each beginning, which the walk before must not undo
        self.progress: RingRecord | None = None
        self.is_walking = False

    @property
    def is_settled(self) -> bool:
        """Of the ring that is in use now."""
        progress = self.progress
        return progress is not None and progress.settled and progress.digest == self.ring_digest

    @property
    def ring_digest(self) -> bytes:
        return digest(self._context.cluster.ring.nodes)

    def hurry(self) -> None:
        """What could not be moved may be possible now."""
        self._after_s = 0.0

    async def step(self) -> bool:
        """A walk, if one is due; where some shards could not be moved, there is another after
        pauses that grow. Whether all is done."""
        context, clock = self._context, asyncio.get_running_loop().time
        if not context.watch.nodes_up:
            return False
        is_due = await self._is_due()
        if clock() < self._after_s or not context.watch.has_seen(context.cluster.known):
            return False
        if not is_due and not await self._is_late():
            return False
        await self._run()
        if self.is_settled and not self._seems_late:
            self._pause_s = self._pause_s_min
            return True
        self._pause()
        return False

    def _pause(self) -> None:
        self._after_s = asyncio.get_running_loop().time() + self._pause_s
        longest_s = HEALING_LATE_PAUSE_S_MAX if self.is_settled else HEALING_WALK_PAUSE_S_MAX
        self._pause_s = min(2 * self._pause_s, longest_s)

    async def _is_late(self) -> bool:
        """Whether nodes that are to be emptied have shards that nothing explains, for some time: a
        write that had begun before may have ended after the walk had passed its record."""
        watch, cluster = self._context.watch, self._context.cluster
        has_some = any(watch.shards_on(node) for node in cluster.known - cluster.active)
        if self._context.counts.moves_left or not has_some:
            self._seems_late, self._pause_s = False, self._pause_s_min
        elif not self._seems_late:
            self._seems_late = True
            self._pause()
        else:
            await self.restart()
            return True
        return False

    async def _is_due(self) -> bool:
        """Whether the shards may lie elsewhere than the ring wants them."""
        async with self._storing:
            stored = await self._context.state.get(HEALING, RING_KEY)
            self.progress = None if stored is None else decode(RingRecord, stored)
        if self.progress is None or self.progress.digest != self.ring_digest:
            self._after_s, self._pause_s, self._seems_late = 0.0, self._pause_s_min, False
            await self._begin()
        assert self.progress is not None
        return not self.progress.settled

    async def restart(self) -> None:
        """Walks over everything anew."""
        await self._begin()

    async def _begin(self) -> None:
        ring = self.ring_digest
        await self._store(RingRecord(ring, WALKED[0], b"", False, 0, 0, 0, extents.now_ms()))

    async def _store(self, progress: RingRecord, walk_number: int | None = None) -> None:
        """Of a walk, unless another has been begun; None: begins one."""
        put = Put(HEALING, RING_KEY, encode(progress))
        async with self._storing:
            if walk_number is None:
                self._walk_number += 1
            elif walk_number != self._walk_number:
                return
            await self._context.state.commit(batch(put, checks=(self._context.lease.check,)))
            self.progress = progress

    async def _run(self) -> None:
        """Walks on to the end, or until the ring changes or the lease is lost."""
        logger.info("shards are moved to where the ring wants them", extra={"done": self.percent})
        self.is_walking = True
        try:
            await self._walk()
        finally:
            self.is_walking = False
        if self.is_settled and self.progress is not None:
            progress = self.progress
            told = {"shards": progress.moved_shards, "bytes": progress.moved_bytes}
            told["seconds"] = (extents.now_ms() - progress.begun_ms) // 1000
            logger.info("all shards are where the ring wants them", extra=told)

    async def _walk(self) -> None:
        assert self.progress is not None
        ring, number = self._context.cluster.ring, self._walk_number
        for table in WALKED[WALKED.index(self.progress.table) :]:
            after = self.progress.after if table == self.progress.table else b""
            async for holders, behind in walk(self._context.state, table, after):
                await self._page(holders, ring, number, table, behind)
                if not self._goes_on(ring, number):
                    return
        settled = self.progress.left_count == 0
        again = msgspec.structs.replace(self.progress, table=WALKED[0], after=b"", left_count=0)
        await self._store(msgspec.structs.replace(again, settled=settled), number)

    def _goes_on(self, ring: Ring, number: int) -> bool:
        is_last = self._context.cluster.ring is ring and self._walk_number == number
        return is_last and self._context.lease.is_held

    async def _page(
        self, holders: Sequence[Holder], ring: Ring, number: int, table: str, behind: bytes
    ) -> None:
        left = shards = byte_count = 0
        queue = iter(holders)

        async def work() -> None:
            nonlocal left, shards, byte_count
            for holder in queue:
                if not self._goes_on(ring, number):
                    return
                move = _Move(self._context, ring, holder)
                await move.run()
                left += move.left_count
                shards += move.shards
                byte_count += move.byte_count

        async with asyncio.TaskGroup() as group:
            for _ in range(min(HEALING_JOBS, len(holders))):
                group.create_task(work())
        self._context.counts.moved_shards += shards
        self._context.counts.moved_bytes += byte_count
        if not self._goes_on(ring, number):
            return  # the rest of the page is for the next walk
        assert self.progress is not None
        progress = msgspec.structs.replace(
            self.progress,
            table=table,
            after=behind,
            left_count=self.progress.left_count + left,
            moved_shards=self.progress.moved_shards + shards,
            moved_bytes=self.progress.moved_bytes + byte_count,
        )
        await self._store(progress, number)
        failpoint("healing.rebalance.page")

    @property
    def percent(self) -> int:
        """How much of the walk is done: hashes are spread evenly."""
        if self.progress is None or self.progress.settled:
            return 100
        if self.progress.table != WALKED[-1] or not self.progress.after:
            return 0
        return self.progress.after[0] * 100 // 256


class _Move:
    """One record. `left_count`: extents that could not be brought to where they belong."""

    _claimed: Claimed

    def __init__(self, context: HealingContext, ring: Ring, holder: Holder) -> None:
        self._context = context
        self._ring = ring
        self._holder = holder
        self.left_count = 0
        self.shards = 0
        self.byte_count = 0

    async def run(self) -> None:
        """Several extents share a commit, as each one writes the whole record."""
        with self._context.claims.job() as self._claimed:
            await self._run()

    async def _run(self) -> None:
        todo = [
            (number, extent, goals)
            for number, extent in enumerate(self._holder.extents)
            if isinstance(extent, ShardExtent) and (goals := targets.moves(self._ring, extent))
        ]
        for start in range(0, len(todo), HEALING_EXTENTS_PER_COMMIT):
            if not await self._some(todo[start : start + HEALING_EXTENTS_PER_COMMIT]):
                self.left_count += len(todo) - start
                return

    async def _some(self, todo: Sequence[tuple[int, ShardExtent, dict[int, int]]]) -> bool:
        """False: the record has changed."""
        began_ms = extents.now_ms()
        changed: dict[int, ShardExtent] = {}
        made: dict[int, dict[int, int]] = {}
        left: list[MovedRecord] = []
        back: list[tuple[bytes, bytes]] = []
        byte_count = 0
        for number, extent, goals in todo:
            there, makeable = await self._sorted(extent, goals)
            done, written = await self._make(extent, makeable)
            byte_count += written
            nodes = list(extent.nodes)
            for shard in done.union(there):
                nodes[shard] = goals[shard]
                left.append(
                    MovedRecord(
                        *(extent.shard_hash, extent.write_id, shard, extent.nodes[shard]),
                        moved_ms=extents.now_ms(),
                    )
                )
            back += there.values()
            if done or there:
                changed[number] = msgspec.structs.replace(extent, nodes=tuple(nodes))
                made[number] = {shard: goals[shard] for shard in done}
            self.left_count += len(done) + len(there) < len(goals)
        if not changed:
            return True
        failpoint("healing.rebalance.copied")
        new = self._holder.naming(changed)
        if not await self._context.relocate(self._holder, new, left, began_ms, back):
            for number, shards in made.items():
                await self._context.drop_unnamed(self._holder, changed[number], shards)
            return False
        self._holder = new
        self._context.counts.moves_left += len(left)  # counted anew when some are let go of
        failpoint("healing.rebalance.committed")
        self.shards += len(left)
        self.byte_count += byte_count
        return True

    async def _sorted(
        self, extent: ShardExtent, goals: dict[int, int]
    ) -> tuple[dict[int, tuple[bytes, bytes]], dict[int, int]]:
        """Of the shards that can be moved now: the entries of those that are taken back, and the
        nodes of those that are to be made."""
        context, watch = self._context, self._context.watch
        there: dict[int, tuple[bytes, bytes]] = {}
        makeable: dict[int, int] = {}
        waiting = await moved.waiting(context, extent, goals)
        for shard, node in goals.items():
            if not watch.takes_shards(node):
                continue
            if not self._claimed.claim(extent.write_id, shard, node):
                continue
            own = extent.nodes[shard]
            if shard in waiting:
                key, value = waiting[shard]
                if await moved.can_be_taken_back(context, extent, shard, node, value):
                    there[shard] = key, value
            elif watch.is_lost(own) or watch.is_up(own):
                makeable[shard] = node
        return there, makeable

    async def _make(
        self, extent: ShardExtent, wanted: dict[int, int]
    ) -> tuple[frozenset[int], int]:
        """The shards that are where they belong now, and the bytes written for that."""
        if not wanted:
            return frozenset(), 0
        watch = self._context.watch
        copied = frozenset(shard for shard in wanted if not watch.is_lost(extent.nodes[shard]))
        rebuild = Rebuild(self._context, extent, wanted, copied=copied, damaged=lambda _, __: None)
        try:
            done = await rebuild.run()
        except PredastoreError as error:
            logger.info("shards can not be moved now", extra={"error": str(error)})
            return frozenset(), 0
        self._context.counts.read_bytes += rebuild.read_bytes
        return done, rebuild.written_bytes

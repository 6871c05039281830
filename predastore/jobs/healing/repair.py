"""Works off the repair table: every shard that is noted there is made again, or found to be well.

The table is looked through, and the extents that can lose the fewest shards more are done first, a
batch of them at a time. What a note says is a hint: the record is read anew, and each node is asked
for its shard, so that notes may be old, double or wrong. A shard goes to the node that the record
names for it, if that takes shards, and then no record changes; else to where the ring wants it, and
one commit makes the record say so, if that is still what it was. A note goes when its extent is
whole, or no longer there; one that can not be worked off now is tried again later.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from predastore.base.errors import PredastoreError, ShardNotFound
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    HEALING_BATCH_JOBS,
    HEALING_BATCH_S_MAX,
    HEALING_CALL_TIMEOUT_MS,
    HEALING_JOBS,
    HEALING_PAGE_RECORDS,
    HEALING_POSTPONED_MAX,
    HEALING_RETRY_S_MAX,
    HEALING_RETRY_S_MIN,
)
from predastore.catalog.keys import REPAIR
from predastore.catalog.rows import RepairRow
from predastore.jobs.healing import moved, targets
from predastore.jobs.healing.claims import Job as Claimed
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.holders import Holder, find
from predastore.jobs.healing.rebuild import Rebuild
from predastore.jobs.healing.records import MovedRecord
from predastore.s3db.commands import Put, batch
from predastore.storage import extents
from predastore.storage.cluster import NODE_ERRORS
from predastore.storage.extents import HASH_BYTES, MISSING, ShardExtent, missing_of
from predastore.storage.formats import decode, encode

logger = logging.getLogger(__name__)


class Outcome(Enum):
    DONE = "done"
    LATER = "later"


@dataclass(order=True)
class RepairJob:
    """`margin`: how many shards more may be lost, as far as is known."""

    margin: int
    key: bytes
    stored: bytes = field(compare=False)
    note: RepairRow = field(compare=False)


@dataclass
class Findings:
    """`lost`: shards that are not there. `bad`: bad stripes of shards that are. `waiting`: shards
    of nodes that do not answer, and may come back."""

    lost: list[int] = field(default_factory=list)
    bad: dict[int, frozenset[int]] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)


class Repair:
    """One for the process that heals."""

    def __init__(self, context: HealingContext) -> None:
        self._context = context
        self._postponed: dict[bytes, tuple[float, float]] = {}  # key -> until, pause
        self._began: tuple[float, int, int] | None = None  # when; shards and bytes made before

    async def run(self) -> int:
        """One batch of what is noted; how many notes were worked off."""
        jobs = await self._survey()
        self._tell()
        done = 0
        queue = iter(jobs)
        clock = asyncio.get_running_loop().time
        until = clock() + HEALING_BATCH_S_MAX  # then what is more urgent may have come

        async def work() -> None:
            nonlocal done
            for job in queue:
                if not self._context.lease.is_held or clock() > until:
                    return
                done += await self._attempt(job) is Outcome.DONE

        async with asyncio.TaskGroup() as group:
            for _ in range(min(HEALING_JOBS, len(jobs))):
                group.create_task(work())
        return done

    def _tell(self) -> None:
        """Logs that there is something to repair, or that there is nothing any more."""
        counts, now = self._context.counts, asyncio.get_running_loop().time()
        if counts.shards_left and self._began is None:
            self._began = now, counts.repaired_shards, counts.repaired_bytes
            left = {"shards": counts.shards_left, "objects": counts.objects_left}
            logger.info("repair begins", extra={**left, "bytes": counts.bytes_left})
        elif not counts.shards_left and self._began is not None:
            began_s, shards, size = self._began
            self._began = None
            made = {
                "shards": counts.repaired_shards - shards,
                "bytes": counts.repaired_bytes - size,
            }
            logger.info("repair is done", extra={**made, "seconds": round(now - began_s, 1)})

    async def _survey(self) -> list[RepairJob]:
        """The most endangered extents that are due, and the sums of all."""
        now = asyncio.get_running_loop().time()
        best: list[
            tuple[tuple[int, bytes], RepairJob]
        ] = []  # a heap: the least endangered stands first
        shards = shard_bytes = stuck = object_count = endangered = 0
        after, truncated, last = b"", True, b""
        while truncated:
            page = await self._context.state.list(REPAIR, b"", b"", after, HEALING_PAGE_RECORDS)
            truncated, after = page.truncated, page.next or after
            for key, stored in page.entries:
                note = decode(RepairRow, stored)
                margin = self._margin(note)
                endangered += margin <= 0
                object_count += key[:HASH_BYTES] != last
                last = key[:HASH_BYTES]
                count = len(missing_of(note.extent, note.shards))
                shards += count
                shard_bytes += count * targets.bytes_of_shard(note.extent)
                if self._postponed.get(key, (0.0,))[0] > now:
                    stuck += count
                    continue
                job = RepairJob(margin, key, stored, note)
                rank = (-margin, bytes(255 - byte for byte in key))
                if len(best) < HEALING_BATCH_JOBS:
                    heapq.heappush(best, (rank, job))
                elif rank > best[0][0]:
                    heapq.heapreplace(best, (rank, job))
        counts = self._context.counts
        counts.objects_left, counts.shards_left = object_count, shards
        counts.bytes_left, counts.stuck_shards = shard_bytes, stuck
        counts.endangered_extents = endangered
        return sorted(job for _, job in best)

    def _margin(self, note: RepairRow) -> int:
        watch = self._context.watch
        left = sum(
            shard not in note.shards and node != MISSING and watch.is_up(node)
            for shard, node in enumerate(note.extent.nodes)
        )
        return left - note.extent.k

    async def _attempt(self, job: RepairJob) -> Outcome:
        try:
            with self._context.claims.job() as claimed:
                outcome = await self._work_off(job, claimed)
        except PredastoreError as error:
            logger.info(
                "an extent can not be repaired now",
                extra={"object": f"{job.note.bucket}/{job.note.key}", "error": str(error)},
            )
            outcome = Outcome.LATER
        if outcome is Outcome.LATER:
            self._postpone(job.key)
        else:
            self._postponed.pop(job.key, None)
            counts = self._context.counts
            count = len(missing_of(job.note.extent, job.note.shards))
            counts.shards_left -= count
            counts.bytes_left -= count * targets.bytes_of_shard(job.note.extent)
            counts.objects_left = max(0, counts.objects_left - 1)
        return outcome

    def _postpone(self, key: bytes) -> None:
        _, pause = self._postponed.pop(key, (0.0, HEALING_RETRY_S_MIN / 2))
        pause = min(2 * pause, HEALING_RETRY_S_MAX)
        while len(self._postponed) >= HEALING_POSTPONED_MAX:
            del self._postponed[next(iter(self._postponed))]
        self._postponed[key] = (asyncio.get_running_loop().time() + pause, pause)

    def hurry(self) -> None:
        """Nodes have come back: what was postponed may be possible now."""
        self._postponed.clear()

    # --- one extent -----------------------------------------------------------------------

    async def _work_off(self, job: RepairJob, claimed: Claimed) -> Outcome:
        context = self._context
        began_ms = extents.now_ms()
        found = await self._find(job)
        if found is None:
            is_of_part = bool(job.note.part and not job.note.bucket)
            if is_of_part and not context.seek(job.key[HASH_BYTES:], job.note.shards):
                return Outcome.LATER
            await context.remove_notes([(job.key, job.stored)])
            return Outcome.DONE
        holder, number, extent = found
        findings = await self._examine(extent, job.note.shards)
        goals = await self._goals(extent, findings.lost, claimed)
        stays = {shard: extent.nodes[shard] for shard in findings.bad}
        complete = not findings.waiting and len(goals) == len(findings.lost)
        if goals or stays:
            others: set[int] = set()
            rebuild = Rebuild(
                context,
                extent,
                goals | stays,
                stripes=findings.bad,
                damaged=lambda _, shard: others.add(shard),
            )
            done = await rebuild.run()
            context.counts.read_bytes += rebuild.read_bytes
            failpoint("healing.repair.rebuilt")
            complete = complete and len(done) == len(goals) + len(stays) and not others
            placed = {shard: goals[shard] for shard in done.intersection(goals)}
            if not await self._record(job, holder, number, extent, placed, began_ms):
                return Outcome.LATER
            failpoint("healing.repair.committed")
            context.counts.repaired_shards += len(done)
            context.counts.repaired_bytes += rebuild.written_bytes
            if others:
                await self._note_more(job, extent, others)
                return Outcome.LATER
        if not complete:
            return Outcome.LATER
        await context.remove_notes([(job.key, job.stored)])
        return Outcome.DONE

    async def _goals(
        self, extent: ShardExtent, lost: Sequence[int], claimed: Claimed
    ) -> dict[int, int]:
        """Where each of the `lost` shards can be made now."""
        context = self._context
        without: set[tuple[int, int]] = set()  # where a node has still to let go of the shard
        while goals := targets.for_lost(context.cluster.ring, context.watch, extent, lost, without):
            waiting = await moved.waiting(context, extent, goals)
            if not waiting:
                break
            without |= {(shard, goals[shard]) for shard in waiting}
        return {
            shard: node
            for shard, node in goals.items()
            if claimed.claim(extent.write_id, shard, node)
        }

    async def _find(self, job: RepairJob) -> tuple[Holder, int, ShardExtent] | None:
        for holder in await find(self._context.state, job.key[:HASH_BYTES], job.note.part):
            for number, extent in enumerate(holder.extents):
                if extent.write_id == job.key[HASH_BYTES:] and isinstance(extent, ShardExtent):
                    return holder, number, extent
        return None

    async def _examine(self, extent: ShardExtent, suspects: Sequence[int]) -> Findings:
        findings = Findings()

        async def ask(shard: int, node: int) -> None:
            ref = self._context.ref(extent, shard)
            try:
                if shard in suspects:
                    bad = await self._context.bad_stripes(node, ref)
                    if bad:
                        findings.bad[shard] = bad
                else:
                    await self._context.cluster.nodes.stat(
                        node, ref, timeout_ms=HEALING_CALL_TIMEOUT_MS
                    )
            except ShardNotFound:
                findings.lost.append(shard)
            except NODE_ERRORS:
                findings.waiting.append(shard)

        asked = []
        for shard, node in enumerate(extent.nodes):
            if node == MISSING or self._context.watch.is_lost(node):
                findings.lost.append(shard)
            elif not self._context.watch.is_up(node):
                findings.waiting.append(shard)
            else:
                asked.append(ask(shard, node))
        await asyncio.gather(*asked)
        # A node that is down and of which nothing is suspected has its shard still.
        findings.waiting = [shard for shard in findings.waiting if shard in suspects]
        findings.lost.sort()
        return findings

    async def _record(
        self,
        job: RepairJob,
        holder: Holder,
        number: int,
        extent: ShardExtent,
        done: dict[int, int],
        began_ms: int,
    ) -> bool:
        """Makes the record name the nodes of the shards that are `done`. False: it is another one
        by now, and this was for nothing."""
        nodes = list(extent.nodes)
        left = []
        for shard, node in done.items():
            if nodes[shard] not in (node, MISSING):
                left.append(
                    MovedRecord(
                        extent.shard_hash, extent.write_id, shard, nodes[shard], extents.now_ms()
                    )
                )
            nodes[shard] = node
        if tuple(nodes) != extent.nodes:
            changed = msgspec.structs.replace(extent, nodes=tuple(nodes))
            new = holder.naming({number: changed})
            if await self._context.relocate(holder, new, left, began_ms):
                return True
        else:
            found = await self._find(job)
            if found is not None and found[2] == extent:
                return True
        await self._context.drop_unnamed(holder, extent, done)
        return False

    async def _note_more(self, job: RepairJob, extent: ShardExtent, others: set[int]) -> None:
        note = job.note
        shards = tuple(sorted(others.union(note.shards)))
        row = RepairRow(note.bucket, note.key, extent, shards, extents.now_ms(), note.part)
        await self._context.state.commit(batch(Put(REPAIR, job.key, encode(row))))

"""`Healing`: the background work that brings every object to full redundancy and keeps it there.

Each process with a distributed backend has one; the one that holds the lease (lease.py) works, the
others wait for it to fall silent. The work is some strands, at the same time and paced together
(throttle.py):

- the nodes are asked how they are (watch.py);
- the repair table is worked off (repair.py);
- nodes that came back, or have other contents than before, and blocks that scrubbing found bad,
  lead to a pass over the records; now and then there is one over everything (passes.py);
- after a change of the ring, shards are moved (rebalance.py); what was left behind goes (moved.py).

Where the work stands is in s3db, so that another process can go on, and can tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from predastore.base.errors import PredastoreError
from predastore.base.limits import (
    HEALING_END_S,
    LEASE_GIVE_UP_S_MAX,
)
from predastore.catalog.keys import HEALING
from predastore.jobs.healing import moved
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.lease import Lease
from predastore.jobs.healing.pace import HealingPace
from predastore.jobs.healing.passes import Passes
from predastore.jobs.healing.rebalance import Rebalance
from predastore.jobs.healing.records import PROGRESS_KEY, ProgressRecord
from predastore.jobs.healing.repair import Repair
from predastore.jobs.healing.throttle import Throttle
from predastore.jobs.healing.watch import Watch
from predastore.s3db.commands import Op, Put
from predastore.s3db.global_state import GlobalState
from predastore.storage import extents
from predastore.storage.distributed import DistributedStore
from predastore.storage.formats import decode, encode

logger = logging.getLogger(__name__)


class Healing:
    """`start` it in the event loop of the store, `close` it before state and store. `process`:
    a name for people."""

    def __init__(
        self,
        state: GlobalState,
        store: DistributedStore,
        process: str,
        *,
        pace: HealingPace | None = None,
    ) -> None:
        self._pace = pace or HealingPace()
        self._state = state
        self._process = process
        cluster = store.cluster
        self._context = HealingContext(
            state=state,
            cluster=cluster,
            lease=Lease(state, process, expiry_s=self._pace.expiry_s),
            throttle=Throttle(
                cluster.health.is_busy,
                bytes_per_s=self._pace.bytes_per_s,
                busy_pauses=self._pace.busy_pauses,
            ),
            watch=Watch(cluster, lost_s=self._pace.lost_s),
            grace_s=store.grace_s,
        )
        self._repair = Repair(self._context)
        self._rebalance = Rebalance(self._context, pause_s=self._pace.watch_s)
        self._passes = Passes(self._context, self._pace, self._put_progress)
        self._recalled = False
        self._lost: frozenset[int] = frozenset()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Stops work; the lease is free for the next."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        try:
            async with asyncio.timeout(LEASE_GIVE_UP_S_MAX):
                await self._context.lease.give_up()
        except (PredastoreError, TimeoutError) as error:
            logger.info("the lease will expire by itself", extra={"error": str(error)})

    def config_changed(self) -> None:
        """The store has another ring, or other nodes: looks at once what that means."""
        self._rebalance.hurry()
        self._wake_strands()

    def want_full_pass(self) -> None:
        """Compares everything now, if this process heals, instead of when it is due."""
        self._passes.want_full()
        self._wake_strands()

    def _wake_strands(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether this is the process that heals."""
        return self._context.lease.is_held

    @property
    def is_passing(self) -> bool:
        """Whether a pass is under way, or one over everything is wanted."""
        return self._passes.is_passing

    @property
    def given_up(self) -> frozenset[int]:
        """Nodes that are lost, as this process knows that heals, and that no record names: all that
        they had is elsewhere."""
        if not (self._context.lease.is_held and self._recalled and self._rebalance.is_settled):
            return frozenset()
        return self._lost - self._context.cluster.active

    async def status(self) -> ProgressRecord | None:
        """What the process that heals says of itself; None where none has said anything yet."""
        if self._context.lease.is_held and self._recalled:
            return self._progress()
        stored = await self._state.get(HEALING, PROGRESS_KEY)
        return None if stored is None else decode(ProgressRecord, stored)

    # --- who works ------------------------------------------------------------------------

    async def _run(self) -> None:
        strands: asyncio.Future[Any] | None = None
        try:
            while True:
                await self._quietly("lease", self._beat)
                if not self._context.lease.is_held:
                    self._recalled = False
                elif not self._recalled:
                    self._recalled = await self._quietly("start", self._recall)
                if self._recalled and strands is None:
                    logger.info("this process heals the cluster now")
                    strands = asyncio.gather(
                        self._strand("watch", self._watch_nodes),
                        self._strand("repair", self._repair_all),
                        self._strand("passes", self._pass_over),
                        self._strand("moves", self._rebalance.step),
                        self._strand("moved", self._release_moved),
                        return_exceptions=True,
                    )
                elif strands is not None and not self._context.lease.is_held:
                    await _ended(strands)
                    strands = None
                    logger.info("another process heals the cluster now")
                await asyncio.sleep(self._pace.beat_s)
        finally:
            if strands is not None:
                await _ended(strands)

    async def _recall(self) -> bool:
        """What is known from the process that healed before, in place of what this one knew when
        it last did; until then nothing is written over it."""
        self._lost = frozenset()
        self._passes.forget()
        self._context.sought.clear()
        self._rebalance.progress = None
        self._context.watch.recall(())
        stored = await self._state.get(HEALING, PROGRESS_KEY)
        if stored is not None:
            before = decode(ProgressRecord, stored)
            self._context.watch.recall(before.seen)
            self._passes.recall(before.seen)
            self._context.counts.last_pass_ms = before.last_pass_ms
        return True

    async def _beat(self) -> None:
        await self._context.lease.beat(*([self._put_progress()] if self._recalled else []))

    def _put_progress(self) -> Op:
        return Put(HEALING, PROGRESS_KEY, encode(self._progress()))

    async def _strand(self, name: str, step: Callable[[], Awaitable[bool]]) -> None:
        """Repeats `step`; after one that had nothing to do, or failed, there is a pause."""
        while True:
            if not await self._quietly(name, step):
                try:
                    async with asyncio.timeout(self._pace.watch_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _quietly(self, name: str, step: Callable[[], Awaitable[bool | None]]) -> bool:
        try:
            return bool(await step())
        except* PredastoreError as errors:  # of steps that work at several things at once, too
            told = {"at": name, "error": str(errors.exceptions[0])}
            logger.warning("healing will go on later", extra=told)
        except* Exception:
            logger.exception("healing failed; it will go on later", extra={"at": name})
        return False

    # --- the strands ----------------------------------------------------------------------

    async def _watch_nodes(self) -> bool:
        """What came back, or came anew, or is given up."""
        watch = self._context.watch
        returned = await watch.look()
        if returned:
            self._repair.hurry()
            self._rebalance.hurry()
        lost = frozenset(watch.nodes_lost)
        if self._lost - lost:  # what was built elsewhere goes back
            await self._rebalance.restart()
        for node in sorted(lost - self._lost):
            logger.warning(
                "a node is given up: what it had is built elsewhere", extra={"node": node}
            )
        self._lost = lost
        self._passes.looked(lost)
        return False

    async def _repair_all(self) -> bool:
        return await self._repair.run() > 0

    async def _pass_over(self) -> bool:
        await self._passes.step()
        return False

    async def _release_moved(self) -> bool:
        self._context.counts.moves_left = await moved.release(self._context)
        return False

    # --- what it says ---------------------------------------------------------------------

    def _progress(self) -> ProgressRecord:
        counts, watch = self._context.counts, self._context.watch
        rate = self._context.throttle.rate_bytes_s
        walking, percent = "", 0
        if self._passes.percent >= 0:
            walking, percent = "records", self._passes.percent
        elif self._rebalance.is_walking:
            walking, percent = "moves", self._rebalance.percent
        return ProgressRecord(
            process=self._process,
            at_ms=extents.now_ms(),
            objects_left=counts.objects_left,
            shards_left=counts.shards_left,
            bytes_left=counts.bytes_left,
            stuck_shards=counts.stuck_shards,
            rate_bytes_s=rate,
            seconds_left=counts.seconds_left(rate),
            repaired_shards=counts.repaired_shards,
            repaired_bytes=counts.repaired_bytes,
            moved_shards=counts.moved_shards,
            moved_bytes=counts.moved_bytes,
            moves_left=counts.moves_left,
            orphans_shards=counts.orphans_shards,
            orphans_bytes=counts.orphans_bytes,
            walk=walking,
            walk_percent=percent,
            last_pass_ms=counts.last_pass_ms,
            ring_settled=self._rebalance.is_settled,
            ring=self._rebalance.ring_digest,
            lost_nodes=watch.nodes_lost,
            down_nodes=watch.nodes_down,
            noted_nodes=tuple(sorted(self._passes.noted)),
            homeless_shards=self._passes.homeless[0],
            homeless_bytes=self._passes.homeless[1],
            seen=watch.seen(self._passes.counted),
            endangered_extents=counts.endangered_extents,
            unnamed_bad=self._passes.unnamed_bad(),
        )


async def _ended(strands: asyncio.Future[Any]) -> None:
    """Cancels them, and waits for their end. Once may not do: a task group whose child fails at the
    same time swallows the cancellation (Python 3.11)."""
    while not strands.done():
        strands.cancel()
        await asyncio.wait((strands,), timeout=HEALING_END_S)
    if not strands.cancelled():
        strands.exception()

"""`Healing`: the background work that brings every object to full redundancy and keeps it there.

Each process with a distributed backend has one; the one that holds the lease (lease.py) works, the
others wait for it to fall silent. The work is some strands, at the same time and paced together
(throttle.py):

- the nodes are asked how they are (watch.py);
- the repair table is worked off (repair.py);
- nodes that came back, or have other contents than before, and blocks that scrubbing found bad,
  lead to a pass over the records; now and then there is one over everything (reconcile.py);
- after a change of the ring, shards are moved (rebalance.py); what was left behind goes (moved.py).

Where the work stands is in s3db, so that another process can go on, and can tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from predastore.backend import records
from predastore.backend.distributed import DistributedStore
from predastore.backend.healing import moved, scrubbed
from predastore.backend.healing.context import Context
from predastore.backend.healing.lease import Lease
from predastore.backend.healing.presence import ShardName
from predastore.backend.healing.rebalance import Rebalance
from predastore.backend.healing.reconcile import Pass
from predastore.backend.healing.records import (
    HEALING,
    PROGRESS_KEY,
    NodeRecord,
    ProgressRecord,
    node_key,
)
from predastore.backend.healing.repair import Repair
from predastore.backend.healing.throttle import Throttle
from predastore.backend.healing.watch import Watch
from predastore.backend.state import GlobalState
from predastore.errors import PredastoreError
from predastore.limits import (
    HEALING_BUSY_PAUSES,
    HEALING_BYTES_PER_S_MAX,
    HEALING_END_S,
    LEASE_BEAT_MS,
    LEASE_EXPIRY_MS,
    LEASE_GIVE_UP_S_MAX,
    NODE_LOST_MS,
    NODE_WATCH_MS,
    ORPHAN_AGE_MS,
    ORPHAN_CLOCK_SKEW_MS,
    RECONCILE_PERIOD_MS,
    REPAIR_NOTES_PER_PASS_MAX,
)
from predastore.s3db.commands import Put, batch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """When things happen; tests have shorter times. `watch_s`: between two looks at the nodes, and
    at what is to be done."""

    beat_s: float = LEASE_BEAT_MS / 1000
    expiry_s: float = LEASE_EXPIRY_MS / 1000
    watch_s: float = NODE_WATCH_MS / 1000
    lost_s: float = NODE_LOST_MS / 1000
    period_s: float = RECONCILE_PERIOD_MS / 1000
    orphan_age_ms: int = ORPHAN_AGE_MS
    clock_skew_ms: int = ORPHAN_CLOCK_SKEW_MS
    bytes_per_s: float = HEALING_BYTES_PER_S_MAX
    busy_pauses: float = HEALING_BUSY_PAUSES


class Healing:
    """`start` it in the event loop of the store, `close` it before state and store. `process`:
    a name for people."""

    def __init__(
        self,
        state: GlobalState,
        store: DistributedStore,
        process: str,
        *,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._state = state
        self._process = process
        cluster = store.cluster
        self._context = Context(
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
        self._returned: set[int] = set()
        self._pass: Pass | None = None
        self._recalled = False
        self._full_pass_wanted = False
        self._lost: frozenset[int] = frozenset()
        self._lost_news = False  # a pass is to note what they held
        self._is_cut = False  # the last one had more to note than it may
        self._noted: frozenset[int] = frozenset()  # of the lost nodes: one has
        self._homeless = (0, 0)  # shards and bytes of these, which no other node can take
        self._looked_for: set[ShardName] = set()  # bad shards that a walk has looked for
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
        self._full_pass_wanted = True
        self._wake_strands()

    def _wake_strands(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether this is the process that heals."""
        return self._context.lease.is_held

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
        return None if stored is None else records.decode(ProgressRecord, stored)

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
                await asyncio.sleep(self._pace.beat_s)
        finally:
            if strands is not None:
                await _ended(strands)

    async def _recall(self) -> bool:
        """What is known from the process that healed before, in place of what this one knew when
        it last did; until then nothing is written over it."""
        self._lost = self._noted = frozenset()
        self._returned, self._homeless = set(), (0, 0)
        self._rebalance.progress = None
        self._context.watch.recall(())
        stored = await self._state.get(HEALING, PROGRESS_KEY)
        if stored is not None:
            before = records.decode(ProgressRecord, stored)
            self._context.watch.recall(before.seen)
            self._context.counts.last_pass_ms = before.last_pass_ms
        return True

    async def _beat(self) -> None:
        progress = Put(HEALING, PROGRESS_KEY, records.encode(self._progress()))
        await self._context.lease.beat(*([progress] if self._recalled else []))

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
            self._returned |= await self._to_be_checked(returned)
            self._rebalance.hurry()
        lost = frozenset(watch.nodes_lost)
        if self._lost - lost:  # what was built elsewhere goes back
            await self._rebalance.restart()
        self._lost_news |= bool(lost and lost != self._lost)
        self._lost = lost
        self._noted &= lost
        if not lost:
            self._homeless = (0, 0)
        return False

    async def _to_be_checked(self, returned: set[int]) -> set[int]:
        """Those whose directory is not the one that was looked through."""
        watch = self._context.watch
        nodes = [node for node in sorted(returned) if watch.is_up(node)]
        stored = await self._state.read([(HEALING, node_key(node)) for node in nodes])
        return {
            node
            for node, value in zip(nodes, stored, strict=True)
            if value is None or records.decode(NodeRecord, value).store_id != watch.store_id(node)
        }

    async def _repair_all(self) -> bool:
        return await self._repair.run() > 0

    async def _pass_over(self) -> bool:
        """A pass over the nodes that need one, or over everything when that is due."""
        watch = self._context.watch
        if not watch.nodes_up:
            return False
        if self._is_cut and self._context.counts.shards_left > REPAIR_NOTES_PER_PASS_MAX // 2:
            return False  # another would find what is noted already
        if self._context.walk_again:
            self._context.walk_again, self._lost_news = False, True
            self._looked_for.clear()
        bad = await self._bad_to_look_for()
        is_full = self._full_pass_wanted or self._is_due()
        self._returned &= self._context.cluster.known
        nodes = set(watch.nodes_up) if is_full else self._returned.intersection(watch.nodes_up)
        if not (is_full or bad or nodes or self._lost_news):
            return False
        store_ids = {node: watch.store_id(node) for node in nodes}
        lost = self._lost
        news, complete = self._lost_news, False
        self._full_pass_wanted = self._lost_news = False
        self._pass = Pass(
            self._context,
            nodes,
            bad=set(bad),
            orphans=is_full,
            orphan_age_ms=self._pace.orphan_age_ms,
            clock_skew_ms=self._pace.clock_skew_ms,
        )
        try:
            finished = await self._pass.run()
            complete = finished and self._pass.was_complete
            presence = self._pass.presence
        finally:
            self._pass = None
            if not complete:
                self._full_pass_wanted |= is_full
                self._lost_news |= news
        self._is_cut = finished and not complete
        if complete:
            self._noted = lost & self._lost
            self._homeless = (presence.homeless_shards, presence.homeless_bytes)
            self._looked_for |= bad
            await self._note_checked({node: store_ids[node] for node in presence.nodes})
        return False

    async def _bad_to_look_for(self) -> set[ShardName]:
        """Bad shards that only a walk can find the records of, and none has tried to."""
        bad = await scrubbed.bad_shards(self._context)
        self._looked_for.intersection_update(bad)
        rest = await scrubbed.note(
            self._context, {name: bad[name] for name in bad if name not in self._looked_for}
        )
        return rest

    def _is_due(self) -> bool:
        since_ms = records.now_ms() - self._context.counts.last_pass_ms
        return since_ms >= self._pace.period_s * 1000

    async def _note_checked(self, store_ids: Mapping[int, str]) -> None:
        """All that these nodes should hold has been looked for."""
        self._returned -= {
            node
            for node, store_id in store_ids.items()
            if self._context.watch.store_id(node) == store_id
        }
        now = records.now_ms()
        ops = [
            Put(HEALING, node_key(node), records.encode(NodeRecord(store_id, now)))
            for node, store_id in store_ids.items()
        ]
        if ops:
            await self._state.commit(batch(*ops, checks=(self._context.lease.check,)))

    async def _release_moved(self) -> bool:
        self._context.counts.moves_left = await moved.release(self._context)
        return False

    # --- what it says ---------------------------------------------------------------------

    def _progress(self) -> ProgressRecord:
        counts, watch = self._context.counts, self._context.watch
        rate = self._context.throttle.rate_bytes_s
        walking, percent = "", 0
        if self._pass is not None:
            walking, percent = "records", self._pass.percent
        elif self._rebalance.is_walking:
            walking, percent = "moves", self._rebalance.percent
        return ProgressRecord(
            process=self._process,
            at_ms=records.now_ms(),
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
            noted_nodes=tuple(sorted(self._noted)),
            homeless_shards=self._homeless[0],
            homeless_bytes=self._homeless[1],
            seen=watch.seen(),
        )


async def _ended(strands: asyncio.Future[Any]) -> None:
    """Cancels them, and waits for their end. Once may not do: a task group whose child fails at the
    same time swallows the cancellation (Python 3.11)."""
    while not strands.done():
        strands.cancel()
        await asyncio.wait((strands,), timeout=HEALING_END_S)
    if not strands.cancelled():
        strands.exception()

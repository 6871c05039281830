"""When the records are walked over, what is looked for then, and what is known afterwards.

A pass (reconcile.py) is due

- once a day, for everything;
- when a node has another directory than the one that was looked through, or none was;
- when nodes are given up, or shards were found bad whose records only a walk can find;
- when a node is down, to count what records name there, now and then as long as it is;
- some time after a node has left, as a write that did not know may have named it;
- when a note is of a part that is none any more: of which object is it now?

What it found is on the repair table before it is stored that it has looked (NodeRecord): whoever
reads the latter and then the table misses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from predastore.base.limits import (
    HEALING_COUNT_S_MIN,
    HEALING_COUNT_SHARE,
    NODE_IDS_MAX,
    REPAIR_NOTES_PER_PASS_MAX,
)
from predastore.catalog.keys import HEALING
from predastore.jobs.healing import scrubbed
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.pace import HealingPace
from predastore.jobs.healing.presence import ShardName
from predastore.jobs.healing.reconcile import Pass
from predastore.jobs.healing.records import (
    LEFT,
    NODE_PREFIX,
    RESTORED_KEY,
    NodeRecord,
    SeenNode,
    UnnamedBad,
    node_key,
)
from predastore.s3db.commands import Op, Put, batch
from predastore.storage import extents
from predastore.storage.formats import decode, encode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reasons:
    """For a pass. `nodes`: whose shards are looked for. `counted`: nodes that are down."""

    is_full: bool
    nodes: frozenset[int]
    bad: frozenset[ShardName]
    given_up: frozenset[int]
    is_news: bool  # of nodes that are given up
    counted: frozenset[int]
    left: frozenset[int]
    sought: Mapping[bytes, tuple[int, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        some = self.nodes or self.bad or self.counted or self.left or self.sought
        return bool(self.is_full or self.is_news or some)

    def text(self) -> str:
        """For the log."""
        parts = ["everything"] if self.is_full else []
        for what, some in (
            ("what nodes with new contents should hold", self.nodes),
            ("records of bad shards", self.bad),
            ("what records name on nodes that are down", self.counted),
            ("what still names nodes that have left", self.left),
            ("objects that were parts", self.sought),
        ):
            parts += [what] if some and not self.is_full else []
        parts += ["what nodes held that are given up"] if self.is_news else []
        return ", ".join(parts)


class Passes:
    """One for the process that heals. `forget` before it begins. `progress` stores what is said of
    healing."""

    def __init__(
        self, context: HealingContext, pace: HealingPace, progress: Callable[[], Op]
    ) -> None:
        self._context = context
        self._progress = progress
        self._pace = pace
        self._pass: Pass | None = None
        self._full_wanted = False
        self.forget()

    def forget(self) -> None:
        """Nothing is known but what the process that healed before has said (`recall`)."""
        self._checked: dict[int, str] | None = None  # store ids, as stored: what was looked for
        self._restored = b""
        self._lost: frozenset[int] = frozenset()
        self._lost_news = False  # a pass is to note what they held
        self._is_cut = False  # the last one had more to note than it may
        self.noted: frozenset[int] = frozenset()  # of the lost nodes: one has
        self.homeless = (0, 0)  # shards and bytes of these, which no other node can take
        self._looked_for: set[ShardName] = set()  # bad shards that a walk has looked for
        self._unnamed: set[ShardName] = set()  # of these, those that no record named
        self._counted: dict[int, tuple[int, int]] = {}  # shards and bytes on nodes that are down
        self._count_after_s = 0.0  # loop time at which they are counted again
        self._left_since: dict[int, float] = {}  # nodes that have left; loop time

    def recall(self, seen: Iterable[SeenNode]) -> None:
        self._counted = {
            one.node: (one.named_shards, one.named_bytes) for one in seen if one.named_shards >= 0
        }

    # --- what happens to nodes ------------------------------------------------------------

    def want_full(self) -> None:
        """Everything is compared now instead of when it is due."""
        self._full_wanted = True

    def looked(self, lost: frozenset[int]) -> None:
        """The nodes were asked; those are `lost`."""
        self._lost_news |= bool(lost and lost != self._lost)
        self._lost = lost
        self.noted &= lost
        if not lost:
            self.homeless = (0, 0)
        down, removed = self._context.watch.nodes_down, self._context.cluster.removed
        self._counted = {node: count for node, count in self._counted.items() if node in down}
        now = asyncio.get_running_loop().time()
        self._left_since = {node: self._left_since.get(node, now) for node in removed}

    # --- passes ---------------------------------------------------------------------------

    async def step(self) -> None:
        """A pass, if there is a reason for one."""
        context = self._context
        if not context.watch.nodes_up:
            return
        if self._is_cut and context.counts.shards_left > REPAIR_NOTES_PER_PASS_MAX // 2:
            return  # another would find what is noted already
        if self._checked is None:
            self._checked = await self._load()
        reasons = await self._reasons(self._checked)
        if reasons:
            await self._run(reasons)

    async def _load(self) -> dict[int, str]:
        state = self._context.state
        self._restored = await state.get(HEALING, RESTORED_KEY) or b""
        found = {
            int(key.removeprefix(NODE_PREFIX)): decode(NodeRecord, value)
            for key, value in await state.scan(HEALING, NODE_PREFIX, b"", NODE_IDS_MAX)
        }
        return {node: one.store_id for node, one in found.items() if one.restored == self._restored}

    async def _reasons(self, checked: Mapping[int, str]) -> Reasons:
        context, watch = self._context, self._context.watch
        now = asyncio.get_running_loop().time()
        is_full = self._full_wanted or self._is_due()
        up = frozenset(watch.nodes_up) & context.cluster.known
        others = {node for node in up if checked.get(node) != watch.store_id(node)}
        counted = frozenset(watch.down_for(self._pace.count_s)) - self.noted
        if counted <= self._counted.keys() and now < self._count_after_s:
            counted = frozenset()
        left = {
            node
            for node, since in self._left_since.items()
            if checked.get(node) != LEFT and now - since >= self._pace.left_s
        }
        return Reasons(
            is_full=is_full,
            nodes=up if is_full else frozenset(others),
            bad=frozenset(await self._bad_to_look_for()),
            given_up=self._lost,
            is_news=self._lost_news,
            counted=counted,
            left=frozenset(left),
            sought=dict(context.sought),
        )

    async def _bad_to_look_for(self) -> set[ShardName]:
        """Bad shards that only a walk can find the records of, and none has tried to."""
        bad = await scrubbed.bad_shards(self._context)
        self._looked_for.intersection_update(bad)
        self._unnamed.intersection_update(bad)
        return await scrubbed.note(
            self._context, {name: bad[name] for name in bad if name not in self._looked_for}
        )

    def _is_due(self) -> bool:
        since_ms = extents.now_ms() - self._context.counts.last_pass_ms
        return since_ms >= self._pace.period_s * 1000

    async def _run(self, reasons: Reasons) -> None:
        context, clock = self._context, asyncio.get_running_loop().time
        store_ids = {node: context.watch.store_id(node) for node in reasons.nodes}
        down = frozenset(context.watch.nodes_down)
        self._full_wanted = self._lost_news = False
        self._pass = one = Pass(
            context,
            reasons.nodes,
            bad=set(reasons.bad),
            sought=reasons.sought,
            orphans=reasons.is_full,
            orphan_age_ms=self._pace.orphan_age_ms,
            clock_skew_ms=self._pace.clock_skew_ms,
        )
        logger.info("the records are looked over", extra={"for": reasons.text()})
        began_s, finished = clock(), False
        try:
            finished = await one.run()
        finally:
            self._pass = None
            if not (finished and one.was_complete):
                self._full_wanted |= reasons.is_full
                self._lost_news |= reasons.is_news
        took = {"seconds": round(clock() - began_s, 1), "extents_noted": one.noted_count}
        ended = "were looked over" if finished else "were not looked over to the end"
        logger.info("the records %s", ended, extra=took)
        self._is_cut = finished and not one.was_complete
        if finished and one.was_complete:
            presence = one.presence
            self.noted = reasons.given_up & self._lost
            self.homeless = (presence.homeless_shards, presence.homeless_bytes)
            self._looked_for |= reasons.bad
            self._unnamed |= presence.bad
            self._counted |= {node: presence.named.get(node, (0, 0)) for node in down}
            pause_s = max(HEALING_COUNT_S_MIN, HEALING_COUNT_SHARE * (clock() - began_s))
            self._count_after_s = clock() + pause_s
            context.looked_for(reasons.sought)
            checked = {node: store_ids[node] for node in presence.nodes}
            await self._note_checked({**checked, **dict.fromkeys(reasons.left, LEFT)})

    async def _note_checked(self, store_ids: Mapping[int, str]) -> None:
        """All that these nodes should hold has been looked for, and all that names those that
        left. What is said of healing goes along: it was not known before."""
        now = extents.now_ms()
        ops: list[Op] = [
            Put(HEALING, node_key(node), encode(NodeRecord(store_id, now, self._restored)))
            for node, store_id in store_ids.items()
        ]
        if ops:
            ops.append(self._progress())
            await self._context.state.commit(batch(*ops, checks=(self._context.lease.check,)))
            if self._checked is not None:
                self._checked.update(store_ids)

    # --- what it says ---------------------------------------------------------------------

    @property
    def is_passing(self) -> bool:
        """One is under way, or one over everything is wanted."""
        return self._pass is not None or self._full_wanted

    @property
    def percent(self) -> int:
        """Of the pass that is under way; -1: none is."""
        return -1 if self._pass is None else self._pass.percent

    def counted(self, node: int) -> tuple[int, int]:
        """Shards and bytes that records name on a node that is down; -1: not counted yet."""
        return self._counted.get(node, (-1, -1))

    def unnamed_bad(self) -> tuple[UnnamedBad, ...]:
        by_node: dict[int, list[ShardName]] = {}
        for name in self._unnamed:
            by_node.setdefault(name.node, []).append(name)
        return tuple(
            UnnamedBad(node, scrubbed.digest(names)) for node, names in sorted(by_node.items())
        )

"""A member keeps cluster time (clock.py): it notes each tick, and while it leads, it proposes them.

    db.set_time   the leader's wall clock becomes cluster time: an operator's decision

Nothing is decided here: whatever a leader proposes, clock.py's rules hold for what is applied.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from predastore.base.errors import NotLeader, PreconditionFailed, PredastoreError
from predastore.base.limits import CLOCK_EQUAL_MS, CLOCK_RETRY_MS, CLOCK_TICK_TIMEOUT_MS
from predastore.rpc import CallContext, Endpoint, Method, Reply, Service
from predastore.s3db import changes, clock, commands
from predastore.s3db.changes import MembersChanged
from predastore.s3db.clock import Clocks, ClusterClock, Tick, TimeSet, Warnings

if TYPE_CHECKING:
    from predastore.s3db.commands import Applied
    from predastore.s3db.raft.engine import Engine
    from predastore.s3db.store import Store

logger = logging.getLogger(__name__)

SET_TIME: Final = "db.set_time"


class Propose(Protocol):
    async def __call__(self, command: bytes, *, timeout_ms: int) -> Applied: ...


class SetTimeRequest(msgspec.Struct, frozen=True, array_like=True):
    """`backwards`: also where that sets cluster time back."""

    backwards: bool
    forwarded: bool = False


class Timekeeper:
    def __init__(
        self, member_id: int, engine: Engine, propose: Propose, store: Store, clocks: Clocks
    ) -> None:
        """`propose`: commits through this member, while it leads."""
        self._member = member_id
        self._engine = engine
        self._commit = propose
        self._store = store
        self._clocks = clocks
        self._seen = store.time
        self._clock = ClusterClock(self._seen, clocks.now())
        self._warnings = Warnings()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def applied(self) -> None:
        """Entries were applied, or a snapshot was installed."""
        time = self._store.time
        if time is not self._seen:
            self._seen = time
            self._clock.observe(time, self._clocks.now())

    def status(self) -> dict[str, Any]:
        """Cluster time as this member counts it, and what its wall clock says."""
        now, wall_ms = self._clocks.now(), self._clocks.wall_ms()
        if not self._clock.is_started:
            return {"cluster_ms": None, "wall_ms": wall_ms}
        difference_ms = self._clock.difference_ms(now, wall_ms)
        return {
            "cluster_ms": self._clock.time_ms(now),
            "wall_ms": wall_ms,
            "warning": None if clock.is_near(difference_ms) else clock.warning(difference_ms),
        }

    async def set_time(self, *, backwards: bool) -> TimeSet:
        """Take over this member's wall clock. NotLeader; PreconditionFailed where that would set
        cluster time back, and `backwards` does not say so; what a commit raises."""
        if self._engine.core.leadership is None:
            raise NotLeader("this member does not lead", leader=self._engine.core.leader)
        now, wall_ms = self._clocks.now(), self._clocks.wall_ms()
        if self._clock.is_started:
            behind_ms = -self._clock.difference_ms(now, wall_ms)
            if abs(behind_ms) < CLOCK_EQUAL_MS:  # it was done, a moment ago
                return TimeSet(self._clock.time_ms(now), self._clock.time_ms(now))
            if behind_ms > 0 and not backwards:
                raise PreconditionFailed(
                    f"the leader's wall clock is {behind_ms // 1000} s behind cluster time. To set "
                    "that back, which keeps what is retained for so much longer, has to be asked "
                    "for; nothing was changed"
                )
        done = clock.unpack_set(await self._propose(clock.SET, self._clock.set(now, wall_ms)))
        logger.warning(
            "s3db: cluster time was set",
            extra={
                "member": self._member,
                "before_ms": done.before_ms,
                "after_ms": done.after_ms,
                "epoch": self._store.time.epoch,
            },
        )
        return done

    async def _run(self) -> None:
        while True:
            await self._engine.leads.wait()
            pause_ms = self._clock.due_in_ms(self._clocks.now())
            if not pause_ms:
                pause_ms = CLOCK_RETRY_MS
                try:
                    await self._tick()
                except PredastoreError as error:
                    logger.info(
                        "s3db: cluster time was not advanced: %s",
                        error,
                        extra={"member": self._member},
                    )
                except Exception:
                    logger.exception("s3db: a tick failed", extra={"member": self._member})
            await asyncio.sleep(pause_ms / 1000)

    async def _tick(self) -> None:
        now, wall_ms = self._clocks.now(), self._clocks.wall_ms()
        if self._clock.is_started:
            difference_ms = self._clock.difference_ms(now, wall_ms)
            if self._warnings.is_due(difference_ms, now):
                logger.warning(
                    "s3db: %s", clock.warning(difference_ms), extra={"member": self._member}
                )
        await self._propose(clock.TICK, self._clock.tick(now, wall_ms))

    async def _propose(self, name: str, tick: Tick) -> bytes:
        command = commands.encode(commands.call(name, clock.pack(tick)))
        done = await self._commit(command, timeout_ms=CLOCK_TICK_TIMEOUT_MS)
        self.applied()
        return done.answer


def methods(timekeeper: Timekeeper, told: changes.Changes, endpoint: Endpoint) -> Service:
    """The rpc methods of a member; `endpoint` reaches the leader, where that is another."""

    async def set_time(request: SetTimeRequest, _: memoryview, context: CallContext) -> Reply:
        async def here() -> bytes:
            return msgspec.msgpack.encode(await timekeeper.set_time(backwards=request.backwards))

        return await changes.through_leader(SET_TIME, request, here, context, told, endpoint)

    return {SET_TIME: Method(SetTimeRequest, MembersChanged, set_time, 0)}

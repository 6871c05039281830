"""Cluster time (s3db/clock.py) of a state that one process has to itself: it makes the ticks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from predastore.base.errors import PredastoreError
from predastore.base.limits import CLOCK_RETRY_MS
from predastore.s3db import clock, commands
from predastore.s3db.clock import Clocks, ClusterClock, ClusterTime, Warnings
from predastore.s3db.commands import Applied, Command

logger = logging.getLogger(__name__)

_HOW = "stop this server, and s3d db set-time --filesystem --confirm, with its -base-path,"


class LocalTime:
    def __init__(
        self,
        applied: Callable[[], ClusterTime],
        submit: Callable[[Command], asyncio.Future[Applied]],
        clocks: Clocks,
    ) -> None:
        """`applied`: what the state holds; `submit` begins to commit, and raises where it can
        not."""
        self._applied = applied
        self._submit = submit
        self._clocks = clocks
        self._clock = ClusterClock(applied(), clocks.now())
        self._warnings = Warnings()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From the first use on: a tick that is due goes before what is committed next."""
        if self._task is None:
            first = self._tick() if not self._clock.due_in_ms(self._clocks.now()) else None
            self._task = asyncio.get_running_loop().create_task(self._run(first))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, tick: asyncio.Future[Applied] | None) -> None:
        while True:
            pause_ms = 0
            try:
                if tick is not None or not self._clock.due_in_ms(self._clocks.now()):
                    await (tick or self._tick())
                    self._clock.observe(self._applied(), self._clocks.now())
            except PredastoreError as error:
                logger.info("state: time was not advanced: %s", error)
            except Exception:
                logger.exception("state: a tick failed")
            else:
                pause_ms = self._clock.due_in_ms(self._clocks.now())
            tick = None
            await asyncio.sleep(max(pause_ms, CLOCK_RETRY_MS) / 1000)

    def _tick(self) -> asyncio.Future[Applied]:
        now, wall_ms = self._clocks.now(), self._clocks.wall_ms()
        if self._clock.is_started:
            difference_ms = self._clock.difference_ms(now, wall_ms)
            if self._warnings.is_due(difference_ms, now):
                logger.warning("state: %s", clock.warning(difference_ms, _HOW))
        arguments = clock.pack(self._clock.tick(now, wall_ms))
        return self._submit(commands.call(clock.TICK, arguments))

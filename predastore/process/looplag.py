"""How late the event loop of this process runs: a metric, and a diagnostic.

With PREDASTORE_LOOP_LAG=1 in the environment a timer fires every LOOP_LAG_INTERVAL_MS, and how
late it comes is the lag: a callback that held the loop, or other threads that held the GIL or the
CPU. At the end one line goes to the log:

    msg="loop lag" max_ms=21.4 max_cpu_ms=7.1 over_10_ms=3 over_50_ms=0 samples=11520

`max_cpu_ms`: the most CPU time that the loop's own thread spent between two firings, which is how
long callbacks held it. A lag beyond that was waiting, for the GIL or for a CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Final

from predastore.base import metrics
from predastore.base.limits import LOOP_LAG_INTERVAL_MS, LOOP_LAG_SAMPLE_MS

VARIABLE: Final = "PREDASTORE_LOOP_LAG"

_log = logging.getLogger(__name__)

_LAG = metrics.histogram("predastore_loop_lag_seconds", "How late the event loop ran a timer.")


class _Sampler:
    """Counts how late a loop runs a timer, again and again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._child = _LAG.child()
        self._arm()

    def _arm(self) -> None:
        self._due_s = time.perf_counter() + LOOP_LAG_SAMPLE_MS / 1000
        self.timer = self._loop.call_later(LOOP_LAG_SAMPLE_MS / 1000, self._fire)

    def _fire(self) -> None:
        self._child.observe(max(0.0, time.perf_counter() - self._due_s))
        self._arm()


@contextlib.contextmanager
def sampled() -> Iterator[None]:
    """For the time of the block, counts how late the running loop is."""
    sampler = _Sampler(asyncio.get_running_loop())
    try:
        yield
    finally:
        sampler.timer.cancel()


@contextlib.contextmanager
def watched(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Watches the running loop for the time of the block, where the environment asks for it."""
    if not environment.get(VARIABLE):
        yield
        return
    watch = LoopWatch(asyncio.get_running_loop())
    try:
        yield
    finally:
        watch.stop()
        _log.info("loop lag", extra=watch.fields())


class LoopWatch:
    """Runs from its making until `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._interval_s = LOOP_LAG_INTERVAL_MS / 1000
        self._samples = 0
        self._max_s = 0.0
        self._max_cpu_s = 0.0
        self._over = {10: 0, 50: 0}
        self._arm()

    def _arm(self) -> None:
        self._armed_s = time.perf_counter()
        self._armed_cpu_s = time.thread_time()
        self._timer = self._loop.call_later(self._interval_s, self._fire)

    def _fire(self) -> None:
        lag_s = time.perf_counter() - self._armed_s - self._interval_s
        self._samples += 1
        self._max_s = max(self._max_s, lag_s)
        self._max_cpu_s = max(self._max_cpu_s, time.thread_time() - self._armed_cpu_s)
        for limit_ms in self._over:
            self._over[limit_ms] += lag_s * 1000 > limit_ms
        self._arm()

    def stop(self) -> None:
        self._timer.cancel()

    def fields(self) -> dict[str, object]:
        """What there is to report, as fields of a log line."""
        return {
            "max_ms": f"{self._max_s * 1000:.1f}",
            "max_cpu_ms": f"{self._max_cpu_s * 1000:.1f}",
            **{f"over_{limit_ms}_ms": count for limit_ms, count in self._over.items()},
            "samples": self._samples,
        }

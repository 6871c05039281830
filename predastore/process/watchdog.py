"""The service manager's watchdog (sd_watchdog_enabled(3)): signs of life while there is life.

With WATCHDOG_USEC in the environment, WATCHDOG=1 is sent in each third of that time, from the
event loop, after every probe has answered. A loop that hangs, or metadata of this process that
can not be read any more, goes silent, and the service manager starts the process anew. Probes
ask this process alone: a cluster without a majority is not healed by a restart.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from predastore.base.errors import PredastoreError
from predastore.process import daemon

Probe = Callable[[], Awaitable[object]]

_log = logging.getLogger(__name__)


def interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Between two signs of life at most; None where nobody waits for any."""
    text = environment.get("WATCHDOG_USEC", "")
    meant_for = environment.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or (meant_for and meant_for != str(pid)):
        return None
    return int(text) / 1_000_000


async def run(probes: Sequence[Probe], environment: Mapping[str, str] = os.environ) -> None:
    """Gives signs of life until it is cancelled; returns at once where nobody waits for any."""
    within_s = interval_s(environment, os.getpid())
    if within_s is None:
        return
    while True:
        if await answer(probes, within_s / 3):
            daemon.notify("WATCHDOG=1")
        await asyncio.sleep(within_s / 3)


async def answer(probes: Sequence[Probe], within_s: float) -> bool:
    """Whether every probe returns within the time."""
    try:
        async with asyncio.timeout(within_s):
            for probe in probes:
                await probe()
    except (TimeoutError, OSError, PredastoreError) as error:
        _log.error("this process is not well", extra={"error": str(error) or type(error).__name__})
        return False
    return True

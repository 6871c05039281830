"""How healing makes way for requests, on a clock of its own."""

from __future__ import annotations

import asyncio

import pytest

from predastore.base.limits import (
    HEALING_BUSY_JOBS,
    HEALING_BUSY_PAUSES,
    HEALING_PAUSE_S_MAX,
    HEALING_URGENT_PAUSES,
)
from predastore.jobs.healing.throttle import Throttle
from support.loops import passed
from support.loops import run_in_virtual_time as run

WORK_S = 0.1


def begun_after(throttle: Throttle, *, urgent: bool, work_s: float = WORK_S) -> float:
    """Seconds from the end of one piece of work to when the next may begin."""

    async def main() -> float:
        clock = asyncio.get_running_loop().time
        async with throttle.slot(urgent=urgent):
            await passed(work_s)
        ended = clock()
        async with throttle.slot(urgent=urgent):
            return clock() - ended

    return run(main())


@pytest.mark.parametrize(
    ("urgent", "pauses"), [(False, HEALING_BUSY_PAUSES), (True, HEALING_URGENT_PAUSES)]
)
def test_pauses_follow_the_work_while_requests_are_served(urgent: bool, pauses: float) -> None:
    waited_s = begun_after(Throttle(lambda: True), urgent=urgent)
    assert waited_s == pytest.approx(WORK_S * pauses)


def test_nothing_waits_where_nobody_is_served() -> None:
    assert begun_after(Throttle(lambda: False), urgent=False) == 0


def test_pauses_are_bounded_and_urgent_ones_are_never_the_longer() -> None:
    assert begun_after(Throttle(lambda: True), urgent=False, work_s=60) == HEALING_PAUSE_S_MAX
    assert begun_after(Throttle(lambda: True, busy_pauses=0.0), urgent=True) == 0


def test_few_pieces_of_work_are_under_way_while_requests_are_served() -> None:
    async def main() -> int:
        throttle, under_way, most = Throttle(lambda: True), 0, 0

        async def work() -> None:
            nonlocal under_way, most
            async with throttle.slot(urgent=True):
                under_way += 1
                most = max(most, under_way)
                await passed(WORK_S)
                under_way -= 1

        await asyncio.gather(*(work() for _ in range(20)))
        return most

    assert run(main()) == HEALING_BUSY_JOBS


def test_bytes_a_second_are_bounded_for_urgent_work_too() -> None:
    async def main() -> float:
        throttle = Throttle(lambda: False, bytes_per_s=1000.0)
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            async with throttle.slot(urgent=True) as turn:
                turn.byte_count = 500
        return asyncio.get_running_loop().time() - began

    assert run(main()) == pytest.approx(2.0)

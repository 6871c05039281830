"""rpc.deadlines: calls that are late end, soon after their deadline, and as asyncio would do it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from rpc_world import run

from predastore.base.errors import DeadlineExceeded
from predastore.rpc.deadlines import Deadlines, Limit


def now() -> float:
    return asyncio.get_running_loop().time()


async def stuck(*limits: Limit) -> None:
    """Never ends by itself; the first of `limits` is the outermost."""
    with contextlib.ExitStack() as stack:
        for limit in limits:
            stack.enter_context(limit)
        await asyncio.Event().wait()


@pytest.mark.parametrize("after_s", [-1.0, 0.0, 0.001, 0.05])
def test_what_is_late_ends_and_not_before_its_time(after_s: float) -> None:
    async def test() -> None:
        began = now()
        with pytest.raises(DeadlineExceeded, match="the call"):
            await stuck(Deadlines().limit(began + after_s, "the call"))
        late_s = now() - began - max(after_s, 0.0)
        assert late_s > -0.002
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(test())


def test_what_is_done_in_time_is_left_alone() -> None:
    async def test() -> None:
        deadlines = Deadlines()
        for _ in range(100):
            with deadlines.limit(now() + 0.3, "quick"):
                await asyncio.sleep(0)
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.4, later.set_result, None)
        await later

    run(test())


def test_each_of_many_has_its_own_deadline() -> None:
    async def test() -> None:
        deadlines = Deadlines()
        began = now()
        ended: list[int] = []

        async def late(number: int) -> None:
            with pytest.raises(DeadlineExceeded):
                await stuck(deadlines.limit(began + number * 0.04, "each"))
            ended.append(number)
            assert now() >= began + number * 0.04 - 0.002

        await asyncio.gather(*(late(number) for number in (3, 1, 4, 2)))
        assert ended == [1, 2, 3, 4]

    run(test())


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def test() -> None:
        async def waiting() -> None:
            await stuck(Deadlines().limit(now() + 60, "cancelled"))

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test())


def test_a_cancellation_at_the_deadline_is_not_swallowed() -> None:
    async def test() -> None:
        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            with Deadlines().limit(now(), "both"):
                try:
                    await asyncio.Event().wait()
                finally:
                    task.cancel()  # while the deadline's own is on its way out

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(work())

    run(test())


def test_the_nearer_of_two_deadlines_counts() -> None:
    async def test() -> None:
        deadlines = Deadlines()
        with pytest.raises(DeadlineExceeded, match="inner"):
            await stuck(deadlines.limit(now() + 60, "outer"), deadlines.limit(now(), "inner"))
        with pytest.raises(DeadlineExceeded, match="outer"):
            await stuck(deadlines.limit(now(), "outer"), deadlines.limit(now() + 60, "inner"))
        with pytest.raises(DeadlineExceeded, match="outer"):
            await stuck(deadlines.limit(now(), "outer"), deadlines.limit(now(), "inner"))

    run(test())


def test_an_error_that_comes_with_the_deadline_is_the_one_that_is_raised() -> None:
    async def test() -> None:
        async def work() -> None:
            with Deadlines().limit(now(), "failing"):
                try:
                    await asyncio.Event().wait()
                finally:
                    raise ArithmeticError

        with pytest.raises(ArithmeticError):
            await work()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(test())

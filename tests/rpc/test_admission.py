"""rpc.admission: bounds on calls and bytes, first come first served."""

from __future__ import annotations

import asyncio

from rpc_world import expect, run

from predastore.base.errors import Overloaded
from predastore.rpc.admission import Admission
from support.garbage import Garbage, fails
from support.waiting import eventually_async


def soon() -> float:
    return asyncio.get_running_loop().time() + 10


def test_calls_wait_in_order_and_get_each_place_that_is_left() -> None:
    async def test() -> None:
        admission = Admission("p", calls_max=2, bytes_max=100)
        order: list[int] = []

        async def enter(number: int) -> None:
            await admission.enter(1, soon())
            order.append(number)

        tasks = [asyncio.create_task(enter(number)) for number in range(5)]
        await eventually_async(lambda: len(order) == 2)
        for count in (3, 4, 5):
            admission.leave(1)
            await eventually_async(lambda count=count: len(order) == count)
        assert order == [0, 1, 2, 3, 4]
        await asyncio.gather(*tasks)
        admission.leave(1)
        admission.leave(1)
        assert (admission.calls, admission.bytes) == (0, 0)

    run(test())


def test_bytes_are_bounded_and_a_small_call_does_not_overtake_a_large_one() -> None:
    async def test() -> None:
        admission = Admission("p", calls_max=10, bytes_max=100)
        assert admission.try_enter(60)
        large = asyncio.create_task(admission.enter(60, soon()))
        await eventually_async(lambda: admission._waiting)
        assert not admission.try_enter(1)
        admission.leave(60)
        await large
        assert admission.bytes == 60
        assert admission.try_enter(1)

    run(test())


def test_a_call_larger_than_the_bound_goes_alone() -> None:
    async def test() -> None:
        admission = Admission("p", calls_max=10, bytes_max=100)
        assert admission.try_enter(1000)
        assert not admission.try_enter(1)
        admission.leave(1000)
        assert admission.try_enter(1)

    run(test())


def test_overloaded_at_the_deadline_or_at_once_when_the_queue_is_full() -> None:
    async def test() -> None:
        admission = Admission("p", calls_max=1, bytes_max=100, waiting_max=1)
        assert admission.try_enter(1)
        waiting = asyncio.create_task(admission.enter(1, soon()))
        await eventually_async(lambda: admission._waiting)
        await expect(Overloaded, admission.enter(1, soon()))
        waiting.cancel()
        await expect(asyncio.CancelledError, waiting)
        now = asyncio.get_running_loop().time()
        await expect(Overloaded, admission.enter(1, now + 0.02))
        admission.leave(1)
        assert admission.try_enter(1)
        assert (admission.calls, admission.bytes) == (1, 1)

    run(test())


def test_a_place_given_to_one_who_leaves_goes_to_the_next() -> None:
    async def test() -> None:
        admission = Admission("p", calls_max=1, bytes_max=100)
        assert admission.try_enter(1)
        first = asyncio.create_task(admission.enter(1, soon()))
        second = asyncio.create_task(admission.enter(1, soon()))
        await eventually_async(lambda: len(admission._waiting) == 2)
        admission.leave(1)  # admits the first
        first.cancel()  # which goes away before it has noticed
        await expect(asyncio.CancelledError, first)
        await second
        assert admission.calls == 1

    run(test())


def test_a_task_that_waits_in_vain_leaves_nothing_for_a_collection() -> None:
    async def test() -> None:
        admission = Admission("peer", calls_max=1)
        assert admission.try_enter(1)
        now = asyncio.get_running_loop().time()
        with Garbage() as garbage:
            for _ in range(2):  # the loop itself still holds the last one
                await fails(Overloaded, asyncio.ensure_future(admission.enter(1, now)))
            assert not garbage.left()

    run(test())

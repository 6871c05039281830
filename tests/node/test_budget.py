"""A budget of bytes: bounded, in order, and nothing is lost when somebody gives up."""

from __future__ import annotations

import asyncio

import pytest
from node_support import run

from predastore.base.errors import Overloaded
from predastore.node.budget import BlockBudget


def test_who_asks_first_gets_first_and_too_many_are_refused() -> None:
    async def main() -> None:
        budget = BlockBudget(100, waiting_max=3)
        order: list[int] = []

        async def take(number: int, size: int) -> None:
            await budget.acquire(size)
            order.append(number)

        await take(0, 60)
        tasks = [asyncio.create_task(take(n, size)) for n, size in ((1, 50), (2, 10), (3, 100))]
        await asyncio.wait(tasks, timeout=0.01)
        assert order == [0], "the small one does not overtake"
        with pytest.raises(Overloaded):
            await budget.acquire(1)
        budget.release(60)
        await asyncio.wait(tasks[:2])
        assert order == [0, 1, 2]
        budget.release(60)
        await tasks[2]

    run(main())


def test_more_than_everything_is_granted_alone() -> None:
    async def main() -> None:
        budget = BlockBudget(100, waiting_max=3)
        await budget.acquire(1)
        large = asyncio.create_task(budget.acquire(500))
        await asyncio.wait([large], timeout=0.01)
        assert not large.done()
        budget.release(1)
        await large

    run(main())


@pytest.mark.parametrize("granted", [True, False])
def test_a_waiter_that_gives_up_takes_nothing(granted: bool) -> None:
    async def main() -> None:
        budget = BlockBudget(100, waiting_max=3)
        await budget.acquire(100)
        first = asyncio.create_task(budget.acquire(80))
        second = asyncio.create_task(budget.acquire(90))
        await asyncio.wait([first, second], timeout=0.01)
        if granted:
            budget.release(100)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        if not granted:
            budget.release(100)
        await second
        budget.release(90)
        await budget.acquire(100)

    run(main())

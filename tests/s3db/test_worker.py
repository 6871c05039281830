"""Blocking work in a thread, in order, with its results on the loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any

from predastore.s3db.raft.worker import Worker
from support.waiting import eventually_async


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_work_is_done_in_order_and_its_results_come_to_the_loop() -> None:
    async def test() -> None:
        failures: list[BaseException] = []
        worker = Worker("test", failures.append)
        found: list[tuple[int, threading.Thread]] = []
        begun: list[int] = []
        for number in range(100):
            worker.run(
                lambda number=number: (begun.append(number), number)[1],
                lambda number: found.append((number, threading.current_thread())),
            )
        await worker.close()
        await asyncio.sleep(0)
        assert begun == [number for number, _ in found] == list(range(100))
        assert {thread for _, thread in found} == {threading.current_thread()}
        assert failures == []

    run(test)


def test_failures_of_work_and_of_its_use_are_told_and_the_next_is_done() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        failures: list[BaseException] = []
        worker = Worker("test", failures.append)
        last = loop.create_future()

        def fail(_: object = None) -> None:
            raise OSError(5, "broken")

        worker.run(fail, lambda _: None)
        worker.run(lambda: None, fail)
        worker.run(lambda: 7, last.set_result)
        assert await last == 7
        assert [str(failure) for failure in failures] == ["[Errno 5] broken"] * 2
        await worker.close()

    run(test)


def test_a_loop_that_is_gone_does_not_stop_the_work() -> None:
    go_on, done = threading.Event(), threading.Event()

    async def test() -> None:
        worker = Worker("test", lambda _: None)
        worker.run(lambda: go_on.wait(10), lambda _: None)
        worker.run(done.set, lambda _: None)

    asyncio.run(test())
    go_on.set()
    assert done.wait(10)


def test_what_was_done_is_let_go_of_before_the_next_work_comes() -> None:
    class Held:
        """What a piece of work has."""

    async def main() -> None:
        worker = Worker("w", lambda error: None)
        held = Held()
        gone = weakref.ref(held)
        worker.run(lambda held=held: id(held), lambda _: None)
        del held
        await eventually_async(lambda: gone() is None, what="it is gone")
        await worker.close()

    asyncio.run(main())

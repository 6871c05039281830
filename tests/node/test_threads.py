"""Work in threads is waited for, whoever asked for it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from node_support import run

from predastore.node.threads import Threads
from support.waiting import eventually_async


def test_what_a_cancelled_caller_began_is_waited_for() -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(10)
        ended.set()
        raise OSError("nobody is told")

    async def main() -> None:
        threads = Threads()
        caller = asyncio.ensure_future(threads.run(work))
        await eventually_async(begun.is_set)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        finishing = asyncio.ensure_future(threads.finish())
        await asyncio.wait([finishing], timeout=0.01)
        assert not finishing.done()
        go.set()
        await finishing
        assert ended.is_set()

    run(main())


def test_results_and_errors_come_back() -> None:
    async def main() -> None:
        threads = Threads()
        assert await threads.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)
        await threads.finish()

    run(main())

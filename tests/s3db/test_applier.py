"""Entries to the state machine: small ones at once, others in a thread, none twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from predastore.base.errors import NodeFull, StoreFailed
from predastore.base.limits import RAFT_APPLY_AT_ONCE_BYTES, RAFT_APPLY_AT_ONCE_ENTRIES
from predastore.s3db import commands
from predastore.s3db.commands import DeletePrefix, Put
from predastore.s3db.raft import applier as applier_module
from predastore.s3db.raft.applier import Applier
from predastore.s3db.raft.messages import COMMAND, NOOP, Entry
from predastore.s3db.raft.worker import Worker

SMALL = commands.encode(commands.batch(Put("objects", b"k", b"v")))
LARGE = commands.encode(commands.batch(Put("objects", b"k", bytes(RAFT_APPLY_AT_ONCE_BYTES))))
LONG = commands.encode(commands.batch(DeletePrefix("objects", b"")))


class Machine:
    """Notes in which thread what was applied; `is_busy`: nothing can be done at once."""

    def __init__(self) -> None:
        self.done: list[tuple[int, bytes]] = []
        self.at_once: list[bool] = []
        self.is_busy = False
        self.errors: list[Exception] = []

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> Sequence[Any]:
        if self.errors:
            raise self.errors.pop(0)
        self.at_once.append(threading.current_thread() is threading.main_thread())
        self.done.extend(entries)
        return [index for index, _ in entries]

    def try_apply(self, entries: Sequence[tuple[int, bytes]]) -> Sequence[Any] | None:
        return None if self.is_busy else self.apply(entries)

    def may_take_long(self, command: bytes) -> bool:
        return commands.deletes_prefixes(command)


class Harness:
    def __init__(self) -> None:
        self.machine = Machine()
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.worker = Worker("apply", self.told.put_nowait)
        self.applier = Applier(
            1,
            self.machine,
            self.worker,
            applied=lambda entries, outcomes: self.told.put_nowait((entries, outcomes)),
            failed=self.told.put_nowait,
        )

    async def apply(self, *entries: Entry) -> Any:
        self.applier.apply(entries)
        return await self.told.get()


def run(test: Callable[[Harness], Awaitable[None]]) -> None:
    async def limited() -> None:
        harness = Harness()
        await asyncio.wait_for(test(harness), 60)
        await harness.worker.close()

    asyncio.run(limited())


def entry(index: int, data: bytes, kind: int = COMMAND) -> Entry:
    return Entry(index, 1, kind, data)


def test_small_ones_are_done_on_the_loop_and_others_in_a_thread() -> None:
    async def test(harness: Harness) -> None:
        many = [entry(10 + n, SMALL) for n in range(RAFT_APPLY_AT_ONCE_ENTRIES + 1)]
        for entries in ([entry(1, SMALL)], [entry(2, LARGE)], [entry(3, LONG)], many):
            found, outcomes = await harness.apply(*entries)
            assert list(found) == entries
            assert outcomes == [one.index for one in entries]
        harness.machine.is_busy = True
        await harness.apply(entry(100, SMALL))
        assert harness.machine.at_once == [True, False, False, False, False]

    run(test)


def test_what_is_no_command_is_applied_as_nothing() -> None:
    async def test(harness: Harness) -> None:
        await harness.apply(entry(1, b"a configuration", NOOP))
        assert harness.machine.done == [(1, b"")]

    run(test)


def test_on_a_full_disk_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier_module, "RAFT_APPLY_FULL_RETRY_MS", 1)

    async def test(harness: Harness) -> None:
        harness.machine.is_busy = True
        harness.machine.errors = [NodeFull("full"), NodeFull("full")]
        await harness.apply(entry(1, SMALL))
        assert harness.machine.done == [(1, SMALL)]

    run(test)


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_any_other_failure_is_told(data: bytes) -> None:
    async def test(harness: Harness) -> None:
        harness.machine.errors = [StoreFailed("broken")]
        harness.applier.apply([entry(1, data)])
        assert isinstance(await harness.told.get(), StoreFailed)

    run(test)


def test_after_the_stop_nothing_is_told() -> None:
    async def test(harness: Harness) -> None:
        harness.applier.apply([entry(1, LARGE)])
        harness.applier.stop()
        harness.applier.apply([entry(2, SMALL)])
        await harness.worker.close()
        await asyncio.sleep(0)
        assert len(harness.machine.done) == 2
        assert harness.told.empty()

    run(test)

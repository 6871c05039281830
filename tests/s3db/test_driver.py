"""The driver's order of things: what a follower does first, and what it leaves for later."""

from __future__ import annotations

import random
from collections.abc import Sequence

from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.driver import Driver
from predastore.s3db.raft.messages import (
    COMMAND,
    AppendEntries,
    Configuration,
    Entry,
    HardState,
    Marker,
    Message,
)
from predastore.s3db.raft.state import Recovered


class Actions:
    """Notes what is asked for; nothing is done before the test says so."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.done.append("send")

    def write(self, records: Sequence[object]) -> None:
        self.done.append("write")

    def apply(self, entries: Sequence[Entry]) -> None:
        self.done.append(f"apply {[entry.index for entry in entries]}")

    def answer_reads(self, reads: Sequence[object]) -> None:
        raise AssertionError

    take_chunks = find_chunks = answer_reads


class Follower:
    def __init__(self) -> None:
        marker = Marker(0, 0, Configuration((1, 2, 3)))
        recovered = Recovered(HardState(1), marker)
        self.actions = Actions()
        core = RaftCore(2, recovered, applied=0, rng=random.Random(1), now=0.0)
        self.driver = Driver(core, self.actions)

    def hears(self, index: int, commit: int) -> list[str]:
        """An append of one entry; what is done at once."""
        entries = [Entry(index, 1, COMMAND, b"")]
        prev = index - 1
        message = AppendEntries(1, 2, 1, prev, 1 if prev else 0, commit, 0, entries)
        self.driver.core.step(message, 0.0)
        self.driver.turn()
        return self.taken()

    def taken(self) -> list[str]:
        done, self.actions.done = self.actions.done, []
        return done


def test_a_follower_applies_once_it_has_acknowledged() -> None:
    follower = Follower()
    assert follower.hears(1, commit=0) == ["write"]
    follower.driver.written()
    assert follower.taken() == ["send"]
    assert follower.hears(2, commit=1) == ["write"]
    follower.driver.written()
    assert follower.taken() == ["send", "apply [1]"]
    follower.driver.applied()
    assert follower.taken() == []


def test_it_applies_beside_the_next_write_and_goes_on_while_there_is_more() -> None:
    follower = Follower()
    for index in (1, 2, 3):
        follower.hears(index, commit=0)
    follower.driver.written()
    follower.hears(4, commit=3)
    assert follower.taken() == []
    follower.driver.written()
    assert follower.driver.applied_index == 0
    follower.driver.applied()
    assert follower.driver.applied_index == 3


def test_what_somebody_waits_for_is_applied_at_once() -> None:
    follower = Follower()
    follower.hears(1, commit=0)
    follower.driver.written()
    follower.taken()
    assert follower.hears(2, commit=1) == ["write"]
    follower.driver.await_applied(1)
    assert follower.taken() == ["apply [1]"]
    follower.driver.applied()
    follower.driver.await_applied(3)  # not there yet
    assert follower.hears(3, commit=2) == []
    follower.driver.written()
    assert follower.taken() == ["send", "write", "apply [2]"]
    follower.driver.applied()
    assert follower.hears(4, commit=2) == []
    follower.driver.written()
    assert follower.taken() == ["send", "write"]
    assert follower.hears(5, commit=3) == ["apply [3]"]  # while it writes

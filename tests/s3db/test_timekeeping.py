"""Members keep cluster time: ticks, changes of leaders, clocks that are wrong, and an operator."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from predastore.base.errors import FormatError, PreconditionFailed
from predastore.base.limits import CLOCK_SLEW_MS_MAX
from predastore.s3db import clock, commands, service, timekeeping
from predastore.s3db.clock import Clocks
from predastore.s3db.raft.state import Timing
from support.databases import Database, database
from support.procedures import NEWER
from support.waiting import eventually_async

FAST = Timing(heartbeat_s=0.03, election_s=0.3)
HOUR_MS = 3_600_000


class Machine:
    """Clocks that run with this machine's, from where a test puts them."""

    def __init__(self, number: int) -> None:
        self.boot = b"%d" % number
        self.boot_ahead_ms = number * 77 * HOUR_MS
        self.wall_ahead_ms = 0

    def clocks(self) -> Clocks:
        return Clocks(
            self.boot,
            lambda: time.monotonic_ns() // 1_000_000 + self.boot_ahead_ms,
            lambda: time.time_ns() // 1_000_000 + self.wall_ahead_ms,
        )


@pytest.fixture(autouse=True)
def _ticks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "CLOCK_TICK_MS", 50)
    monkeypatch.setattr(timekeeping, "CLOCK_RETRY_MS", 10)


Test = Callable[[Database, dict[int, Machine]], Awaitable[None]]


def run(tmp_path: Path, count: int, test: Test) -> None:
    machines = {number: Machine(number) for number in range(1, count + 1)}

    async def main() -> None:
        clocks = {number: machine.clocks() for number, machine in machines.items()}
        async with database(tmp_path, count, NEWER, FAST, clocks) as base:
            await asyncio.wait_for(test(base, machines), 60)

    asyncio.run(main())


async def has_ticked(base: Database, more_than_ms: int = 0) -> int:
    """Everywhere; the least cluster time of any member."""

    def ticked() -> int:
        least = min(site.store.time.time_ms for site in base.sites.values())
        return least if least > more_than_ms else 0

    return await eventually_async(ticked, what="a tick") or 0


def test_time_begins_with_the_leaders_clock_and_goes_on(tmp_path: Path) -> None:
    async def test(base: Database, machines: dict[int, Machine]) -> None:
        before_ms = time.time_ns() // 1_000_000
        first = await has_ticked(base)
        assert before_ms - 10_000 < first <= time.time_ns() // 1_000_000
        later = await has_ticked(base, first)
        assert later <= time.time_ns() // 1_000_000
        for site in base.sites.values():
            told = site.member.status()["time"]
            assert abs(told["wall_ms"] - told["cluster_ms"]) < 5_000
            assert told["warning"] is None
        digests = await eventually_async(
            lambda: len({site.store.digest() for site in base.sites.values()}) == 1,
            what="one state",
        )
        assert digests

    run(tmp_path, 3, test)


def test_a_clock_that_is_set_moves_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(base: Database, machines: dict[int, Machine]) -> None:
        await has_ticked(base)
        for ahead_ms in (10 * HOUR_MS, -10 * HOUR_MS):
            before = await has_ticked(base)
            begun = time.monotonic_ns() // 1_000_000
            for machine in machines.values():
                machine.wall_ahead_ms = ahead_ms
            with caplog.at_level(logging.WARNING):
                after = before
                for _ in range(4):
                    after = await has_ticked(base, after)
            passed_ms = time.monotonic_ns() // 1_000_000 - begun
            assert after - before <= passed_ms + 1_000
            leader = await base.leader()
            warning = base.sites[leader].member.status()["time"]["warning"]
            assert ("ahead of" if ahead_ms > 0 else "behind") in warning
            assert "s3d db set-time --confirm" in warning
        assert caplog.text.count("cluster time, by which objects are retained") == 1

    run(tmp_path, 1, test)


def test_a_new_leader_goes_on_where_the_old_one_was(tmp_path: Path) -> None:
    async def test(base: Database, machines: dict[int, Machine]) -> None:
        for number, machine in machines.items():
            machine.wall_ahead_ms = number * HOUR_MS  # so that only the leader's counting is left
        first, begun = await has_ticked(base), time.monotonic_ns() // 1_000_000
        client = base.client()
        for _ in range(3):
            leader = await base.leader()
            await base.stop(leader)
            await base.leader()
            await has_ticked(base, await has_ticked(base))
            await base.start(leader)
        assert (await client.call("test.count", b"a")).answer == b"1"
        gained_ms = await has_ticked(base, await has_ticked(base)) - first
        passed_ms = time.monotonic_ns() // 1_000_000 - begun
        assert 0 < gained_ms <= passed_ms + 1_000
        assert gained_ms > passed_ms / 2 - 1_000

    run(tmp_path, 3, test)


def test_an_operator_sets_time_through_any_member(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(base: Database, machines: dict[int, Machine]) -> None:
        start_ms = await has_ticked(base)
        leader = await base.leader()
        follower = next(member for member in base.ids if member != leader)
        client = base.client(prefer=follower)
        for machine in machines.values():
            machine.wall_ahead_ms = 5 * HOUR_MS
        with caplog.at_level(logging.WARNING):
            done = await client.set_time(backwards=False)
        assert abs(done.before_ms - start_ms) < 10_000
        assert abs(done.after_ms - start_ms - 5 * HOUR_MS) < 10_000
        assert "cluster time was set" in caplog.text
        assert await has_ticked(base, start_ms + 4 * HOUR_MS) < start_ms + 6 * HOUR_MS
        again = await client.set_time(backwards=False)  # as a retry does
        assert again.before_ms == again.after_ms

        for machine in machines.values():
            machine.wall_ahead_ms = 0
        with pytest.raises(PreconditionFailed, match="behind cluster time"):
            await client.set_time(backwards=False)
        done = await client.set_time(backwards=True)
        assert abs(done.after_ms - start_ms) < 10_000
        assert await has_ticked(base, done.after_ms) < start_ms + HOUR_MS
        assert {site.store.time.epoch for site in base.sites.values()} == {3}

        while client.level != NEWER.level:
            await client.exists("t", b"-")
        await client.set_time(backwards=True)
        assert client.level == NEWER.level, (
            "what operators are answered says the cluster's level, too"
        )

    run(tmp_path, 3, test)


def test_members_alone_make_ticks(tmp_path: Path) -> None:
    async def test(base: Database, machines: dict[int, Machine]) -> None:
        endpoint = base.sites[1].endpoint
        for name in (clock.TICK, clock.SET, "s3db.other"):
            command = commands.encode(commands.call(name, b""))
            with pytest.raises(FormatError, match="members alone"):
                await endpoint.call(
                    "db/1",
                    service.COMMIT,
                    service.CommitRequest(),
                    service.Answered,
                    [command],
                    timeout_ms=5_000,
                )

    run(tmp_path, 1, test)


def test_a_single_process_that_is_restarted_loses_nothing(tmp_path: Path) -> None:
    async def test(base: Database, machines: dict[int, Machine]) -> None:
        machine = machines[1]
        before_ms = await has_ticked(base)
        for gone_ms, boot in ((2 * HOUR_MS, b"1"), (3 * HOUR_MS, b"another boot")):
            before_ms = await has_ticked(base, before_ms)
            await base.stop(1)
            machine.boot_ahead_ms += gone_ms
            machine.wall_ahead_ms += gone_ms
            machine.boot = boot
            base.clocks[1] = machine.clocks()
            await base.start(1)
            await base.leader()
            after_ms = await has_ticked(base, before_ms)
            told = base.sites[1].member.status()["time"]
            lag_ms = told["wall_ms"] - told["cluster_ms"]
            if boot == b"1":
                assert after_ms - before_ms >= gone_ms
                assert abs(lag_ms) < 5_000
            else:  # nobody can tell how long it was: an operator may
                assert after_ms - before_ms < HOUR_MS
                assert lag_ms > CLOCK_SLEW_MS_MAX
            before_ms = after_ms
        done = await base.client().set_time(backwards=False)
        assert done.after_ms - done.before_ms > 2 * HOUR_MS

    run(tmp_path, 1, test)


def test_what_is_asked_of_an_older_member_is_still_understood() -> None:
    """Answers got fields at their end: a program of before sends none of them."""
    old = msgspec.msgpack.encode([3])
    assert msgspec.msgpack.decode(old, type=service.Answered) == service.Answered(3)

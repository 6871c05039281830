"""Budgets, pooled buffers, shared syncs and node health: the parts that requests share."""

from __future__ import annotations

import asyncio

import pytest

from predastore.base.errors import Overloaded
from predastore.base.limits import (
    BACKEND_POOL_BYTES_MAX,
    BACKEND_POOLED_BUFFER_BYTES_MIN,
    HEALTH_DEADLINE_MS_MAX,
    HEALTH_DEADLINE_MS_MIN,
    HEALTH_REST_MS_MAX,
    HEALTH_REST_MS_MIN,
    HEALTH_SAMPLES,
    HEALTH_SILENT_MS,
    MIB,
)
from predastore.storage import buffers
from predastore.storage.body import fill
from predastore.storage.buffers import Budget, Pool
from predastore.storage.health import Health
from predastore.storage.shared_sync import SharedSync
from support.backends import run
from support.waiting import eventually_async

LARGE = 2 * BACKEND_POOLED_BUFFER_BYTES_MIN


def test_a_budget_is_granted_in_turn() -> None:
    async def main() -> None:
        budget = Budget(10)
        assert budget.try_take(8)
        assert not budget.try_take(3)
        order: list[int] = []

        async def taker(number: int, count: int) -> None:
            await budget.take(count)
            order.append(number)

        tasks = [asyncio.ensure_future(taker(n, c)) for n, c in enumerate([9, 1, 1])]
        await asyncio.wait(tasks, timeout=0)
        assert not budget.try_take(1), "those who wait come first"
        budget.give(8)
        await eventually_async(lambda: len(order) == 2)
        assert order == [0, 1]
        assert budget.held_bytes == 10
        budget.give(9)
        await asyncio.gather(*tasks)
        budget.give(2)
        assert budget.held_bytes == 0

    run(main())


def test_more_than_the_whole_budget_is_granted_alone() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(50)
        assert not budget.try_take(1)
        budget.give(50)
        assert budget.try_take(1)

    run(main())


def test_waiting_for_a_budget_ends_in_overloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "BACKEND_BUFFER_WAIT_MS_MAX", 10)

    async def main() -> None:
        budget = Budget(10)
        await budget.take(10)
        with pytest.raises(Overloaded):
            await budget.take(1)
        cancelled = asyncio.ensure_future(budget.take(9))
        await asyncio.wait((cancelled,), timeout=0)
        cancelled.cancel()
        await asyncio.wait((cancelled,))
        budget.give(10)
        assert budget.try_take(10), "whoever gave up waiting is in nobody's way"

    run(main())


class Trickle:
    """A body of which some bytes come every few milliseconds."""

    def __init__(self, piece: int) -> None:
        self._piece = piece

    async def readinto(self, buffer: memoryview) -> int:
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.005, passed.set_result, None)
        await passed
        return min(self._piece, len(buffer))


@pytest.mark.parametrize(("piece", "is_cut"), [(10, True), (1000, False)])
def test_who_sends_hardly_anything_loses_its_share_to_those_who_wait(
    monkeypatch: pytest.MonkeyPatch, piece: int, is_cut: bool
) -> None:
    monkeypatch.setattr(buffers, "BACKEND_IDLE_MS_MAX", 60)
    monkeypatch.setattr(buffers, "BACKEND_IDLE_CHECK_MS", 5)
    monkeypatch.setattr(buffers, "BACKEND_IDLE_BYTES", 1000)
    monkeypatch.setattr(buffers, "BACKEND_BUFFER_WAIT_MS_MAX", 5_000 if is_cut else 300)

    async def main() -> None:
        budget = Budget(10_000_000)

        async def hold() -> None:
            await budget.take(10_000_000)
            try:
                await fill(Trickle(piece), memoryview(bytearray(10_000_000)), 0, budget)
            finally:
                budget.give(10_000_000)

        slow = asyncio.ensure_future(hold())
        await asyncio.wait([slow], timeout=0.2)  # nobody else needs it
        assert not slow.done()
        if is_cut:
            await budget.take(1)
            assert slow.cancelled()
        else:
            with pytest.raises(Overloaded):
                await budget.take(1)
            slow.cancel()
        await asyncio.wait([slow])

    run(main())


def test_a_grant_that_meets_a_cancellation_is_given_back() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(10)
        waiting = asyncio.ensure_future(budget.take(4))
        await asyncio.wait((waiting,), timeout=0)
        budget.give(10)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert budget.held_bytes == 0

    run(main())


def test_a_buffer_is_used_again_when_nobody_refers_to_it() -> None:
    pool = Pool(100 * LARGE)
    first = pool.get(LARGE)
    identity = id(first)
    view = memoryview(first)[10:20]
    del first
    second = pool.get(LARGE)
    assert id(second) != identity, "a view keeps it"
    del view
    third = pool.get(LARGE)
    assert id(third) == identity
    assert len(third) >= LARGE


def test_a_pool_keeps_no_more_than_its_bound() -> None:
    pool = Pool(4 * LARGE)
    held = [pool.get(LARGE) for _ in range(8)]
    assert len({id(buffer) for buffer in held}) == 8
    assert pool.kept_bytes <= 4 * LARGE
    del held
    pool.get(4 * LARGE)
    assert pool.kept_bytes <= 4 * LARGE, "free ones of another size make room"


def test_buffers_of_the_size_asked_for_longest_ago_make_room_one_by_one() -> None:
    pool = Pool(8 * LARGE)
    identities = {}
    for size in (LARGE, 2 * LARGE, 4 * LARGE):
        identities[size] = id(pool.get(size))
    assert id(pool.get(LARGE)) == identities[LARGE]
    pool.get(3 * LARGE)  # one of 2 * LARGE has to go, and nothing else
    assert pool.kept_bytes == 8 * LARGE
    assert id(pool.get(LARGE)) == identities[LARGE]
    assert id(pool.get(4 * LARGE)) == identities[4 * LARGE]
    held = pool.get(8 * LARGE)  # all the others
    assert pool.kept_bytes == 8 * LARGE
    pool.get(LARGE)  # nothing is free: this one is not kept
    assert pool.kept_bytes == 8 * LARGE
    del held


def test_a_body_of_eight_clients_finds_its_buffers_again() -> None:
    stripe, last = 5 * MIB, 5 * MIB // 3
    pool = Pool()
    first = [pool.get(size) for _ in range(8) for size in (stripe, stripe, stripe, last)]
    identities = {id(buffer) for buffer in first}
    assert pool.kept_bytes <= BACKEND_POOL_BYTES_MAX
    del first
    again = [pool.get(size) for _ in range(8) for size in (last, stripe, stripe, stripe)]
    assert {id(buffer) for buffer in again} == identities


def test_a_shared_sync_begins_after_its_caller_came() -> None:
    async def main() -> None:
        begun: list[asyncio.Event] = []

        async def sync() -> None:
            begun.append(asyncio.Event())
            await begun[-1].wait()

        shared = SharedSync(sync)
        first = asyncio.ensure_future(shared())
        await eventually_async(lambda: len(begun) == 1)
        later = [asyncio.ensure_future(shared()) for _ in range(5)]
        await asyncio.wait(later, timeout=0)
        assert len(begun) == 1
        begun[0].set()
        await first
        await eventually_async(lambda: len(begun) == 2)
        assert not any(task.done() for task in later)
        begun[1].set()
        await asyncio.gather(*later)
        assert len(begun) == 2, "they shared one"

    run(main())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_failed_node_rests_for_longer_each_time_until_it_succeeds() -> None:
    health = Health(Clock())
    assert health.is_well(1)
    rests: list[float] = []
    for number in range(12):
        health.failed(1)
        health.failed(1)  # of a request that was under way as well
        rests.append(health.rest_s(1))
        if number % 2:
            health.failed_again(1)
            rests.append(health.rest_s(1))
        assert not health.is_well(1)
        health.answered(1)
        assert health.is_well(1)
    assert rests == sorted(rests)
    assert rests[0] == HEALTH_REST_MS_MIN / 1000
    assert rests[1] == 2 * rests[0]
    assert rests[-1] == HEALTH_REST_MS_MAX / 1000
    health.failed(1)
    health.wrote(1, 0.01)
    assert health.is_well(1)
    health.failed(1)
    assert health.rest_s(1) == HEALTH_REST_MS_MIN / 1000
    assert health.is_well(2)


def test_a_node_that_owes_answers_to_reads_is_silent_but_for_one_reader_now_and_then() -> None:
    clock = Clock()
    health = Health(clock)
    silent_s = HEALTH_SILENT_MS / 1000
    health.reads(1)
    clock.now += silent_s / 2
    health.reads(1)
    assert not health.is_silent(1), "it may still answer in time"
    clock.now += silent_s
    assert not health.is_silent(1), "the first one asks it"
    assert health.is_silent(1)
    assert health.is_silent(1)
    assert not health.is_silent(2)
    clock.now += 2 * silent_s
    assert not health.is_silent(1), "and then another"
    assert health.is_silent(1)
    assert health.is_well(1), "new shards go to it: it has not failed"
    health.replied(1)
    assert not health.is_silent(1)
    clock.now += 100
    health.reads(1)
    assert not health.is_silent(1), "nothing was owed meanwhile"


def test_a_deadline_follows_what_writes_took() -> None:
    health = Health(Clock())
    assert health.write_timeout_ms(1) == HEALTH_DEADLINE_MS_MAX, "nothing is known yet"
    for _ in range(50):
        health.wrote(1, 0.001)
        health.wrote(2, 0.5)
        health.wrote(3, 60)
    assert health.write_timeout_ms(1) == HEALTH_DEADLINE_MS_MIN
    assert HEALTH_DEADLINE_MS_MIN < health.write_timeout_ms(2) < HEALTH_DEADLINE_MS_MAX
    assert health.write_timeout_ms(3) == HEALTH_DEADLINE_MS_MAX


def test_a_read_is_slow_beyond_the_95th_percentile_of_late() -> None:
    health = Health(Clock())
    floor = health.hedge_s
    for n in range(HEALTH_SAMPLES):
        health.has_read(1, 0.001 if n % 10 else 0.2)
    assert health.hedge_s == pytest.approx(0.2)
    for _ in range(HEALTH_SAMPLES):
        health.has_read(1, 0.001)
    assert health.hedge_s == floor

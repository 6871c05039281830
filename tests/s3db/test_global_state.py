"""Both GlobalStates: the same answers; LocalState: commits share a sync, and survive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from predastore.base.errors import (
    LevelTooLow,
    Overloaded,
    PreconditionFailed,
    ProcedureFailed,
    StoreFailed,
)
from predastore.s3db import clock, local_time
from predastore.s3db.clock import Clocks
from predastore.s3db.commands import Absent, Equals, Keep, Put, batch
from predastore.s3db.global_state import DistributedState, GlobalState, LocalState
from predastore.s3db.procedures import Procedure, Procedures
from support.backends import run
from support.databases import database
from support.procedures import PROCEDURES
from support.waiting import eventually_async

Open = Callable[[], AbstractAsyncContextManager[GlobalState]]


@pytest.fixture(params=["local", "distributed"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def local() -> AsyncIterator[GlobalState]:
        state = LocalState(tmp_path, PROCEDURES)
        yield state
        await state.close()

    @asynccontextmanager
    async def distributed() -> AsyncIterator[GlobalState]:
        async with database(tmp_path, 1, PROCEDURES) as db:
            state = DistributedState(db.client())
            yield state
            await state.close()

    return local if request.param == "local" else distributed


def test_the_calls_of_the_design_document(opened: Open) -> None:
    async def main() -> None:
        async with opened() as state:
            assert await state.get("objects", b"k") is None
            assert not await state.exists("objects", b"k")
            await state.set("objects", b"k", b"v")
            await state.set("objects", b"l/1", b"w")
            await state.set("objects", b"l/2", b"x")
            assert await state.get("objects", b"k") == b"v"
            assert await state.exists("objects", b"k")
            assert await state.read([("objects", b"l/2"), ("buckets", b"k")]) == [b"x", None]
            assert await state.list_keys("objects", b"", 2) == [b"k", b"l/1"]
            assert await state.scan("objects", b"l", b"l/1", 9) == [(b"l/2", b"x")]
            page = await state.list("objects", b"", b"/", b"", 9)
            assert (page.entries, page.prefixes) == ([(b"k", b"v")], [b"l/"])
            await state.delete("objects", b"k")
            assert await state.get("objects", b"k") is None

    run(main())


def test_a_commit_is_all_or_nothing(opened: Open) -> None:
    async def main() -> None:
        async with opened() as state:
            await state.set("objects", b"k", b"v")
            checks = (Absent("objects", b"l"), Equals("objects", b"k", b"other"))
            with pytest.raises(PreconditionFailed) as caught:
                await state.commit(batch(Put("objects", b"l", b"w"), checks=checks))
            assert caught.value.check == 1
            assert await state.get("objects", b"l") is None
            ops = (Keep("objects", b"k", b"deleted:k"), Put("objects", b"k", b"new"))
            applied = await state.commit(batch(*ops))
            assert applied.kept == ((b"deleted:k", b"v"),)
            assert await state.get("objects", b"deleted:k") == b"v"

    run(main())


def test_procedures_are_called_and_questions_asked(opened: Open) -> None:
    async def main() -> None:
        async with opened() as state:
            counted = await asyncio.gather(*(state.call("test.count", b"a") for _ in range(20)))
            assert sorted(int(done.answer) for done in counted) == list(range(1, 21))
            assert await state.ask("test.total", b"") == b"20"
            assert (await state.call("test.take", b"a")).answer == b"19"
            assert (await state.call("test.take", b"none")).answer == b"none"
            assert await state.get("counters", b"taken") == b"a"
            held = Equals("counters", b"a", b"19"), Absent("counters", b"taken")
            with pytest.raises(PreconditionFailed) as caught:
                await state.call("test.count", b"a", held)
            assert caught.value.check == 1
            with pytest.raises(ProcedureFailed, match="a mistake in a procedure"):
                await state.call("test.stumble", b"")
            assert not await state.exists("counters", b"stumbled")
            for unknown in (state.call("test.other", b""), state.ask("test.other", b"")):
                with pytest.raises(LevelTooLow):
                    await unknown
            assert (await state.call("test.count", b"a")).answer == b"20"

    run(main())


def test_local_commits_that_wait_together_share_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        state = LocalState(tmp_path)
        applied: list[int] = []
        apply = state._store.apply

        def counted(entries: list[tuple[int, bytes]]) -> object:
            applied.append(len(entries))
            return apply(entries)

        monkeypatch.setattr(state._store, "apply", counted)
        await asyncio.gather(*(state.set("t", b"%d" % n, b"") for n in range(100)))
        assert sum(applied) == 101  # and a tick of the clock, with the first
        assert len(applied) <= 3
        await state.close()
        state = LocalState(tmp_path)
        assert len(await state.list_keys("t", b"", 1000)) == 100
        await state.close()

    run(main())


def test_a_local_commit_is_refused_at_its_bound_and_after_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.s3db.global_state.BACKEND_COMMITS_WAITING_MAX", 4)

    async def main() -> None:
        state = LocalState(tmp_path)
        await state.delete("t", b"none")  # brings a tick of the clock along
        answers = await asyncio.gather(
            *(state.set("t", b"%d" % n, b"") for n in range(10)), return_exceptions=True
        )
        refused = [each for each in answers if isinstance(each, Overloaded)]
        assert len(refused) == 6
        assert len(await state.list_keys("t", b"", 99)) == 4
        await state.close()
        with pytest.raises(StoreFailed):
            await state.set("t", b"late", b"")

    run(main())


def test_a_failing_store_fails_every_commit_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        state = LocalState(tmp_path)

        def broken(_: object) -> object:
            raise RuntimeError("the disk caught fire")

        monkeypatch.setattr(state._store, "apply", broken)
        answers = await asyncio.gather(
            *(state.set("t", b"%d" % n, b"") for n in range(3)), return_exceptions=True
        )
        assert [type(each) for each in answers] == [StoreFailed] * 3
        await state.close()

    run(main())


def test_a_local_state_keeps_cluster_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without other members: the first commit brings a tick, others follow by themselves."""
    told = Procedures([Procedure("test.time", 1, lambda view, _: b"%d" % view.time_ms)])
    monkeypatch.setattr(clock, "CLOCK_TICK_MS", 20)
    monkeypatch.setattr(local_time, "CLOCK_RETRY_MS", 5)
    real, away_ms = clock.system(), [0]

    def opened(boot: bytes) -> LocalState:
        wall = Clocks(boot, real.boot_ms, lambda: real.wall_ms() + away_ms[0])
        return LocalState(tmp_path, told, wall)

    async def time_of(state: LocalState) -> int:
        return int((await state.call("test.time", b"")).answer)

    async def main() -> None:
        state = opened(b"boot")
        before_ms = real.wall_ms()
        first = await time_of(state)
        assert before_ms <= first <= real.wall_ms()
        away_ms[0] = 10**9  # somebody sets the clock
        later = await eventually_async(
            lambda: state._store.time.time_ms > first + 60 and state._store.time.time_ms,
            what="ticks",
        )
        assert first < int(later or 0) <= real.wall_ms()
        last = await time_of(state)
        await state.close()
        state = opened(b"boot")
        assert last <= await time_of(state) <= real.wall_ms()
        await state.close()

    run(main())

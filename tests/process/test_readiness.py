"""Whether writes can be done is looked at when asked, once for all who ask, and not too often."""

from __future__ import annotations

import asyncio

import pytest

from predastore.base.errors import NoLeader
from predastore.process import readiness
from predastore.process.readiness import WriteReadiness
from support.loops import on_a_loop, passed, run_in_virtual_time


class Looks:
    """Counts the looks; each is over when `ended` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.said = ""
        self.ended = asyncio.Event()
        self.ended.set()

    async def look(self) -> str:
        self.count += 1
        await self.ended.wait()
        return self.said


@on_a_loop
async def test_those_who_ask_at_the_same_time_share_a_look() -> None:
    looks = Looks()
    looks.ended.clear()
    writes = WriteReadiness(looks.look)
    asked = [asyncio.ensure_future(writes.obstacle()) for _ in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()  # a client that goes takes nothing from the others
    looks.said = "too few nodes"
    looks.ended.set()
    assert await asyncio.gather(*asked[1:]) == ["too few nodes"] * 4
    assert looks.count == 1


def test_an_answer_is_some_seconds_old_at_most() -> None:
    async def main() -> None:
        looks = Looks()
        writes = WriteReadiness(looks.look)
        assert await writes.obstacle() == ""
        looks.said = "no leader"
        await passed(readiness.READY_CHECK_MS / 2000)
        assert await writes.obstacle() == ""
        await passed(readiness.READY_CHECK_MS / 1000)
        assert await writes.obstacle() == "no leader"
        assert looks.count == 2

    run_in_virtual_time(main())


def test_what_can_not_be_found_out_in_time_is_an_obstacle() -> None:
    async def main() -> None:
        looks = Looks()
        looks.ended.clear()
        assert "could not be found out within" in await WriteReadiness(looks.look).obstacle()

    run_in_virtual_time(main())


@on_a_loop
async def test_what_a_look_raises_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> str:
        raise NoLeader("no leader is known")

    assert await WriteReadiness(look).obstacle() == "no leader is known"

"""A member says that it is crowded, in every answer, and clients know what the leader said last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.base.limits import (
    CROWDED_FILE_BYTES,
    CROWDED_FREE_BYTES,
    CROWDED_LOOK_MS,
    MIB,
    RAFT_RESERVE_BYTES,
    RAFT_ROOM_CHECK_MS,
)
from predastore.s3db import commands
from predastore.s3db.commands import Delete, Put
from predastore.s3db.crowding import Crowding
from predastore.s3db.global_state import DistributedState
from predastore.s3db.raft import room
from predastore.s3db.raft.room import MemberRoom
from predastore.s3db.store import Store
from support.databases import Database, database


class Disk:
    """Says how much is free, and how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.asked = 0
        monkeypatch.setattr(room, "free_bytes_of", self._free_bytes_of)

    def _free_bytes_of(self, _: Path) -> int:
        self.asked += 1
        return self.free_bytes


class Tables:
    """As much of a Store as is looked at."""

    used = 0

    def used_bytes(self) -> int:
        return self.used


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_bodies_find_no_room_long_before_commits_do() -> None:
    assert CROWDED_FREE_BYTES >= 2 * RAFT_RESERVE_BYTES


def test_it_is_looked_at_once_a_second_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, tables, clock = Disk(monkeypatch, CROWDED_FREE_BYTES), Tables(), Clock()
    crowding = Crowding(tables, MemberRoom(tmp_path, 1, clock), clock)  # type: ignore[arg-type]
    assert not any(crowding.look() for _ in range(1000))
    asked = disk.asked
    disk.free_bytes -= 1
    clock.now += CROWDED_LOOK_MS / 1000 / 2
    assert not any(crowding.look() for _ in range(1000))
    assert disk.asked == asked
    clock.now += CROWDED_LOOK_MS / 1000
    assert all(crowding.look() for _ in range(1000))
    assert disk.asked == asked + 1

    disk.free_bytes += 1
    tables.used = CROWDED_FILE_BYTES
    clock.now += CROWDED_LOOK_MS / 1000
    assert crowding.look()
    tables.used -= 1
    clock.now += CROWDED_LOOK_MS / 1000
    assert not crowding.look()


def test_what_is_spare_of_a_file_is_not_in_use(tmp_path: Path) -> None:
    store = Store(tmp_path, durable=True)
    empty = store.used_bytes()
    for index, op in enumerate((Put("t", b"k", bytes(2 * MIB)), Delete("t", b"k")), 1):
        store.apply([(index, commands.encode(commands.batch(op)))])
        grown = store.used_bytes() - empty
        assert grown > 2 * MIB if index == 1 else grown < MIB / 16
    assert store.status()["file_bytes"] > 2 * MIB
    store.close()


def test_clients_know_what_the_leader_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, CROWDED_FREE_BYTES)
    monkeypatch.setattr("predastore.s3db.crowding.CROWDED_LOOK_MS", RAFT_ROOM_CHECK_MS)

    async def commits_until(state: DistributedState, takes_inline: bool) -> None:
        async with asyncio.timeout(20):
            while state.takes_inline is not takes_inline:
                await state.set("t", b"k", b"v")

    async def scenario(base: Database) -> None:
        leader = await base.leader()
        follower = next(member for member in base.ids if member != leader)
        client = base.client(prefer=follower)
        state = DistributedState(client)
        assert state.takes_inline
        await state.set("t", b"k", b"v")
        assert state.takes_inline
        disk.free_bytes -= 1
        await commits_until(state, takes_inline=False)
        is_crowded = base.sites[follower].member.changes._engine.crowding
        monkeypatch.setattr(is_crowded, "look", lambda: False)
        assert await state.get("t", b"k") == b"v"  # a follower's word counts for nothing
        assert not state.takes_inline
        disk.free_bytes += 1
        await commits_until(state, takes_inline=True)

    async def main() -> None:
        async with database(tmp_path, 3) as base:
            await scenario(base)

    asyncio.run(main())

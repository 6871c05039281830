"""Members on disks that fill up: writes are refused early, nothing is lost, room mends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from predastore.base.errors import NodeFull, PredastoreError, StoreFailed
from predastore.s3db.member import Member
from predastore.s3db.raft import room
from predastore.s3db.raft.state import Role
from s3db.test_member import PATIENCE_MS, Cluster, cluster_of, put, run
from support.waiting import eventually_async

MIB = 1 << 20


class Disks:
    """How much is free for each member, as `room` is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: dict[str, int] = {}
        monkeypatch.setattr(room, "free_bytes_of", self.free_bytes_of)
        monkeypatch.setattr(room, "RAFT_ROOM_CHECK_MS", 0)

    def free_bytes_of(self, directory: Path) -> int:
        return self.free.get(directory.name, 1 << 40)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(monkeypatch)


async def write(cluster: Cluster, key: str) -> Member:
    """Through whoever leads; the leader that did it. NodeFull."""
    while True:
        leader = await cluster.leader()
        try:
            await leader.propose(put(key, b"v"), timeout_ms=PATIENCE_MS)
        except NodeFull:
            raise
        except PredastoreError:  # leadership is being handed over
            await eventually_async(lambda member=leader: not _hands_over(member))
        else:
            return leader


def _hands_over(member: Member) -> bool:
    leadership = member._core.leadership
    return leadership is not None and leadership.successor is not None


async def reads(member: Member, key: str) -> bytes | None:
    await member.read_barrier(timeout_ms=PATIENCE_MS)
    return member.store.get("objects", key.encode())


def test_a_leader_on_a_full_disk_hands_over_to_one_that_has_room(
    tmp_path: Path, disks: Disks
) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            first = await write(cluster, "before")
            disks.free[str(first.id)] = 10 * MIB
            second = await write(cluster, "after")
            assert second is not first
            assert first.role is not Role.LEADER
            assert await reads(second, "after") == b"v"

    run(test)


def test_a_follower_on_a_full_disk_takes_nothing_and_catches_up_once_there_is_room(
    tmp_path: Path, disks: Disks
) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await write(cluster, "before")
            full = next(m for m in cluster.members.values() if m is not leader)
            await full.read_barrier(timeout_ms=PATIENCE_MS)
            held = full.status()["last_index"]
            disks.free[str(full.id)] = 10 * MIB
            for number in range(20):
                assert await write(cluster, f"{number}") is leader
            assert full.status()["last_index"] == held
            assert full.leader == leader.id  # heartbeats arrive
            assert full.store.get("objects", b"before") == b"v"
            del disks.free[str(full.id)]
            await eventually_async(lambda: full.status()["lag"] == {} and _same(full, leader))
            assert full.store.get("objects", b"19") == b"v"
            assert leader.role is Role.LEADER

    run(test)


def _same(one: Member, other: Member) -> bool:
    return one.applied_index == other.applied_index


def test_with_all_disks_full_writes_are_refused_and_reads_go_on(
    tmp_path: Path, disks: Disks
) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            await write(cluster, "before")
            for member in cluster.members:
                disks.free[str(member)] = 10 * MIB
            with pytest.raises(NodeFull, match=r"10 MiB are free.* nothing was changed. Make room"):
                await write(cluster, "refused")
            for member in cluster.members.values():
                assert await reads(member, "before") == b"v"
                assert await reads(member, "refused") is None
            disks.free.clear()
            await write(cluster, "again")

    run(test)


# --- a real file system ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, in the place of member 1."""
    mount = tmp_path / "1"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


async def _fill(member: Member) -> tuple[list[tuple[int, bytes]], PredastoreError]:
    """Write until that fails: what was acknowledged, and why it ended."""
    done: list[tuple[int, bytes]] = []
    for number in range(1000):
        value = os.urandom(100_000)
        try:
            await member.propose(put(f"{number}", value), timeout_ms=PATIENCE_MS)
        except PredastoreError as error:
            return done, error
        done.append((number, value))
    raise AssertionError("the disk never was full")


async def _holds(member: Member, done: list[tuple[int, bytes]]) -> None:
    await member.read_barrier(timeout_ms=PATIENCE_MS)
    for number, value in done:
        assert member.store.get("objects", b"%d" % number) == value


def test_a_small_disk_fills_up_under_writes_and_refuses_in_time(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RAFT_RESERVE_BYTES", 10 * MIB)
    monkeypatch.setattr(room, "RAFT_ROOM_CHECK_MS", 0)

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        member = await cluster.start(1)
        await cluster.leader()
        done, error = await _fill(member)
        assert isinstance(error, NodeFull)
        assert len(done) > 10
        await _holds(member, done)
        await cluster.stop(1)
        again = await cluster.start(1)
        await cluster.leader()
        await _holds(again, done)
        await cluster.stop(1)

    run(test)


def test_a_disk_that_is_full_to_the_last_byte_ends_the_member_and_loses_nothing(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RAFT_RESERVE_BYTES", 0)

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        member = await cluster.start(1)
        await cluster.leader()
        done, _ = await _fill(member)
        assert "No space left" in str(await member.failed)
        await member.close()
        with suppress(StoreFailed):  # it may lack room, too
            member.store.close()
        _remount(small_disk)
        again = await cluster.start(1)
        await cluster.leader()
        await _holds(again, done)
        await cluster.stop(1)

    run(test)


def _remount(mount: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=96m", str(mount)], check=True)

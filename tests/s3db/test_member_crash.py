"""Members that are killed, or lose power, come back with all that was acknowledged.

All of a cluster at once: none can get from the others what it does not hold itself.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import lmdb
import pytest
import uvloop

from predastore.base.errors import NoLeader, StartupError, StoreFailed
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.checkpoint import Checkpoints
from predastore.s3db.commands import Batch, Delete, Put, encode
from predastore.s3db.member import Member
from predastore.s3db.raft import upkeep
from predastore.s3db.raft.state import Timing
from predastore.s3db.store import FILE_NAME, Store
from support.powercut import PowerCut, crash
from support.waiting import eventually_async

FAST = Timing(heartbeat_s=0.03, election_s=0.15)
PATIENCE_MS = 10_000
MIB = 1 << 20


class Cluster:
    """All members in this process, from start to crash."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.ids = list(range(1, count + 1))
        self.members: list[Member] = []

    def file(self, member: int) -> Path:
        return self.path / str(member) / "store" / FILE_NAME

    async def start(self) -> Member:
        """Returns the leader."""
        self.endpoint = Endpoint(
            cluster_key=b"k" * 32, certificate=self_signed(), name="tests/crash"
        )
        for member_id in self.ids:
            path = self.path / str(member_id)
            member = await Member.open(
                path=path,
                member_id=member_id,
                members=self.ids,
                store=Store(path / "store", durable=False, map_bytes_initial=4 * MIB),
                endpoint=self.endpoint,
                timing=FAST,
            )
            self.members.append(member)

        def leading() -> Member | None:
            return next((m for m in self.members if m.leader == m.id), None)

        leader = await eventually_async(leading, what="a leader")
        assert leader is not None
        return leader

    async def kill(self) -> None:
        """Nothing is handed over, synced or closed in order."""
        members, self.members = self.members, []
        for member in members:
            member._engine.stop(NoLeader("killed"))
        for member in members:
            await member.close()
            crash(member.store)
        await self.endpoint.close()

    async def close(self) -> None:
        for member in self.members:
            await member.close()
            member.store.close()
        await self.endpoint.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(asyncio.wait_for(test(), 60))


async def write(leader: Member, rng: random.Random, expected: dict[bytes, bytes]) -> None:
    key = b"%03d" % rng.randrange(300)
    if rng.random() < 0.8:
        op, value = Put("t", key, rng.randbytes(rng.choice((20, 900, 9000)))), None
        value = op.value
    else:
        op, value = Delete("t", key), None
    await leader.propose(encode(Batch((), (op,), os.urandom(16), 0)), timeout_ms=PATIENCE_MS)
    if value is None:
        expected.pop(key, None)
    else:
        expected[key] = value


def held_by(member: Member) -> dict[bytes, bytes]:
    return dict(member.store.scan("t", b"", b"", 1000))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_of_all_members_loses_nothing_acknowledged(
    tmp_path: Path, count: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(upkeep, "RAFT_CHECKPOINT_MS", rng.choice((1, 20, 60_000)))
    monkeypatch.setattr(upkeep, "RAFT_LOG_KEPT_BYTES", 20_000)
    monkeypatch.setattr(upkeep, "RAFT_LOG_CUT_BYTES", 20_000)
    power = PowerCut(seed, monkeypatch)

    async def test() -> None:
        cluster = Cluster(tmp_path, count)
        expected: dict[bytes, bytes] = {}
        for _ in range(3):
            leader = await cluster.start()
            await leader.read_barrier(timeout_ms=PATIENCE_MS)
            assert held_by(leader) == expected
            for _ in range(60):
                await write(leader, rng, expected)
            await cluster.kill()
            for member in cluster.ids:
                power.strike(cluster.file(member))
        leader = await cluster.start()
        for member in cluster.members:
            await member.read_barrier(timeout_ms=PATIENCE_MS)
            assert held_by(member) == expected
        assert len({member.store.digest() for member in cluster.members}) == 1
        await cluster.close()

    run(test)


def test_applied_entries_are_soon_in_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RAFT_CHECKPOINT_MS", 10)

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        leader = await cluster.start()
        for _ in range(3):
            await write(leader, random.Random(1), {})
            applied = leader.applied_index
            await eventually_async(lambda index=applied: leader.store.durable_index >= index)
        await cluster.close()

    run(test)


def test_a_commit_waits_for_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "RAFT_CHECKPOINT_MS", 60_000)

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        leader = await cluster.start()
        durable = leader.store.durable_index
        for _ in range(20):
            await write(leader, random.Random(1), {})
        assert leader.store.durable_index == durable
        await cluster.close()

    run(test)


def test_the_log_is_not_cut_beyond_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RAFT_CHECKPOINT_MS", 60_000)
    monkeypatch.setattr(upkeep, "RAFT_LOG_KEPT_BYTES", 2_000)
    monkeypatch.setattr(upkeep, "RAFT_LOG_CUT_BYTES", 2_000)

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        leader = await cluster.start()
        for _ in range(100):
            await write(leader, random.Random(1), {})
            assert leader.status()["first_index"] <= leader.store.durable_index + 1
        assert leader.status()["first_index"] > 50
        await cluster.close()

    run(test)


def test_a_journal_that_begins_after_the_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RAFT_LOG_KEPT_BYTES", 2_000)
    monkeypatch.setattr(upkeep, "RAFT_LOG_CUT_BYTES", 2_000)

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        leader = await cluster.start()
        for _ in range(100):
            await write(leader, random.Random(1), {})
        await cluster.kill()
        cluster.file(1).unlink()
        with pytest.raises(StartupError, match="the tables are older than the journal"):
            await cluster.start()
        await cluster.endpoint.close()

    run(test)


def test_a_checkpoint_that_can_not_be_synced_ends_the_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RAFT_CHECKPOINT_MS", 10)

    def broken(*_: object) -> None:
        raise lmdb.Error("mdb_env_sync: Input/output error")

    async def test() -> None:
        cluster = Cluster(tmp_path, 1)
        leader = await cluster.start()
        await eventually_async(lambda: leader.store.durable_index == leader.applied_index)
        monkeypatch.setattr(Checkpoints, "finish", broken)
        await write(leader, random.Random(1), {})
        assert "Input/output error" in str(await leader.failed)
        with pytest.raises(NoLeader):
            await write(leader, random.Random(1), {})
        with pytest.raises(StoreFailed):
            leader.store.sync()
        monkeypatch.undo()
        await cluster.kill()

    run(test)

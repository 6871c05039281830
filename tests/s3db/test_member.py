"""Members of a cluster in one process: commits, reads, failover, restart, over a fake network."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from predastore.base.errors import (
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    PeerUnreachable,
    PreconditionFailed,
    PredastoreError,
    StartupError,
    TooLarge,
)
from predastore.base.limits import RAFT_COMMAND_BYTES_MAX
from predastore.rpc import CallContext, Endpoint, self_signed
from predastore.s3db.commands import Absent, Batch, Put, encode
from predastore.s3db.member import Member
from predastore.s3db.raft.state import Role, Timing
from predastore.s3db.store import Store
from support.disks import fill_the_disk_under
from support.waiting import eventually_async

FAST = Timing(heartbeat_s=0.05, election_s=0.4)  # a busy machine must not cost a leader
PATIENCE_MS = 10_000


class Network:
    """What endpoints of one test share: who is served, and who can not be reached."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.cut: set[tuple[str, str]] = set()
        self.swallowed: set[str] = set()  # methods whose calls have no answer, ever
        self.swallowed_count = 0

    def isolate(self, name: str) -> None:
        others = [peer for peer in self.services if peer != name]
        self.cut |= {(name, peer) for peer in others} | {(peer, name) for peer in others}


class FakeEndpoint:
    """Fits `rpc.Endpoint` as far as a member uses it."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.posting: set[asyncio.Future[None]] = set()

    def serve(self, peer: str, service: dict[str, Any]) -> None:
        self.network.services[peer] = service

    async def call(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: type[Any],
        payload: Sequence[bytes] = (),
        *,
        timeout_ms: int,
    ) -> tuple[Any, memoryview]:
        body = memoryview(b"".join(payload))
        await asyncio.sleep(0)
        if method in self.network.swallowed:
            self.network.swallowed_count += 1
            await asyncio.get_running_loop().create_future()
        if (self.name, peer) in self.network.cut or peer not in self.network.services:
            raise PeerUnreachable(peer)
        loop = asyncio.get_running_loop()
        context = CallContext(self.name, loop.time() + timeout_ms / 1000)
        reply = await self.network.services[peer][method].handler(request, body, context)
        if (peer, self.name) in self.network.cut:
            raise PeerUnreachable(peer)
        return reply.header, memoryview(b"".join(reply.payload))

    def post(
        self,
        *args: Any,
        timeout_ms: int,
        done: Callable[[Any], None],
    ) -> Callable[[], object]:
        async def call() -> None:
            try:
                outcome: Any = await self.call(*args, timeout_ms=timeout_ms)
            except PredastoreError as error:
                outcome = error
            done(outcome)

        task = asyncio.ensure_future(call())
        self.posting.add(task)
        task.add_done_callback(self.posting.discard)
        return task.cancel


class Cluster:
    def __init__(self, path: Path, count: int, timing: Timing = FAST) -> None:
        self.path = path
        self.timing = timing
        self.ids = list(range(1, count + 1))
        self.network = Network()
        self.members: dict[int, Member] = {}

    async def start(self, member: int) -> Member:
        store = Store(self.path / f"{member}" / "store", durable=False)
        opened = await Member.open(
            path=self.path / f"{member}",
            member_id=member,
            members=self.ids,
            store=store,
            endpoint=FakeEndpoint(self.network, f"db/{member}"),
            timing=self.timing,
        )
        self.members[member] = opened
        return opened

    async def stop(self, member: int) -> None:
        opened = self.members.pop(member)
        await opened.close()
        self.network.services.pop(f"db/{member}")
        opened.store.close()

    async def leader(self) -> Member:
        def find() -> Member | None:
            leaders = [m for m in self.members.values() if m.role is Role.LEADER]
            following = [m for m in self.members.values() if m.leader is not None]
            done = len(leaders) == 1 and 2 * len(following) > len(self.ids)
            return leaders[0] if done else None

        return await eventually_async(find, what="one leader")


@asynccontextmanager
async def cluster_of(path: Path, count: int, timing: Timing = FAST) -> AsyncIterator[Cluster]:
    cluster = Cluster(path, count, timing)
    for member in cluster.ids:
        await cluster.start(member)
    try:
        yield cluster
    finally:
        for member in list(cluster.members):
            await cluster.stop(member)


def put(key: str, value: bytes, *checks: Any) -> bytes:
    return encode(Batch(checks, (Put("objects", key.encode(), value),), os.urandom(16), 0))


def run(test: Callable[[], Awaitable[None]]) -> None:
    """On the loop of the product."""
    uvloop.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_commits_are_read_back_through_every_member(tmp_path: Path, count: int) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, count) as cluster:
            leader = await cluster.leader()
            for number in range(20):
                value = b"%d" % number
                await leader.propose(put("k", value), timeout_ms=PATIENCE_MS)
                for member in cluster.members.values():
                    await member.read_barrier(timeout_ms=PATIENCE_MS)
                    assert member.store.get("objects", b"k") == value

    run(test)


def test_concurrent_commits_share_syncs_and_all_land(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            commits = [
                leader.propose(put(f"k{n}", b"v"), timeout_ms=PATIENCE_MS) for n in range(500)
            ]
            await asyncio.gather(*commits)
            member = next(m for m in cluster.members.values() if m is not leader)
            await member.read_barrier(timeout_ms=PATIENCE_MS)
            assert len(member.store.list_keys("objects", b"k", 1000)) == 500

    run(test)


def test_all_members_end_with_the_same_state(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            for number in range(50):
                await leader.propose(put(f"k{number % 7}", os.urandom(9)), timeout_ms=PATIENCE_MS)
            for member in cluster.members.values():
                await member.read_barrier(timeout_ms=PATIENCE_MS)
            assert len({member.store.digest() for member in cluster.members.values()}) == 1

    run(test)


def test_a_failed_precondition_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            await leader.propose(put("k", b"1"), timeout_ms=PATIENCE_MS)
            with pytest.raises(PreconditionFailed):
                await leader.propose(
                    put("k", b"2", Absent("objects", b"k")), timeout_ms=PATIENCE_MS
                )
            assert leader.store.get("objects", b"k") == b"1"

    run(test)


def test_a_follower_names_the_leader_and_a_commit_too_large_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            follower = next(m for m in cluster.members.values() if m is not leader)
            await eventually_async(lambda: follower.leader is not None)
            with pytest.raises(NotLeader) as caught:
                await follower.propose(put("k", b"1"), timeout_ms=PATIENCE_MS)
            assert caught.value.leader == leader.id
            with pytest.raises(TooLarge):
                await leader.propose(bytes(RAFT_COMMAND_BYTES_MAX + 1), timeout_ms=PATIENCE_MS)

    run(test)


def test_a_large_commit_reaches_all(tmp_path: Path) -> None:
    patient = Timing(heartbeat_s=0.3, election_s=3.0)  # a busy disk takes a while for it

    async def test() -> None:
        async with cluster_of(tmp_path, 3, patient) as cluster:
            leader = await cluster.leader()
            value = os.urandom(3 << 20)
            await leader.propose(put("k", value), timeout_ms=PATIENCE_MS)
            for member in cluster.members.values():
                await member.read_barrier(timeout_ms=PATIENCE_MS)
                assert member.store.get("objects", b"k") == value

    run(test)


def test_the_cluster_goes_on_without_its_leader_and_takes_it_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            first = await cluster.leader()
            await first.propose(put("a", b"1"), timeout_ms=PATIENCE_MS)
            cluster.network.isolate(f"db/{first.id}")
            lost = asyncio.ensure_future(first.propose(put("b", b"2"), timeout_ms=PATIENCE_MS))
            await eventually_async(lambda: first.role is not Role.LEADER, what="step-down")
            with pytest.raises(OutcomeUnknown):
                await lost
            with pytest.raises(NoLeader):
                await first.read_barrier(timeout_ms=200)
            second = await cluster.leader()
            assert second is not first
            await second.propose(put("a", b"3"), timeout_ms=PATIENCE_MS)
            cluster.network.cut.clear()
            await first.read_barrier(timeout_ms=PATIENCE_MS)
            assert first.store.get("objects", b"a") == b"3"
            assert first.store.get("objects", b"b") is None

    run(test)


@pytest.mark.parametrize("count", [1, 3])
def test_a_restarted_cluster_has_all_that_was_acknowledged(tmp_path: Path, count: int) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, count) as cluster:
            for generation in range(3):
                leader = await cluster.leader()
                for number in range(10):
                    await leader.propose(
                        put(f"{generation}/{number}", b"v"), timeout_ms=PATIENCE_MS
                    )
                for member in cluster.ids:
                    await cluster.stop(member)
                for member in cluster.ids:
                    await cluster.start(member)
            leader = await cluster.leader()
            await leader.read_barrier(timeout_ms=PATIENCE_MS)
            assert len(leader.store.list_keys("objects", b"", 100)) == 30

    run(test)


def test_closing_the_leader_hands_leadership_over_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            await leader.propose(put("a", b"1"), timeout_ms=PATIENCE_MS)
            loop = asyncio.get_running_loop()
            before = loop.time()
            await cluster.stop(leader.id)
            await cluster.leader()
            assert loop.time() - before < FAST.election_s

    run(test)


def test_concurrent_barriers_on_a_follower_share_calls(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            follower = next(m for m in cluster.members.values() if m is not leader)
            await follower.read_barrier(timeout_ms=PATIENCE_MS)
            service = cluster.network.services[f"db/{leader.id}"]
            method = service["raft.read_index"]
            counter = itertools.count()

            async def counted(*args: Any) -> Any:
                next(counter)
                return await method.handler(*args)

            service["raft.read_index"] = type(method)(
                method.request, method.response, counted, method.payload_bytes_max
            )
            barriers = [follower.read_barrier(timeout_ms=PATIENCE_MS) for _ in range(100)]
            await asyncio.gather(*barriers)
            assert next(counter) <= 3

    run(test)


def test_a_barrier_does_not_wait_for_a_leader_that_leads_no_more(tmp_path: Path) -> None:
    """One that is cut off answers nothing, and the call's deadline may be far."""

    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            follower = next(m for m in cluster.members.values() if m is not leader)
            await follower.read_barrier(timeout_ms=PATIENCE_MS)
            network = cluster.network
            network.swallowed.add("raft.read_index")
            barrier = asyncio.ensure_future(follower.read_barrier(timeout_ms=3 * PATIENCE_MS))
            await eventually_async(lambda: network.swallowed_count, what="a call to the leader")
            network.swallowed.clear()
            network.isolate(f"db/{leader.id}")
            await barrier
            assert follower.leader != leader.id

    run(test)


def test_tables_without_their_journal_refuse_to_start(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 1) as cluster:
            leader = await cluster.leader()
            await leader.propose(put("a", b"1"), timeout_ms=PATIENCE_MS)
            await cluster.stop(1)
            journal = tmp_path / "1" / "journal"
            for file in journal.iterdir():
                file.unlink()
            with pytest.raises(StartupError, match="there is no journal"):
                await cluster.start(1)

    run(test)


def test_a_disk_error_ends_the_member_and_tells_its_owner(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 1) as cluster:
            leader = await cluster.leader()

            fill_the_disk_under(tmp_path, ".journal")
            with pytest.raises(OutcomeUnknown):
                await leader.propose(put("a", b"1"), timeout_ms=PATIENCE_MS)
            assert "No space left on device" in str(await leader.failed)
            with pytest.raises(NoLeader):
                await leader.propose(put("a", b"1"), timeout_ms=PATIENCE_MS)

    run(test)


def test_a_member_that_lags_behind_the_log_gets_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.s3db.raft.upkeep.RAFT_LOG_KEPT_BYTES", 2_000)
    monkeypatch.setattr("predastore.s3db.raft.upkeep.RAFT_LOG_CUT_BYTES", 2_000)
    monkeypatch.setattr("predastore.s3db.raft.snapshots.RAFT_SNAPSHOT_CHUNK_BYTES", 10_000)

    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            lagging = next(m for m in cluster.ids if m != leader.id)
            await cluster.stop(lagging)
            for number in range(200):
                await leader.propose(put(f"k{number}", os.urandom(300)), timeout_ms=PATIENCE_MS)
            assert leader.status()["first_index"] > 150
            member = await cluster.start(lagging)
            await member.read_barrier(timeout_ms=PATIENCE_MS)
            leader = await cluster.leader()
            await leader.propose(put("last", b"1"), timeout_ms=PATIENCE_MS)
            for each in cluster.members.values():
                await each.read_barrier(timeout_ms=PATIENCE_MS)
            assert len({each.store.digest() for each in cluster.members.values()}) == 1
            await cluster.stop(lagging)
            member = await cluster.start(lagging)
            await member.read_barrier(timeout_ms=PATIENCE_MS)
            assert member.store.get("objects", b"last") == b"1"

    run(test)


def test_the_log_is_cut_and_a_restart_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.s3db.raft.upkeep.RAFT_LOG_KEPT_BYTES", 2_000)
    monkeypatch.setattr("predastore.s3db.raft.upkeep.RAFT_LOG_CUT_BYTES", 2_000)

    async def test() -> None:
        async with cluster_of(tmp_path, 1) as cluster:
            leader = await cluster.leader()
            for number in range(100):
                await leader.propose(put(f"k{number}", bytes(200)), timeout_ms=PATIENCE_MS)
            assert leader.status()["first_index"] > 50
            await cluster.stop(1)
            leader = await cluster.start(1)
            await leader.read_barrier(timeout_ms=PATIENCE_MS)
            assert len(leader.store.list_keys("objects", b"k", 1000)) == 100

    run(test)


def test_members_of_three_processes_talk_over_quic(tmp_path: Path) -> None:
    """Each with an endpoint of its own, as in production."""

    async def test() -> None:
        certificate = self_signed()
        endpoints = {
            i: Endpoint(cluster_key=b"k" * 32, certificate=certificate, name=f"db/{i}")
            for i in (1, 2, 3)
        }
        ports = {i: await e.listen(f"db/{i}", "127.0.0.1", 0) for i, e in endpoints.items()}
        members: dict[int, Member] = {}
        try:
            for member, endpoint in endpoints.items():
                for other, port in ports.items():
                    if other != member:
                        endpoint.add_peer(f"db/{other}", "127.0.0.1", port)
                members[member] = await Member.open(
                    path=tmp_path / str(member),
                    member_id=member,
                    members=[1, 2, 3],
                    store=Store(tmp_path / str(member) / "store", durable=False),
                    endpoint=endpoint,
                )

            def leading() -> Member | None:
                return next((m for m in members.values() if m.role is Role.LEADER), None)

            leader = await eventually_async(leading, what="a leader")
            commits = [leader.propose(put(f"k{n}", b"v"), timeout_ms=5000) for n in range(100)]
            await asyncio.gather(*commits)
            for member in members.values():
                await member.read_barrier(timeout_ms=PATIENCE_MS)
                assert len(member.store.list_keys("objects", b"k", 1000)) == 100
            gone = members.pop(leader.id)
            gone._engine.stop(NoLeader("killed"))  # no hand-over: it just falls silent
            await endpoints[leader.id].close()
            successor = await eventually_async(leading, what="another leader")
            await successor.propose(put("after", b"v"), timeout_ms=PATIENCE_MS)
            await gone.close()
            gone.store.close()
        finally:
            for member in members.values():
                await member.close()
                member.store.close()
            for endpoint in endpoints.values():
                await endpoint.close()

    run(test)


@pytest.mark.parametrize("jump_s", [-(10**8), -3600, 3600, 10**8])
def test_a_wall_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    async def test() -> None:
        async with cluster_of(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            await leader.propose(put("before", b"1"), timeout_ms=PATIENCE_MS)
            term = leader.status()["term"]
            real, real_ns = time.time, time.time_ns
            monkeypatch.setattr(time, "time", lambda: real() + jump_s)
            monkeypatch.setattr(time, "time_ns", lambda: real_ns() + jump_s * 10**9)
            for number in range(20):
                await leader.propose(put(f"{number}", b"2"), timeout_ms=PATIENCE_MS)
            for member in cluster.members.values():
                await member.read_barrier(timeout_ms=PATIENCE_MS)
                assert member.store.get("objects", b"before") == b"1"
                assert member.store.get("objects", b"19") == b"2"
                assert member.status()["term"] == term
            assert len({member.store.digest() for member in cluster.members.values()}) == 1

    run(test)

"""Members come, catch up, vote, move and go, while the cluster works; a lost disk never votes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop

from predastore.base.errors import NoLeader, PreconditionFailed, StartupError
from predastore.base.limits import MIB
from predastore.rpc import Endpoint, self_signed
from predastore.s3db import LEVEL, commands, identity, service
from predastore.s3db.client import Client
from predastore.s3db.commands import Put
from predastore.s3db.formation import HELLO, HelloReply, HelloRequest, Standing
from predastore.s3db.member import Address, Member
from predastore.s3db.raft.membership import MemberChange, changed
from predastore.s3db.raft.messages import CONFIGURATION, Configuration
from predastore.s3db.raft.state import Role, Timing
from predastore.s3db.store import Store
from support.waiting import eventually_async

KEY = b"k" * 32
CLUSTER = b"c" * 16
TIMING = Timing(heartbeat_s=0.03, election_s=0.2)


class Site:
    """A member behind an endpoint of its own, as a process would have it."""

    def __init__(self, folder: Path, member_id: int) -> None:
        self.id = member_id
        self.path = folder / str(member_id)
        self.endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name=f"h{member_id}")
        self.address = Address(member_id, "127.0.0.1", 6000 + member_id, 0)
        self.store: Store | None = None
        self.member: Member | None = None

    async def listen(self) -> None:
        port = await self.endpoint.listen(f"db/{self.id}", "127.0.0.1", self.address.raft_port)
        self.address = Address(self.id, "127.0.0.1", 6000 + self.id, port)

    async def open(self, file: list[Address], *, cluster_id: bytes = CLUSTER) -> Member:
        """`file`: the [[db]] of this process."""
        for other in file:
            if other.member != self.id:
                self.endpoint.add_peer(f"db/{other.member}", other.host, other.raft_port)
        store = Store(self.path / "store", durable=False, map_bytes_initial=16 * MIB)
        try:
            self.member = await Member.open(
                path=self.path / "raft",
                member_id=self.id,
                members=[other.member for other in file],
                store=store,
                endpoint=self.endpoint,
                timing=TIMING,
                addresses=file,
                cluster_id=cluster_id,
            )
        except BaseException:
            store.close()
            raise
        self.store = store
        self.endpoint.serve(f"db/{self.id}", service.service(self.member, self.endpoint))
        return self.member

    async def close(self) -> None:
        if self.member is not None:
            await self.member.close()
        await self.endpoint.close()
        if self.store is not None:
            self.store.close()
        self.member = self.store = None

    async def hello(self, other: int) -> Standing:
        reply, _ = await self.endpoint.call(
            f"db/{other}", HELLO, HelloRequest(), HelloReply, timeout_ms=2_000
        )
        return reply.standing


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sites: dict[int, Site] = {}

    async def site(self, member_id: int) -> Site:
        """A listening process whose member is not open yet; on the old address, if it had one."""
        old = self.sites.get(member_id)
        made = Site(self.folder, member_id)
        if old is not None:
            made.address = old.address
        await made.listen()
        self.sites[member_id] = made
        return made

    async def found(self, count: int) -> None:
        for member_id in range(1, count + 1):
            await self.site(member_id)
        file = self.file()
        for site in self.sites.values():
            await site.open(file)
        await self.leader()

    def file(self) -> list[Address]:
        return [site.address for site in self.sites.values()]

    async def stop(self, member_id: int) -> None:
        await self.sites[member_id].close()

    async def restart(self, member_id: int, file: list[Address]) -> Member:
        return await (await self.site(member_id)).open(file)

    def members(self) -> list[Member]:
        return [site.member for site in self.sites.values() if site.member is not None]

    async def leader(self) -> Member:
        def find() -> Member | None:
            led = [m for m in self.members() if m.role is Role.LEADER]
            return led[0] if len(led) == 1 else None

        found = await eventually_async(find, what="one leader")
        assert found is not None
        return found

    async def voters_are(self, *wanted: int) -> None:
        def agreed() -> bool:
            found = [m.status() for m in self.members() if m.id in wanted]
            return len(found) == len(wanted) and all(
                set(s["voters"]) == set(wanted) and not s["learners"] for s in found
            )

        await eventually_async(agreed, within_s=15, what=f"voters {wanted}")

    def client(self, member_id: int, members: list[int] | None = None) -> Client:
        site = self.sites[member_id]
        return Client(site.endpoint, members or sorted(self.sites), member_id)

    async def close(self) -> None:
        for site in self.sites.values():
            await site.close()


def run(tmp_path: Path, test: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = Cluster(tmp_path)
        try:
            await asyncio.wait_for(test(cluster), 60)
        finally:
            await cluster.close()

    uvloop.run(main())


async def put(client: Client, key: bytes, value: bytes = b"v") -> None:
    await client.commit(commands.batch(Put("t", key, value)))


def test_a_new_member_catches_up_votes_and_counts(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        client = cluster.client(1)
        for number in range(50):
            await put(client, b"%d" % number)
        fourth = await cluster.site(4)
        joined = await fourth.open(cluster.file())
        await cluster.voters_are(1, 2, 3, 4)
        await joined.read_barrier(timeout_ms=5_000)
        assert len(joined.store.list_keys("t", b"", 100)) == 50
        await cluster.stop((await cluster.leader()).id)
        rest = await cluster.leader()  # three of four are a majority, and need the new one
        await put(cluster.client(rest.id), b"after")
        await joined.read_barrier(timeout_ms=5_000)
        assert joined.store.get("t", b"after") == b"v"

    run(tmp_path, test)


def test_a_new_member_that_is_only_in_its_own_file_is_found_by_all(tmp_path: Path) -> None:
    """And it is told of those that its file does not have."""

    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        first = cluster.sites[1].address
        fourth = await cluster.site(4)
        joined = await fourth.open([first, fourth.address])
        await cluster.voters_are(1, 2, 3, 4)
        said = msgspec.structs.replace(fourth.address, level=LEVEL)
        assert said in joined._core.membership.current.addresses
        old = await cluster.leader()
        while old.id != 4:  # everybody must be able to follow it
            await cluster.client(1).step_down()
            old = await cluster.leader()
        await put(cluster.client(2, [1, 2, 3]), b"k")
        await cluster.stop(2)
        second = await cluster.restart(
            2, [site.address for site in list(cluster.sites.values())[:3]]
        )
        await second.read_barrier(timeout_ms=5_000)
        assert second.store.get("t", b"k") == b"v"

    run(tmp_path, test)


def test_members_come_and_go_under_writes_and_nothing_is_lost(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        client = cluster.client(1)
        written: list[bytes] = []
        stopping = asyncio.Event()

        async def write() -> None:
            while not stopping.is_set():
                key = os.urandom(8)
                await put(client, key)
                written.append(key)

        writers = [asyncio.create_task(write()) for _ in range(8)]
        file = cluster.file()
        for new in (4, 5):
            site = await cluster.site(new)
            await site.open([*file, site.address])
            await cluster.voters_are(*range(1, new + 1))
        await client.leave(3)
        await client.leave(3)  # once more changes nothing
        await cluster.stop(3)
        await cluster.voters_are(1, 2, 4, 5)
        await client.leave(5)
        await cluster.voters_are(1, 2, 4)
        stopping.set()
        await asyncio.gather(*writers)
        assert len(written) > 20
        for member in cluster.members():
            if member.id != 5:
                await member.read_barrier(timeout_ms=5_000)
                assert all(member.store.get("t", key) == b"v" for key in written)
        digests = {m.store.digest() for m in cluster.members() if m.id != 5}
        assert len(digests) == 1

    run(tmp_path, test)


def test_who_leaves_is_told_and_asks_for_no_votes(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        client = cluster.client(1)
        await put(client, b"k")
        leader = await cluster.leader()
        gone = next(member for member in cluster.members() if member is not leader)
        await gone.read_barrier(timeout_ms=5_000)
        await cluster.client(leader.id).leave(gone.id)
        others = [member for member in (1, 2, 3) if member != gone.id]
        await eventually_async(lambda: gone.status()["voters"] == others, what="it knows")
        await eventually_async(lambda: gone.leader is None, what="it hears of no leader")
        assert gone.role is Role.FOLLOWER
        await put(cluster.client(leader.id, others), b"after")

    run(tmp_path, test)


def test_a_client_learns_who_the_members_are_from_the_cluster(tmp_path: Path) -> None:
    """Its file has the first three. All of them but one leave."""

    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        first = cluster.file()
        gateway = Endpoint(cluster_key=KEY, certificate=self_signed(), name="gateway")
        try:
            for known in first:
                gateway.add_peer(f"db/{known.member}", known.host, known.raft_port)
            client = Client(gateway, [1, 2, 3], None)
            await put(client, b"k")
            for new in (4, 5):
                site = await cluster.site(new)
                await site.open([*first, site.address])
                await cluster.voters_are(*range(1, new + 1))
            assert await client.get("t", b"k") == b"v"
            for old in (1, 2):
                await client.leave(old)
                await cluster.stop(old)
                await put(client, b"%d" % old)
            await cluster.voters_are(3, 4, 5)
            await cluster.stop(3)
            await put(client, b"of 4 and 5")
            assert await client.get("t", b"2") == b"v"
        finally:
            await gateway.close()

    run(tmp_path, test)


def test_the_leader_leaves_by_handing_over(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        leader = await cluster.leader()
        left = await cluster.client(leader.id).leave(leader.id)
        assert leader.id not in left.members()
        others = {1, 2, 3} - {leader.id}
        await cluster.voters_are(*others)
        await put(cluster.client(min(others)), b"k")

    run(tmp_path, test)


def test_what_would_cost_the_majority_is_refused(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        leader = await cluster.leader()
        gone, healthy = sorted({1, 2, 3} - {leader.id})
        await cluster.stop(gone)
        lagging = leader._core.leadership
        assert lagging is not None
        await eventually_async(lambda: not lagging.can_do_without(healthy), what="silence noticed")
        client = cluster.client(leader.id)
        with pytest.raises(PreconditionFailed, match="majority"):
            await client.leave(healthy)
        await client.leave(gone)  # but the one that is gone may be given up
        assert set((await cluster.leader()).status()["voters"]) == {leader.id, healthy}

    run(tmp_path, test)


def test_a_member_that_lost_its_disk_does_not_vote_before_it_is_taken_in_again(
    tmp_path: Path,
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        leader = await cluster.leader()
        lost, behind = sorted({1, 2, 3} - {leader.id})
        await cluster.stop(behind)
        await put(cluster.client(leader.id), b"only on leader and lost")
        file = cluster.file()
        await cluster.stop(lost)
        await cluster.stop(leader.id)
        shutil.rmtree(tmp_path / str(lost))
        # The wiped one and the one that is behind are two of three, but know too little.
        await cluster.restart(behind, file)
        wiped = await cluster.restart(lost, file)
        assert await cluster.sites[behind].hello(lost) is Standing.NEW
        with pytest.raises(NoLeader):
            await wiped.read_barrier(timeout_ms=1_500)
        assert all(m.role is not Role.LEADER for m in cluster.members())
        await cluster.restart(leader.id, file)
        await cluster.voters_are(1, 2, 3)
        for member in cluster.members():
            await member.read_barrier(timeout_ms=5_000)
            assert member.store.get("t", b"only on leader and lost") == b"v"

    run(tmp_path, test)


def test_a_member_that_moved_is_found_at_its_new_address(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(1)
        second = await cluster.site(2)
        await second.open(cluster.file())
        await cluster.voters_are(1, 2)
        await cluster.stop(2)
        second.address = Address(2, "127.0.0.1", 6002, 0)  # a new port
        site = await cluster.site(2)
        moved = await site.open(cluster.file())
        await moved.read_barrier(timeout_ms=5_000)
        await cluster.client(2).join(2, cluster.sites[2].address, is_new=False)
        leader = await cluster.leader()
        assert cluster.sites[2].address in leader._core.membership.current.addresses

    run(tmp_path, test)


def test_two_of_three_found_a_cluster_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.s3db.formation.RAFT_FORM_GRACE_MS", 300)

    async def test(cluster: Cluster) -> None:
        for member_id in (1, 2, 3):
            await cluster.site(member_id)
        file = cluster.file()
        alone = await cluster.sites[1].open(file)
        with pytest.raises(NoLeader):
            await alone.read_barrier(timeout_ms=600)
        await cluster.sites[2].open(file)
        await put(cluster.client(1), b"k")
        late = await cluster.sites[3].open(file)
        await cluster.voters_are(1, 2, 3)
        await late.read_barrier(timeout_ms=5_000)
        assert late.store.get("t", b"k") == b"v"

    run(tmp_path, test)


def test_files_that_differ_found_no_cluster(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(cluster: Cluster) -> None:
        for member_id in (1, 2, 3):
            await cluster.site(member_id)
        one, two, three = cluster.file()
        await cluster.sites[1].open([one, two])
        await cluster.sites[2].open([one, two, three])

        def warned() -> bool:
            return "give both the same" in caplog.text

        await eventually_async(warned, what="a warning")
        assert await cluster.sites[3].open([three]) is not None  # alone it is a cluster of one
        assert all(m.leader is None for m in cluster.members() if m.id != 3)

    run(tmp_path, test)


def test_another_clusters_data_is_refused(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(1)
        await cluster.stop(1)
        site = await cluster.site(1)
        with pytest.raises(StartupError, match="data of cluster 6363"):
            await site.open([site.address], cluster_id=b"d" * 16)
        other = await cluster.site(2)
        shutil.copytree(tmp_path / "1", tmp_path / "2")
        with pytest.raises(StartupError, match="database member 1, not of member 2"):
            await other.open([other.address])
        (tmp_path / "1" / "raft" / identity.FILE_NAME).write_text("junk")
        with pytest.raises(StartupError, match="can not be read"):
            await site.open([site.address])

    run(tmp_path, test)


def test_a_cluster_of_another_name_is_not_joined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.found(1)
        second = await cluster.site(2)
        joining = await second.open(cluster.file(), cluster_id=b"d" * 16)
        await eventually_async(lambda: "of another cluster" in caplog.text, what="a warning")
        assert not joining.status()["formed"]

    run(tmp_path, test)


def test_changes_of_a_configuration_keep_addresses_right() -> None:
    here, there = Address(4, "a", 1, 2), Address(4, "b", 1, 2)
    one = Configuration((1, 2, 3), (), (Address(1, "x", 1, 2),))
    added = changed(one, MemberChange.ADD_LEARNER, 4, here)
    assert added == Configuration((1, 2, 3), (4,), (*one.addresses, here))
    moved = changed(added, MemberChange.MOVE, 4, there)
    assert moved == Configuration((1, 2, 3), (4,), (*one.addresses, there))
    promoted = changed(moved, MemberChange.PROMOTE, 4)
    assert promoted == Configuration((1, 2, 3, 4), (), (*one.addresses, there))
    assert changed(promoted, MemberChange.REMOVE, 4) == one
    assert changed(promoted, MemberChange.PROMOTE, 4) is None
    assert changed(one, MemberChange.MOVE, 4, here) is None
    for configuration in (one, added, Configuration((1,)), Configuration(())):
        assert CONFIGURATION.decode(configuration.pack()) == configuration


def test_a_journal_of_the_first_version_is_adopted(tmp_path: Path) -> None:
    assert identity.read(tmp_path) is None
    identity.establish(tmp_path, 3, CLUSTER)
    identity.establish(tmp_path, 3, CLUSTER)
    found = identity.read(tmp_path)
    assert found == identity.MemberIdentity(1, 3, CLUSTER.hex())

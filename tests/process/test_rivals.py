"""Two processes with one node: the second does not start, whoever it is, wherever it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from predastore.base.config import Config, Db, Node
from predastore.base.errors import InUse, PeerRefused
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring
from predastore.gossip import GossipStatus, Record
from predastore.gossip import core as gossip_core
from predastore.node.client import NodeClient
from predastore.node.messages import NodeStatus
from predastore.node.messages import StoreStatusRequest as AskStatus
from predastore.process import rivals
from predastore.process.discovery import Discovery, rows_of
from predastore.process.roles import Roles
from predastore.rpc import CallContext, Endpoint, Method, Reply, self_signed
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode, encode
from predastore.storage.node_owners import OwnerRecord, Owners
from predastore.storage.ring_table import RingStore, RingTable
from support.waiting import eventually_async

KEY = b"k" * 32
FORMATS = Path(__file__).parent.parent / "formats"
NOWHERE = Path("/none")


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(test, 60))


def node(number: int, host: str, port: int) -> Node:
    return Node(number, host, port, NOWHERE / str(number))


class FakeStore:
    """What Discovery asks a node of its process."""

    def __init__(self, number: int) -> None:
        self.node_id = number

    async def status(self) -> NodeStatus:
        return NodeStatus(self.node_id, 0, 1, 0, 0)


class Process:
    """A process with one node (or a member, `database`) at `host`, and a file that names `others`.

    `ended`: why it has to end."""

    def __init__(self, number: int, host: str, others: Sequence[Process], database: bool) -> None:
        self.number, self.host, self.port = number, host, 0
        self.others = others
        self.database = database
        name = f"db/{number}" if database else f"node/{number}"
        self.name = name
        self.endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name=name)
        self.ended: InUse | None = None
        self.serves = False

    async def listen(self, port: int = 0) -> None:
        self.port = await self.endpoint.listen(self.name, self.host, port)

    @property
    def row(self) -> Node:
        return node(self.number, self.host, self.port)

    @property
    def member(self) -> Db:
        return Db(self.number, self.host, 1, self.port, NOWHERE)

    @property
    def roles(self) -> Roles:
        return Roles(True, (), (self.member,)) if self.database else Roles(True, (self.row,), ())

    @property
    def settings(self) -> Config:
        everybody = [self, *self.others]
        nodes = tuple(one.row for one in everybody if not one.database)
        members = tuple(one.member for one in everybody if one.database)
        return Config(backend="distributed", nodes=nodes, db=members)

    def begin(self, state: LocalState) -> None:
        stores: list[Any] = [] if self.database else [FakeStore(self.number)]
        for one in self.others:
            self.endpoint.add_peer(one.name, one.host, one.port)
        self.discovery = Discovery(self.endpoint, self.settings, self.roles, stores)
        if self.database:
            self.discovery.start()
            return
        table = RingTable(0, tuple(rows_of(self.settings.nodes)))
        self.store = DistributedStore(
            NodeClient(self.endpoint), Ring(table.active()), Code(1, 0), 4096
        )
        self.discovery.start(
            RingStore(state, 1),
            self.store,
            owners=Owners(state),
            owned=self._serve,
            superseded=self._end,
        )

    def _serve(self) -> None:
        async def status(_: AskStatus, __: memoryview, ___: CallContext) -> Reply:
            return Reply(NodeStatus(self.number, 0, 1, 0, 0))

        self.serves = True
        self.endpoint.serve(self.name, {"node.status": Method(AskStatus, NodeStatus, status, 0)})

    def _end(self, error: InUse) -> None:
        self.ended = error

    async def is_in(self) -> None:
        await eventually_async(lambda: self.discovery.is_current, what=f"{self.name} in")

    def sees(self, other: str) -> Record | None:
        return self.discovery.agent.core.roster.get(other)

    async def close(self) -> None:
        await self.endpoint.close()  # first, so that nobody hears it say good-bye
        if hasattr(self, "discovery"):
            await self.discovery.close()
        if hasattr(self, "store"):
            await self.store.close()


class World:
    """Processes over one state; hosts are addresses of the loopback."""

    def __init__(self, path: Path) -> None:
        self.state = LocalState(path)
        self.processes: list[Process] = []

    def made(self, number: int, host: str, *others: Process, database: bool = False) -> Process:
        process = Process(number, host, others, database)
        self.processes.append(process)
        return process

    async def started(self, number: int, host: str, *others: Process, **more: bool) -> Process:
        process = self.made(number, host, *others, **more)
        await process.listen()
        process.begin(self.state)
        if not process.database:
            await process.is_in()
        return process

    async def check(self, process: Process) -> None:
        await rivals.check(process.settings, process.roles, KEY)


@contextlib.asynccontextmanager
async def world(path: Path) -> AsyncIterator[World]:
    made = World(path)
    try:
        yield made
    finally:
        for process in made.processes:
            await process.close()
        await made.state.close()


@pytest.mark.parametrize("database", [False, True])
def test_what_runs_under_another_address_is_refused(tmp_path: Path, database: bool) -> None:
    """The second has heard of the first from a third alone."""

    async def test() -> None:
        async with world(tmp_path) as at:
            first = await at.started(1, "127.0.0.1", database=database)
            other = await at.started(2, "127.0.0.1", first)
            await eventually_async(lambda: other.sees(first.name), what="the first seen")
            second = at.made(1, "127.0.0.2", other, database=database)
            second.port = 9
            what = "database member 1" if database else "node 1"
            told = f"{what} runs in another process, at 127.0.0.1:{first.port} .it answers there"
            with pytest.raises(InUse, match=told):
                await at.check(second)
            await at.check(at.made(3, "127.0.0.2", other)), "one of its own id"

    run(test())


def test_a_process_that_is_started_again_where_it_was_does_not_wait_for_others_to_miss_it(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with world(tmp_path) as at:
            first = await at.started(1, "127.0.0.1")
            other = await at.started(2, "127.0.0.1", first)
            await eventually_async(lambda: other.sees("node/1"), what="the first seen")
            await first.close()
            again = at.made(1, "127.0.0.1", other)
            again.port = first.port
            await at.check(again)
            seen = other.sees("node/1")
            assert seen is not None
            assert seen.is_here
            await again.listen(first.port)
            again.begin(at.state)
            await again.is_in()
            assert again.serves
            assert again.ended is None
            await eventually_async(
                lambda: (one := other.sees("node/1")) and one.facts.life == again.discovery.life,
                what="the new one seen",
            )

    run(test())


def test_a_node_that_moves_to_another_host_waits_until_its_old_one_is_found_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host may be cut off from the new one alone."""
    monkeypatch.setattr(gossip_core, "GOSSIP_SUSPICION_MS", 500)
    monkeypatch.setattr(gossip_core, "GOSSIP_PROBE_MS", 200)
    monkeypatch.setattr(rivals, "RIVAL_PAUSE_MS", 50)

    async def test() -> None:
        async with world(tmp_path) as at:
            first = await at.started(1, "127.0.0.1")
            other = await at.started(2, "127.0.0.1", first)
            await eventually_async(lambda: other.sees("node/1"), what="the first seen")
            await first.close()
            moved = at.made(1, "127.0.0.2", other)
            moved.port = 9
            await at.check(moved)
            seen = other.sees("node/1")
            assert seen is not None
            assert seen.status is GossipStatus.DEAD
            await moved.listen()
            moved.begin(at.state)
            await moved.is_in()
            (owner,) = await Owners(at.state).read([1])
            assert owner is not None
            assert (owner.record.host, owner.record.port) == ("127.0.0.2", moved.port)

    run(test())


def test_of_two_that_start_at_the_same_moment_one_serves_the_node_and_the_other_ends(
    tmp_path: Path,
) -> None:
    """Whoever is second tells nobody that it is there."""

    async def test() -> None:
        async with world(tmp_path) as at:
            other = await at.started(2, "127.0.0.1")
            twins = [at.made(1, f"127.0.0.{n}", other) for n in (3, 4)]
            for twin in twins:
                await twin.listen()
                await at.check(twin)
            for twin in twins:
                twin.begin(at.state)
            await eventually_async(
                lambda: [one.ended is not None for one in twins].count(True) == 1, what="an end"
            )
            (second,) = [one for one in twins if one.ended]
            (first,) = [one for one in twins if not one.ended]
            await first.is_in()
            assert (first.serves, second.serves) == (True, False)
            assert f"at {first.host}:{first.port} (it answers there, and was first)" in str(
                second.ended
            )
            await eventually_async(lambda: other.sees("node/1"), what="the first seen")
            seen = other.sees("node/1")
            assert seen is not None
            assert seen.facts.host == first.host
            with pytest.raises(PeerRefused, match=r"node\.status"):
                await NodeClient(second.endpoint).status(1, timeout_ms=5000)

    run(test())


def test_who_was_stopped_and_finds_another_in_its_place_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with world(tmp_path) as at:
            other = await at.started(2, "127.0.0.1")
            stopped = await at.started(1, "127.0.0.3", other)
            (owner,) = await Owners(at.state).read([1])
            taker = at.made(1, "127.0.0.4", other)
            await taker.listen()
            # As if the one that is stopped had not answered, and nobody of life 99 does.
            new = OwnerRecord(99, taker.host, taker.port, now_ms())
            assert await Owners(at.state).take(1, new, owner)
            taker.begin(at.state)
            await taker.is_in()
            assert taker.serves
            await eventually_async(lambda: stopped.ended, what="the end of the one before")
            assert stopped.serves

    run(test())


def test_the_record_of_an_owner_is_read_and_written_as_ever() -> None:
    owner = OwnerRecord(0x7122334455667788, "10.0.0.1", 9991, 1_700_000_000_000)
    stored = bytes.fromhex((FORMATS / "node_owner_v2.hex").read_text())
    assert decode(OwnerRecord, stored) == owner
    assert encode(owner) == stored

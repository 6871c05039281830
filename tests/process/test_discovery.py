"""The table of nodes, as a process follows it and changes it by its file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from predastore.base.config import Config, Db, Node
from predastore.base.config.model import ACTIVE, DRAINING, Cluster
from predastore.base.errors import NoLeader
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring
from predastore.gossip.messages import Changed, DbFacts, Heeded, NodeFacts, Welcomed
from predastore.node.client import NodeClient
from predastore.process.discovery import CHANGED, Discovery, rows_of
from predastore.process.joining import completed
from predastore.process.roles import Roles
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore
from predastore.storage.ring_table import (
    LEAVING,
    Change,
    NodeRow,
    RingStore,
    RingTable,
    announcement,
    setting,
)
from support.waiting import eventually_async

NODES = tuple(Node(n, f"127.0.0.{n}", 9, Path(f"/none/{n}")) for n in range(1, 8))
RS_3_2 = Code(3, 2)
FILE = Config(backend="distributed", nodes=NODES)


class Unsteady(RingStore):
    """While `down`, no leader is known; a change that fails may have been made all the same."""

    down = False
    made = False

    async def change(self, change: Change, founding: Sequence[NodeRow] = ()) -> RingTable:
        if not self.down:
            return await super().change(change, founding)
        if self.made:
            await super().change(change, founding)
        raise NoLeader("no leader is known")


class Process:
    """One without nodes and members, which follows the table."""

    def __init__(self, state: LocalState, code: Code, given_up: Collection[int] = ()) -> None:
        self.ring = Unsteady(state, 5)
        self.endpoint = Endpoint(cluster_key=b"k" * 32, certificate=self_signed(), name="one")
        self.discovery = Discovery(self.endpoint, FILE, Roles(True, (), ()), [])
        ring = Ring(RingTable(0, tuple(rows_of(NODES))).active())
        self.store = DistributedStore(NodeClient(self.endpoint), ring, code, 4096)
        self.used: list[RingTable | None] = []
        self.discovery.start(
            self.ring,
            self.store,
            lambda: self.used.append(self.discovery.table),
            lambda: given_up,
        )

    async def row(self, node: int) -> NodeRow | None:
        table = await self.ring.read()
        assert table is not None
        return next((row for row in table.nodes if row.id == node), None)

    def reload(self, nodes: Sequence[Node]) -> None:
        self.discovery.prepare(replace(FILE, nodes=tuple(nodes)))()

    async def is_current(self) -> None:
        await eventually_async(lambda: self.discovery.is_current, what="a table that is read")

    async def close(self) -> None:
        await self.discovery.close()
        await self.store.close()
        await self.endpoint.close()


@asynccontextmanager
async def state_at(path: Path) -> AsyncIterator[LocalState]:
    state = LocalState(path)
    try:
        yield state
    finally:
        await state.close()


@asynccontextmanager
async def process(
    path: Path, code: Code = RS_3_2, given_up: Collection[int] = ()
) -> AsyncIterator[Process]:
    async with state_at(path) as state:
        one = Process(state, code, given_up)
        try:
            yield one
        finally:
            await one.close()


def run(test: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_table_with_too_few_nodes_is_waited_for_and_said(tmp_path: Path) -> None:
    """The first host that is started anew, where a cluster grows and gets a wider code."""

    async def main() -> None:
        async with state_at(tmp_path) as state:
            founded = rows_of(NODES[:5])
            await RingStore(state, 5).change(announcement([]), founding=founded)
        async with process(tmp_path, Code(6, 1)) as one:
            told = "5 nodes of the cluster are active, and each object has 7 shards"
            await eventually_async(lambda: told in one.discovery.problem, what="why it waits")
            assert not one.discovery.is_current
            await one.ring.change(announcement(rows_of(NODES)))
            await one.is_current()
            assert one.discovery.problem == ""

    run(main)


def test_what_goes_wrong_once_does_not_end_following(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with process(tmp_path) as one:
            with monkeypatch.context() as patch:

                async def broken() -> None:
                    raise ZeroDivisionError

                patch.setattr(one.ring, "read", broken)
                one.discovery._wake.set()
                await asyncio.sleep(0)
            await one.is_current()

    run(main)


def test_a_file_that_takes_its_change_back_is_what_counts(tmp_path: Path) -> None:
    """Also where the first change was made although nobody heard of that."""

    async def main() -> None:
        for made in (False, True):
            async with process(tmp_path / str(made)) as one:
                await one.is_current()
                one.ring.down, one.ring.made = True, made
                one.reload(NODES[:6])
                await eventually_async(lambda: len(one.discovery._file._said) == 2)
                one.reload(NODES)
                one.ring.down = False
                await eventually_async(
                    lambda: len(one.discovery._file._said) == 1, what="the file taken in"
                )
                seventh = await one.row(7)
                assert seventh is not None
                assert seventh.state == ACTIVE
                one.reload(NODES[:3])  # refused: too few would be left
                one.reload(NODES[:6])
                await eventually_async(
                    lambda: one.discovery.table.going() == [7], what="node 7 leaving, and no other"
                )

    run(main)


def test_who_is_told_of_a_change_uses_it_when_that_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with process(tmp_path) as one:
            await one.is_current()
            table = await one.ring.change(setting(3, DRAINING))
            handler = one.discovery._service()[CHANGED].handler
            reply = await handler(Changed(table.version), memoryview(b""), None)
            assert reply.header == Heeded(table.version)
            assert 3 not in one.store.cluster.active

    run(main)


def test_a_table_that_was_restored_counts_though_its_version_is_lower(tmp_path: Path) -> None:
    async def main() -> None:
        async with process(tmp_path) as one:
            await one.is_current()
            restored = await one.ring.read()
            for state in (DRAINING, ACTIVE, DRAINING):
                await one.ring.change(setting(2, state))
            await one.discovery._refresh()
            assert 2 not in one.store.cluster.active
            assert restored is not None
            await one.discovery._use(restored)
            assert 2 in one.store.cluster.active

    run(main)


def test_a_node_that_is_down_for_good_leaves_once_healing_has_given_it_up(tmp_path: Path) -> None:
    async def main() -> None:
        gone: set[int] = set()
        async with process(tmp_path, given_up=gone) as one:
            await one.is_current()
            await one.ring.change(setting(7, LEAVING))
            await one.discovery._refresh()
            assert await one.row(7), "it does not answer, and may hold what is needed"
            gone.add(7)
            await one.discovery._refresh()
            assert await one.row(7) is None

    run(main)


def test_of_the_nodes_that_a_file_had_it_alone_speaks() -> None:
    """A process that joins fills in what its file does not say; not a row that was taken out."""
    rows = tuple(NodeFacts(n, f"127.0.0.{n}", 9) for n in range(1, 8))
    told = Welcomed(3, 2, 1 << 20, (DbFacts(1, "127.0.0.1", 6660, 7660),), rows)
    file = replace(FILE, nodes=NODES[5:], cluster=Cluster(join=(("127.0.0.1", 9),)))
    own = frozenset((6, 7))
    assert {row.id for row in completed(told, own, file).nodes} == set(range(1, 8))
    later = completed(told, own, replace(file, nodes=NODES[5:6]))
    assert {row.id for row in later.nodes} == set(range(1, 7))
    assert later.db == (Db(1, "127.0.0.1", 6660, 7660, later.db[0].path),)

"""The table of nodes: who may change what, changes at the same time, and its bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.base.config.model import ACTIVE
from predastore.base.errors import TooFewNodes
from predastore.s3db.global_state import LocalState
from predastore.storage.formats import decode, encode
from predastore.storage.ring_table import (
    LEAVING,
    REMOVED,
    NodeRow,
    RingStore,
    RingTable,
    announcement,
    departure,
    difference,
    setting,
)

FORMATS = Path(__file__).parent.parent / "formats"
FILE = [NodeRow(n, f"10.0.0.{n}", 9991) for n in range(1, 8)]


def ids(table: RingTable) -> list[int]:
    return [node.id for node in table.active()]


def run(path: Path, test) -> None:
    async def with_state() -> None:
        state = LocalState(path)
        try:
            await test(RingStore(state, 5))
        finally:
            await state.close()

    asyncio.run(with_state())


def test_the_first_founds_it_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        assert await ring.read() is None
        table = await ring.change(announcement(FILE[:1]), founding=FILE)
        assert table == RingTable(1, tuple(FILE))
        assert await ring.change(announcement(FILE[2:3]), founding=FILE) == table
        assert await ring.read() == table

    run(tmp_path, test)


def test_an_announcement_adds_and_moves_but_leaves_weight_and_state(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        await ring.change(announcement([]), founding=FILE)
        await ring.change(setting(3, "draining"))
        moved = NodeRow(3, "10.9.9.9", 1234, weight=7.0)
        new = NodeRow(9, "10.0.0.9", 9991, weight=2.0)
        table = await ring.change(announcement([moved, new]))
        assert table.version == 3
        assert table.nodes[2] == NodeRow(3, "10.9.9.9", 1234, 1.0, "draining")
        assert table.nodes[-1] == new
        assert table.going() == [3]

    run(tmp_path, test)


def test_a_reload_applies_what_its_file_says_differently_alone(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        await ring.change(announcement([]), founding=FILE)
        await ring.change(setting(2, "draining"))  # another host was told so
        heavier = NodeRow(4, "10.0.0.4", 9991, weight=3.0)
        after = [*FILE[:3], heavier, *FILE[4:6], NodeRow(8, "10.0.0.8", 9991)]
        for _ in range(2):  # from two hosts, one after the other
            table = await ring.change(difference(FILE, after))
            assert table.version == 3
            assert [row.id for row in table.nodes] == [1, 2, 3, 4, 5, 6, 7]
            assert table.nodes[3] == heavier
            assert table.nodes[6].state == LEAVING
            assert sorted(table.going()) == [2, 7]
        assert await ring.change(departure(2)) == table, "it is draining: it stays"
        table = await ring.change(departure(7))
        assert [row.id for row in table.nodes] == [1, 2, 3, 4, 5, 6]
        assert [(row.id, row.state) for row in table.removed] == [(7, REMOVED)]

    run(tmp_path, test)


def test_a_node_that_was_removed_stays_so_until_it_is_activated(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        await ring.change(announcement([]), founding=FILE)
        await ring.change(setting(7, LEAVING))
        await ring.change(departure(7))
        again = NodeRow(7, "10.7.7.7", 7777)
        for change in (
            announcement([again]),  # its old process, at another address
            difference(FILE[:6], [*FILE[:6], again]),  # a file that has its row again
            difference(FILE, [*FILE[:6], again]),
            difference(FILE, FILE[:6]),
            setting(7, LEAVING),
            setting(7, "draining"),
            departure(7),
        ):
            table = await ring.change(change)
            assert ids(table) == [1, 2, 3, 4, 5, 6]
            assert table.going() == []
            assert table.removed == (NodeRow(7, "10.7.7.7", 7777, 1.0, REMOVED),)
        table = await ring.change(setting(7, ACTIVE))
        assert table.nodes[-1] == again
        assert table.removed == ()

    run(tmp_path, test)


def test_a_reload_changes_what_it_says_and_leaves_what_an_operator_said(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        await ring.change(announcement([]), founding=FILE)
        await ring.change(setting(3, "draining"))
        moved = NodeRow(3, "10.0.0.3", 1234, weight=2.0)
        table = await ring.change(difference(FILE, [*FILE[:2], moved, *FILE[3:]]))
        assert table.nodes[2] == NodeRow(3, "10.0.0.3", 1234, 2.0, "draining")

    run(tmp_path, test)


def test_no_change_leaves_fewer_nodes_than_shards(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        table = await ring.change(announcement([]), founding=FILE)
        with pytest.raises(TooFewNodes, match="4 active nodes"):
            await ring.change(difference(FILE, FILE[:4]))
        assert await ring.read() == table

    run(tmp_path, test)


def test_changes_at_the_same_time_are_all_made(tmp_path: Path) -> None:
    async def test(ring: RingStore) -> None:
        new = [NodeRow(n, f"10.0.1.{n}", 9991) for n in range(20, 28)]
        await asyncio.gather(*(ring.change(announcement([row]), founding=FILE) for row in new))
        table = await ring.read()
        assert table is not None
        assert ids(table) == [*range(1, 8), *range(20, 28)]
        assert table.version == len(new)

    run(tmp_path, test)


def test_version_2_is_read_and_written_as_ever() -> None:
    nodes = (NodeRow(1, "10.0.0.1", 9991), NodeRow(300, "caf\u00e9", 1, 0.5, LEAVING))
    table = RingTable(7, nodes, (NodeRow(2, "10.0.0.2", 9991, 2.0, REMOVED),))
    stored = bytes.fromhex((FORMATS / "ring_table_v2.hex").read_text())
    assert decode(RingTable, stored) == table
    assert encode(table) == stored
    before = b"\x02\x93" + encode(RingTable(7, nodes))[2:-1]  # of a program without it
    assert decode(RingTable, before) == RingTable(7, nodes)

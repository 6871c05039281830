"""The rows that name shards: a walk meets each of them once, and changes lose nothing of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from predastore.catalog import keys
from predastore.catalog.keys import ARN, OBJECTS, PARTS
from predastore.catalog.rows import PartRow, PlacementRow
from predastore.jobs.healing import holders
from predastore.jobs.healing.holders import find, walk, walk_deleted
from predastore.s3db.commands import Put, batch
from predastore.s3db.global_state import LocalState
from predastore.storage.extents import ShardExtent, new_id
from predastore.storage.formats import encode, pack
from support.backends import run


def extent(number: int) -> ShardExtent:
    return ShardExtent(bytes(32), number.to_bytes(16, "big"), 2, 1, 65536, 10, (1, 2, 3))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[LocalState]:
    state = LocalState(path)
    try:
        yield state
    finally:
        await state.close()


async def write_ids(state: LocalState, table: str) -> list[int]:
    return [
        int.from_bytes(each.write_id, "big")
        async for found, _ in walk(state, table)
        for holder in found
        for each in holder.extents
        if isinstance(each, ShardExtent)
    ]


@pytest.mark.parametrize("first", [b"\0", b"d", b"\xff"])
def test_a_walk_meets_each_page_once_whatever_lies_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    """More rows than a page has, of objects and of what was let go of, whose names begin so."""
    monkeypatch.setattr(holders, "HEALING_PAGE_RECORDS", 4)

    async def main() -> None:
        async with opened(tmp_path) as state:
            puts, number = [], 0
            for index in range(20):
                for begin in (b"\0", b"\xff"):
                    layout = begin + bytes(30) + bytes([index])
                    for page in range(2):
                        row = PlacementRow("b", "k", (extent(number),))
                        puts.append(Put(OBJECTS, keys.page(layout, page), encode(row)))
                        number += 1
                deleted = encode(PlacementRow("b", "k", (extent(1000 + index),)))
                puts.append(Put(OBJECTS, keys.deleted(first * 31 + bytes([index])), deleted))
                puts.append(Put(OBJECTS, ARN + b"b/" + first * index, b"of a listing"))
            await state.commit(batch(*puts))
            async with asyncio.timeout(20):
                assert sorted(await write_ids(state, OBJECTS)) == [*range(80)]
                gone = [each.write_id async for page in walk_deleted(state) for each in page]
            assert sorted(gone) == [extent(1000 + index).write_id for index in range(20)]

    run(main())


def test_all_pages_of_a_layout_are_found_and_a_part_that_is_not_of_it_yet(tmp_path: Path) -> None:
    async def main() -> None:
        layout, upload_id = new_id() + new_id(), new_id().hex()
        part = keys.part(b"\x80" + bytes(15), upload_id, 1)
        starts = ((0, 1), (10, 2), (20, 3))
        async with opened(tmp_path) as state:
            row = PartRow(1, extent(7), 10, "0" * 32, 0)
            await state.set(PARTS, part, encode(row))
            assert [found.extents for found in await find(state, layout, part)] == [(extent(7),)]
            assert await find(state, layout, b"") == []
            for number in range(3):
                page = PlacementRow("b", "k", (extent(number),), pages=() if number else starts)
                await state.set(OBJECTS, keys.page(layout, number), encode(page))
            found = await find(state, layout, b"")
            assert [one.extents for one in found] == [(extent(n),) for n in range(3)]
            assert [one.layout for one in found] == [layout] * 3
            assert await write_ids(state, PARTS) == [7]

    run(main())


def test_what_a_newer_program_wrote_stays_when_a_shard_moves(tmp_path: Path) -> None:
    async def main() -> None:
        layout = new_id() + new_id()
        page = PlacementRow("b", "k", (extent(1), extent(2)))
        stored = b"\2" + pack([*msgspec.structs.astuple(page), "more"])
        async with opened(tmp_path) as state:
            await state.set(OBJECTS, layout, stored)
            (holder,) = await find(state, layout, b"")
            moved = msgspec.structs.replace(extent(2), nodes=(1, 2, 9))
            new = holder.naming({1: moved})
            checks, ops = holder.replaced_by(new)
            await state.commit(batch(*ops, checks=tuple(checks)))
            (holder,) = await find(state, layout, b"")
            assert holder.extents == (extent(1), moved)
            assert msgspec.msgpack.decode(holder.stored[1:])[-1] == "more"

    run(main())

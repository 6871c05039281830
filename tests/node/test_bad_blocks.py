"""Blocks that are bad: they are remembered, listed, and replaced in place by what they were."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from node_support import (
    block_of,
    damage_block,
    opened,
    put,
    read_back,
    ref_of,
    run,
    segments,
    write,
)

from predastore._fast.crc import crc32c
from predastore.base.errors import NodeError, ShardCorrupt, ShardNotFound
from predastore.node.badblocks import BadBlocks
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore

BLOCKS = [block_of(("bad", i), 2000 + i) for i in range(5)]


def listed(store: ShardStore) -> dict[ShardRef, list[int]]:
    found = store.bad(b"", 100)
    assert not found.more
    return {row.ref: row.stripes for row in found.rows}


async def found_bad(store: ShardStore, ref: ShardRef, stripe: int) -> None:
    with pytest.raises(ShardCorrupt):
        await store.read(ref, stripe, 0, 1)


def test_a_bad_block_is_remembered_over_a_restart_and_replaced_by_an_append(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), BLOCKS)
            written_ms = (await store.shards(b"", 10)).rows[0].written_ms
            for stripe in (1, 3):
                await damage_block(store, tmp_path, ref_of(1), stripe)
                await found_bad(store, ref_of(1), stripe)
            assert listed(store) == {ref_of(1): [1, 3]}
        async with opened(tmp_path) as store:
            assert listed(store) == {ref_of(1): [1, 3]}
            assert (await store.status()).bad_shards == 1
            before = await store.locate(ref_of(1))
            assert [place.bad for place in before.blocks] == [False, True, False, True, False]
            # Only one of the bad ones, and a good one, which stays where it is.
            for stripe in (2, 3):
                await store.append(ref_of(1), stripe, BLOCKS[stripe], crc32c(BLOCKS[stripe]))
            assert listed(store) == {ref_of(1): [1, 3]}, "nothing is replaced before the commit"
            await store.commit(ref_of(1), 5, sum(map(len, BLOCKS)))
            assert listed(store) == {ref_of(1): [1]}
            after = await store.locate(ref_of(1))
            moved = [old != new for old, new in zip(before.blocks, after.blocks, strict=True)]
            assert moved == [False, False, False, True, False]
            await found_bad(store, ref_of(1), 1)
            await write(store, ref_of(1), BLOCKS)
            assert listed(store) == {}
            assert await read_back(store, ref_of(1), BLOCKS)
        shutil.rmtree(tmp_path / "index")
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), BLOCKS)
            row = (await store.shards(b"", 10)).rows[0]
            assert row.written_ms == written_ms, "a shard that was mended is as old as it was"

    run(main())


def test_a_bad_shard_of_one_block_is_replaced_by_a_put(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), BLOCKS[0])
            await damage_block(store, tmp_path, ref_of(1), 0)
            await put(store, ref_of(1), BLOCKS[0])
            await found_bad(store, ref_of(1), 0)
            await put(store, ref_of(1), BLOCKS[0])
            assert listed(store) == {}
            assert await read_back(store, ref_of(1), BLOCKS[:1])

    run(main())


def test_other_contents_never_replace_a_bad_block(tmp_path: Path) -> None:
    other = block_of("other", 2000)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), BLOCKS[0])
            await write(store, ref_of(2), BLOCKS)
            for ref in (ref_of(1), ref_of(2)):
                await damage_block(store, tmp_path, ref, 0)
                await found_bad(store, ref, 0)
            with pytest.raises(NodeError, match="other contents"):
                await put(store, ref_of(1), other)
            await store.append(ref_of(2), 0, other, crc32c(other))
            with pytest.raises(NodeError, match="other contents"):
                await store.commit(ref_of(2), 5, sum(map(len, BLOCKS)))
            assert listed(store) == {ref_of(1): [0], ref_of(2): [0]}
            assert await store.read(ref_of(2), 1, 0, 2001) == BLOCKS[1]

    run(main())


def test_good_blocks_are_readable_while_bad_ones_are_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), BLOCKS)
            await damage_block(store, tmp_path, ref_of(1), 0)
            await found_bad(store, ref_of(1), 0)
            mending = asyncio.ensure_future(write(store, ref_of(1), BLOCKS))
            reads = 0
            while not mending.done():
                for stripe in range(1, 5):
                    length = len(BLOCKS[stripe])
                    assert await store.read(ref_of(1), stripe, 0, length) == BLOCKS[stripe]
                    reads += 1
                await asyncio.sleep(0)
            await mending
            assert reads > 0
            assert listed(store) == {}

    run(main())


def test_a_deleted_shard_is_not_bad_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), BLOCKS[0])
            await damage_block(store, tmp_path, ref_of(1), 0)
            await found_bad(store, ref_of(1), 0)
            await store.delete([ref_of(1)])
            assert listed(store) == {}
        async with opened(tmp_path) as store:
            assert listed(store) == {}

    run(main())


def test_what_recovery_finds_bad_is_listed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), BLOCKS)
            await put(store, ref_of(2), b"says that all before was synced")
            await damage_block(store, tmp_path, ref_of(1), 2)
        shutil.rmtree(tmp_path / "index")
        async with opened(tmp_path) as store:
            assert listed(store) == {ref_of(1): [2]}
            await write(store, ref_of(1), BLOCKS)
            assert await read_back(store, ref_of(1), BLOCKS)

    run(main())


def test_blocks_of_a_lost_segment_are_bad_and_can_be_replaced(tmp_path: Path) -> None:
    large = [block_of(("large", i), 60_000) for i in range(12)]

    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), large)
            await put(store, ref_of(2), b"here to stay")
        assert len(segments(tmp_path)) == 3
        segments(tmp_path)[1].unlink()
        for _ in range(2):
            async with opened(tmp_path) as store:
                bad = listed(store)[ref_of(1)]
                assert bad == [4, 5, 6, 7]
                assert not store.recovery.rebuilt, "what is lost is known"
        async with opened(tmp_path) as store:
            for stripe in bad:
                await store.append(ref_of(1), stripe, large[stripe], crc32c(large[stripe]))
            await store.commit(ref_of(1), 12, 12 * 60_000)
            assert listed(store) == {}
            assert await read_back(store, ref_of(1), large)
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), large)

    run(main())


def test_a_mending_commit_that_was_torn_leaves_the_shard_as_it_was(tmp_path: Path) -> None:
    """The blocks that replace bad ones are torn, and so is nothing else."""
    path = tmp_path / "node"

    async def main() -> None:
        async with opened(path) as store:
            await write(store, ref_of(1), BLOCKS)
            await damage_block(store, path, ref_of(1), 0)
            await found_bad(store, ref_of(1), 0)
        shutil.copytree(path / "index", tmp_path / "older")
        async with opened(path) as store:
            await store.append(ref_of(1), 0, BLOCKS[0], crc32c(BLOCKS[0]))
            await store.commit(ref_of(1), 5, sum(map(len, BLOCKS)))
            await damage_block(store, path, ref_of(1), 0)
            end = (await store.locate(ref_of(1))).blocks[0].offset + 2000 + 80 + 16 + 20 * 5 + 4
        (segment,) = segments(path)
        os.truncate(segment, end + -end % 8)
        shutil.rmtree(path / "index")
        shutil.copytree(tmp_path / "older", path / "index")
        for rebuilt in (False, True):
            async with opened(path) as store:
                assert store.recovery.dropped_shards == (0 if rebuilt else 1)
                for stripe in range(1, 5):
                    length = len(BLOCKS[stripe])
                    assert await store.read(ref_of(1), stripe, 0, length) == BLOCKS[stripe]
                await found_bad(store, ref_of(1), 0)
            shutil.rmtree(path / "index")

    run(main())


def test_shards_are_listed_in_pages_in_the_order_of_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.index.NODE_INDEX_LAYER_SHARDS_MAX", 30)

    async def main() -> None:
        async with opened(tmp_path) as store:
            for start in range(0, 100, 20):
                refs = [ref_of(number) for number in range(start, start + 20)]
                await asyncio.gather(*(put(store, ref, b"x" * 10) for ref in refs))
            gone = {ref_of(number) for number in range(0, 100, 7)}
            await store.delete(list(gone))
            await write(store, ref_of(500), BLOCKS)
            expected = sorted(
                [ref_of(n) for n in [*range(100), 500] if ref_of(n) not in gone], key=ShardRef.key
            )
            for limit in (1, 7, 1000):
                found, after, more = [], b"", True
                while more:
                    page = await store.shards(after, limit)
                    assert len(page.rows) <= limit
                    found += page.rows
                    after, more = page.rows[-1].ref.key(), page.more
                assert [row.ref for row in found] == expected
            large = next(row for row in found if row.ref == ref_of(500))
            assert (large.block_count, large.byte_count) == (5, sum(map(len, BLOCKS)))
            assert not any(row.bad for row in found)
            assert (await store.shards(found[-1].ref.key(), 10)).rows == []

    run(main())


def test_a_page_misses_no_new_shard_behind_many_that_were_just_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            refs = sorted((ref_of(number) for number in range(20)), key=ShardRef.key)
            for ref in (*refs[:10], refs[15]):
                await put(store, ref, b"x")
        async with opened(tmp_path) as store:  # these are in lmdb now, what follows is not
            await store.delete(refs[:10])
            await put(store, refs[12], b"x")
            page = await store.shards(b"", 2)
            assert [row.ref for row in page.rows] == [refs[12], refs[15]]

    run(main())


def test_the_id_of_a_store_is_drawn_with_its_directory(tmp_path: Path) -> None:
    async def main() -> None:
        ids = []
        for path in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
            async with opened(path) as store:
                ids.append((await store.status()).store_id)
        assert ids[0] == ids[1] != ids[2]

    run(main())


def test_a_block_is_where_locate_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), BLOCKS)
            for first in (0, 3):
                found = await store.locate(ref_of(1), first)
                assert len(found.blocks) == 5 - first
                for place, block in zip(found.blocks, BLOCKS[first:], strict=True):
                    file = tmp_path / "segments" / f"{place.segment:08d}.seg"
                    content = file.read_bytes()
                    assert content[place.offset : place.offset + place.length] == block
            with pytest.raises(ShardNotFound):
                await store.locate(ref_of(2))

    run(main())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.node.badblocks.NODE_BAD_BLOCKS_MAX", 5)
    monkeypatch.setattr("predastore.node.badblocks.NODE_BAD_BLOCKS_SPARE", 0)
    bad = BadBlocks()
    assert bad.mark(b"a", [1, 2, 3]) == 3
    assert bad.mark(b"a", [1, 2]) == 0
    assert bad.mark(b"b", [1, 2, 3]) == 0, "no room"
    assert bad.mark(b"b", [1, 2]) == 2
    assert bad.full
    bad.clear(b"a", [3, 9])
    assert not bad.full
    assert bad.page(b"", 1) == [(b"a", [1, 2])]
    assert bad.page(b"a", 9) == [(b"b", [1, 2])]
    changes = bad.take_changes()
    assert not bad.changed
    again = BadBlocks()
    for key, value in changes.items():
        assert value is not None
        again.load(key, value)
    assert (again.page(b"", 9), again.block_count) == (bad.page(b"", 9), 4)
    bad.clear(b"b")
    assert bad.take_changes() == {b"b": None}

"""Compaction: space comes back, and nothing that is there is lost, moved wrongly, or comes back."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest
from node_support import (
    Shards,
    block_of,
    damage,
    damage_block,
    fill,
    opened,
    put,
    read_back,
    records_of,
    ref_of,
    run,
    segments,
    some_shards,
    write,
)

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import ShardCorrupt, StoreFailed
from predastore.base.limits import KIB, MIB
from predastore.node import moving
from predastore.node.compaction import Candidate, _unneeded, choose
from predastore.node.listing import segment_sizes
from predastore.node.log import SegmentState
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from support.waiting import eventually_async


async def compacted(store: ShardStore, path: Path) -> int:
    """Compacts until nothing is due, and waits for the segments to be gone; how many there were."""
    rounds = 0
    while await store.compact():
        rounds += 1
        assert rounds < 1000, "compaction does not end"
    await settled(store)
    return rounds


async def settled(store: ShardStore) -> None:
    """Waits until no segment is there that nothing needs."""

    async def steady() -> bool:
        due = await store.compact()
        needed = {
            one.state.number for one in await store._compactor._survey() if not _unneeded(one.state)
        }
        return not due and (await store.status()).segment_count == len(needed)

    while not await steady():
        pass


async def check(store: ShardStore, shards: Shards, gone: list[ShardRef]) -> None:
    for ref, blocks in shards.items():
        assert await read_back(store, ref, blocks)
    for ref in gone:
        assert not await read_back(store, ref, [])
    assert (await store.status()).shard_count == len(shards)


async def check_all_ways(path: Path, shards: Shards, gone: list[ShardRef]) -> None:
    """After reopening, and after the index was built again."""
    for lose_index in (False, True):
        if lose_index:
            shutil.rmtree(path / "index")
        async with opened(path) as store:
            assert store.recovery.damaged == 0
            await check(store, shards, gone)


def test_live_shards_move_and_the_rest_of_their_segments_comes_back(tmp_path: Path) -> None:
    shards = some_shards(150)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
            gone = [ref for n, ref in enumerate(shards) if n % 4]
            await store.delete(gone)
            for ref in gone:
                del shards[ref]
            before = await store.status()
            assert await compacted(store, tmp_path) >= 3
            await check(store, shards, gone)
            after = await store.status()
            assert after.segment_count < before.segment_count
            assert after.live_bytes == before.live_bytes
            assert after.used_bytes < 1.3 * after.live_bytes + 3 * 64 * KIB
            assert after.compacted_segments >= 3
            assert after.reclaimed_bytes > 0
            assert after.moved_bytes <= 2 * after.live_bytes
            assert not await store.compact(), "it comes to rest"
        await check_all_ways(tmp_path, shards, gone)

    run(main())


def test_overwriting_twenty_times_takes_no_more_than_half_as_much_again(tmp_path: Path) -> None:
    """With compaction going on by itself, under load."""
    source = random.Random(1)
    live: dict[int, ShardRef] = {}
    contents: Shards = {}
    count, size = 64, 32 * KIB

    async def overwrite(store: ShardStore, number: int) -> None:
        ref = ShardRef(source.randbytes(32), source.randbytes(16), 0)
        blocks = [source.randbytes(size // 2) for _ in range(2)]
        await write(store, ref, blocks)
        old, live[number] = live.get(number), ref
        contents[ref] = blocks
        if old is not None:
            await store.delete([old])
            del contents[old]

    async def main() -> None:
        async with opened(tmp_path, upkeep=True) as store:
            for _ in range(21):
                order = list(range(count))
                source.shuffle(order)
                for at in range(0, count, 8):
                    await asyncio.gather(*(overwrite(store, n) for n in order[at : at + 8]))

            def small() -> bool:
                return sum(segment_sizes(tmp_path / "segments")) <= 1.5 * count * size

            await eventually_async(small, within_s=60, what="the disk to hold 1.5 times the data")
            await check(store, contents, [])
            assert (await store.status()).shard_count == count
        await check_all_ways(tmp_path, contents, [])

    run(main())


def test_a_shard_over_many_segments_is_moved_piece_by_piece(tmp_path: Path) -> None:
    blocks = [block_of(i, 9000) for i in range(100)]
    noise = {ref_of(1000 + i): [block_of(("noise", i), 9000)] for i in range(100)}

    async def main() -> None:
        async with opened(tmp_path) as store:
            for stripe, (block, noisy) in enumerate(zip(blocks, noise.items(), strict=True)):
                await store.append(ref_of(1), stripe, block, crc32c(block))
                await put(store, noisy[0], noisy[1][0])
            await store.commit(ref_of(1), 100, 900_000)
            rows = {row.ref: row for row in (await store.shards(b"", 1000)).rows}
            await store.delete(list(noise))
            assert await compacted(store, tmp_path) >= 4
            await check(store, {ref_of(1): blocks}, list(noise))
            assert (await store.status()).used_bytes < 1.5 * 900_000
            assert (await store.shards(b"", 1)).rows == [rows[ref_of(1)]]
        await check_all_ways(tmp_path, {ref_of(1): blocks}, list(noise))

    run(main())


def test_tombstones_are_kept_while_what_they_revoke_may_stand_anywhere(tmp_path: Path) -> None:
    """A commit in a segment that stays; its tombstone in one that is rewritten; another shard that
    was put again after it was deleted, or moved before."""
    kept = {ref_of(n): [block_of(n, 20_000)] for n in range(10)}
    victim, again = ref_of(500), ref_of(501)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, kept)
            await put(store, victim, b"to be deleted")
            await put(store, again, b"first")
            for number in range(100, 106):
                await put(store, ref_of(number), bytes(20_000))
            await store.delete([victim, again])
            await put(store, again, b"second")
            fillers = [ref_of(number) for number in range(106, 140)]
            for ref in fillers:
                await put(store, ref, bytes(20_000))
            await store.delete([*fillers, *(ref_of(number) for number in range(100, 106))])
            for _ in range(5):
                await compacted(store, tmp_path)
            await put(store, ref_of(900), b"at the end")
        everything = kept | {again: [b"second"], ref_of(900): [b"at the end"]}
        assert (tmp_path / "segments" / "00000001.seg").exists(), "the first stays: it is full"
        await check_all_ways(tmp_path, everything, [victim, *fillers])
        async with opened(tmp_path) as store:
            await store.delete([again])
            await put(store, ref_of(901), bytes(200_000))
            await put(store, ref_of(902), bytes(200_000))
            await store.delete([ref_of(901), ref_of(902)])
            for _ in range(3):
                await compacted(store, tmp_path)
        del everything[again]
        await check_all_ways(tmp_path, everything, [victim, again])

    run(main())


def test_what_is_deleted_or_mended_while_its_segment_is_read_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.compaction.NODE_COMPACT_STEP_BYTES", 16 * KIB)
    shards = some_shards(120)

    async def main() -> None:
        source = random.Random(4)
        gone: list[ShardRef] = []
        async with opened(tmp_path) as store:
            await fill(store, shards)

            async def delete(part: list[ShardRef]) -> None:
                gone.extend(part)
                for ref in part:
                    del shards[ref]
                await store.delete(part)

            await delete(source.sample(list(shards), 70))
            compaction = asyncio.ensure_future(compacted(store, tmp_path))
            while not compaction.done():
                if len(shards) > 20:
                    await delete(source.sample(list(shards), 1))
                for ref in source.sample(list(shards), 5):
                    assert await read_back(store, ref, shards[ref])
                await put(store, ref_of(len(gone) + 10_000), b"new")
                shards[ref_of(len(gone) + 10_000)] = [b"new"]
            await compaction
            await check(store, shards, gone)
        await check_all_ways(tmp_path, shards, gone)

    run(main())


def test_a_bad_block_keeps_its_segment_until_it_is_replaced(tmp_path: Path) -> None:
    blocks = [block_of(i, 5000) for i in range(4)]
    fillers = [ref_of(n) for n in range(100, 150)]

    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), blocks)
            for ref in fillers:
                await put(store, ref, bytes(9000))
            await store.delete(fillers)
            await damage_block(store, tmp_path, ref_of(1), 2)
            await compacted(store, tmp_path)
            assert [row.stripes for row in store.bad(b"", 9).rows] == [[2]]
            places = (await store.locate(ref_of(1))).blocks
            assert [place.segment == 1 for place in places] == [False, False, True, False]
            assert not await store.compact()
            with pytest.raises(ShardCorrupt):
                await store.read(ref_of(1), 2, 0, 1)
            await store.append(ref_of(1), 2, blocks[2], crc32c(blocks[2]))
            await store.commit(ref_of(1), 4, 20_000)
            await compacted(store, tmp_path)
            assert not (tmp_path / "segments" / "00000001.seg").exists()
        await check_all_ways(tmp_path, {ref_of(1): blocks}, fillers)

    run(main())


def test_blocks_and_commits_with_damaged_headers_are_moved_by_what_the_index_knows(
    tmp_path: Path,
) -> None:
    blocks = [block_of(i, 5000) for i in range(4)]
    fillers = [ref_of(n) for n in range(100, 150)]

    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), blocks)
            await put(store, ref_of(2), blocks[0])
            for ref in fillers:
                await put(store, ref, bytes(9000))
            await store.delete(fillers)
        first = segments(tmp_path)[0]
        records = [one for one in records_of(first) if one.object_hash == ref_of(1).object_hash]
        for record in (records[1], records[2], records[-1]):
            assert record.kind in (frame.BLOCK, frame.COMMIT)
            damage(first, record.offset + 20)
        async with opened(tmp_path) as store:
            await compacted(store, tmp_path)
            assert not first.exists()
            await check(store, {ref_of(1): blocks, ref_of(2): blocks[:1]}, fillers)
        await check_all_ways(tmp_path, {ref_of(1): blocks, ref_of(2): blocks[:1]}, fillers)

    run(main())


def test_small_shards_and_tombstones_do_not_keep_compaction_busy_for_ever(tmp_path: Path) -> None:
    """What shards of a few bytes need beside their bytes is more than these."""

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=64 * KIB) as store:
            shards: Shards = {}
            for start in range(0, 1200, 100):
                refs = [ref_of(number) for number in range(start, start + 100)]
                await asyncio.gather(*(put(store, ref, b"tiny") for ref in refs))
                shards |= {ref: [b"tiny"] for ref in refs[::9]}
                await store.delete([ref for ref in refs if ref not in shards])
            assert await compacted(store, tmp_path) < 60
            assert not await store.compact()
            await check(store, shards, [])
        await check_all_ways(tmp_path, shards, [])

    run(main())


def state(
    number: int, needed: int, size: int = 100, *, busy: bool = False, tombstone_bytes: int = 0,
    older: frozenset[int] = frozenset(), end_bytes: int | None = None,
) -> Candidate:  # fmt: skip
    return Candidate(SegmentState(number, needed, tombstone_bytes, older, busy, end_bytes), size)


def test_the_emptiest_segment_is_chosen_once_there_is_enough_to_gain() -> None:
    full = [state(number, 100) for number in range(100, 110)]

    def chosen(
        segments: list[Candidate], *, hungry: bool = False, stuck: int = 0, damaged: int = 0
    ) -> int:
        found = choose(
            segments, slack_bytes=10, hungry=hungry, stuck={20: stuck}, damaged=[damaged]
        )
        return found.state.number if found else 0

    assert chosen(full) == 0
    assert chosen([*full, state(11, 50), state(12, 60)]) == 0, "within a fifth"
    some = [*full, *(state(number, 40 + number) for number in range(20, 30))]
    assert chosen(some) == 20
    assert chosen(some, stuck=60) == 21
    assert chosen([state(1, 5, busy=True)]) == 0
    assert chosen(full, damaged=104) == 104
    assert chosen([*some, state(30, 0, 64, end_bytes=64)]) == 20, "it is not worth ending"
    assert chosen([*full, state(30, 9, 900, end_bytes=900)]) == 30
    assert chosen([*full, state(11, 88)], hungry=True) == 11
    assert chosen([state(number, 95) for number in range(99)]) == 0


def test_a_burden_of_tombstones_lets_the_oldest_of_their_segments_be_rewritten() -> None:
    full = [state(number, 1000, 1000) for number in range(1, 10)]
    burden = state(20, 0, 900, tombstone_bytes=900, older=frozenset({3, 5}))
    found = choose([*full, burden], slack_bytes=10, hungry=False, stuck={}, damaged=[])
    assert found is not None
    assert found.state.number == 3


def test_a_directory_that_is_gone_is_noticed_without_a_write(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "node", tmp_path / "elsewhere"

    async def main() -> None:
        async with opened(path, upkeep=True) as store:
            await put(store, ref_of(1), b"data")
            await asyncio.to_thread(path.rename, elsewhere)
            await eventually_async(lambda: "removed or replaced" in store.failure)
            with pytest.raises(StoreFailed, match="removed or replaced"):
                await put(store, ref_of(2), b"more")

    run(main())


def test_nothing_is_acknowledged_into_files_that_are_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "node") as store:
            await put(store, ref_of(1), b"data")
            await asyncio.to_thread(shutil.rmtree, tmp_path / "node")
            assert "No such file" in (await store.status()).failure
            with pytest.raises(StoreFailed, match="removed or replaced"):
                await put(store, ref_of(2), b"more")
            assert "removed or replaced" in (await store.status()).failure

    run(main())


def test_room_is_made_on_a_disk_of_a_few_megabytes(tmp_path: Path) -> None:
    """Segments of which little is live are rewritten before the disk is full."""

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=MIB) as store:
            for number in range(40):
                await put(store, ref_of(number), block_of(number, 100_000))
            await store.delete([ref_of(number) for number in range(40) if number % 8])
            await compacted(store, tmp_path)
            status = await store.status()
            assert status.used_bytes < 5 * 100_000 * 1.3 + 3 * MIB

    run(main())


async def seal(store: ShardStore, path: Path) -> None:
    """What comes next goes to another segment."""
    number = int(segments(path)[-1].stem)
    await store._writer.run(moving.Seal(asyncio.get_running_loop().create_future(), number))


async def rewrite(store: ShardStore, number: int) -> None:
    """Compacts this segment, whether it is due or not."""
    found = {one.state.number: one for one in await store._compactor._survey()}
    await store._compactor._rewrite(found[number])


def test_a_tombstone_that_was_carried_is_kept_though_the_index_does_not_say_why(
    tmp_path: Path,
) -> None:
    """The index is older than the segments: segments that it names are gone, as after a crash on a
    full disk, where they are unlinked before it is written."""
    victim, cold = ref_of(1), {ref_of(n): [block_of(n, 20_000)] for n in range(2, 20)}
    older = tmp_path / "older-index"

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, victim, block_of(1, 20_000))
            await fill(store, cold)
            await seal(store, tmp_path)
            deleted_in = int(segments(tmp_path)[-1].stem)
            await store.delete([victim])
            await seal(store, tmp_path)
        shutil.copytree(tmp_path / "index", older)
        async with opened(tmp_path) as store:
            carried_to = int(segments(tmp_path)[-1].stem)
            await rewrite(store, deleted_in)
        assert deleted_in not in [int(path.stem) for path in segments(tmp_path)]
        shutil.rmtree(tmp_path / "index")
        shutil.copytree(older, tmp_path / "index")
        async with opened(tmp_path) as store:
            await check(store, cold, [victim])
            await rewrite(store, carried_to)
        assert carried_to not in [int(path.stem) for path in segments(tmp_path)]
        assert int(segments(tmp_path)[0].stem) == 1  # with what the tombstone revokes
        await check_all_ways(tmp_path, cold, [victim])

    run(main())

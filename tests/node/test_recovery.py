"""Starting over segments that were cut short, damaged, or lost their index."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import lmdb
import msgspec
import pytest
from node_support import (
    Shards,
    block_of,
    damage,
    fill,
    open_store,
    opened,
    put,
    read_back,
    records_of,
    ref_of,
    run,
    segments,
    write,
)

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import ShardCorrupt, StartupError
from predastore.base.limits import MIB
from predastore.base.lmdbfile import sealed
from predastore.node.index import FORMAT
from predastore.node.judging import RecoveryReport
from predastore.node.segment import HEADER_BYTES
from predastore.node.shard import ShardRef


def few_shards() -> Shards:
    """One block and several, of sizes with and without padding."""
    return {
        ref_of(number): [block_of((number, i), 37 + 11 * number + i) for i in range(1 + number % 3)]
        for number in range(5)
    }


async def written(path: Path, shards: Shards) -> None:
    """A store that has these, closed again."""
    async with opened(path) as store:
        await fill(store, shards)


def without_index(source: Path, target: Path) -> Path:
    """A copy, as a start after a crash finds it that has lost the index."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("index"))
    return target


async def found_in(path: Path, shards: Shards) -> tuple[list[ShardRef], RecoveryReport]:
    """The shards that read back whole, and what the start reported."""
    async with opened(path) as store:
        return [ref for ref, blocks in shards.items() if await read_back(store, ref, blocks)], (
            store.recovery
        )


def committed_by(records: list[frame.Record], end: int, shards: Shards) -> list[ShardRef]:
    """The shards whose commit ends at or before `end`."""
    commits = {
        record.object_hash: record.offset + frame.record_bytes(record.length)
        for record in records
        if record.kind == frame.COMMIT or record.flags & frame.SOLE
    }
    return [ref for ref in shards if commits[ref.object_hash] <= end]


def test_without_its_index_a_store_gives_the_same_answers(tmp_path: Path) -> None:
    shards = {ref_of(n): [block_of((n, i), 20_000) for i in range(1 + n % 4)] for n in range(40)}
    run(written(tmp_path, shards))
    assert len(segments(tmp_path)) > 5
    shutil.rmtree(tmp_path / "index")
    found, report = run(found_in(tmp_path, shards))
    assert found == list(shards)
    assert report.rebuilt
    assert (report.damaged, report.torn_bytes, report.changes) == (0, 0, 40)


async def store_id(path: Path) -> str:
    async with opened(path) as store:
        return (await store.status()).store_id


@pytest.mark.parametrize("lost", ["index", "segments", "index and segments"])
def test_a_store_that_has_lost_something_is_another_one(tmp_path: Path, lost: str) -> None:
    """Whoever heals looks for all that it should hold."""
    run(written(tmp_path, few_shards()))
    before = run(store_id(tmp_path))
    assert run(store_id(tmp_path)) == before, "a start alone changes nothing"
    for folder in lost.split(" and "):
        shutil.rmtree(tmp_path / folder)
    after = run(store_id(tmp_path))
    assert after != before
    assert run(store_id(tmp_path)) == after


@pytest.mark.parametrize("damage", ["garbage", "empty file", "another store's", "older", "newer"])
def test_an_index_that_can_not_be_used_is_built_again(tmp_path: Path, damage: str) -> None:
    path, other = tmp_path / "node", tmp_path / "other"
    shards = few_shards()
    run(written(path, dict(list(shards.items())[:3])))
    index = path / "index"
    shutil.copytree(index, tmp_path / "older")
    run(written(path, shards))
    if damage == "garbage":
        (index / "data.mdb").write_bytes(random.Random(1).randbytes(8192))
    elif damage == "empty file":
        (index / "data.mdb").write_bytes(b"")
    else:
        if damage == "another store's":
            run(written(other, shards))
        elif damage == "newer":
            without_index(path, other)
            shutil.copytree(index, other / "index")
            segment = segments(path)[0]
            os.truncate(segment, records_of(segment)[-1].offset)
        replacement = tmp_path / "older" if damage == "older" else other / "index"
        shutil.rmtree(index)
        shutil.copytree(replacement, index)
    found, report = run(found_in(path, shards))
    assert found == list(shards)
    assert report.rebuilt == (damage != "older"), "an older one is only brought up to date"


def test_an_index_of_another_format_is_built_again_and_not_guessed_at(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path, shards))
    for state in (b"?", msgspec.msgpack.encode([FORMAT + 1, "x", [1, 64, 0], 5]), b"\x90"):
        environment = lmdb.open(str(tmp_path / "index"), max_dbs=4)
        with environment.begin(write=True) as transaction:
            meta = environment.open_db(b"meta", transaction)
            transaction.put(b"state", sealed(b"state", state), db=meta)
        environment.close()
        found, report = run(found_in(tmp_path, shards))
        assert found == list(shards)
        assert report.rebuilt


def test_a_log_cut_anywhere_keeps_every_shard_committed_before(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path / "node", shards))
    records = records_of(segments(tmp_path / "node")[0])
    cuts = {HEADER_BYTES}
    for record in records:
        end = record.offset + frame.record_bytes(record.length)
        cuts |= {record.offset, record.offset + 1, record.offset + 79, record.offset + 80}
        cuts |= {end - 8, end - 1}
    for cut in sorted(cuts):
        copy = without_index(tmp_path / "node", tmp_path / "copy")
        os.truncate(segments(copy)[0], cut)
        found, report = run(found_in(copy, shards))
        assert found == committed_by(records, cut, shards), f"cut at {cut}"
        assert report.damaged == 0
        if cut % 3:
            continue
        # The tail is gone, and the log goes on behind it.
        extra = {ref_of(77): [b"afterwards"]}
        run(written(copy, extra))
        shutil.rmtree(copy / "index")
        assert run(found_in(copy, shards | extra))[0] == [*found, ref_of(77)]


def test_zeros_and_garbage_after_the_log_are_cut_off(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path / "node", shards))
    for tail in (bytes(10_000), b"PR" * 5000, bytes(5000) + b"\xff" * 100):
        copy = without_index(tmp_path / "node", tmp_path / "copy")
        with open(segments(copy)[0], "ab") as file:
            file.write(tail)
        found, report = run(found_in(copy, shards))
        assert found == list(shards)
        assert report.damaged == 0
        assert bool(report.torn_bytes) == any(tail)


def test_any_damaged_byte_of_a_header_costs_that_record_and_no_other(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path / "node", shards))
    records = records_of(segments(tmp_path / "node")[0])
    victims = [
        next(one for one in records if one.flags & frame.SOLE),
        next(one for one in records if one.kind == frame.COMMIT),
        next(one for one in records if one.kind == frame.BLOCK and not one.flags),
    ]
    for victim in victims:
        for at in range(0, frame.HEADER_BYTES, 1 if victim is victims[0] else 9):
            copy = without_index(tmp_path / "node", tmp_path / "copy")
            damage(segments(copy)[0], victim.offset + at)
            found, report = run(read_good(copy, shards))
            assert report.damaged == 1, f"byte {at}"
            lost = [ref for ref in shards if ref not in found]
            assert [ref.object_hash for ref in lost] == (
                # The commit says where the block is, so its header is not needed.
                [] if victim is victims[2] else [victim.object_hash]
            ), f"byte {at}"


async def read_good(path: Path, shards: Shards) -> tuple[list[ShardRef], RecoveryReport]:
    """As `found_in`; a shard with a bad block counts as lost, wrong bytes never pass."""
    good = []
    async with opened(path) as store:
        for ref, blocks in shards.items():
            try:
                if await read_back(store, ref, blocks):
                    good.append(ref)
            except ShardCorrupt:
                continue
        return good, store.recovery


def test_a_flipped_bit_in_a_payload_is_never_served(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path / "node", shards))
    segment = segments(tmp_path / "node")[0]
    clean = segment.read_bytes()
    places = [
        record.offset + frame.HEADER_BYTES + at
        for record in records_of(segment)
        if record.kind == frame.BLOCK
        for at in range(0, record.length, 9)
    ]

    descriptor = os.open(segment, os.O_WRONLY)

    async def main() -> None:
        async with opened(tmp_path / "node") as store:
            for count, place in enumerate(places, 1):
                damaged = bytearray(clean)
                damaged[place] ^= 1 << place % 8
                # In place: the store has the file open.
                os.pwrite(descriptor, damaged, 0)
                bad = 0
                for ref, blocks in shards.items():
                    try:
                        await read_back(store, ref, blocks)
                    except ShardCorrupt:
                        bad += 1
                assert bad == 1
                assert (await store.status()).corrupt_reads == count

    run(main())
    os.close(descriptor)


def test_damage_to_what_was_synced_keeps_the_rest_of_its_shard(tmp_path: Path) -> None:
    blocks = [block_of(i, 500) for i in range(3)]

    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), blocks)
            await put(store, ref_of(2), b"says that all before was synced")
        record = records_of(segments(tmp_path)[0])[1]
        damage(segments(tmp_path)[0], record.offset + 100)
        shutil.rmtree(tmp_path / "index")
        async with opened(tmp_path) as store:
            assert store.recovery.damaged == 1
            assert await store.read(ref_of(1), 0, 0, 500) == blocks[0]
            with pytest.raises(ShardCorrupt):
                await store.read(ref_of(1), 1, 0, 1)
            assert await store.read(ref_of(1), 2, 0, 500) == blocks[2]

    run(main())


def test_a_shard_torn_before_it_was_acknowledged_is_dropped_for_good(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), [block_of(i, 500) for i in range(3)])
        records = records_of(segments(tmp_path)[0])
        # Nothing after this shard says that it was synced.
        os.truncate(segments(tmp_path)[0], records[4].offset)
        damage(segments(tmp_path)[0], records[1].offset + 100)
        for _ in range(2):
            shutil.rmtree(tmp_path / "index")
            async with opened(tmp_path) as store:
                assert not await read_back(store, ref_of(1), [])
                await put(store, ref_of(2), b"more")

    run(main())


def test_what_was_torn_is_no_damage_at_the_next_start(tmp_path: Path) -> None:
    path, index = tmp_path / "node", tmp_path / "node" / "index"

    async def main() -> None:
        async with opened(path) as store:
            await put(store, ref_of(1), b"before")
        shutil.copytree(index, tmp_path / "older")
        async with opened(path) as store:
            await write(store, ref_of(2), [block_of(i, 500) for i in range(3)])
        (segment,) = segments(path)
        commit = [one for one in records_of(segment) if one.kind == frame.COMMIT][-1]
        os.truncate(segment, commit.offset + frame.record_bytes(commit.length))
        damage(segment, commit.offset - 100)
        shutil.rmtree(index)
        shutil.copytree(tmp_path / "older", index)
        async with opened(path) as store:
            assert (store.recovery.changes, store.recovery.dropped_shards) == (0, 1)
            shutil.copytree(path, tmp_path / "killed")
        async with opened(tmp_path / "killed") as store:
            assert (store.recovery.damaged, store.recovery.torn_bytes) == (0, 0)
            assert await read_back(store, ref_of(1), [b"before"])

    run(main())


def test_damaged_footers_and_seals_cost_nothing(tmp_path: Path) -> None:
    shards = {ref_of(n): [block_of((n, i), 30_000) for i in range(1 + n % 2)] for n in range(20)}
    run(written(tmp_path / "node", shards))
    first = segments(tmp_path / "node")[0]
    for record in records_of(first):
        if record.kind in (frame.FOOTER, frame.SEAL):
            for at in (0, 80):
                copy = without_index(tmp_path / "node", tmp_path / "copy")
                damage(segments(copy)[0], record.offset + at)
                found, report = run(found_in(copy, shards))
                assert found == list(shards)
                assert report.damaged >= 1


def test_a_damaged_segment_header_costs_nothing(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path / "node", shards))
    for at in range(HEADER_BYTES):
        copy = without_index(tmp_path / "node", tmp_path / "copy")
        damage(segments(copy)[0], at)
        found, report = run(found_in(copy, shards))
        assert found == list(shards), f"byte {at}"
        assert report.damaged == 1
        if at % 16:
            continue
        shutil.rmtree(copy / "index")
        assert run(found_in(copy, shards))[1].damaged == 0, "it was written again"


def test_a_segment_whose_creation_was_cut_short_is_made_again(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path, shards))
    for content in (b"", b"PREDASEG", bytes(64)):
        shutil.rmtree(tmp_path / "index")
        (tmp_path / "segments" / "00000002.seg").write_bytes(content)
        found, _ = run(found_in(tmp_path, shards))
        assert found == list(shards)
    (tmp_path / "segments" / "00000007.seg").write_bytes(b"?" * 1000)
    found, _ = run(found_in(tmp_path, shards))
    assert found == list(shards)
    assert (tmp_path / "segments" / "00000007.damaged").exists(), "nothing is thrown away"


def test_what_looks_like_records_within_a_block_is_not_taken_for_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=4 * MIB) as store:
            await put(store, ref_of(1), b"original")
            await store.delete([ref_of(1)])
            image = segments(tmp_path)[0].read_bytes()[:100_000]
            await put(store, ref_of(2), image)
            await put(store, ref_of(3), b"after")
        outer = next(one for one in records_of(segments(tmp_path)[0]) if one.length == len(image))
        damage(segments(tmp_path)[0], outer.offset)
        shutil.rmtree(tmp_path / "index")
        async with opened(tmp_path) as store:
            assert not await read_back(store, ref_of(1), [b"original"])
            assert await read_back(store, ref_of(3), [b"after"])

    run(main())


def test_segments_of_another_node_or_a_newer_version_are_refused(tmp_path: Path) -> None:
    shards = few_shards()
    run(written(tmp_path / "node", shards))
    other = tmp_path / "other"

    async def other_node() -> None:
        async with opened(other, node_id=9) as store:
            await put(store, ref_of(1), b"x")

    run(other_node())
    copy = without_index(tmp_path / "node", tmp_path / "copy")
    shutil.copy(segments(other)[0], segments(copy)[0])
    with pytest.raises(StartupError, match="belongs to node 9"):
        run(open_store(copy))

    copy = without_index(tmp_path / "node", tmp_path / "copy")
    content = bytearray(segments(copy)[0].read_bytes())
    content[8] = 2
    content[60:64] = crc32c(content[:60]).to_bytes(4, "little")
    segments(copy)[0].write_bytes(content)
    with pytest.raises(StartupError, match="segment of format 2"):
        run(open_store(copy))

    copy = without_index(tmp_path / "node", tmp_path / "copy")
    record = records_of(segments(copy)[0])[2]
    content = bytearray(segments(copy)[0].read_bytes())
    header = content[record.offset : record.offset + 80]
    header[2] = 2
    header[76:] = crc32c(record.offset.to_bytes(8, "little") + header[:76]).to_bytes(4, "little")
    content[record.offset : record.offset + 80] = header
    segments(copy)[0].write_bytes(content)
    with pytest.raises(StartupError, match="written by a newer version"):
        run(open_store(copy))


def test_a_lost_segment_costs_its_own_shards_only(tmp_path: Path) -> None:
    shards = {ref_of(n): [block_of(n, 30_000)] for n in range(40)}
    run(written(tmp_path, shards))
    before = segments(tmp_path)
    lost = {record.object_hash for record in records_of(before[2])}
    before[2].unlink()
    found, report = run(found_in(tmp_path, shards))
    assert found == [ref for ref in shards if ref.object_hash not in lost]
    assert report.rebuilt


def test_a_segment_with_nothing_good_in_it_is_noted_as_lost(tmp_path: Path) -> None:
    """Also where it is the newest one, with the checkpoint in it."""

    async def main() -> None:
        async with opened(tmp_path, upkeep=False) as store:
            for number in range(4):
                await put(store, ref_of(number), block_of(number, 5000))
        (segment,) = segments(tmp_path)
        segment.write_bytes(bytes(segment.stat().st_size))
        async with opened(tmp_path, upkeep=False) as store:
            status = await store.status()
            assert (status.shard_count, status.bad_shards) == (4, 4)
            with pytest.raises(ShardCorrupt):
                await store.read(ref_of(1), 0, 0, 5000)
            await put(store, ref_of(1), block_of(1, 5000))  # as healing does
            assert await read_back(store, ref_of(1), [block_of(1, 5000)])

    run(main())

"""What a store promises while all goes well, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
from node_support import (
    CLUSTER,
    block_of,
    open_store,
    opened,
    put,
    read_back,
    ref_of,
    run,
    segments,
    write,
)

from predastore._fast.crc import crc32c
from predastore.base.errors import (
    CorruptData,
    FormatError,
    NodeError,
    Overloaded,
    ShardNotFound,
    StartupError,
    StoreFailed,
)
from predastore.base.limits import BLOCK_BYTES_MAX, KIB, MIB, NODE_DELETE_REFS_MAX
from predastore.node.disk import RealDisk
from predastore.node.reader import Reader, _File
from predastore.node.segment import segment_path
from predastore.node.shard import Location, ShardRef
from predastore.rpc import Buffer
from support.garbage import Garbage, fails
from support.waiting import eventually, eventually_async


def test_a_put_shard_reads_back_whole_and_in_ranges_also_after_reopening(tmp_path: Path) -> None:
    block = block_of("put", 20_000)

    async def main() -> None:
        for _ in range(2):
            async with opened(tmp_path) as store:
                await put(store, ref_of(1), block)
                assert await read_back(store, ref_of(1), [block])
                for offset, length in ((0, 1), (5, 300), (19_999, 1), (0, 20_000)):
                    found = await store.read(ref_of(1), 0, offset, length)
                    assert found == block[offset : offset + length]

    run(main())


def test_an_appended_shard_exists_from_its_commit_on(tmp_path: Path) -> None:
    blocks = [block_of(("append", i), size) for i, size in enumerate((9000, 9000, 17))]

    async def main() -> None:
        async with opened(tmp_path) as store:
            for stripe in (2, 0, 1):
                await store.append(ref_of(1), stripe, blocks[stripe], crc32c(blocks[stripe]))
                with pytest.raises(ShardNotFound):
                    await store.stat(ref_of(1))
                with pytest.raises(ShardNotFound):
                    await store.read(ref_of(1), stripe, 0, 1)
            await store.commit(ref_of(1), 3, 18_017)
            assert await read_back(store, ref_of(1), blocks)
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), blocks)

    run(main())


def test_the_last_block_of_a_stripe_counts(tmp_path: Path) -> None:
    first, second = block_of(1, 500), block_of(2, 700)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await store.append(ref_of(1), 0, first, crc32c(first))
            await store.append(ref_of(1), 0, second, crc32c(second))
            await store.commit(ref_of(1), 1, 700)
            assert await read_back(store, ref_of(1), [second])

    run(main())


def test_a_commit_of_a_shard_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    block = block_of("x", 100)

    async def main() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(NodeError, match="first missing: 0"):
                await store.commit(ref_of(1), 1, 100)
            await store.append(ref_of(1), 0, block, crc32c(block))
            await store.append(ref_of(1), 2, block, crc32c(block))
            for block_count, byte_count in ((3, 300), (2, 200), (1, 100), (0, 0)):
                with pytest.raises(NodeError, match="can not be committed"):
                    await store.commit(ref_of(1), block_count, byte_count)
            await store.append(ref_of(1), 1, block, crc32c(block))
            with pytest.raises(NodeError, match="300 bytes, 299 were announced"):
                await store.commit(ref_of(1), 3, 299)
            await store.commit(ref_of(1), 3, 300)

    run(main())


def test_repeating_an_operation_succeeds_and_other_contents_are_refused(tmp_path: Path) -> None:
    block, other = block_of(1, 3000), block_of(2, 3000)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await asyncio.gather(*(put(store, ref_of(1), block) for _ in range(5)))
            for _ in range(2):
                await write(store, ref_of(2), [block, other])
                await store.commit(ref_of(2), 2, 6000)
            with pytest.raises(NodeError, match="other contents"):
                await put(store, ref_of(1), other)
            with pytest.raises(NodeError, match="other contents"):
                await write(store, ref_of(2), [other, block])
            with pytest.raises(NodeError, match="other contents"):
                await store.commit(ref_of(1), 1, 2999)
            assert await read_back(store, ref_of(1), [block])
            assert await read_back(store, ref_of(2), [block, other])
            assert (await store.status()).shard_count == 2
            for _ in range(2):
                await store.delete([ref_of(1), ref_of(2), ref_of(3)])
            assert (await store.status()).shard_count == 0

    run(main())


def test_deleted_shards_are_gone_for_good_and_can_be_put_again(tmp_path: Path) -> None:
    block, other = block_of(1, 3000), block_of(2, 30)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), block)
            await write(store, ref_of(2), [block] * 3)
            await store.delete([ref_of(1), ref_of(2)])
            for ref in (ref_of(1), ref_of(2)):
                assert not await read_back(store, ref, [block])
        async with opened(tmp_path) as store:
            for ref in (ref_of(1), ref_of(2)):
                assert not await read_back(store, ref, [block])
            await put(store, ref_of(1), other)
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), [other])

    run(main())


def test_a_delete_forgets_copies_that_a_compaction_left(tmp_path: Path) -> None:
    """They would keep their segment from being unlinked."""

    async def main() -> None:
        async with opened(tmp_path, upkeep=False) as store:
            await put(store, ref_of(1), block_of(1, 100))
            copies = store._writer._log.copies
            copies.add(ref_of(1).key(), 0, Location(4096, 7, 100, 0))
            assert copies.segments() == {7}
            await store.delete([ref_of(1)])
            assert copies.segments() == set()

    run(main())


def test_a_file_that_was_unlinked_while_it_was_opened_is_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        reader = Reader(tmp_path)
        path = segment_path(tmp_path, 1)
        path.write_bytes(bytes(10_000))
        file = _File(path)
        path.unlink()
        reader._cache(1, file)
        assert not reader._files

    run(main())


def test_abort_delete_and_restart_forget_what_was_not_committed(tmp_path: Path) -> None:
    block = block_of(1, 100)

    async def main() -> None:
        async with opened(tmp_path) as store:
            for forget in (store.abort(ref_of(1)), store.delete([ref_of(1)])):
                await store.append(ref_of(1), 0, block, crc32c(block))
                await forget
                with pytest.raises(NodeError, match="0 blocks are here"):
                    await store.commit(ref_of(1), 1, 100)
            await store.append(ref_of(1), 0, block, crc32c(block))
            await put(store, ref_of(2), block)
            await store.abort(ref_of(2))
        async with opened(tmp_path) as store:
            with pytest.raises(NodeError, match="0 blocks are here"):
                await store.commit(ref_of(1), 1, 100)
            assert await read_back(store, ref_of(2), [block])

    run(main())


def test_a_block_damaged_on_the_way_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    block = block_of(1, 100)

    async def main() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(CorruptData):
                await store.put(ref_of(1), block, crc32c(block) ^ 1)
            with pytest.raises(CorruptData):
                await store.append(ref_of(1), 0, block, crc32c(block) ^ 1)
            with pytest.raises(NodeError, match="0 blocks are here"):
                await store.commit(ref_of(1), 1, 100)

    run(main())


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    block = block_of(1, 100)

    async def main() -> None:
        with pytest.raises(ValueError, match="segment_bytes_max"):
            await open_store(tmp_path, segment_bytes_max=10)
        async with opened(tmp_path) as store:
            for bad in (b"", bytes(BLOCK_BYTES_MAX + 1)):
                with pytest.raises(NodeError, match="a block has"):
                    await put(store, ref_of(1), bad)
            large = bytes(300 * KIB)
            with pytest.raises(NodeError, match="does not fit into a segment"):
                await put(store, ref_of(1), large)
            for stripe in (-1, 1 << 20):
                with pytest.raises(NodeError, match="at most"):
                    await store.append(ref_of(1), stripe, block, crc32c(block))
            for ref in (
                ShardRef(bytes(31), bytes(16), 0),
                ShardRef(bytes(32), bytes(15), 0),
                ShardRef(bytes(32), bytes(16), 256),
                ShardRef(bytes(32), bytes(16), -1),
            ):
                with pytest.raises(FormatError):
                    await put(store, ref, block)
            await put(store, ref_of(1), block)
            for stripe, offset, length in ((0, 0, 101), (0, -1, 2), (0, 100, 1), (0, 3, 0)):
                with pytest.raises(NodeError, match="it has 100"):
                    await store.read(ref_of(1), stripe, offset, length)
            for stripe in (-1, 1):
                with pytest.raises(NodeError, match="has 1 blocks"):
                    await store.read(ref_of(1), stripe, 0, 1)
            with pytest.raises(NodeError, match="at most"):
                await store.delete([ref_of(1)] * (NODE_DELETE_REFS_MAX + 1))
            assert await read_back(store, ref_of(1), [block])

    run(main())


def test_a_directory_has_one_store_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path):
            with pytest.raises(StartupError, match="in use"):
                await open_store(tmp_path)
        async with opened(tmp_path):
            pass

    run(main())


def test_a_closed_store_refuses_everything(tmp_path: Path) -> None:
    async def main() -> None:
        store = await open_store(tmp_path)
        await store.close()
        await store.close()
        for call in (
            put(store, ref_of(1), b"x"),
            store.read(ref_of(1), 0, 0, 1),
            store.stat(ref_of(1)),
            store.delete([ref_of(1)]),
        ):
            with pytest.raises(StoreFailed, match="closed"):
                await call

    run(main())


def test_the_data_of_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), b"data")
        with pytest.raises(StartupError, match="belongs to node 3, not to node 4"):
            await open_store(tmp_path, node_id=4)
        with pytest.raises(StartupError, match="belongs to cluster"):
            await open_store(tmp_path, cluster_id=bytes(16))
        identity = (tmp_path / "node.id").read_text()
        for text, complaint in (
            (identity.replace('"format":1', '"format":2'), "has format 2"),
            ("", "can not be read"),
            (None, "segments but no node.id"),
        ):
            (tmp_path / "node.id").unlink()
            if text is not None:
                (tmp_path / "node.id").write_text(text)
            with pytest.raises(StartupError, match=complaint):
                await open_store(tmp_path)
            (tmp_path / "node.id").write_text(identity)
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), [b"data"])

    run(main())


def test_segments_keep_to_their_size_and_shards_go_on_in_the_next(tmp_path: Path) -> None:
    limit = 100 * KIB
    shards = {ref_of(n): [block_of((n, i), 9000 + n) for i in range(15)] for n in range(6)}

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=limit) as store:
            await asyncio.gather(*(write(store, ref, blocks) for ref, blocks in shards.items()))
        sizes = [path.stat().st_size for path in segments(tmp_path)]
        assert len(sizes) >= 8
        assert max(sizes) <= limit
        async with opened(tmp_path, segment_bytes_max=limit) as store:
            for ref, blocks in shards.items():
                assert await read_back(store, ref, blocks)
            assert (await store.status()).segment_count == len(sizes)

    run(main())


def test_segments_that_nothing_needs_are_unlinked_and_nothing_comes_back(tmp_path: Path) -> None:
    shards = {ref_of(n): block_of(n, 20_000) for n in range(60)}
    kept = ref_of(1000)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, kept, b"kept")
            for ref, block in shards.items():
                await put(store, ref, block)
            before = len(segments(tmp_path))
            await store.delete(list(shards))
        assert before > 4
        # The first has the kept shard, the last the tombstones.
        assert len(segments(tmp_path)) == 2
        for path in (tmp_path / "index").iterdir():
            path.unlink()
        async with opened(tmp_path) as store:
            assert store.recovery.rebuilt
            assert await read_back(store, kept, [b"kept"])
            for ref in shards:
                assert not await read_back(store, ref, [])

    run(main())


def test_a_tombstone_outlives_the_commit_that_it_revokes(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), b"kept in the first segment")
            await put(store, ref_of(2), b"deleted")
            fillers = [ref_of(n) for n in range(100, 140)]
            for ref in fillers[:20]:
                await put(store, ref, bytes(20_000))
            await store.delete([ref_of(2)])
            for ref in fillers[20:]:
                await put(store, ref, bytes(20_000))
            await store.delete(fillers)
        numbers = [path.stem for path in segments(tmp_path)]
        assert 3 <= len(numbers) <= 4, "first, last, and the one with the tombstone"
        for path in (tmp_path / "index").iterdir():
            path.unlink()
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), [b"kept in the first segment"])
            assert not await read_back(store, ref_of(2), [b"deleted"])
            await store.delete([ref_of(1)])
        assert len(segments(tmp_path)) == 2, "the commit goes first, then its tombstone"
        async with opened(tmp_path):
            pass
        assert len(segments(tmp_path)) == 1

    run(main())


class CountingDisk(RealDisk):
    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        super().sync(descriptor)


def test_concurrent_writes_share_syncs_and_appends_need_none(tmp_path: Path) -> None:
    async def main() -> None:
        disk = CountingDisk()
        async with opened(tmp_path, disk=disk, segment_bytes_max=16 * MIB) as store:
            disk.syncs = 0
            await asyncio.gather(*(put(store, ref_of(n), bytes(100)) for n in range(200)))
            assert 1 <= disk.syncs <= 20
            disk.syncs = 0
            block = bytes(100)
            for stripe in range(20):
                await store.append(ref_of(1000), stripe, block, crc32c(block))
            assert disk.syncs == 0
            await store.commit(ref_of(1000), 20, 2000)
            assert disk.syncs == 1

    run(main())


class HeldDisk(RealDisk):
    """Waits before each write until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.writing = threading.Event()

    def write(self, descriptor: int, pieces: Sequence[Buffer], offset: int) -> None:
        self.writing.set()
        assert self.free.wait(10)
        super().write(descriptor, pieces, offset)


def test_a_cancelled_write_has_let_go_of_its_block_when_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        disk = HeldDisk()
        async with opened(tmp_path, disk=disk) as store:
            disk.free.clear()
            disk.writing.clear()
            block = bytearray(block_of(1, 500))
            crc = crc32c(block)
            begun = asyncio.create_task(store.put(ref_of(1), block, crc))
            await eventually_async(disk.writing.is_set)
            waiting = asyncio.create_task(put(store, ref_of(2), b"withdrawn"))
            ticked = asyncio.create_task(asyncio.wait([waiting], timeout=0.01))
            await ticked
            for task in (begun, waiting):
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not begun.done(), "the writer still has the block"
            disk.free.set()
            with pytest.raises(asyncio.CancelledError):
                await begun
            block[:] = bytes(500)
            assert await read_back(store, ref_of(1), [block_of(1, 500)])
            assert not await read_back(store, ref_of(2), [b"withdrawn"])

    run(main())


def test_writes_wait_for_their_share_of_memory_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.writer.NODE_QUEUE_BYTES_MAX", 1000)
    monkeypatch.setattr("predastore.node.writer.NODE_QUEUE_OPERATIONS_MAX", 4)

    async def main() -> None:
        disk = HeldDisk()
        async with opened(tmp_path, disk=disk) as store:
            disk.free.clear()
            tasks = [asyncio.create_task(put(store, ref_of(n), bytes(400))) for n in range(20)]
            done, waiting = await asyncio.wait(tasks, timeout=0.05)
            assert len(waiting) == 6, "two that fit, and four that wait"
            for task in done:
                assert isinstance(task.exception(), Overloaded)
            for task in list(waiting)[:2]:
                task.cancel()
            disk.free.set()
            await asyncio.wait(waiting)
            await put(store, ref_of(100), bytes(5000))

    run(main())


def test_uncommitted_shards_are_bounded_in_number_and_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.pending.NODE_PENDING_SHARDS_MAX", 3)
    now_ms = [1_000_000]
    monkeypatch.setattr("predastore.node.store._now_ms", lambda: now_ms[0])

    async def main() -> None:
        async with opened(tmp_path) as store:
            for number in range(3):
                await store.append(ref_of(number), 0, b"x", crc32c(b"x"))
            with pytest.raises(Overloaded):
                await store.append(ref_of(3), 0, b"x", crc32c(b"x"))
            now_ms[0] += 3_000_000
            await store.append(ref_of(0), 1, b"y", crc32c(b"y"))
            now_ms[0] += 3_000_000
            await store.append(ref_of(3), 0, b"x", crc32c(b"x"))
            await store.commit(ref_of(0), 2, 2)
            with pytest.raises(NodeError, match="0 blocks"):
                await store.commit(ref_of(1), 1, 1)

    run(main())


def test_the_index_is_written_while_writing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.index.NODE_INDEX_LAYER_SHARDS_MAX", 20)

    async def main() -> None:
        async with opened(tmp_path) as store:
            for start in range(0, 400, 40):
                refs = [ref_of(number) for number in range(start, start + 40)]
                await asyncio.gather(*(put(store, ref, ref.object_hash) for ref in refs))
                await store.delete(refs[:10])
            for number in range(400):
                ref = ref_of(number)
                assert await read_back(store, ref, [ref.object_hash]) == (number % 40 >= 10)

    run(main())
    # What lmdb has is complete: a start finds nothing to add.
    run(reopened_without_changes(tmp_path))


async def reopened_without_changes(path: Path) -> None:
    async with opened(path) as store:
        assert store.recovery.changes == 0
        assert (await store.status()).shard_count == 300


def test_a_shard_of_thousands_of_blocks_and_a_delete_of_a_thousand_shards(tmp_path: Path) -> None:
    blocks = [number.to_bytes(2, "little") for number in range(5000)]
    refs = [ref_of(number) for number in range(NODE_DELETE_REFS_MAX)]

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=MIB) as store:
            await asyncio.gather(
                *(
                    store.append(ref_of(5000), i, block, crc32c(block))
                    for i, block in enumerate(blocks[:2500])
                )
            )
            await asyncio.gather(*(put(store, ref, b"x") for ref in refs))
            await asyncio.gather(
                *(
                    store.append(ref_of(5000), i, blocks[i], crc32c(blocks[i]))
                    for i in range(2500, 5000)
                )
            )
            await store.commit(ref_of(5000), 5000, 10_000)
            await store.delete(refs)
        shutil.rmtree(tmp_path / "index")
        async with opened(tmp_path, segment_bytes_max=MIB) as store:
            assert (await store.status()).shard_count == 1
            assert await read_back(store, ref_of(5000), blocks)

    run(main())


def test_reads_of_many_sizes_do_not_share_buffers(tmp_path: Path) -> None:
    shards = {ref_of(n): block_of(n, size) for n, size in enumerate([70_000, 66_000, 90_000] * 8)}

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=MIB) as store:
            for ref, block in shards.items():
                await put(store, ref, block)
            found = await asyncio.gather(
                *(store.read(ref, 0, 0, len(block)) for ref, block in shards.items())
            )
            assert [bytes(view) for view in found] == list(shards.values())

    run(main())


def test_open_files_are_bounded(tmp_path: Path) -> None:
    shards = {ref_of(n): block_of(n, 40_000) for n in range(30)}

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=100 * KIB, open_segments_max=2) as store:
            for ref, block in shards.items():
                await put(store, ref, block)
            assert len(segments(tmp_path)) > 10
            before = len(os.listdir("/proc/self/fd"))
            for ref, block in shards.items():
                assert await read_back(store, ref, [block])
            assert len(os.listdir("/proc/self/fd")) <= before + 2
        eventually(lambda: len(os.listdir("/proc/self/fd")) < before)

    run(main())


def test_the_cluster_id_has_sixteen_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        run(open_store(tmp_path, cluster_id=CLUSTER[:15]))


def test_what_was_written_or_refused_is_let_go_of(tmp_path: Path) -> None:
    class Block(bytearray):
        """One that tells when it is gone."""

    async def main() -> None:
        async with opened(tmp_path) as store:
            with Garbage() as garbage:
                for number in range(4):
                    block = Block(block_of(number, 10_000))
                    gone = weakref.ref(block)
                    if number % 2:
                        await put(store, ref_of(number), block)
                    else:
                        wrong = crc32c(block) ^ 1
                        await fails(CorruptData, store.put(ref_of(number), block, wrong))
                    del block
                    await eventually_async(lambda gone=gone: gone() is None, what="gone")
                assert not garbage.left()

    run(main())

"""Disks that fail or fill up: nothing acknowledged is lost, reads go on, and the error is clear."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path

import pytest
from node_support import (
    block_of,
    open_store,
    opened,
    put,
    read_back,
    ref_of,
    run,
    write,
)

from predastore._fast.crc import crc32c
from predastore.base.errors import NodeError, NodeFull, ShardCorrupt, StartupError, StoreFailed
from predastore.base.limits import KIB, MIB
from predastore.base.syscalls import start_writeback
from predastore.node.disk import RealDisk, StoreDisk
from predastore.node.index import Frozen, Index
from predastore.node.listing import segment_sizes
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from predastore.rpc import Buffer
from support.waiting import eventually_async


class FailingDisk(RealDisk):
    """`fail`: names of methods that raise EIO. `room_bytes`: what may still be written."""

    def __init__(self) -> None:
        self.fail: set[str] = set()
        self.room_bytes = 1 << 40

    def _check(self, method: str) -> None:
        if method in self.fail:
            raise OSError(errno.EIO, "the disk is broken")

    def write(self, descriptor: int, pieces: Sequence[Buffer], offset: int) -> None:
        self._check("write")
        size = sum(map(len, pieces))
        if size > self.room_bytes:
            # A disk takes what it can before it says that it is full.
            super().write(descriptor, [b"".join(pieces)[: self.room_bytes]], offset)
            raise OSError(errno.ENOSPC, "no space")
        super().write(descriptor, pieces, offset)

    def sync(self, descriptor: int) -> None:
        self._check("sync")
        super().sync(descriptor)

    def create(self, path: Path) -> int:
        self._check("create")
        if self.room_bytes < 100:
            raise OSError(errno.ENOSPC, "no space")
        return super().create(path)

    def truncate(self, descriptor: int, length: int) -> None:
        self._check("truncate")
        super().truncate(descriptor, length)

    def free_bytes(self, path: Path) -> int:
        return self.room_bytes


@pytest.mark.parametrize("method", ["write", "sync"])
def test_after_an_io_error_nothing_is_written_and_reads_go_on(tmp_path: Path, method: str) -> None:
    async def main() -> None:
        disk = FailingDisk()
        async with opened(tmp_path, disk=disk) as store:
            await put(store, ref_of(1), b"before")
            disk.fail = {method}
            with pytest.raises(StoreFailed, match="the disk is broken"):
                await put(store, ref_of(2), b"during")
            disk.fail = set()
            for call in (
                put(store, ref_of(3), b"after"),
                write(store, ref_of(4), [b"after"]),
                store.delete([ref_of(1)]),
            ):
                with pytest.raises(StoreFailed):
                    await call
            assert await read_back(store, ref_of(1), [b"before"])
            assert not await read_back(store, ref_of(2), [b"during"])
            assert "broken" in (await store.status()).failure
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), [b"before"])
            assert not await read_back(store, ref_of(3), [b"after"])

    run(main())


def test_all_writes_of_a_batch_that_failed_have_an_answer(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FailingDisk()
        async with opened(tmp_path, disk=disk) as store:
            disk.fail = {"sync"}
            block = b"x" * 100
            results = await asyncio.gather(
                *(put(store, ref_of(n), block) for n in range(20)),
                *(store.append(ref_of(n), 0, block, crc32c(block)) for n in range(20, 40)),
                return_exceptions=True,
            )
            assert all(isinstance(result, StoreFailed) for result in results[:20])

    run(main())


def test_a_disk_that_fails_at_start_is_a_startup_error(tmp_path: Path) -> None:
    disk = FailingDisk()
    disk.fail = {"create"}
    with pytest.raises(StartupError, match="the disk is broken"):
        run(open_store(tmp_path, disk=disk))
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="can not be used"):
        run(open_store(tmp_path / "file"))


@pytest.mark.parametrize("room_bytes", [0, 50, 79, 80, 5000, 20_000])
def test_writes_without_room_leave_nothing_behind(tmp_path: Path, room_bytes: int) -> None:
    async def main() -> None:
        disk = FailingDisk()
        async with opened(tmp_path, disk=disk) as store:
            await write(store, ref_of(1), [block_of(i, 3000) for i in range(3)])
            await store.append(ref_of(2), 0, b"begun", crc32c(b"begun"))
            disk.room_bytes = room_bytes
            with pytest.raises(NodeFull):
                await put(store, ref_of(3), bytes(30_000))
            with pytest.raises(NodeFull):
                await store.append(ref_of(2), 1, bytes(30_000), crc32c(bytes(30_000)))
            assert await read_back(store, ref_of(1), [block_of(i, 3000) for i in range(3)])
            disk.room_bytes = 1 << 40
            with pytest.raises(NodeError, match="0 blocks are here"):
                await store.commit(ref_of(2), 1, 5)
            await put(store, ref_of(3), b"room again")
        async with opened(tmp_path) as store:
            assert store.recovery.damaged == 0
            assert await read_back(store, ref_of(1), [block_of(i, 3000) for i in range(3)])
            assert await read_back(store, ref_of(3), [b"room again"])

    run(main())


def test_a_disk_full_at_the_end_of_a_segment_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FailingDisk()
        acknowledged: dict[ShardRef, bytes] = {}
        async with opened(tmp_path, disk=disk, segment_bytes_max=100 * KIB) as store:
            for number in range(60):
                disk.room_bytes = (80, 1 << 40, 6000, 0)[number % 4]
                block = block_of(number, 9000)
                try:
                    await put(store, ref_of(number), block)
                    acknowledged[ref_of(number)] = block
                except NodeFull:
                    assert number % 4 != 1
            disk.room_bytes = 1 << 40
            assert len(acknowledged) == 15
            await check(store, acknowledged)
        for path in (tmp_path / "index").iterdir():
            path.unlink()
        async with opened(tmp_path, segment_bytes_max=100 * KIB) as store:
            assert store.recovery.damaged == 0
            await check(store, acknowledged)
            assert (await store.status()).shard_count == 15

    async def check(store: ShardStore, shards: dict[ShardRef, bytes]) -> None:
        for ref, block in shards.items():
            assert await read_back(store, ref, [block])

    run(main())


def test_the_reserve_is_for_deletes_and_commits(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FailingDisk()
        async with opened(tmp_path, disk=disk, reserve_bytes=1000) as store:
            await put(store, ref_of(1), b"1")
            await store.append(ref_of(2), 0, b"2", crc32c(b"2"))
            disk.room_bytes = 999
            assert (await store.status()).free_bytes == 0
            for call in (put(store, ref_of(3), b"3"), write(store, ref_of(4), [b"4"])):
                with pytest.raises(NodeFull, match="reserve"):
                    await call
            await store.commit(ref_of(2), 1, 1)
            await store.delete([ref_of(1)])
            assert await read_back(store, ref_of(2), [b"2"])
            disk.room_bytes = 1500
            assert (await store.status()).free_bytes == 500
            await put(store, ref_of(3), b"3")

    run(main())


def test_a_read_error_is_a_corrupt_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "bad sector")

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), b"data")
            monkeypatch.setattr("predastore.node.reader.read_block", broken)
            with pytest.raises(ShardCorrupt, match="bad sector"):
                await store.read(ref_of(1), 0, 0, 1)

    run(main())


def test_a_segment_lost_while_the_store_is_open_is_a_corrupt_shard(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), b"data")
            (tmp_path / "segments" / "00000001.seg").rename(tmp_path / "elsewhere")
            with pytest.raises(ShardCorrupt, match="is gone"):
                await store.read(ref_of(1), 0, 0, 1)
            (tmp_path / "elsewhere").rename(tmp_path / "segments" / "00000001.seg")

    run(main())


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 3 MiB, or of as many as the test says."""
    mount = tmp_path / "small"
    mount.mkdir()
    size = f"size={getattr(request, 'param', 3)}m"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_really_full_disk_refuses_reads_on_and_recovers(small_disk: Path) -> None:
    async def main() -> None:
        acknowledged: dict[ShardRef, bytes] = {}
        async with opened(small_disk / "node") as store:
            for number in range(40):
                block = block_of(number, 100_000)
                try:
                    await put(store, ref_of(number), block)
                    acknowledged[ref_of(number)] = block
                except NodeFull:
                    break
            else:
                raise AssertionError("the disk never was full")
            assert len(acknowledged) > 10
            for ref, block in acknowledged.items():
                assert await read_back(store, ref, [block])
            await store.delete(list(acknowledged))
        async with opened(small_disk / "node") as store:
            assert store.recovery.damaged == 0
            assert (await store.status()).shard_count == 0
            for number in range(10):
                await put(store, ref_of(number), block_of(number, 100_000))

    run(main())


@pytest.mark.parametrize("small_disk", [12], indirect=True)
def test_a_full_disk_is_emptied_by_compaction_and_takes_writes_again_by_itself(
    small_disk: Path,
) -> None:
    """No restart, and no segment that was wholly deleted: half of each stays."""

    async def fill(store: ShardStore, shards: dict[ShardRef, bytes], first: int) -> None:
        for number in range(first, first + 1000):
            block = block_of(number, 50_000)
            try:
                await put(store, ref_of(number), block)
            except NodeFull:
                return
            shards[ref_of(number)] = block
        raise AssertionError("the disk never was full")

    async def main() -> None:
        shards: dict[ShardRef, bytes] = {}
        async with opened(
            small_disk / "node", segment_bytes_max=MIB, reserve_bytes=3 * MIB, upkeep=True
        ) as store:
            await fill(store, shards, 0)
            full = len(shards)
            assert full > 100
            for ref in list(shards)[::2]:
                await store.delete([ref])
                del shards[ref]
            for ref, block in shards.items():
                assert await read_back(store, ref, [block])
            used = sum(segment_sizes(small_disk / "node" / "segments"))

            def emptied() -> bool:
                now = sum(segment_sizes(small_disk / "node" / "segments"))
                return now < 0.7 * used

            await eventually_async(emptied, within_s=30, what="compaction to make room")
            await fill(store, shards, 1000)
            assert len(shards) > 0.8 * full
            for ref, block in shards.items():
                assert await read_back(store, ref, [block])

    run(main())


async def outcome(work: Awaitable[object]) -> NodeFull | None:
    try:
        await work
    except NodeFull as error:
        return error
    return None


def test_an_index_without_room_is_written_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.index.NODE_INDEX_LAYER_SHARDS_MAX", 10)
    full = [True]
    write_frozen = Index.write_frozen

    def sometimes_full(index: Index, frozen: Frozen) -> None:
        if full[0]:
            raise NodeFull("no room for the node's index")
        write_frozen(index, frozen)

    monkeypatch.setattr(Index, "write_frozen", sometimes_full)

    async def main() -> None:
        full[0] = False
        async with opened(tmp_path) as store:
            full[0] = True
            outcomes = [await outcome(put(store, ref_of(n), bytes(20_000))) for n in range(50)]
            accepted = outcomes.count(None)
            assert 20 <= accepted <= 40, "what waits is bounded"
            refusals = {str(each) for each in outcomes[accepted:]}
            assert refusals == {"the node's index has no room to grow; make some on its disk"}
            await store.delete([ref_of(number) for number in range(15)])
            full[0] = False
            await outcome(put(store, ref_of(99), bytes(20_000)))  # the index is tried after it
            await eventually_async(
                lambda: store._index.layer_load < 2, what="the index to be written"
            )
            for number in range(50, 60):
                await put(store, ref_of(number), bytes(20_000))
            assert await read_back(store, ref_of(19), [bytes(20_000)])
            held = (await store.status()).shard_count
            assert held in (accepted - 15 + 10, accepted - 15 + 11)
        async with opened(tmp_path) as store:
            assert store.recovery.changes == 0
            assert (await store.status()).shard_count == held

    run(main())


def test_writeback_of_a_bad_descriptor_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.write(b"data")
        file.flush()
        start_writeback(file.fileno(), 0, 4)
    with pytest.raises(OSError, match="Bad file descriptor"):
        start_writeback(-1, 0, 4)


def test_the_disks_fit_the_seam() -> None:
    disks: list[StoreDisk] = [RealDisk(), FailingDisk()]
    assert disks

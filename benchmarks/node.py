"""A shard node against the disk under it, and its framing against a memory copy.

The yardstick of an append is what it can not do without: the same bytes written with pwrite to a
file that grows, and fdatasync, in this process, on the same file system, without threads, CRCs or
an index. With several writers, a store may be above it, since they share syncs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.measure import Row, Timing, row, throughput_row, timing
from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.limits import KIB, MIB
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore

ROUNDS: Final = 7
PUTS_A_ROUND: Final = 400
APPENDS_A_ROUND: Final = 64
READS_A_ROUND: Final = 200
FRAMES: Final = 16
UPKEEP_BLOCK_BYTES: Final = 64 * KIB
UPKEEP_BLOCKS: Final = 10_000  # 625 MiB, half of which is deleted
UPKEEP_BLOCKS_A_ROUND: Final = 4_000  # 250 MiB more, so that compaction has enough to do
UPKEEP_REQUESTS: Final = 1_200  # a round
UPKEEP_PAUSE_S: Final = 0.002


def rows() -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="predastore-node-", dir="."))
    try:
        return [*_framing(), *uvloop.run(_store_rows(folder))]
    finally:
        shutil.rmtree(folder)


def _framing() -> list[Row]:
    return [_scan_row("frame.scan.1MiB", MIB), _scan_row("frame.scan.4KiB", 4 * KIB)]


def _scan_row(name: str, size: int) -> Row:
    """Walking records and verifying their payloads, against copying them."""
    payload = os.urandom(size)
    region, crc = bytearray(), crc32c(payload)
    for _ in range(FRAMES * MIB // size):
        header = bytearray(frame.HEADER_BYTES)
        frame.pack_into(
            header, 0, len(region), 7, 0, frame.BLOCK, 0, bytes(32), bytes(16), 0, 0, size, crc
        )
        region += header + payload
    target = bytearray(len(region))

    def scan() -> None:
        _, end, _ = frame.scan(region, 0, 7)
        assert end == len(region)

    def copy() -> None:
        target[:] = region

    return throughput_row(name, len(region), scan, "memory copy of the same bytes", copy)


def _new_ref() -> ShardRef:
    return ShardRef(os.urandom(32), os.urandom(16), 0)


class _Raw:
    """pwrite and fdatasync on a file that grows."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self._at = 0

    def seconds(self, block: bytes, count: int, blocks_a_sync: int = 1) -> float:
        start = time.perf_counter()
        for number in range(1, count + 1):
            os.pwrite(self._descriptor, block, self._at)
            self._at += len(block)
            if number % blocks_a_sync == 0:
                os.fdatasync(self._descriptor)
        return time.perf_counter() - start

    def close(self) -> None:
        os.close(self._descriptor)


async def _timed(writers: int, count: int, work: Callable[[int], Awaitable[None]]) -> float:
    """Seconds until `writers` tasks have each done their share of `count`."""
    start = time.perf_counter()
    await asyncio.gather(*(work(count // writers) for _ in range(writers)))
    return time.perf_counter() - start


async def _store_rows(folder: Path) -> list[Row]:
    raw = _Raw(folder / "raw")
    store = await ShardStore.open(folder / "node", node_id=1, cluster_id=bytes(16))
    found = []
    try:
        for writers in (1, 16):
            found.append(await _put_row(store, raw, writers))
        for writers in (1, 16):
            found.append(await _append_row(store, raw, writers))
        found.append(await _read_row(store, "node.read.4KiB", 4 * KIB))
        found.append(await _read_row(store, "node.read.1MiB", MIB))
    finally:
        raw.close()
        await store.close()
    return [*found, *await _upkeep_rows(folder / "upkeep")]


async def _upkeep_rows(folder: Path) -> list[Row]:
    """What requests feel of compaction and of a scrub: the same load with and without, in turns."""
    store = await ShardStore.open(
        folder, node_id=1, cluster_id=bytes(16), segment_bytes_max=16 * MIB, upkeep=False
    )
    block = os.urandom(UPKEEP_BLOCK_BYTES)
    crc = crc32c(block)
    try:
        live = await _litter(store, block, crc, UPKEEP_BLOCKS)

        async def more_litter() -> None:
            await _litter(store, block, crc, UPKEEP_BLOCKS_A_ROUND)

        async def nothing() -> None:
            return

        async def compaction() -> None:
            while await store.compact():
                pass
            raise AssertionError("there was not enough to compact")

        async def scrub() -> None:
            while True:
                store.scrub(start=True)
                await store.scrub_round()

        before = await store.status()
        found = [
            await _p99_row(name, background, lambda: _load(store, live, block, crc), prepare)
            for name, background, prepare in (
                ("node.p99.scrub", scrub, nothing),
                ("node.p99.compaction", compaction, more_litter),
            )
        ]
        after = await store.status()
        assert after.moved_bytes > before.moved_bytes
        assert after.scrub_started_ms > before.scrub_started_ms
        return found
    finally:
        await store.close()


async def _litter(store: ShardStore, block: bytes, crc: int, count: int) -> list[ShardRef]:
    """Puts so many shards and deletes every other; those that stay."""
    refs = [_new_ref() for _ in range(count)]
    for at in range(0, count, 64):
        await asyncio.gather(*(store.put(ref, block, crc) for ref in refs[at : at + 64]))
    for at in range(0, count, 1000):
        await store.delete(refs[at : at + 1000 : 2])
    return refs[1::2]


async def _load(store: ShardStore, live: list[ShardRef], block: bytes, crc: int) -> list[float]:
    """Seconds that each request took: puts and reads, by four clients that pause in between."""
    taken: list[float] = []

    async def client(number: int) -> None:
        for at in range(UPKEEP_REQUESTS // 8):
            for work in (
                store.put(_new_ref(), block, crc),
                store.read(live[(number * 977 + at * 31) % len(live)], 0, 0, len(block)),
            ):
                begun_s = time.perf_counter()
                await work
                taken.append(time.perf_counter() - begun_s)
                await asyncio.sleep(UPKEEP_PAUSE_S)

    await asyncio.gather(*(client(number) for number in range(4)))
    return taken


async def _p99_row(
    name: str,
    background: Callable[[], Coroutine[None, None, None]],
    load: Callable[[], Awaitable[list[float]]],
    prepare: Callable[[], Awaitable[None]],
) -> Row:
    """The 99th percentile of a request with `background` going on, in ms; its median round, beside
    that without."""
    mine, other = [], []
    await load()
    for _ in range(ROUNDS):
        await prepare()
        other.append(_p99_ms(await load()))
        task = asyncio.create_task(background())
        mine.append(_p99_ms(await load()))
        assert not task.done() or task.exception() is None, task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    with_it, without = timing(mine), timing(other)
    return row(
        name, with_it.median_s, "ms", spread=with_it.spread,
        yardstick="the same requests without it", yardstick_value=without.median_s,
    )  # fmt: skip


def _p99_ms(taken_s: list[float]) -> float:
    return 1000 * statistics.quantiles(taken_s, n=100)[98]


async def _put_row(store: ShardStore, raw: _Raw, writers: int) -> Row:
    block = os.urandom(4 * KIB)
    crc = crc32c(block)

    async def puts(count: int) -> None:
        for _ in range(count):
            await store.put(_new_ref(), block, crc)

    mine, other = [], []
    for _ in range(ROUNDS):
        mine.append(await _timed(writers, PUTS_A_ROUND, puts))
        other.append(raw.seconds(block, PUTS_A_ROUND))
    return _row(
        f"node.put.4KiB.{writers}", PUTS_A_ROUND, "/s", (timing(mine), timing(other)),
        "pwrite + fdatasync of 4 KiB, one after the other",
    )  # fmt: skip


async def _append_row(store: ShardStore, raw: _Raw, writers: int) -> Row:
    """Shards of several blocks: one sync a shard, for the yardstick too."""
    block = os.urandom(MIB)
    crc = crc32c(block)
    blocks_a_shard = min(16, APPENDS_A_ROUND // writers)

    async def shards(count: int) -> None:
        for _ in range(count // blocks_a_shard):
            ref = _new_ref()
            for stripe in range(blocks_a_shard):
                await store.append(ref, stripe, block, crc)
            await store.commit(ref, blocks_a_shard, blocks_a_shard * MIB)

    mine, other = [], []
    for _ in range(ROUNDS):
        mine.append(await _timed(writers, APPENDS_A_ROUND, shards))
        other.append(raw.seconds(block, APPENDS_A_ROUND, blocks_a_shard))
    return _row(
        f"node.append.1MiB.{writers}", APPENDS_A_ROUND, "MiB/s", (timing(mine), timing(other)),
        f"pwrite of 1 MiB, fdatasync after each {blocks_a_shard}",
    )  # fmt: skip


async def _read_row(store: ShardStore, name: str, size: int) -> Row:
    """A block from the page cache, through lookup and CRC, against pread alone."""
    block = os.urandom(size)
    ref = _new_ref()
    await store.put(ref, block, crc32c(block))
    source = os.memfd_create("yardstick")
    os.write(source, block)
    buffer = bytearray(size)
    mine, other = [], []
    try:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(READS_A_ROUND):
                await store.read(ref, 0, 0, size)
            mine.append(time.perf_counter() - start)
            start = time.perf_counter()
            for _ in range(READS_A_ROUND):
                os.preadv(source, [buffer], 0)
            other.append(time.perf_counter() - start)
    finally:
        os.close(source)
    return _row(
        name,
        READS_A_ROUND,
        "/s",
        (timing(mine), timing(other)),
        f"pread of {size >> 10} KiB, cached",
    )


def _row(name: str, count: int, unit: str, times: tuple[Timing, Timing], yardstick: str) -> Row:
    mine, other = times
    return row(
        name,
        mine.per_second(count),
        unit,
        spread=mine.spread,
        yardstick=yardstick,
        yardstick_value=other.per_second(count),
    )

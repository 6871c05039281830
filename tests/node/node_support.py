"""Shards and stores for the tests of the node."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import ShardNotFound
from predastore.base.limits import KIB
from predastore.node.scanning import Gap, walk
from predastore.node.segment import HEADER_BYTES, read_header
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore

T = TypeVar("T")

CLUSTER = bytes(range(16))
SEGMENT_BYTES = 256 * KIB

Shards = dict[ShardRef, list[bytes]]


def ref_of(number: int, index: int = 0) -> ShardRef:
    source = random.Random(number)
    return ShardRef(source.randbytes(32), source.randbytes(16), index)


def block_of(seed: object, size: int) -> bytes:
    return random.Random(repr(seed)).randbytes(size)


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


async def open_store(path: Path, **options: Any) -> ShardStore:
    defaults: dict[str, Any] = {
        "node_id": 3,
        "cluster_id": CLUSTER,
        "segment_bytes_max": SEGMENT_BYTES,
        "reserve_bytes": 0,
        "upkeep": False,
    }
    return await ShardStore.open(path, **(defaults | options))


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[ShardStore]:
    store = await open_store(path, **options)
    try:
        yield store
    finally:
        await store.close()


async def put(store: ShardStore, ref: ShardRef, block: bytes) -> None:
    await store.put(ref, block, crc32c(block))


async def write(store: ShardStore, ref: ShardRef, blocks: list[bytes]) -> None:
    """Appends and commits."""
    for stripe, block in enumerate(blocks):
        await store.append(ref, stripe, block, crc32c(block))
    await store.commit(ref, len(blocks), sum(map(len, blocks)))


async def keep(store: ShardStore, ref: ShardRef, blocks: list[bytes]) -> None:
    """A shard of one block or several, each in the way that is meant for it."""
    await (put(store, ref, blocks[0]) if len(blocks) == 1 else write(store, ref, blocks))


def some_shards(count: int, seed: int = 0) -> Shards:
    """Of one to three blocks of 3 to 12 KB."""
    return {
        ref_of(seed + n): [block_of((seed, n, i), 3000 + 700 * n % 9000) for i in range(1 + n % 3)]
        for n in range(count)
    }


async def fill(store: ShardStore, shards: Shards) -> None:
    for ref, blocks in shards.items():
        await keep(store, ref, blocks)


async def read_back(store: ShardStore, ref: ShardRef, blocks: list[bytes]) -> bool:
    """Whether the store has exactly these blocks; False if it has no such shard."""
    try:
        found = await store.stat(ref)
    except ShardNotFound:
        return False
    assert (found.block_count, found.byte_count) == (len(blocks), sum(map(len, blocks)))
    for stripe, block in enumerate(blocks):
        assert await store.read(ref, stripe, 0, len(block)) == block
    return True


def segments(path: Path) -> list[Path]:
    return sorted((path / "segments").glob("*.seg"))


def records_of(segment: Path) -> list[frame.Record]:
    """The records of a segment file."""
    descriptor = os.open(segment, os.O_RDONLY)
    try:
        tag = read_header(descriptor).tag
        size = segment.stat().st_size
        found = list(walk(descriptor, HEADER_BYTES, size, tag, payloads=True))
    finally:
        os.close(descriptor)
    return [item for item in found if not isinstance(item, Gap)]


async def damage_block(store: ShardStore, path: Path, ref: ShardRef, stripe: int) -> None:
    """Flips a bit of a block, in place: the store may have the file open."""
    place = (await store.locate(ref)).blocks[stripe]
    file = os.open(path / "segments" / f"{place.segment:08d}.seg", os.O_RDWR)
    try:
        at = place.offset + place.length // 2
        (byte,) = os.pread(file, 1, at)
        os.pwrite(file, bytes([byte ^ 4]), at)
    finally:
        os.close(file)


def damage(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x41
    file.write_bytes(content)

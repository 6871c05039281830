"""Extents: bytes that lie somewhere, and where. And the ids under which they are written.

A layout (catalog/rows.py) is a list of extents. Healing and moving change where the shards of an
extent lie, and nothing else. Write ids, and other ids that are made here, begin with 6 bytes of
time in ms, so that those of one moment lie together and sort by age.
"""

from __future__ import annotations

import time
from typing import Final, TypeAlias

import msgspec

from predastore.base.randomness import random_bytes

HASH_BYTES: Final = 32
ID_BYTES: Final = 16
_RANDOM_BYTES: Final = ID_BYTES - 6
MISSING: Final = -1  # in ShardExtent.nodes: no node holds this shard


class ShardExtent(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Bytes that lie as shards: `size` bytes in stripes of k blocks of `block_bytes`.

    `nodes`: the node of each of the k + m shards in shard order, or MISSING; empty where `size`
    is 0. `shard_hash` and `write_id` are the name of the shards on their nodes.
    """

    shard_hash: bytes
    write_id: bytes
    k: int
    m: int
    block_bytes: int
    size: int
    nodes: tuple[int, ...]


class FileExtent(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """Bytes that lie in one file. `path` is relative to the base path. `crcs`: the CRC32C of
    each `block_bytes` of it, 4 bytes little endian each. `inode`: the file's, when written."""

    path: str
    write_id: bytes
    size: int
    block_bytes: int
    crcs: bytes
    inode: int


Extent: TypeAlias = ShardExtent | FileExtent


def new_id() -> bytes:
    """A fresh write, commit, request or upload id."""
    return now_ms().to_bytes(6, "big") + random_bytes(_RANDOM_BYTES)


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


def missing_of(extent: ShardExtent, shards: tuple[int, ...]) -> tuple[int, ...]:
    """`shards`, which are said to be missing or bad, and those that have no node."""
    homeless = {shard for shard, node in enumerate(extent.nodes) if node == MISSING}
    return tuple(sorted(homeless.union(shards)))

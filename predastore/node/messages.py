"""Requests and responses of a shard node's rpc methods.

A field may be added at the end with a default; none may be removed or change its meaning.
"""

from __future__ import annotations

import msgspec

from predastore.node.shard import ShardRef


class Done(msgspec.Struct, frozen=True, array_like=True):
    """It is done, as far as the method promises."""


class Put(msgspec.Struct, frozen=True, array_like=True):
    """shard.put; the payload is the only block."""

    ref: ShardRef
    crc: int


class Append(msgspec.Struct, frozen=True, array_like=True):
    """shard.append; the payload is the block."""

    ref: ShardRef
    stripe: int
    crc: int


class Commit(msgspec.Struct, frozen=True, array_like=True):
    ref: ShardRef
    block_count: int
    byte_count: int


class Read(msgspec.Struct, frozen=True, array_like=True):
    """shard.read; the bytes are the payload of the response."""

    ref: ShardRef
    stripe: int
    offset: int
    length: int


class Stat(msgspec.Struct, frozen=True, array_like=True):
    ref: ShardRef


class ShardStat(msgspec.Struct, frozen=True, array_like=True):
    block_count: int
    byte_count: int


class Delete(msgspec.Struct, frozen=True, array_like=True):
    refs: list[ShardRef]


class Abort(msgspec.Struct, frozen=True, array_like=True):
    ref: ShardRef


class Status(msgspec.Struct, frozen=True, array_like=True):
    """node.status"""


class NodeStatus(msgspec.Struct, frozen=True, array_like=True):
    """`used_bytes`: of all segments, dead space included; `free_bytes`: what may still be put.
    `failure`: why nothing is written any more, or empty. `corrupt_reads`: blocks that failed their
    CRC since the start; `damaged_places`: what the start found."""

    id: int
    used_bytes: int
    free_bytes: int
    segment_count: int
    shard_count: int
    failure: str = ""
    corrupt_reads: int = 0
    damaged_places: int = 0

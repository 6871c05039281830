"""Requests and responses of a shard node's rpc methods.

A field may be added at the end with a default; none may be removed or change its meaning.
"""

from __future__ import annotations

import msgspec

from predastore.node.shard import ShardRef


class Done(msgspec.Struct, frozen=True, array_like=True):
    """It is done, as far as the method promises."""


class PutRequest(msgspec.Struct, frozen=True, array_like=True):
    """shard.put; the payload is the only block."""

    ref: ShardRef
    crc: int


class AppendRequest(msgspec.Struct, frozen=True, array_like=True):
    """shard.append; the payload is the block."""

    ref: ShardRef
    stripe: int
    crc: int


class CommitShardRequest(msgspec.Struct, frozen=True, array_like=True):
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


class DeleteRequest(msgspec.Struct, frozen=True, array_like=True):
    refs: list[ShardRef]


class AbortRequest(msgspec.Struct, frozen=True, array_like=True):
    ref: ShardRef


class StoreStatusRequest(msgspec.Struct, frozen=True, array_like=True):
    """node.status"""


class NodeStatus(msgspec.Struct, frozen=True, array_like=True):
    """`used_bytes`: of all segments, dead space included; `free_bytes`: what may still be put.
    `failure`: why nothing is written any more, or empty. `corrupt_reads`: blocks that failed their
    CRC since the start; `damaged_places`: what the start found. `live_bytes`: of blocks of shards
    that are there, with their headers; `dead_bytes`: the rest of the segments. `bad_shards`: those
    with blocks known to be bad. `disk_free_bytes`, `disk_total_bytes`: of the file system.
    `store_id`: drawn when the directory was made; another one has other contents.
    `compacted_segments`, `moved_bytes`, `reclaimed_bytes`: since the start, segments rewritten,
    what was moved out of them, and what unlinked segments had. `scrub_share`: of all segments,
    read in the running round, or 1; `scrub_finished_ms`: when the last round ended, since 1970, or
    0; `damaged_segments`: those that wait to be rewritten. `pending_shards`: appended to of late,
    and not committed."""

    id: int
    used_bytes: int
    free_bytes: int
    segment_count: int
    shard_count: int
    failure: str = ""
    corrupt_reads: int = 0
    damaged_places: int = 0
    live_bytes: int = 0
    dead_bytes: int = 0
    bad_shards: int = 0
    disk_free_bytes: int = 0
    disk_total_bytes: int = 0
    store_id: str = ""
    compacted_segments: int = 0
    moved_bytes: int = 0
    reclaimed_bytes: int = 0
    scrub_running: bool = False
    scrub_share: float = 0.0
    scrub_started_ms: int = 0
    scrub_finished_ms: int = 0
    scrub_bad_blocks: int = 0
    damaged_segments: int = 0
    pending_shards: int = 0


class ListShards(msgspec.Struct, frozen=True, array_like=True):
    """node.shards. `after`: a shard's key (shard.py), or empty; `limit`: rows of the answer, at
    most NODE_PAGE_SHARDS_MAX."""

    after: bytes
    limit: int


class ShardRow(msgspec.Struct, frozen=True, array_like=True):
    """A committed shard. `written_ms`: when it was committed, since 1970, to the second; of one
    whose time was lost, when the node was started after that. `bad`: some of it is known to be."""

    ref: ShardRef
    block_count: int
    byte_count: int
    written_ms: int
    bad: bool


class ShardRows(msgspec.Struct, frozen=True, array_like=True):
    """In the order of keys. `more`: go on after the key of the last. `now_ms`: the node's clock, by
    which `written_ms` was taken; 0: it does not say."""

    rows: list[ShardRow]
    more: bool
    now_ms: int = 0


class ListBad(msgspec.Struct, frozen=True, array_like=True):
    """node.bad; as ListShards."""

    after: bytes
    limit: int


class BadShard(msgspec.Struct, frozen=True, array_like=True):
    """A shard with blocks that are known to be bad: damaged, or lost."""

    ref: ShardRef
    stripes: list[int]


class BadShards(msgspec.Struct, frozen=True, array_like=True):
    """As ShardRows; at most NODE_PAGE_STRIPES_MAX stripes, unless one shard has more."""

    rows: list[BadShard]
    more: bool


class Locate(msgspec.Struct, frozen=True, array_like=True):
    """shard.locate. `first`: of the stripes that are asked for."""

    ref: ShardRef
    first: int = 0


class BlockPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a block's bytes are: segments/<segment>.seg, from `offset` on. `bad`: known to be."""

    segment: int
    offset: int
    length: int
    bad: bool


class ShardPlaces(msgspec.Struct, frozen=True, array_like=True):
    """Of each block, by stripe, from the first that was asked for; `more`: the shard has others
    after these, which are NODE_PAGE_BLOCKS_MAX then."""

    blocks: list[BlockPlace]
    more: bool


class Scrub(msgspec.Struct, frozen=True, array_like=True):
    """node.scrub. `start`: a round is to begin now, else it is only asked about."""

    start: bool


class ScrubStatus(msgspec.Struct, frozen=True, array_like=True):
    """`running`, `share`: of the segments read so far, 1 if it is not running. Times are since
    1970, 0: never. `bad_blocks`: found in this round, or the last, and not known before;
    `damaged_segments`: that wait to be rewritten."""

    running: bool
    share: float
    started_ms: int
    finished_ms: int
    bad_blocks: int
    damaged_segments: int

"""What a store says about itself: pages of its shards, where their blocks are, which are bad, how
large its segments are.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

from predastore.base.limits import (
    NODE_PAGE_BLOCKS_MAX,
    NODE_PAGE_SHARDS_MAX,
    NODE_PAGE_STRIPES_MAX,
)
from predastore.node.disk import StoreDisk
from predastore.node.index import Index
from predastore.node.messages import (
    BadShard,
    BadShards,
    BlockPlace,
    ShardPlaces,
    ShardRow,
)
from predastore.node.segment import segment_numbers, segment_path
from predastore.node.shard import counts, locations, ref_of_key, written_s


def shards(index: Index, after: bytes, limit: int) -> tuple[list[ShardRow], bool]:
    """Up to `limit` committed shards in the order of their keys, beyond the key `after`; whether
    there are more."""
    limit = min(max(limit, 1), NODE_PAGE_SHARDS_MAX)
    found = index.page(after, limit + 1)
    rows = []
    for key, entry in found[:limit]:
        _, block_count, byte_count = counts(entry)
        written_ms = written_s(entry) * 1000
        rows.append(
            ShardRow(ref_of_key(key), block_count, byte_count, written_ms, key in index.bad)
        )
    return rows, len(found) > limit


def bad(index: Index, after: bytes, limit: int) -> BadShards:
    """As `shards`, those with blocks known to be bad."""
    limit = min(max(limit, 1), NODE_PAGE_SHARDS_MAX)
    found = index.bad.page(after, limit + 1)
    rows: list[BadShard] = []
    total = 0
    for key, stripes in found[:limit]:
        total += len(stripes)
        if rows and total > NODE_PAGE_STRIPES_MAX:
            break
        rows.append(BadShard(ref_of_key(key), stripes))
    return BadShards(rows, len(found) > len(rows))


def segment_sizes(folder: Path) -> list[int]:
    """Bytes of each segment in a folder."""
    sizes = []
    for number in segment_numbers(folder):
        with suppress(FileNotFoundError):  # unlinked since it was listed
            sizes.append(segment_path(folder, number).stat().st_size)
    return sizes


def space(folder: Path, disk: StoreDisk) -> tuple[list[int], int, int, str]:
    """Bytes of each segment, free and total bytes of the disk, and what is wrong, or ""."""
    try:
        return segment_sizes(folder), *disk.space(folder), ""
    except OSError as error:
        return [], 0, 0, f"{folder}: {error.strerror}"


def places(index: Index, key: bytes, entry: bytes, first: int) -> ShardPlaces:
    """Where the blocks of a shard are, from stripe `first` on."""
    stripes = index.bad.stripes(key)
    end = first + NODE_PAGE_BLOCKS_MAX
    part = itertools.islice(enumerate(locations(entry)), max(first, 0), end)
    blocks = [
        BlockPlace(place.segment, place.payload_offset, place.length, stripe in stripes)
        for stripe, place in part
    ]
    return ShardPlaces(blocks, counts(entry).block_count > end)

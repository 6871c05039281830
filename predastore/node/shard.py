"""Names of shards, and what is stored about a committed one.

The key of a shard (50 bytes): object hash (32), write id (16), shard index (2, big endian).

An entry says where the blocks of a committed shard are. It is the payload of its commit record,
the value of its key in the index, and part of a footer; little endian:

    at  bytes  field
     0      4  when it was committed, in seconds since 1970; 0: not known
     4      4  block count n
     8      8  byte count of all blocks
    16   20 n  of each block, by stripe:
                 8  offset of its record in its segment
                 4  number of its segment
                 4  payload length in bytes
                 4  CRC32C of the payload

In the index, the first field is the number of the segment that holds the commit instead, and the
time stands at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

import msgspec

from predastore._fast.frame import HEADER_BYTES
from predastore.base.errors import FormatError
from predastore.base.limits import SHARDS_MAX

OBJECT_HASH_BYTES = 32
WRITE_ID_BYTES = 16
KEY_BYTES = OBJECT_HASH_BYTES + WRITE_ID_BYTES + 2

ENTRY_HEADER = Struct("<IIQ")
LOCATION = Struct("<QIII")
_TIME_BYTES = 4


class ShardRef(msgspec.Struct, frozen=True, array_like=True):
    """Shard `index` of the write `write_id` of an object."""

    object_hash: bytes
    write_id: bytes
    index: int

    def key(self) -> bytes:
        """FormatError for a field of the wrong size."""
        if (
            len(self.object_hash) != OBJECT_HASH_BYTES
            or len(self.write_id) != WRITE_ID_BYTES
            or not 0 <= self.index < SHARDS_MAX
        ):
            raise FormatError("not a shard: hash of 32 bytes, write id of 16, index below 256")
        return self.object_hash + self.write_id + self.index.to_bytes(2, "big")


class Location(NamedTuple):
    """Where a block is: its record's offset in its segment, and how to verify it."""

    offset: int
    segment: int
    length: int
    crc: int

    @property
    def payload_offset(self) -> int:
        return self.offset + HEADER_BYTES


class Counts(NamedTuple):
    """The head of an entry of the index."""

    commit_segment: int
    block_count: int
    byte_count: int


def split_key(key: bytes) -> tuple[bytes, bytes, int]:
    """(object hash, write id, index) of a key."""
    return key[:32], key[32:48], int.from_bytes(key[48:], "big")


def ref_of_key(key: bytes) -> ShardRef:
    return ShardRef(*split_key(key))


def show_key(key: bytes) -> str:
    """A shard as a message names it."""
    return f"{key[:8].hex()}../{key[32:48].hex()}#{int.from_bytes(key[48:], 'big')}"


def encode_entry(written_s: int, locations: Sequence[Location]) -> bytes:
    """An entry as a commit record has it."""
    byte_count = sum(location.length for location in locations)
    return ENTRY_HEADER.pack(written_s, len(locations), byte_count) + b"".join(
        LOCATION.pack(*location) for location in locations
    )


def entry_bytes(block_count: int) -> int:
    """The size of an entry in a commit record."""
    return ENTRY_HEADER.size + block_count * LOCATION.size


def as_indexed(entry: bytes, segment: int, unknown_s: int) -> bytes:
    """An entry as the index has it, from one as a commit record has it. `unknown_s`: the time to
    be taken for one that is not known."""
    time = entry[:_TIME_BYTES]
    if not any(time):
        time = unknown_s.to_bytes(_TIME_BYTES, "little")
    return segment.to_bytes(4, "little") + entry[4:] + time


def as_committed(indexed: bytes, places: Sequence[Location] | None = None) -> bytes:
    """An entry as a commit record has it, from one of the index; with other places for its
    blocks, if they are given."""
    if places is None:
        return indexed[-_TIME_BYTES:] + indexed[4:-_TIME_BYTES]
    return encode_entry(written_s(indexed), places)


def written_s(indexed: bytes) -> int:
    """When the shard of an entry of the index was committed, in seconds since 1970."""
    return int.from_bytes(indexed[-_TIME_BYTES:], "little")


def counts(entry: bytes | memoryview) -> Counts:
    return Counts._make(ENTRY_HEADER.unpack_from(entry))


def location(entry: bytes | memoryview, stripe: int) -> Location | None:
    """Where the block of a stripe is; None if the shard has no such stripe."""
    if not 0 <= stripe < counts(entry).block_count:
        return None
    return Location._make(LOCATION.unpack_from(entry, ENTRY_HEADER.size + stripe * LOCATION.size))


def locations(entry: bytes) -> Iterator[Location]:
    end = ENTRY_HEADER.size + counts(entry).block_count * LOCATION.size
    return map(Location._make, LOCATION.iter_unpack(memoryview(entry)[ENTRY_HEADER.size : end]))


def check_entry(entry: bytes) -> bool:
    """Whether these bytes, whose CRC was good, are an entry: guards against a writer's fault."""
    size = len(entry) - ENTRY_HEADER.size
    return size >= LOCATION.size and size == counts(entry).block_count * LOCATION.size

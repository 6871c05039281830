"""The bytes of a journal segment.

    segment  = header frame frame ...            numbers little-endian

    header     0  magic              8  "S3DBJRNL"
               8  format version     4  2
              12  member id          4
              16  segment number     8  1, 2, 3 ... without a gap
              24  base position      8  bytes of all segments before this one
              32  salt               8  random; begins the CRC of each frame
              40  CRC32C             4  of bytes 0..39
              44  zero               4

    frame      0  magic              4  "FRM1"
               4  payload length     4
               8  position           8  base position + offset of this frame in the file
              16  CRC32C             4  of salt, bytes 4..15, payload
              20  zero               4
              24  payload               records, one after the other

    record     0  kind               1
      1 entry       index 8, term 8, entry kind 1, data length 4, data
      2 hard state  term 8, vote 8 (signed; -1: none)
      3 truncate    first index 8
      4 marker      index 8, term 8, configuration length 4, configuration (msgpack)

A frame is what one step brought: written by one append, then synced. So at most the last
frame of the last segment can be torn, in whatever order the disk writes its pages; a frame
that is followed by a good one was synced, and if it is bad now, the disk has damaged it. Salt
and position keep a frame from being taken for one anywhere else, also in a client's value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData
from predastore.base.limits import JOURNAL_FRAME_BYTES_MAX
from predastore.s3db.raft.messages import (
    CONFIGURATION,
    Entry,
    HardState,
    Marker,
    Record,
    Truncate,
)
from predastore.s3db.versions import other_version

SEGMENT_MAGIC: Final = b"S3DBJRNL"
FORMAT_VERSION: Final = 2
FRAME_MAGIC: Final = b"FRM1"

_HEADER: Final = struct.Struct("<8sIIQQ8s")
_TAIL: Final = struct.Struct("<II")  # CRC32C, zero
_FRAME: Final = struct.Struct("<4sIQ")
_ENTRY: Final = struct.Struct("<BQQBI")
_HARD_STATE: Final = struct.Struct("<BQq")
_TRUNCATE: Final = struct.Struct("<BQ")
_MARKER: Final = struct.Struct("<BQQI")

HEADER_BYTES: Final = _HEADER.size + _TAIL.size
FRAME_BYTES: Final = _FRAME.size + _TAIL.size
assert (HEADER_BYTES, FRAME_BYTES) == (48, 24)

_KIND_ENTRY: Final = 1
_KIND_HARD_STATE: Final = 2
_KIND_TRUNCATE: Final = 3
_KIND_MARKER: Final = 4


class JournalHeader(NamedTuple):
    member: int
    number: int
    base: int
    salt: bytes

    def pack(self) -> bytes:
        head = _HEADER.pack(
            SEGMENT_MAGIC, FORMAT_VERSION, self.member, self.number, self.base, self.salt
        )
        return head + _TAIL.pack(crc32c(head), 0)


def unpack_header(data: bytes, where: str) -> JournalHeader:
    """CorruptData, UnsupportedFormat; `where` names the file for an operator."""
    if len(data) < HEADER_BYTES:
        raise CorruptData("the segment header is cut short")
    magic, version, member, number, base, salt = _HEADER.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise CorruptData("the segment header has the wrong magic")
    if _TAIL.unpack_from(data, _HEADER.size) != (crc32c(data[: _HEADER.size]), 0):
        raise CorruptData("the segment header fails its CRC")
    if version != FORMAT_VERSION:
        raise other_version(where, version, FORMAT_VERSION)
    return JournalHeader(member, number, base, salt)


def pack_frame(header: JournalHeader, offset: int, records: Iterable[Record]) -> bytes:
    """A frame that will stand at `offset` of the segment's file."""
    payload = b"".join(_pack(records))
    if len(payload) > JOURNAL_FRAME_BYTES_MAX:
        raise ValueError(f"a journal frame of {len(payload)} bytes")
    head = _FRAME.pack(FRAME_MAGIC, len(payload), header.base + offset)
    crc = crc32c(payload, crc32c(head[4:], crc32c(header.salt)))
    return b"".join((head, _TAIL.pack(crc, 0), payload))


def frame_bytes(head: bytes) -> int:
    """How long the frame is that begins so; 0 where none does."""
    if len(head) < FRAME_BYTES:
        return 0
    magic, length, _ = _FRAME.unpack_from(head)
    is_frame = magic == FRAME_MAGIC and length <= JOURNAL_FRAME_BYTES_MAX
    return FRAME_BYTES + length if is_frame else 0


def frame_at(header: JournalHeader, data: bytes, offset: int) -> memoryview | None:
    """The payload of the frame at `offset`; None if there is no good one."""
    if offset + FRAME_BYTES > len(data):
        return None
    magic, length, position = _FRAME.unpack_from(data, offset)
    if magic != FRAME_MAGIC or position != header.base + offset:
        return None
    start = offset + FRAME_BYTES
    if length > JOURNAL_FRAME_BYTES_MAX or start + length > len(data):
        return None
    payload = memoryview(data)[start : start + length]
    crc = crc32c(data[offset + 4 : offset + _FRAME.size], crc32c(header.salt))
    if _TAIL.unpack_from(data, offset + _FRAME.size) != (crc32c(payload, crc), 0):
        return None
    return payload


def next_good_frame(header: JournalHeader, data: bytes, offset: int) -> int | None:
    """The offset of a good frame after `offset`, at any byte; None if there is none."""
    while (offset := data.find(FRAME_MAGIC, offset + 1)) >= 0:
        if frame_at(header, data, offset) is not None:
            return offset
    return None


def _pack(records: Iterable[Record]) -> Iterable[bytes]:
    for record in records:
        if isinstance(record, Entry):
            size = len(record.data)
            yield _ENTRY.pack(_KIND_ENTRY, record.index, record.term, record.kind, size)
            yield record.data
        elif isinstance(record, HardState):
            yield _HARD_STATE.pack(_KIND_HARD_STATE, record.term, record.vote)
        elif isinstance(record, Truncate):
            yield _TRUNCATE.pack(_KIND_TRUNCATE, record.first)
        else:
            configuration = record.configuration.pack()
            yield _MARKER.pack(_KIND_MARKER, record.index, record.term, len(configuration))
            yield configuration


def unpack_records(payload: memoryview) -> Iterable[Record]:
    """The records of a frame whose CRC is good; CorruptData if it is no sequence of records."""
    offset = 0
    while offset < len(payload):
        kind = payload[offset]
        try:
            if kind == _KIND_ENTRY:
                _, index, term, entry_kind, size = _ENTRY.unpack_from(payload, offset)
                offset += _ENTRY.size + size
                yield Entry(index, term, entry_kind, bytes(payload[offset - size : offset]))
            elif kind == _KIND_HARD_STATE:
                _, term, vote = _HARD_STATE.unpack_from(payload, offset)
                offset += _HARD_STATE.size
                yield HardState(term, vote)
            elif kind == _KIND_TRUNCATE:
                _, first = _TRUNCATE.unpack_from(payload, offset)
                offset += _TRUNCATE.size
                yield Truncate(first)
            elif kind == _KIND_MARKER:
                _, index, term, size = _MARKER.unpack_from(payload, offset)
                offset += _MARKER.size + size
                yield Marker(index, term, CONFIGURATION.decode(payload[offset - size : offset]))
            else:
                raise CorruptData(f"a record of the unknown kind {kind}")
        except (struct.error, ValueError) as error:
            raise CorruptData(f"a record that can not be read: {error}") from error

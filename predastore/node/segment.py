"""Segment files: their names, their header, their footer, and how they are read.

`segments/00000001.seg` and so on. A segment is a header of 64 bytes, then records (the layout of
those is drawn in _fast/frame.pyx). Header, little endian:

    at  bytes  field
     0      8  magic, "PREDASEG"
     8      1  format version, 1
     9      3  zero
    12      4  node id
    16      4  segment number
    20      4  tag: random, repeated in each record of this segment
    24      8  created, ms since 1970
    32     16  cluster id
    48     12  zero
    60      4  CRC32C of bytes 0 to 59

The footer is a chain of footer records, each written when enough entries have come together, and
a seal, the last record of a sealed segment; so it is found from the file's end. Payloads:

    seal     at 0: 8 bytes, offset of the last footer record (0: none)
    footer   at 0: 8 bytes, offset of the footer record before (0: none)
             at 8: 4 bytes, number of entries; 4 bytes zero; then the entries
    an entry of a footer
             at 0: 1 byte, kind: commit (2) or tombstone (3); 3 bytes zero
             at 4: 4 bytes, n; then the shard's key (50); then n bytes: of a commit its entry
                   as shard.py draws it, of a tombstone nothing

A block with flag SOLE counts as a commit of one block. Footers are in the order of the log, and
list nothing but what was durable before they were written; so going through them does what going
through the records would, also after a power cut.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData, UnsupportedFormat
from predastore.node.shard import KEY_BYTES

MAGIC = b"PREDASEG"
VERSION = 1
HEADER = Struct("<8sB3xIIIQ16s12x")
HEADER_BYTES = HEADER.size + 4

SEAL = Struct("<Q")
FOOTER = Struct("<QI4x")
FOOTER_ENTRY = Struct("<B3xI")
SEAL_RECORD_BYTES = frame.record_bytes(SEAL.size)

NO_HASH = bytes(32)
NO_WRITE_ID = bytes(16)

_NAME = re.compile(r"(\d{8})\.seg")


class SegmentHeader(NamedTuple):
    node_id: int
    number: int
    tag: int
    created_ms: int
    cluster_id: bytes

    def pack(self) -> bytes:
        body = HEADER.pack(MAGIC, VERSION, *self)
        return body + crc32c(body).to_bytes(4, "little")


class Change(NamedTuple):
    """What a segment says about a shard: its entry, or None where it was deleted."""

    key: bytes
    entry: bytes | None


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.seg"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segments in a folder, oldest first."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in found if match)


def read_header(descriptor: int) -> SegmentHeader:
    """CorruptData if it is not whole, UnsupportedFormat if it is of another version."""
    data = os.pread(descriptor, HEADER_BYTES, 0)
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        raise CorruptData("no segment header")
    if crc32c(data[:60]) != int.from_bytes(data[60:], "little"):
        raise CorruptData("segment header does not match its CRC")
    if data[8] != VERSION:
        raise UnsupportedFormat(f"segment of format {data[8]}; this program reads {VERSION}")
    return SegmentHeader._make(HEADER.unpack_from(data)[2:])


def read_record(descriptor: int, offset: int, tag: int) -> tuple[frame.Record, bytes] | None:
    """The record at an offset and its payload; None if either is not whole."""
    header = os.pread(descriptor, frame.HEADER_BYTES, offset)
    record = frame.unpack(header, 0, offset, tag)
    if isinstance(record, int):
        return None
    payload = os.pread(descriptor, record.length, offset + frame.HEADER_BYTES)
    if len(payload) != record.length or crc32c(payload) != record.payload_crc:
        return None
    return record, payload


def footer_change(change: Change) -> bytes:
    """A change as an entry of a footer."""
    kind = frame.TOMBSTONE if change.entry is None else frame.COMMIT
    entry = change.entry or b""
    return FOOTER_ENTRY.pack(kind, len(entry)) + change.key + entry


def footer_change_bytes(entry_bytes: int) -> int:
    return FOOTER_ENTRY.size + KEY_BYTES + entry_bytes


def footer_changes(payload: bytes) -> Iterator[Change]:
    """The changes that a footer record lists."""
    at = FOOTER.size
    while at < len(payload):
        kind, length = FOOTER_ENTRY.unpack_from(payload, at)
        start = at + FOOTER_ENTRY.size + KEY_BYTES
        key = payload[start - KEY_BYTES : start]
        yield Change(key, payload[start : start + length] if kind == frame.COMMIT else None)
        at = start + length


def read_footers(descriptor: int, size: int, tag: int, *, after: int = 0) -> list[bytes] | None:
    """Payloads of the footer records of a sealed segment, in log order, those beyond offset
    `after`. None if the segment is not sealed, or any of it is damaged."""
    if size < HEADER_BYTES + SEAL_RECORD_BYTES:
        return None
    seal = read_record(descriptor, size - SEAL_RECORD_BYTES, tag)
    if seal is None or seal[0].kind != frame.SEAL:
        return None
    (offset,) = SEAL.unpack(seal[1])
    payloads: list[bytes] = []
    while offset > after:
        part = read_record(descriptor, offset, tag)
        if part is None or part[0].kind != frame.FOOTER:
            return None
        payloads.append(part[1])
        previous = FOOTER.unpack_from(part[1])[0]
        if previous >= offset:
            return None
        offset = previous
    return payloads[::-1]

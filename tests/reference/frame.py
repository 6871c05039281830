"""Plain Python twin of predastore._fast.frame: struct and a CRC bit by bit."""

from __future__ import annotations

import struct
from typing import NamedTuple

from reference.crc import CRC32C, crc

HEADER = struct.Struct("<2sBBHHII32s16sIIII")
KINDS = range(1, 6)
MORE, ZERO, BAD, NEWER = range(4)


def crc32c(data: bytes) -> int:
    return crc(CRC32C, data)


class Record(NamedTuple):
    offset: int
    kind: int
    flags: int
    shard_index: int
    stripe: int
    object_hash: bytes
    write_id: bytes
    length: int
    payload_crc: int
    tag: int
    synced_bytes: int
    sound: bool


def header_crc(header: bytes, offset: int) -> int:
    return crc32c(struct.pack("<Q", offset) + header[:76])


def pack(record: Record) -> bytes:
    header = HEADER.pack(
        b"PR", 1, record.kind, record.flags, record.shard_index, record.length, record.stripe,
        record.object_hash, record.write_id, record.payload_crc, record.tag,
        record.synced_bytes // 8, 0,
    )  # fmt: skip
    return header[:76] + struct.pack("<I", header_crc(header, record.offset))


def unpack(header: bytes, offset: int, tag: int) -> Record | int:
    if header == bytes(80):
        return ZERO
    (magic, version, kind, flags, index, length, stripe, object_hash, write_id, payload_crc,
     found_tag, synced, found_crc) = HEADER.unpack(header)  # fmt: skip
    if magic != b"PR" or tag not in (-1, found_tag) or found_crc != header_crc(header, offset):
        return BAD
    if version != 1 or kind not in KINDS or flags not in (0, 1):
        return NEWER
    return Record(
        offset, kind, flags, index, stripe, object_hash, write_id, length, payload_crc,
        found_tag, synced * 8, True,
    )  # fmt: skip


def scan(data: bytes, base: int, tag: int, payloads: bool) -> tuple[list[Record], int, int]:
    records: list[Record] = []
    at = 0
    while True:
        if len(data) - at < 80:
            return records, base + at, MORE
        record = unpack(data[at : at + 80], base + at, tag)
        if isinstance(record, int):
            return records, base + at, record
        end = at + 80 + record.length
        padded_end = (end + 7) // 8 * 8
        if padded_end > len(data):
            return records, base + at, MORE
        sound = crc32c(data[at + 80 : end]) == record.payload_crc and not any(data[end:padded_end])
        records.append(record._replace(sound=sound or not payloads))
        at = padded_end


def resync(data: bytes, at: int, base: int, tag: int) -> int | None:
    for place in range((at + 7) // 8 * 8, len(data) - 79, 8):
        if unpack(data[place : place + 80], base + place, tag) not in (ZERO, BAD):
            return base + place
    return None

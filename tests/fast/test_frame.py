"""predastore._fast.frame against its plain Python twin, byte for byte."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import frame
from reference import frame as twin
from reference.frame import crc32c

TAG = 0x5EA1AB1E


def record_of(payload: bytes, offset: int, **fields: Any) -> twin.Record:
    values: dict[str, Any] = {
        "kind": frame.BLOCK,
        "flags": 0,
        "shard_index": 3,
        "stripe": 70_000,
        "object_hash": bytes(range(32)),
        "write_id": bytes(range(100, 116)),
        "tag": TAG,
        "synced_bytes": 4096,
        "sound": True,
    } | fields
    return twin.Record(offset=offset, length=len(payload), payload_crc=crc32c(payload), **values)


def packed(record: twin.Record) -> bytes:
    out = bytearray(frame.HEADER_BYTES)
    frame.pack_into(
        out, 0, record.offset, record.tag, record.synced_bytes, record.kind, record.flags,
        record.object_hash, record.write_id, record.shard_index, record.stripe, record.length,
        record.payload_crc,
    )  # fmt: skip
    return bytes(out)


def region(payloads: list[bytes], base: int = 64) -> tuple[bytes, list[twin.Record]]:
    data, records = b"", []
    for payload in payloads:
        record = record_of(payload, base + len(data))
        data += packed(record) + payload + bytes(-len(payload) % 8)
        records.append(record)
    return data, records


fields = st.fixed_dictionaries(
    {
        "kind": st.integers(1, 5),
        "flags": st.integers(0, 1),
        "shard_index": st.integers(0, 0xFFFF),
        "stripe": st.integers(0, 0xFFFFFFFF),
        "object_hash": st.binary(min_size=32, max_size=32),
        "write_id": st.binary(min_size=16, max_size=16),
        "tag": st.integers(0, 0xFFFFFFFF),
        "synced_bytes": st.integers(0, 0xFFFFFFFF).map(lambda units: units * 8),
    }
)


@given(fields, st.binary(max_size=40), st.integers(0, 2**40).map(lambda at: at * 8))
def test_pack_and_unpack_are_those_of_the_twin(
    values: dict[str, Any], payload: bytes, offset: int
) -> None:
    record = record_of(payload, offset, **values)
    header = packed(record)
    assert header == twin.pack(record)
    assert frame.unpack(b"12345" + header, 5, offset, record.tag) == record
    assert frame.unpack(header, 0, offset, frame.ANY_TAG) == record
    assert frame.unpack(header, 0, offset + 8, record.tag) == frame.STOP_BAD
    assert frame.unpack(header, 0, offset, record.tag ^ 1) == frame.STOP_BAD


def test_every_flipped_bit_of_a_header_is_found() -> None:
    header = packed(record_of(b"payload", 64))
    for bit in range(8 * len(header)):
        damaged = bytearray(header)
        damaged[bit // 8] ^= 1 << bit % 8
        assert frame.unpack(damaged, 0, 64, TAG) == frame.STOP_BAD, f"bit {bit}"


def test_a_good_header_of_another_version_kind_or_flag_is_newer() -> None:
    for at, value in ((2, 2), (3, 0), (3, 6), (4, 2), (5, 1)):
        header = bytearray(packed(record_of(b"", 64)))
        header[at] = value
        header[76:] = struct.pack("<I", twin.header_crc(bytes(header), 64))
        assert frame.unpack(header, 0, 64, TAG) == frame.STOP_NEWER


payload_lists = st.lists(st.binary(max_size=60), max_size=8)


@settings(max_examples=60)
@given(payload_lists, st.data(), st.booleans(), st.booleans())
def test_scan_and_resync_of_damaged_regions_are_those_of_the_twin(
    payloads: list[bytes], data: st.DataObject, check: bool, any_tag: bool
) -> None:
    clean, records = region(payloads)
    tag = frame.ANY_TAG if any_tag else TAG
    assert frame.scan(clean, 64, tag, True) == (records, 64 + len(clean), frame.STOP_MORE)
    damaged = bytearray(clean)
    if damaged:
        for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
            damaged[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    seen = bytes(damaged[:cut])
    assert frame.scan(seen, 64, tag, check) == twin.scan(seen, 64, tag, check)
    start = data.draw(st.integers(0, cut))
    assert frame.resync(seen, start, 64, tag) == twin.resync(seen, start, 64, tag)


def test_a_scan_of_many_records_finds_them_all() -> None:
    data, records = region([bytes([i % 251]) * (i % 17) for i in range(1300)], base=800)
    assert frame.scan(data, 800, TAG) == (records, 800 + len(data), frame.STOP_MORE)


def test_a_scan_says_where_and_why_it_stops() -> None:
    data, records = region([b"one", b"two"])
    end = 64 + len(data)
    assert frame.scan(data + bytes(200), 64, TAG) == (records, end, frame.STOP_ZERO)
    assert frame.scan(data + b"\x01" * 200, 64, TAG) == (records, end, frame.STOP_BAD)
    assert frame.scan(data[:-1], 64, TAG) == (records[:1], records[1].offset, frame.STOP_MORE)
    assert frame.scan(b"", 64, TAG) == ([], 64, frame.STOP_MORE)


def test_unsound_payloads_and_padding_do_not_end_a_scan() -> None:
    data, _ = region([b"first", b"second", b"third"])
    for at, sound in ((80, [False, True, True]), (86, [False, True, True])):
        damaged = bytearray(data)
        damaged[at] ^= 0x80
        found, _, stop = frame.scan(damaged, 64, TAG)
        assert [record.sound for record in found] == sound
        assert stop == frame.STOP_MORE
        assert all(record.sound for record in frame.scan(damaged, 64, TAG, False)[0])


def test_a_record_within_a_payload_is_not_taken_for_one() -> None:
    inner, _ = region([b"inner"])
    outer, records = region([inner * 3, b"after"])
    damaged = b"\0" + outer[1:]
    assert frame.resync(damaged, 0, 64, TAG) == records[1].offset


def test_fields_out_of_range_are_refused() -> None:
    good = record_of(b"", 64)
    for bad in (
        {"object_hash": bytes(31)},
        {"write_id": bytes(17)},
        {"offset": 65},
        {"synced_bytes": 4},
        {"synced_bytes": 2**35 + 8},
        {"kind": 0},
        {"kind": 6},
        {"flags": 2},
        {"shard_index": 2**16},
        {"length": 2**32},
        {"payload_crc": -1},
    ):
        with pytest.raises((ValueError, OverflowError)):
            packed(good._replace(**bad))
    with pytest.raises(ValueError, match="room"):
        frame.pack_into(bytearray(87), 8, 64, TAG, 0, 1, 0, bytes(32), bytes(16), 0, 0, 0, 0)


def test_read_block_checks_what_it_reads(tmp_path: Path) -> None:
    data = os.urandom(5000)
    descriptor = os.open(f"{tmp_path}/file", os.O_RDWR | os.O_CREAT)
    try:
        os.write(descriptor, data)
        out = bytearray(1000)
        assert frame.read_block(descriptor, 3000, out, crc32c(data[3000:4000])) == frame.READ_OK
        assert out == data[3000:4000]
        crc = crc32c(data[:1000])
        assert frame.read_block(descriptor, 0, out, crc ^ 1) == frame.READ_MISMATCH
        assert frame.read_block(descriptor, 4500, out, crc) == frame.READ_SHORT
        assert frame.read_block(descriptor, 0, out, crc, nowait=True) in (
            frame.READ_OK,
            frame.READ_WOULD_BLOCK,  # where the file system knows no RWF_NOWAIT
        )
        with pytest.raises(BufferError):
            frame.read_block(descriptor, 0, bytes(10), crc)
    finally:
        os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        frame.read_block(descriptor, 0, out, crc)

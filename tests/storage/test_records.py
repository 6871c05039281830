"""Stored records: their bytes are pinned, and what is not a record is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from predastore.storage.records import (
    BucketRecord,
    Checksum,
    FileExtent,
    GarbageRecord,
    ObjectRecord,
    PartRecord,
    PartSize,
    RepairRecord,
    ShardExtent,
    Summary,
    UploadRecord,
)

from predastore.base.errors import CorruptData, UnsupportedFormat
from predastore.storage import records

FORMATS = Path(__file__).parent.parent / "formats"

SHARDS = ShardExtent(bytes(range(32)), bytes(range(16)), 3, 2, 1 << 20, 5_000_000, (4, 2, -1, 9, 1))
FILE = FileExtent("bucket/caf\u00e9", bytes(range(16, 32)), 7, 1 << 20, b"\x01\x02\x03\x04", 12345)
OBJECT = ObjectRecord(
    bucket="bucket",
    key="caf\u00e9/\U0001f600",
    write_id=bytes(range(16)),
    extents=(SHARDS, FILE),
    size=5_000_007,
    etag="0cc175b9c0f1b6a831c399e269772661-2",
    modified_ms=1_790_000_000_123,
    owner="000000000001",
    content_type="text/plain",
    headers={"cache-control": "no-store"},
    user={"who": "me"},
    checksums=(Checksum("sha256", bytes(32), 2),),
    parts=(PartSize(1, 5_000_000, bytes(range(32))), PartSize(4, 7)),
    upload_id="00" * 16,
    storage_class="GLACIER",
)
PART = PartRecord(4, FILE, 7, "0" * 32, 1_790_000_000_000, (Checksum("crc32", b"abcd"),))
GOLDEN: dict[str, msgspec.Struct] = {
    "object": OBJECT,
    "bucket": BucketRecord(
        *("bucket", "000000000001", "eu-north-1", 1_790_000_000_000, True, bytes(range(16)))
    ),
    "upload": UploadRecord(
        *("bucket", "key", "00" * 16, "000000000001", 1, "a/b", {"x": "y"}, {}),
        *("crc32", "COMPOSITE", "STANDARD_IA", bytes(range(16))),
    ),
    "part": PART,
    "garbage": GarbageRecord((SHARDS, FILE), "00" * 16, bytes(range(16)) + b"/"),
    "repair": RepairRecord("bucket", "key", SHARDS, (2,), 1_790_000_000_000, f"{'00' * 16}/00007"),
}
SUMMARY = Summary(
    7, "0" * 32, 1_790_000_000_000, "000000000001", ("sha256",), "COMPOSITE", "DEEP_ARCHIVE"
)


@pytest.mark.parametrize("name", GOLDEN)
def test_version_1_is_read_and_written_as_ever(name: str) -> None:
    stored = bytes.fromhex((FORMATS / f"records_{name}_v1.hex").read_text())
    record = GOLDEN[name]
    assert records.decode(type(record), stored) == record
    assert records.encode(record) == stored


@pytest.mark.parametrize(
    "record",
    [
        msgspec.structs.replace(OBJECT, storage_class=""),
        UploadRecord("b", "k", "0", "1", 1, "t", {}, {}, "crc32", "COMPOSITE", "STANDARD_IA"),
        BucketRecord("bucket", "000000000001", "eu-north-1", 5, True),
        GarbageRecord((SHARDS, FILE), "00" * 16),
        RepairRecord("bucket", "key", SHARDS, (2,), 5),
        PartSize(1, 2),
        Summary(7, "0", 1, "1", ("sha256",), "COMPOSITE"),
    ],
)
def test_a_record_from_before_its_last_field_is_read(record: msgspec.Struct) -> None:
    stored = records.encode(record)
    fields = msgspec.msgpack.decode(stored[1:])
    shorter = stored[:1] + msgspec.msgpack.encode(fields[:-1])
    assert len(shorter) < len(stored)
    assert records.decode(type(record), shorter) == record


def test_a_listed_entry_is_read_and_written_as_ever() -> None:
    stored = bytes.fromhex((FORMATS / "records_summary_v1.hex").read_text())
    assert records.decode_listed(stored) == (bytes(range(32)), SUMMARY)
    assert records.encode_listed(bytes(range(32)), SUMMARY) == stored


def test_a_deleted_entry_is_any_record_that_had_bytes() -> None:
    for record in (OBJECT, PART, GOLDEN["garbage"]):
        assert records.decode_deleted(records.encode(record)) == record
    assert records.extents_of(OBJECT) == (SHARDS, FILE)
    assert records.extents_of(PART) == (FILE,)
    with pytest.raises(CorruptData):
        records.decode_deleted(records.encode(GOLDEN["bucket"]))


@pytest.mark.parametrize("stored", [b"", b"\x02", b"\x00abc"])
def test_another_version_is_refused_as_such(stored: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        records.decode(ObjectRecord, stored)


def test_damage_and_the_wrong_kind_are_refused() -> None:
    stored = records.encode(OBJECT)
    for damaged in (stored[:-1], b"\x01", b"\x01\xc1", records.encode(PART)):
        with pytest.raises(CorruptData):
            records.decode(ObjectRecord, damaged)
    with pytest.raises(CorruptData):
        records.decode_listed(bytes(32) + b"\x01\x90")


def test_a_field_that_a_later_release_appends_is_passed_over() -> None:
    stored = bytearray(records.encode(GOLDEN["bucket"]))
    assert stored[1] == 0x97  # an array of the tag and 6 fields
    stored[1] += 1
    assert records.decode(BucketRecord, bytes(stored) + b"\xc3") == GOLDEN["bucket"]


def test_keys_are_as_documented() -> None:
    commit_id = bytes(range(16))
    assert records.arn_key("b", "k/\u00e9") == "arn:aws:s3:::b/k/\u00e9".encode()
    assert records.object_hash("b", "k/\u00e9") == hashlib.sha256("b/k/\u00e9".encode()).digest()
    assert records.deleted_key(b"b/k", commit_id) == b"deleted:b/k\0" + commit_id
    assert records.upload_key("b", commit_id, "k", "ff") == commit_id + b"/k\0ff"
    assert records.upload_key("b", b"", "k", "ff") == b"b/k\0ff"
    assert records.part_key("f" * 32, 17) == b"f" * 32 + b"/00017"
    assert records.part_number(records.part_key("f" * 32, 17)) == 17
    assert records.repair_key(bytes(32), commit_id) == bytes(32) + commit_id


def test_ids_of_buckets_are_distinct_and_begin_like_no_name() -> None:
    ids = [records.new_bucket_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 16 and each[0] >= 0x80 for each in ids)


def test_ids_are_distinct_and_sort_by_age() -> None:
    ids = [records.new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert [each[:6] for each in ids] == sorted(each[:6] for each in ids)
    assert {len(each) for each in ids} == {16}

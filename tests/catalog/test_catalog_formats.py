"""The catalog's rows: their bytes are pinned, what is newer is kept, what is unknown refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from predastore.base.errors import CorruptData, UnsupportedFormat
from predastore.catalog import rows
from predastore.catalog.rows import (
    BucketRow,
    Checksum,
    CompletedRow,
    CurrentRow,
    DefaultRetention,
    Detail,
    GarbageRow,
    Kind,
    LockMode,
    ObjectOwnership,
    PartRow,
    PartSize,
    PlacementRow,
    PublicBlock,
    RepairRow,
    Retention,
    Summary,
    UploadRow,
    Versioning,
    VersionRow,
    Waste,
)
from predastore.storage.extents import FileExtent, ShardExtent
from predastore.storage.formats import decode, encode, pack, repacked, rewritten, unpack

FORMATS = Path(__file__).parent.parent / "formats"

BUCKET_ID, RANDOM, LAYOUT = b"\x80" + bytes(range(15)), bytes(range(8)), bytes(range(32))
SHARDS = ShardExtent(LAYOUT, bytes(range(16)), 3, 2, 1 << 20, 5_000_000, (4, 2, -1, 9, 1))
FILE = FileExtent("bucket/caf\u00e9", bytes(range(16, 32)), 7, 1 << 20, b"\x01\x02\x03\x04", 12345)
SUMMARY = Summary(7, "0" * 32, 1_790_000_000_000, "1", ("sha256",), "COMPOSITE", "GLACIER")
CHECKSUM = Checksum("sha256", bytes(32), 2)
DETAIL = Detail(
    "text/plain", {"cache-control": "no-store"}, {"who": "me"}, (CHECKSUM,), 2, "00" * 16
)
TAGS = (("colour", "caf\u00e9"), ("empty", ""))
RETENTION = Retention(LockMode.COMPLIANCE, 1_790_000_000_123)

ACL = b"\x02\x91\x91\x93\x00\xa11\x05"

GOLDEN: dict[str, msgspec.Struct] = {
    "bucket": BucketRow(
        *("bucket", BUCKET_ID, "1", "eu-north-1", 1_790_000_000_000, True, 7),
        *(Versioning.ENABLED, True, DefaultRetention(LockMode.GOVERNANCE, 30, 0)),
    ),
    "bucket_access": BucketRow(
        *("bucket", BUCKET_ID, "1", "eu-north-1", 1_790_000_000_000, False, 7),
        *(Versioning.NEVER, False, None),
        *(ObjectOwnership.BUCKET_OWNER_PREFERRED, PublicBlock(True, True, False, True)),
    ),
    "current": CurrentRow(3, RANDOM, SUMMARY),
    "version": VersionRow(
        *(RANDOM, True, False, Kind.PLACED, LAYOUT, SUMMARY, msgspec.Raw(pack(DETAIL))),
        *(TAGS, RETENTION, True),
    ),
    "version_acl": VersionRow(
        *(RANDOM, False, False, Kind.PLACED, LAYOUT, SUMMARY),
        msgspec.Raw(pack(msgspec.structs.replace(DETAIL, acl=ACL))),
    ),
    "placement": PlacementRow(
        *("bucket", "caf\u00e9", (SHARDS, FILE)),
        *((PartSize(1, 5_000_000, bytes(32)), PartSize(4, 7)), ((0, 1), (5_000_007, 5))),
    ),
    "upload": UploadRow(
        *("bucket", "caf\u00e9", "00" * 16, "1", 5, "a/b", {"x": "y"}, {"who": "me"}),
        *("crc32", "FULL_OBJECT", "STANDARD_IA", TAGS, RETENTION, None),
    ),
    "upload_acl": UploadRow(
        *("bucket", "caf\u00e9", "00" * 16, "1", 5, "a/b", {}, {}),
        *("", "", "", (), Retention(), None, ACL),
    ),
    "part": PartRow(4, FILE, 7, "0" * 32, 1_790_000_000_000, (Checksum("crc32", b"abcd"),)),
    "completed": CompletedRow("caf\u00e9", b"\0\x90"),
    "garbage": GarbageRow(Waste.LAYOUT, LAYOUT, 40),
    "repair": RepairRow("bucket", "key", SHARDS, (2,), 1_790_000_000_000, b"a part's key"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_version_2_is_read_and_written_as_ever(name: str) -> None:
    stored = bytes.fromhex((FORMATS / f"catalog_{name}_v2.hex").read_text())
    row = GOLDEN[name]
    assert encode(row) == stored
    assert decode(type(row), stored) == row


def test_each_row_is_pinned() -> None:
    kinds = {name for name in vars(rows) if name.endswith("Row")}
    assert {type(row).__name__ for row in GOLDEN.values()} == kinds


def newer(row: msgspec.Struct) -> bytes:
    """As a program stores it that has two fields more."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(row))
    return b"\x02" + msgspec.msgpack.encode([*fields, {"more": [1, b"2"]}, None])


@pytest.mark.parametrize("name", GOLDEN)
def test_fields_of_a_newer_program_are_passed_over_and_kept(name: str) -> None:
    row = GOLDEN[name]
    stored = newer(row)
    assert decode(type(row), stored) == row
    assert rewritten(stored, row) == stored
    assert rewritten(encode(row), row) == encode(row)


def test_a_row_is_rewritten_with_what_is_new_and_what_is_not_known() -> None:
    old, new = CompletedRow("key", b"1"), CompletedRow("other", b"2")
    assert rewritten(newer(old), new) == newer(new)


def test_what_is_not_known_of_a_struct_within_a_row_is_kept_while_that_stays() -> None:
    row = GOLDEN["version"]
    fields = msgspec.msgpack.decode(encode(row)[1:])
    at = type(row).__struct_fields__.index("summary")
    fields[at] = [*fields[at], "more"]
    stored = b"\x02" + msgspec.msgpack.encode(fields)
    held = msgspec.structs.replace(row, legal_hold=False)
    kept = msgspec.msgpack.decode(rewritten(stored, held)[1:])
    assert kept == [*fields[:-1], False]
    changed = msgspec.structs.replace(row, summary=Summary(8, "0a", 5, "1"))
    assert decode(VersionRow, rewritten(stored, changed)) == changed


def test_fields_that_an_older_program_did_not_have_are_added() -> None:
    row = BucketRow("b", BUCKET_ID, "1", "eu", 5)
    older = b"\x02" + msgspec.msgpack.encode(["b", BUCKET_ID, "1", "eu", 5])
    assert decode(BucketRow, older) == row
    assert rewritten(older, row) == encode(row)


APPENDED = {
    BucketRow: {"ownership": ObjectOwnership.OBJECT_WRITER, "block": PublicBlock()},
    UploadRow: {"acl": ACL},
    Detail: {"acl": ACL},
}
PLAIN = {BucketRow: GOLDEN["bucket"], UploadRow: GOLDEN["upload"], Detail: DETAIL}


@pytest.mark.parametrize("kind", APPENDED)
def test_what_a_field_of_a_later_program_does_not_say_is_not_written(
    kind: type[msgspec.Struct],
) -> None:
    plain, appended = PLAIN[kind], APPENDED[kind]
    earlier = len(kind.__struct_fields__) - len(appended)
    assert len(msgspec.msgpack.decode(pack(plain))) == earlier
    for count, name in enumerate(appended, 1):
        said = msgspec.structs.replace(plain, **{name: appended[name]})
        packed = pack(said)
        assert len(msgspec.msgpack.decode(packed)) == earlier + count
        assert unpack(kind, packed) == said
        assert repacked(pack(plain), said) == packed
        assert repacked(packed, plain) == pack(plain)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("version", [b"", b"\x01", b"\x03", b"\xff"])
def test_another_version_is_refused(name: str, version: bytes) -> None:
    row = GOLDEN[name]
    stored = version + encode(row)[1:] if version else b""
    with pytest.raises(UnsupportedFormat, match=type(row).__name__):
        decode(type(row), stored)
    with pytest.raises(UnsupportedFormat, match=type(row).__name__):
        rewritten(stored, row)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_cut_short_is_no_row(name: str) -> None:
    row = GOLDEN[name]
    for end in range(1, len(encode(row))):
        with pytest.raises(CorruptData):
            decode(type(row), encode(row)[:end])

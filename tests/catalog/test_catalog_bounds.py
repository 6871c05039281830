"""The largest calls that S3 allows are under the bounds of limits.py, on a real store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalog.histories import NOON_MS
from catalog.projection import check_extents, check_invariants
from predastore.base.errors import TooLarge
from predastore.base.limits import (
    CODE_SHARDS_MAX,
    COMMIT_BYTES_MAX,
    INLINE_BYTES_MAX,
    MIB,
    NODE_ID_BYTES,
    NODE_IDS_MAX,
    PART_ROW_BYTES,
    PROCEDURE_ANSWER_BYTES_MAX,
    S3_KEY_BYTES_MAX,
    S3_PAGE_MAX,
    S3_PART_BYTES_MIN,
    S3_PARTS_MAX,
    S3_STORED_HEADERS_BYTES_MAX,
    S3_USER_METADATA_BYTES_MAX,
    SHARDS_MAX,
)
from predastore.catalog import keys
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.procedures import arguments as a
from predastore.catalog.procedures.questions import (
    FindObject,
    FoundObject,
    ListedVersions,
    ListVersions,
)
from predastore.catalog.rows import (
    BucketRow,
    Checksum,
    Detail,
    Kind,
    LockMode,
    PartRow,
    Retention,
    Summary,
    UploadRow,
    Versioning,
    VersionRow,
)
from predastore.s3db import commands, views
from predastore.s3db.commands import Applied, Put
from predastore.s3db.environment import reading
from predastore.s3db.store import FILE_NAME, Store
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import decode, encode, pack, unpack

BUCKET_ID = b"\x80" + bytes(15)
UPLOAD_ID = "ab" * 16
SHA256 = Checksum("sha256", bytes(32))
SHA512 = Checksum("sha512", bytes(64))
HELD = a.HeldBucket("bucket", BUCKET_ID, 1)
NODE = 2**31  # the longest in msgpack: ids of nodes are drawn from all of 32 bits


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path, durable=False, map_bytes_initial=256 * MIB, procedures=PROCEDURES)
    yield opened
    opened.close()


def call(store: Store, name: str, args: a.Arguments) -> bytes:
    """What is behind the answer's first byte, of a call that did something."""
    command = commands.encode(commands.call(name, args.encode()))
    assert len(command) <= COMMIT_BYTES_MAX
    outcome = store.apply([(store.applied_index + 1, command)])[0]
    assert isinstance(outcome, Applied), outcome
    assert outcome.answer[0] == a.Reason.DONE, a.Reason(outcome.answer[0])
    return outcome.answer[1:]


def create(store: Store, versioning: Versioning, *, is_locked: bool = False) -> None:
    row = BucketRow("bucket", BUCKET_ID, "1", "eu", 5, versioning=versioning, is_locked=is_locked)
    call(store, "bucket.create", a.CreateBucket(row))


def extent(name: bytes, write_id: bytes, nodes: int = 5, size: int = 7) -> ShardExtent:
    return ShardExtent(name, write_id, nodes - 2, 2, MIB, size, tuple(range(NODE, NODE + nodes)))


def large_detail() -> Detail:
    """2 KiB of user metadata and 8 KiB of headers."""
    user = {"n": "v" * (S3_USER_METADATA_BYTES_MAX - 1)}
    return Detail("text/plain", {"cache-control": "h" * S3_STORED_HEADERS_BYTES_MAX}, user)


LARGE_TAGS = tuple((f"{number}" + "\U0001f600" * 127, "\U0001f600" * 256) for number in range(10))


def put_args(key: str, number: int, **more: Any) -> a.PutObject:
    random = number.to_bytes(8, "big")
    layout = keys.layout("bucket", key, random)
    given = {
        "content": a.Content(Kind.PLACED, layout, (extent(layout, random * 2),)),
        "detail": msgspec.Raw(pack(Detail("a/b"))),
        **more,
    }
    summary = Summary(7, "0" * 32, NOON_MS, "1", ("sha256",), "FULL_OBJECT")
    return a.PutObject(
        *(HELD, key, random, given.pop("content"), summary, given.pop("detail"), NOON_MS, 5),
        **given,
    )


def put(store: Store, key: str, number: int, **more: Any) -> a.Added:
    return unpack(a.Added, call(store, "object.put", put_args(key, number, **more)))


def long_key(number: int) -> str:
    return f"{number:04d}" + "k" * (S3_KEY_BYTES_MAX - 4)


def doom(
    store: Store, doomed: list[a.Doomed], *, calls_max: int = 1, bypass: bool = False
) -> list[a.Deletion]:
    """All of them, in as many calls as it takes."""
    found: list[a.Deletion] = []
    for _ in range(calls_max):
        args = a.DeleteObjects(HELD, tuple(doomed[len(found) :]), NOON_MS, 5, bypass)
        found += unpack(a.Deletions, call(store, "object.delete", args)).deletions
        if len(found) == len(doomed):
            break
    assert len(found) == len(doomed)
    return found


def tables_of(store: Store) -> dict[str, dict[bytes, bytes]]:
    names = (
        *("buckets", "objects", "versions", "nulls", "inline", "refs", "uploads", "parts"),
        *("completed", "due"),
    )
    tables: dict[str, dict[bytes, bytes]] = {}
    for name in names:
        rows = tables[name] = {}
        page = store.list(name, b"", b"", b"", 10_000)
        rows.update(page.entries)
        while page.truncated:
            page = store.list(name, b"", b"", page.next, 10_000)
            rows.update(page.entries)
    return tables


def check(store: Store) -> dict[str, dict[bytes, bytes]]:
    tables = tables_of(store)
    check_invariants(tables)
    check_extents(tables)
    return tables


# --- deleting 1,000 keys --------------------------------------------------------------------------


@pytest.mark.parametrize("versioning", list(Versioning), ids=lambda one: one.name)
def test_a_thousand_of_the_longest_keys_are_deleted_in_one_call(
    store: Store, versioning: Versioning
) -> None:
    create(store, versioning)
    for number in range(S3_PAGE_MAX):
        put(store, long_key(number), number)
    doomed = [a.Doomed(long_key(number), bytes(8)) for number in range(S3_PAGE_MAX)]
    deletions = doom(store, doomed)
    replaces = versioning is not Versioning.ENABLED
    assert all(one.reason == a.Reason.DONE and one.existed is replaces for one in deletions)
    assert sum(len(one.wasted) for one in deletions) == (S3_PAGE_MAX if replaces else 0)
    check(store)


@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_thousand_versions_of_a_key_are_deleted_in_one_call(
    store: Store, oldest_first: bool
) -> None:
    create(store, Versioning.ENABLED)
    ids = []
    for number in range(S3_PAGE_MAX):
        written = put(store, "k", number)
        ids.append(written.order.to_bytes(8, "big") + written.random)
    ordered = ids if oldest_first else ids[::-1]
    deletions = doom(store, [a.Doomed("k", bytes(8), version) for version in ordered])
    assert all(one.existed and one.wasted for one in deletions)
    tables = check(store)
    assert tables["versions"] == {}
    assert len(tables["due"]) == S3_PAGE_MAX


@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_thousand_copies_of_one_layout_are_deleted(store: Store, oldest_first: bool) -> None:
    create(store, Versioning.ENABLED)
    first = put(store, long_key(0), 0)
    layout = put_args(long_key(0), 0).content.layout
    source = (BUCKET_ID, first.order, first.random)
    for number in range(1, S3_PAGE_MAX):
        copy = a.Content(Kind.PLACED, layout, shared_with=source)
        put(store, long_key(number), number, content=copy)
    assert len(check(store)["refs"]) == S3_PAGE_MAX
    doomed = [
        a.Doomed(long_key(number), bytes(8), (1).to_bytes(8, "big") + number.to_bytes(8, "big"))
        for number in range(S3_PAGE_MAX)
    ]
    ordered = doomed if oldest_first else doomed[::-1]
    deletions = doom(store, ordered, calls_max=20)
    assert [len(one.wasted) for one in deletions] == [0] * (S3_PAGE_MAX - 1) + [1]
    tables = check(store)
    assert tables["refs"] == {}
    assert len(tables["due"]) == 1


def test_what_is_too_much_for_a_call_is_left_to_the_next(store: Store) -> None:
    """Objects of many parts, whose placements are moved; versions with the largest metadata."""
    create(store, Versioning.NEVER)
    for number in range(80):
        layout = keys.layout("bucket", f"{number}", number.to_bytes(8, "big"))
        write_ids = [number.to_bytes(8, "big") + part.to_bytes(8, "big") for part in range(1000)]
        placed = a.Content(Kind.PLACED, layout, tuple(extent(layout, each) for each in write_ids))
        put(store, f"{number}", number, content=placed)
    for number in range(80, 1000):
        put(store, f"{number}", number, detail=msgspec.Raw(pack(large_detail())), tags=LARGE_TAGS)
    doomed = [a.Doomed(f"{number}", bytes(8)) for number in range(1000)]
    deletions = doom(store, doomed, calls_max=20)
    assert all(one.existed and one.wasted for one in deletions)
    tables = check(store)
    assert tables["versions"] == {}
    assert len(tables["due"]) == 1000


def test_large_objects_among_the_longest_keys_are_deleted_by_delete_markers(store: Store) -> None:
    """Of all deletes the one that writes most: for each key a null version goes and another comes,
    and their keys are long."""
    create(store, Versioning.SUSPENDED)
    for number in range(S3_PAGE_MAX):
        key, write_id = long_key(number), number.to_bytes(16, "big")
        layout = keys.layout("bucket", key, write_id[8:])
        wide = tuple(extent(layout, write_id, CODE_SHARDS_MAX) for _ in range(1600))
        more = {"content": a.Content(Kind.PLACED, layout, wide)} if number >= 990 else {}
        put(store, key, number, **more)
    doomed = [a.Doomed(long_key(number), bytes(8)) for number in range(S3_PAGE_MAX)]
    assert all(one.existed and one.wasted for one in doom(store, doomed, calls_max=20))
    assert len(tables_of(store)["due"]) == S3_PAGE_MAX


# --- completing 10,000 parts ----------------------------------------------------------------------


def part_row(number: int, nodes: int, upload_id: str = UPLOAD_ID) -> PartRow:
    name = keys.part_hash(upload_id, number)
    placed = extent(name, name[:16], nodes, S3_PART_BYTES_MIN)
    etag = hashlib.md5(name).hexdigest()
    return PartRow(number, placed, S3_PART_BYTES_MIN, etag, NOON_MS, (SHA256,))


def upload(store: Store, nodes: int, upload_id: str = UPLOAD_ID, *, is_locked: bool) -> None:
    """An upload with the largest metadata, and its parts."""
    detail = large_detail()
    row = UploadRow(
        *("bucket", long_key(1), upload_id, "1", NOON_MS),
        *(detail.content_type, detail.headers, detail.user),
        *("sha256", "COMPOSITE", "STANDARD_IA", LARGE_TAGS),
        *((Retention(LockMode.GOVERNANCE, 1), True) if is_locked else ()),
    )
    call(store, "upload.create", a.CreateUpload(HELD, row))
    entries = []
    for number in range(1, S3_PARTS_MAX + 1):
        part = part_row(number, nodes, upload_id)
        args = a.PutPart(HELD, long_key(1), upload_id, part, NOON_MS, 5)
        command = commands.encode(commands.call("upload.part", args.encode()))
        entries.append((store.applied_index + number, command))
    assert all(isinstance(outcome, Applied) for outcome in store.apply(entries))


def complete(store: Store, nodes: int, leftovers: int = 0, upload_id: str = UPLOAD_ID) -> None:
    rows = [part_row(number, nodes, upload_id) for number in range(1, S3_PARTS_MAX + 1 - leftovers)]
    args = a.CompleteUpload(
        *(HELD, long_key(1), upload_id, bytes.fromhex(upload_id)[:8]),
        tuple(a.CompletedPart(row.number, row.etag, row.checksums) for row in rows),
        *(NOON_MS, 5, a.NO_CONDITION, len(rows) * S3_PART_BYTES_MIN),
    )
    answer = unpack(a.Completed, call(store, "upload.complete", args))
    assert answer.summary.size == len(rows) * S3_PART_BYTES_MIN


@pytest.fixture
def _with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of each bound is left."""
    for bound in (
        *("PROCEDURE_READS_MAX", "PROCEDURE_READ_BYTES_MAX"),
        *("PROCEDURE_WRITES_MAX", "PROCEDURE_WRITTEN_BYTES_MAX"),
    ):
        monkeypatch.setattr(views, bound, getattr(views, bound) * 3 // 4)


@pytest.mark.usefixtures("_with_room")
@pytest.mark.parametrize("nodes", [5, 17])
@pytest.mark.parametrize("leftovers", [0, 1])
def test_ten_thousand_parts_are_completed_in_one_call(
    store: Store, nodes: int, leftovers: int
) -> None:
    create(store, Versioning.ENABLED, is_locked=True)
    upload(store, nodes, is_locked=True)
    complete(store, nodes, leftovers)
    tables = check(store)
    assert len(tables["parts"]) == leftovers
    assert len([key for key in tables["objects"] if len(key) in (32, 36)]) == 40


@pytest.mark.usefixtures("_with_room")
@pytest.mark.parametrize("nodes", [5, 17])
def test_ten_thousand_parts_take_the_place_of_as_many(store: Store, nodes: int) -> None:
    create(store, Versioning.NEVER)
    for upload_id in (UPLOAD_ID, "cd" * 16):
        upload(store, nodes, upload_id, is_locked=False)
        complete(store, nodes, 1, upload_id)
    tables = check(store)
    assert len([key for key in tables["objects"] if key.startswith(keys.DELETED)]) == 40


def widest_part_row(upload_id: str, number: int, shards: int) -> PartRow:
    """With the longest numbers that it may have, and the longest two checksums."""
    first = NODE_IDS_MAX - SHARDS_MAX
    name = keys.part_hash(upload_id, number)
    nodes = tuple(range(first, first + shards))
    size = 1 << 29  # of few it may be more, of all it may not
    placed = ShardExtent(name, name[:16], shards - 2, 200, 4 * MIB, size, nodes)
    checksums = (SHA512, SHA256)
    return PartRow(number, placed, size, hashlib.md5(name).hexdigest(), NOON_MS, checksums)


def completed_widest(store: Store, upload_id: str, shards: int) -> object:
    """What becomes of completing an upload of 10,000 parts, of which one is left out."""
    row = UploadRow(
        *("bucket", long_key(1), upload_id, "1", NOON_MS, "a/b", {}, {}, "sha512", "COMPOSITE")
    )
    call(store, "upload.create", a.CreateUpload(HELD, row))
    rows = [widest_part_row(upload_id, number, shards) for number in range(1, S3_PARTS_MAX + 1)]
    sizes = [len(encode(row)) + len(keys.part(BUCKET_ID, upload_id, row.number)) for row in rows]
    assert max(sizes) <= PART_ROW_BYTES + NODE_ID_BYTES * shards
    index = store.applied_index
    for first in range(0, S3_PARTS_MAX, 1000):
        ops = [
            Put(keys.PARTS, keys.part(BUCKET_ID, upload_id, row.number), encode(row))
            for row in rows[first : first + 1000]
        ]
        index += 1
        outcome = store.apply([(index, commands.encode(commands.batch(*ops)))])[0]
        assert isinstance(outcome, Applied)
    named = tuple(a.CompletedPart(row.number, row.etag, row.checksums) for row in rows[:-1])
    args = a.CompleteUpload(HELD, long_key(1), upload_id, bytes(8), named, NOON_MS, 5)
    command = commands.encode(commands.call("upload.complete", args.encode()))
    return store.apply([(index + 1, command)])[0]


def test_ten_thousand_parts_of_the_widest_code_take_the_place_of_as_many(store: Store) -> None:
    create(store, Versioning.NEVER)
    for upload_id in (UPLOAD_ID, "cd" * 16):
        outcome = completed_widest(store, upload_id, CODE_SHARDS_MAX)
        assert isinstance(outcome, Applied), outcome
        assert outcome.answer[0] == a.Reason.DONE


def test_ten_thousand_parts_of_a_wider_code_are_not_completed(store: Store) -> None:
    create(store, Versioning.NEVER)
    assert isinstance(completed_widest(store, UPLOAD_ID, SHARDS_MAX), TooLarge)


# --- inline bodies --------------------------------------------------------------------------------


def test_a_body_is_not_in_what_is_remembered_of_its_put(tmp_path: Path) -> None:
    store = Store(tmp_path, durable=True, map_bytes_initial=64 * MIB, procedures=PROCEDURES)
    create(store, Versioning.NEVER)
    for number in range(20):
        layout = keys.layout("bucket", "k", number.to_bytes(16, "big"))
        body = a.Content(Kind.INLINE, layout, body=bytes(INLINE_BYTES_MAX))
        put(store, "k", number, content=body)
        answer = store.ask("object.find", FindObject("bucket", "k").encode())
        assert len(answer) > INLINE_BYTES_MAX
    store.close()
    with reading(tmp_path / FILE_NAME) as (opened, txn):
        remembered = [len(value) for _, value in txn.cursor(db=opened.requests)]
    assert len(remembered) == 21  # of each call, and of no question
    assert max(remembered) < 100


# --- the largest metadata -------------------------------------------------------------------------


def test_the_largest_metadata_is_put_found_and_listed(store: Store) -> None:
    create(store, Versioning.ENABLED)
    for number in range(S3_PAGE_MAX):
        put(store, "k", number, detail=msgspec.Raw(pack(large_detail())), tags=LARGE_TAGS)
    asked = FindObject("bucket", "k")
    found = unpack(FoundObject, store.ask("object.find", asked.encode())[1:])
    row = decode(VersionRow, found.version)
    assert row.tags == LARGE_TAGS
    assert msgspec.msgpack.decode(row.detail, type=Detail) == large_detail()
    listed, key, order = 0, "", None
    for _ in range(5):
        args = ListVersions(BUCKET_ID, "", "", key, order, S3_PAGE_MAX)
        answer = store.ask("version.list", args.encode())
        assert len(answer) < PROCEDURE_ANSWER_BYTES_MAX
        page = unpack(ListedVersions, answer[1:])
        listed += len(page.versions)
        key, order = page.next_key, page.next_order
        if not page.is_truncated:
            break
    assert listed == S3_PAGE_MAX

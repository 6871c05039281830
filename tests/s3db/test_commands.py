"""Batches: their journal form, their bounds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import FormatError, TooLarge, UnsupportedFormat
from predastore.base.limits import (
    COMMIT_BYTES_MAX,
    COMMIT_OPS_MAX,
    DB_KEY_BYTES_MAX,
    DB_VALUE_BYTES_MAX,
)
from predastore.s3db import commands
from predastore.s3db.commands import (
    Absent,
    Batch,
    Call,
    Delete,
    DeletePrefix,
    Equals,
    Exists,
    Keep,
    NoPrefix,
    Put,
)

GOLDEN = Path(__file__).parent.parent / "formats" / "s3db_batch_v1.hex"
EVERY_KIND = Batch(
    checks=(
        Exists("objects", b"a"),
        Absent("objects", b"b"),
        Equals("buckets", b"c", b"\xff\x00"),
        NoPrefix("parts", b""),
    ),
    ops=(
        Keep("objects", b"a", b"deleted:a"),
        Put("objects", b"a", b"new"),
        Delete("objects", b"d"),
        DeletePrefix("parts", b"upload/"),
    ),
    request_id=bytes(range(16)),
    stamp_ms=1_790_000_000_123,
)

A_CALL = Call(
    checks=(Absent("objects", b"b"), Equals("buckets", b"c", b"\xff\x00")),
    procedure="catalog.put",
    arguments=b"\x00arguments",
    request_id=bytes(range(16)),
    stamp_ms=1_790_000_000_123,
)

tables = st.sampled_from(["objects", "buckets", "t-1_x"])
some_bytes = st.binary(min_size=1, max_size=20)
checks = st.one_of(
    st.builds(Exists, tables, some_bytes),
    st.builds(Absent, tables, some_bytes),
    st.builds(Equals, tables, some_bytes, st.binary(max_size=20)),
    st.builds(NoPrefix, tables, st.binary(max_size=20)),
)
ops = st.one_of(
    st.builds(Put, tables, some_bytes, st.binary(max_size=20)),
    st.builds(Delete, tables, some_bytes),
    st.builds(DeletePrefix, tables, st.binary(max_size=20)),
    st.builds(Keep, tables, some_bytes, some_bytes),
)
batches = st.builds(
    Batch,
    checks=st.lists(checks, max_size=4).map(tuple),
    ops=st.lists(ops, max_size=6).map(tuple),
    request_id=st.binary(min_size=16, max_size=16),
    stamp_ms=st.integers(0, 2**53),
)


def batch_of(*steps: commands.Op) -> Batch:
    return commands.batch(*steps)


def test_the_journal_form_is_pinned() -> None:
    pinned = bytes.fromhex(GOLDEN.read_text())
    assert commands.encode(EVERY_KIND) == pinned
    assert commands.decode(pinned) == EVERY_KIND


def test_the_journal_form_of_a_call_is_pinned() -> None:
    pinned = bytes.fromhex(GOLDEN.with_name("s3db_call_v2.hex").read_text())
    assert commands.encode(A_CALL) == pinned
    assert commands.decode(pinned) == A_CALL


@settings(max_examples=100, deadline=None)
@given(batches)
def test_a_batch_survives_encoding(batch: Batch) -> None:
    assert commands.decode(commands.encode(batch)) == batch
    assert commands.decode(memoryview(commands.encode(batch))) == batch


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_bytes_that_are_no_batch_raise_our_errors_only(junk: bytes, versioned: bool) -> None:
    with suppress(FormatError, TooLarge):
        commands.decode(b"\x01" + junk if versioned else junk)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_flipped_byte_is_another_batch_or_an_error(place: int, mask: int) -> None:
    damaged = bytearray(commands.encode(EVERY_KIND))
    damaged[place % len(damaged)] ^= mask
    with suppress(FormatError, TooLarge):
        commands.decode(bytes(damaged))


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFormat, match="version 3"):
        commands.decode(b"\x03" + commands.encode(EVERY_KIND)[1:])


@pytest.mark.parametrize("kind", [b"\x01", b"\x02"])
def test_a_field_that_this_program_does_not_know_is_not_passed_over(kind: bytes) -> None:
    command = EVERY_KIND if kind == b"\x01" else A_CALL
    fields = msgspec.msgpack.decode(commands.encode(command)[1:])
    assert commands.decode(kind + msgspec.msgpack.encode(fields)) == command
    with pytest.raises(FormatError):
        commands.decode(kind + msgspec.msgpack.encode([*fields, 1]))
    fields[0][0].append(1)  # of a check
    with pytest.raises(FormatError):
        commands.decode(kind + msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "op",
    [
        Put("objects", b"k" * (DB_KEY_BYTES_MAX + 1), b""),
        Put("objects", b"k", bytes(DB_VALUE_BYTES_MAX + 1)),
        Keep("objects", b"k", b"u" * (DB_KEY_BYTES_MAX + 1)),
        DeletePrefix("objects", b"k" * (DB_KEY_BYTES_MAX + 1)),
    ],
)
def test_what_is_over_a_bound_is_too_large(op: commands.Op) -> None:
    with pytest.raises(TooLarge):
        commands.encode(batch_of(op))


def test_what_is_at_its_bound_is_taken() -> None:
    largest = Put("objects", b"k" * DB_KEY_BYTES_MAX, bytes(DB_VALUE_BYTES_MAX))
    assert len(commands.encode(batch_of(largest))) > DB_VALUE_BYTES_MAX


def test_a_batch_over_the_commit_bound_is_too_large() -> None:
    value = bytes(COMMIT_BYTES_MAX // 2)
    over = batch_of(Put("objects", b"a", value), Put("objects", b"b", value))
    with pytest.raises(TooLarge, match=str(COMMIT_BYTES_MAX)):
        commands.encode(over)
    with pytest.raises(TooLarge):
        commands.decode(bytes([1]) + bytes(COMMIT_BYTES_MAX))


def test_too_many_steps_are_too_large() -> None:
    with pytest.raises(TooLarge):
        commands.encode(batch_of(*[Delete("objects", b"k")] * (COMMIT_OPS_MAX + 1)))


@pytest.mark.parametrize("table", ["", "Objects", "a b", "~meta", "a/b", "t" * 65, "é"])
def test_a_bad_table_name_is_refused(table: str) -> None:
    with pytest.raises(FormatError):
        commands.encode(batch_of(Put(table, b"k", b"v")))


@pytest.mark.parametrize("op", [Put("t", b"", b""), Delete("t", b""), Keep("t", b"k", b"")])
def test_an_empty_key_is_refused(op: commands.Op) -> None:
    with pytest.raises(FormatError, match="at least one byte"):
        commands.encode(batch_of(op))


def test_a_request_id_has_sixteen_bytes() -> None:
    assert len(commands.new_request_id()) == 16
    assert commands.new_request_id() != commands.new_request_id()
    with pytest.raises(FormatError, match="16 bytes"):
        commands.encode(commands.batch(request_id=b"short"))


@given(batches)
def test_what_may_touch_many_keys_is_known_by_its_bytes(batch: Batch) -> None:
    if any(isinstance(op, DeletePrefix) for op in batch.ops):
        assert commands.deletes_prefixes(commands.encode(batch))


def test_a_put_is_not_taken_for_long() -> None:
    put = commands.batch(Put("objects", b"k", b"v"))
    assert not commands.deletes_prefixes(commands.encode(put))


def test_which_procedure_is_called_is_read_without_the_rest() -> None:
    assert commands.procedure_of(commands.encode(A_CALL)) == "catalog.put"
    assert commands.procedure_of(commands.encode(EVERY_KIND)) is None
    assert commands.procedure_of(b"") is None
    with pytest.raises(FormatError):
        commands.procedure_of(b"\x02\x91")


@pytest.mark.parametrize("name", ["", "Catalog", "a b", "~tick", "a/b", "t" * 65, "é"])
def test_a_bad_name_of_a_procedure_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="procedure"):
        commands.encode(commands.call(name, b""))


def test_a_call_has_the_bounds_of_a_batch() -> None:
    with pytest.raises(TooLarge):
        commands.encode(commands.call("x", bytes(COMMIT_BYTES_MAX)))
    with pytest.raises(TooLarge):
        commands.encode(commands.call("x", b"", (Exists("t", b"k"),) * (COMMIT_OPS_MAX + 1)))
    with pytest.raises(FormatError, match="16 bytes"):
        commands.encode(commands.call("x", b"", request_id=b"short"))

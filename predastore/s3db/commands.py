"""What can be done to the database in one step, and how it is written in the journal.

A `Batch` is checks and ops. All checks are evaluated against the state at the moment when the
batch is applied; if all hold, all ops are done in order, atomically; else nothing is, and the
answer is PreconditionFailed with the number of the first check that failed.

An encoded batch is a version byte (1), then msgpack: structs as arrays, each op and check led
by a number of its own. Numbers and the order of fields are part of the format: they are never
reused, and a golden file pins them. An empty command (no bytes) is what a new leader appends:
it changes nothing but the applied index.

`request_id` makes a retry harmless: a store remembers the ids of the last
REQUESTS_REMEMBERED_MAX batches with their answers, and answers a second apply of the same id
with the first result, whatever the second batch holds.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Final, TypeAlias

import msgspec

from predastore.errors import FormatError, TooLarge, UnsupportedFormat
from predastore.limits import (
    COMMIT_BYTES_MAX,
    COMMIT_OPS_MAX,
    DB_KEY_BYTES_MAX,
    DB_VALUE_BYTES_MAX,
    TABLE_NAME_BYTES_MAX,
)

VERSION: Final = 1
REQUEST_ID_BYTES: Final = 16

_TABLE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


class Put(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Set `key` to `value`."""

    table: str
    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Remove `key`, if it is there."""

    table: str
    key: bytes


class DeletePrefix(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Remove every key that begins with `prefix`; at most DELETE_PREFIX_KEYS_MAX."""

    table: str
    prefix: bytes


class Keep(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """If `key` has a value now, put it under the key `under` too, and report it in `Applied`."""

    table: str
    key: bytes
    under: bytes


class Exists(msgspec.Struct, frozen=True, array_like=True, tag=11):
    table: str
    key: bytes


class Absent(msgspec.Struct, frozen=True, array_like=True, tag=12):
    table: str
    key: bytes


class Equals(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """`key` is there and has exactly this value."""

    table: str
    key: bytes
    value: bytes


class NoPrefix(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """No key begins with `prefix`."""

    table: str
    prefix: bytes


Op: TypeAlias = Put | Delete | DeletePrefix | Keep
Check: TypeAlias = Exists | Absent | Equals | NoPrefix


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """`stamp_ms`: the proposer's clock, Unix time; carried for whoever reads the journal."""

    checks: tuple[Check, ...]
    ops: tuple[Op, ...]
    request_id: bytes
    stamp_ms: int


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """A batch was done. `kept`: (under, old value) of each Keep that found a value, in order."""

    kept: tuple[tuple[bytes, bytes], ...] = ()


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Part of a listing, in byte order.

    `prefixes` are the common prefixes, each with its delimiter. `next` is the last key or prefix
    returned, to go on from with `after`; it is b"" when nothing was.
    """

    entries: list[tuple[bytes, bytes]]
    prefixes: list[bytes]
    truncated: bool
    next: bytes


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Batch)
_VERSION_BYTE: Final = bytes([VERSION])
_DELETE_PREFIX: Final = b"\x93\x03"  # how one begins: an array of three, and its tag


def new_request_id() -> bytes:
    """A fresh request id: 6 bytes of time, so that ids of one moment lie together, 10 random."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10)


def batch(
    *ops: Op, checks: tuple[Check, ...] = (), request_id: bytes = b"", stamp_ms: int = -1
) -> Batch:
    """A batch with a fresh request id and the present time where none is given."""
    return Batch(
        checks=checks,
        ops=ops,
        request_id=request_id or new_request_id(),
        stamp_ms=stamp_ms if stamp_ms >= 0 else time.time_ns() // 1_000_000,
    )


def encode(command: Batch) -> bytes:
    """The journal's form of a batch; TooLarge or FormatError when it can not be one."""
    validate(command)
    encoded = _VERSION_BYTE + _ENCODER.encode(command)
    if len(encoded) > COMMIT_BYTES_MAX:
        raise TooLarge(f"a batch of {len(encoded)} bytes; at most {COMMIT_BYTES_MAX}")
    return encoded


def decode(encoded: bytes | memoryview) -> Batch:
    """What `encode` was given; FormatError (UnsupportedFormat: of another version) or TooLarge."""
    if len(encoded) > COMMIT_BYTES_MAX:
        raise TooLarge(f"a batch of {len(encoded)} bytes; at most {COMMIT_BYTES_MAX}")
    if not encoded:
        raise FormatError("an empty command is no batch")
    if encoded[0] != VERSION:
        raise UnsupportedFormat(f"a batch of version {encoded[0]}; this program reads {VERSION}")
    try:
        command = _DECODER.decode(memoryview(encoded)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"not a batch: {error}") from error
    validate(command)
    return command


def may_take_long(encoded: bytes) -> bool:
    """Whether doing it may touch many keys; sometimes said of one that will not."""
    return _DELETE_PREFIX in encoded


def validate(command: Batch) -> None:
    """Every bound that a batch must keep but that on its encoded size."""
    if len(command.request_id) != REQUEST_ID_BYTES:
        raise FormatError(f"a request id has {REQUEST_ID_BYTES} bytes")
    count = len(command.checks) + len(command.ops)
    if count > COMMIT_OPS_MAX:
        raise TooLarge(f"a batch of {count} checks and ops; at most {COMMIT_OPS_MAX}")
    for step in (*command.checks, *command.ops):
        check_table(step.table)
        if isinstance(step, NoPrefix | DeletePrefix):
            if len(step.prefix) > DB_KEY_BYTES_MAX:
                raise TooLarge(f"a prefix of {len(step.prefix)} bytes; at most {DB_KEY_BYTES_MAX}")
            continue
        check_key(step.key)
        if isinstance(step, Put | Equals):
            if len(step.value) > DB_VALUE_BYTES_MAX:
                raise TooLarge(f"a value of {len(step.value)} bytes; at most {DB_VALUE_BYTES_MAX}")
        elif isinstance(step, Keep):
            check_key(step.under)


def check_key(key: bytes) -> None:
    """A key has 1 to DB_KEY_BYTES_MAX bytes: FormatError, TooLarge."""
    if not key:
        raise FormatError("a key has at least one byte")
    if len(key) > DB_KEY_BYTES_MAX:
        raise TooLarge(f"a key of {len(key)} bytes; at most {DB_KEY_BYTES_MAX}")


@functools.lru_cache(maxsize=256)
def check_table(table: str) -> None:
    """A table's name is 1 to 64 of a-z, 0-9, "_" and "-": FormatError."""
    if not 0 < len(table) <= TABLE_NAME_BYTES_MAX or not _TABLE_CHARACTERS.issuperset(table):
        raise FormatError(
            f"table name {table[:80]!r}: 1 to {TABLE_NAME_BYTES_MAX} of a-z, 0-9, _ and -"
        )

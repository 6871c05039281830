"""What can be done to the database in one step, and how it is written in the journal.

A command is a `Batch`, checks and ops, or a `Call`, checks and a procedure (procedures.py). All
checks are evaluated against the state at the moment when the command is applied; if all hold, all
ops are done in order, or the procedure is run, atomically; else nothing is done, and the answer is
PreconditionFailed with the number of the first check that failed.

    batch   1 | msgpack [checks, ops, request id, stamp]
    call    2 | msgpack [checks, name of the procedure, its arguments, request id, stamp]

Structs are arrays, each op and check led by a number of its own. Numbers and the order of fields
are part of the format: they are never reused, and golden files pin them. An empty command (no
bytes) is what a new leader appends: it changes nothing but the applied index.

`request_id` makes a retry harmless: a store remembers the ids of the last
REQUESTS_REMEMBERED_MAX commands with their answers, and answers a second apply of the same id
with the first result, whatever the second command holds.
"""

from __future__ import annotations

import functools
import time
from typing import Final, TypeAlias

import msgspec

from predastore.base.errors import FormatError, TooLarge, UnsupportedFormat
from predastore.base.limits import (
    COMMIT_BYTES_MAX,
    COMMIT_OPS_MAX,
    DB_KEY_BYTES_MAX,
    DB_VALUE_BYTES_MAX,
    PROCEDURE_NAME_BYTES_MAX,
    TABLE_NAME_BYTES_MAX,
)
from predastore.base.randomness import random_bytes

BATCH: Final = 1  # the first byte of each kind
CALL: Final = 2
REQUEST_ID_BYTES: Final = 16
OWN_PREFIX: Final = "s3db."  # of procedures that are s3db's own: members call them, nobody else

_TABLE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


class _Strict(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A field that this program does not know may change what a command does: it is not read."""


class Put(_Strict, frozen=True, tag=1):
    """Set `key` to `value`."""

    table: str
    key: bytes
    value: bytes


class Delete(_Strict, frozen=True, tag=2):
    """Remove `key`, if it is there."""

    table: str
    key: bytes


class DeletePrefix(_Strict, frozen=True, tag=3):
    """Remove every key that begins with `prefix`; at most DELETE_PREFIX_KEYS_MAX."""

    table: str
    prefix: bytes


class Keep(_Strict, frozen=True, tag=4):
    """If `key` has a value now, put it under the key `under` too, and report it in `Applied`."""

    table: str
    key: bytes
    under: bytes


class Exists(_Strict, frozen=True, tag=11):
    table: str
    key: bytes


class Absent(_Strict, frozen=True, tag=12):
    table: str
    key: bytes


class Equals(_Strict, frozen=True, tag=13):
    """`key` is there and has exactly this value."""

    table: str
    key: bytes
    value: bytes


class NoPrefix(_Strict, frozen=True, tag=14):
    """No key begins with `prefix`."""

    table: str
    prefix: bytes


Op: TypeAlias = Put | Delete | DeletePrefix | Keep
Check: TypeAlias = Exists | Absent | Equals | NoPrefix


class Batch(_Strict, frozen=True):
    """`stamp_ms`: the proposer's clock, Unix time; carried for whoever reads the journal."""

    checks: tuple[Check, ...]
    ops: tuple[Op, ...]
    request_id: bytes
    stamp_ms: int


class Call(_Strict, frozen=True):
    """`arguments`: as the procedure reads them. `stamp_ms` as in a Batch; no procedure has it."""

    checks: tuple[Check, ...]
    procedure: str
    arguments: bytes
    request_id: bytes
    stamp_ms: int


Command: TypeAlias = Batch | Call


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """A command was done. `kept`: (under, old value) of each Keep that found a value, in order.
    `answer`: the procedure's."""

    kept: tuple[tuple[bytes, bytes], ...] = ()
    answer: bytes = b""


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Part of a listing, in byte order.

    `prefixes` are the common prefixes, each with its delimiter. `next` is the last key or prefix
    returned, to go on from with `after`; it is b"" when nothing was.
    """

    entries: list[tuple[bytes, bytes]]
    prefixes: list[bytes]
    truncated: bool
    next: bytes


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """As much of a Call as says which it is."""

    checks: msgspec.Raw
    procedure: str


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Batch] | msgspec.msgpack.Decoder[Call]]] = {
    BATCH: msgspec.msgpack.Decoder(Batch),
    CALL: msgspec.msgpack.Decoder(Call),
}
_HEAD_DECODER: Final = msgspec.msgpack.Decoder(_Head)
_DELETE_PREFIX: Final = b"\x93\x03"  # how one begins: an array of three, and its tag


def new_request_id() -> bytes:
    """A fresh request id: 6 bytes of time, so that ids of one moment lie together, 10 random."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big") + random_bytes(10)


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


def call(
    procedure: str, arguments: bytes, checks: tuple[Check, ...] = (), *, request_id: bytes = b""
) -> Call:
    """A call with a fresh request id, unless one is given, and the present time."""
    stamp_ms = time.time_ns() // 1_000_000
    return Call(checks, procedure, arguments, request_id or new_request_id(), stamp_ms)


def encode(command: Command) -> bytes:
    """The journal's form of a command; TooLarge or FormatError when it can not be one."""
    validate(command)
    kind = b"\x01" if isinstance(command, Batch) else b"\x02"
    encoded = kind + _ENCODER.encode(command)
    check_size(encoded)
    return encoded


def decode(encoded: bytes | memoryview) -> Command:
    """What `encode` was given; FormatError (UnsupportedFormat: of another version) or TooLarge."""
    check_size(encoded)
    command = parse(encoded)
    validate(command)
    return command


def parse(encoded: bytes | memoryview) -> Command:
    """A command that may yet break bounds; FormatError: this program can not read it."""
    if not encoded:
        raise FormatError("an empty command is none")
    decoder = _DECODERS.get(encoded[0])
    if decoder is None:
        raise UnsupportedFormat(f"a command of version {encoded[0]}; this program reads 1 and 2")
    try:
        return decoder.decode(memoryview(encoded)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"not a command: {error}") from error


def procedure_of(encoded: bytes) -> str | None:
    """The procedure that an encoded command calls; None for a batch and an empty command.
    FormatError."""
    if not encoded or encoded[0] != CALL:
        return None
    try:
        return _HEAD_DECODER.decode(memoryview(encoded)[1:]).procedure
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"not a command: {error}") from error


def deletes_prefixes(encoded: bytes) -> bool:
    """Whether a batch may touch many keys; sometimes said of one that will not."""
    return _DELETE_PREFIX in encoded


def check_size(encoded: bytes | memoryview) -> None:
    if len(encoded) > COMMIT_BYTES_MAX:
        raise TooLarge(f"a command of {len(encoded)} bytes; at most {COMMIT_BYTES_MAX}")


def validate(command: Command) -> None:
    """Every bound that a command must keep but that on its encoded size."""
    if len(command.request_id) != REQUEST_ID_BYTES:
        raise FormatError(f"a request id has {REQUEST_ID_BYTES} bytes")
    ops: tuple[Op, ...] = ()
    if isinstance(command, Batch):
        ops = command.ops
    else:
        check_procedure(command.procedure)
    count = len(command.checks) + len(ops)
    if count > COMMIT_OPS_MAX:
        raise TooLarge(f"{count} checks and ops in one command; at most {COMMIT_OPS_MAX}")
    for step in (*command.checks, *ops):
        check_table(step.table)
        if isinstance(step, NoPrefix | DeletePrefix):
            check_prefix(step.prefix)
            continue
        check_key(step.key)
        if isinstance(step, Put | Equals):
            check_value(step.value)
        elif isinstance(step, Keep):
            check_key(step.under)


def check_value(value: bytes) -> None:
    if len(value) > DB_VALUE_BYTES_MAX:
        raise TooLarge(f"a value of {len(value)} bytes; at most {DB_VALUE_BYTES_MAX}")


def check_prefix(prefix: bytes) -> None:
    if len(prefix) > DB_KEY_BYTES_MAX:
        raise TooLarge(f"a prefix of {len(prefix)} bytes; at most {DB_KEY_BYTES_MAX}")


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


@functools.lru_cache(maxsize=256)
def check_procedure(name: str) -> None:
    """A procedure's name is 1 to 64 of a-z, 0-9, "_", "-" and ".": FormatError."""
    is_plain = (_TABLE_CHARACTERS | {"."}).issuperset(name)
    if not 0 < len(name) <= PROCEDURE_NAME_BYTES_MAX or not is_plain:
        raise FormatError(
            f"name of a procedure {name[:80]!r}: 1 to {PROCEDURE_NAME_BYTES_MAX} of a-z, 0-9, "
            '"_", "-" and "."'
        )

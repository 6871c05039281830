"""The state as procedures and questions see it, over lmdb, with bounds on what they may do.

What a procedure writes waits in memory, over the transaction, which is as it was until `write`:
so nothing has to be undone, and one cursor a table serves all of a call's reads. What was written
is looked through in order only where the procedure asks for the first of something: the keys of
that table are sorted then, and kept so.

A view remembers that a bound was broken, or that it was given what can not be: so a procedure that
catches the error does nothing either.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

import lmdb

from predastore.base.errors import FormatError, PredastoreError, ProcedureFailed, TooLarge
from predastore.base.limits import (
    DELETE_PREFIX_KEYS_MAX,
    PROCEDURE_ANSWER_BYTES_MAX,
    PROCEDURE_READ_BYTES_MAX,
    PROCEDURE_READS_MAX,
    PROCEDURE_WRITES_MAX,
    PROCEDURE_WRITTEN_BYTES_MAX,
    READ_BYTES_MAX,
)
from predastore.s3db import commands, keys
from predastore.s3db.procedures import Procedure, Question, Refusal

if TYPE_CHECKING:
    from predastore.s3db.keys import Table

logger = logging.getLogger(__name__)

# Outcomes of a procedure, on every member alike; and what another member need not have met.
_OUTCOMES: Final = (TooLarge, FormatError, ProcedureFailed)
_OF_THIS_MEMBER: Final = (MemoryError, RecursionError, OSError, lmdb.Error)

_NOTHING: Final[Mapping[bytes, bytes | None]] = {}


class Tables(Protocol):
    """Where commands find their tables: those that exist, and new ones on demand."""

    def existing(self, name: str) -> Table | None: ...

    def room_for(self, names: set[str]) -> bool:
        """May the tables of these names that do not exist be created?"""

    def created(self, name: str) -> Table: ...


class FoundTables(Protocol):
    """Tables by name, of which none is created."""

    def get(self, name: str, /) -> Table | None: ...


class _Reads:
    """What is read of a transaction that changes nothing meanwhile, and how much more may be."""

    __slots__ = ("_txn", "_walks", "failure", "read_bytes_left", "reads_left", "time_ms")

    def __init__(self, txn: lmdb.Transaction[bytes], time_ms: int) -> None:
        self._txn = txn
        self._walks: dict[str, keys.Walk] = {}
        self.failure: PredastoreError | None = None
        self.time_ms = time_ms
        self.reads_left = PROCEDURE_READS_MAX
        self.read_bytes_left = PROCEDURE_READ_BYTES_MAX

    def spend(self, size_bytes: int, reads: int = 1) -> None:
        self.reads_left -= reads
        self.read_bytes_left -= size_bytes
        if self.reads_left < 0 or self.read_bytes_left < 0:
            raise self.broken(
                TooLarge(
                    f"over {PROCEDURE_READS_MAX} reads, or {PROCEDURE_READ_BYTES_MAX} bytes of them"
                )
            )

    def broken(self, error: PredastoreError) -> PredastoreError:
        """`error`, which is what becomes of the call."""
        self.failure = self.failure or error
        return error

    def checked(self, answer: object, bytes_max: int) -> bytes:
        """`answer`, unless something was broken."""
        if self.failure is not None:
            raise self.failure
        if not isinstance(answer, bytes):
            raise ProcedureFailed(f"it answered {type(answer).__name__}, not bytes")
        if len(answer) > bytes_max:
            raise TooLarge(f"an answer of {len(answer)} bytes; at most {bytes_max}")
        return answer


class SnapshotView(_Reads):
    """A `ReadView`."""

    __slots__ = ("_tables",)

    def __init__(self, txn: lmdb.Transaction[bytes], tables: FoundTables, time_ms: int) -> None:
        super().__init__(txn, time_ms)
        self._tables = tables

    def get(self, table: str, key: bytes) -> bytes | None:
        found = self._tables.get(table)
        value = None if found is None else keys.get(self._txn, found, key)
        self.spend(0 if value is None else len(value))
        return value

    def first(self, table: str, prefix: bytes, start: bytes = b"") -> tuple[bytes, bytes] | None:
        walk = self._walks.get(table)
        if walk is None:
            found = self._tables.get(table)
            if found is None:
                self.spend(0)
                return None
            walk = self._walks[table] = keys.Walk(self._txn, found)
        if not walk.seek(max(prefix, start)) or not walk.key.startswith(prefix):
            self.spend(0)
            return None
        key, value = walk.key, walk.value()
        self.spend(len(key) + len(value))
        return key, value

    def walk(self, table: str) -> BoundedWalk:
        found = self._tables.get(table)
        return BoundedWalk(self, None if found is None else keys.Walk(self._txn, found))


class BoundedWalk:
    """A `Cursor`."""

    __slots__ = ("_view", "_walk", "key")

    def __init__(self, view: SnapshotView, walk: keys.Walk | None) -> None:
        self._view = view
        self._walk = walk
        self.key = b""

    def seek(self, key: bytes) -> bool:
        return self._stand(self._walk is not None and self._walk.seek(key))

    def next(self) -> bool:
        return self._stand(self._walk is not None and self._walk.next())

    def _stand(self, is_found: bool) -> bool:
        self.key = self._walk.key if is_found and self._walk is not None else b""
        self._view.spend(len(self.key))
        return is_found

    def value(self) -> bytes:
        value = b"" if self._walk is None else self._walk.value()
        self._view.spend(len(value), reads=0)
        return value


class CallView(_Reads):
    """A `View`."""

    __slots__ = (
        "_doomed",
        "_doomed_count",
        "_ordered",
        "_tables",
        "_writes_left",
        "_written",
        "written_bytes_left",
    )

    def __init__(self, txn: lmdb.Transaction[bytes], tables: Tables, time_ms: int) -> None:
        super().__init__(txn, time_ms)
        self._tables = tables
        self._written: dict[str, dict[bytes, bytes | None]] = {}  # None: deleted
        self._ordered: dict[str, list[bytes]] = {}  # the keys of a table that were put, and are
        self._doomed: list[tuple[Table | None, str, bytes]] = []  # prefixes
        self._doomed_count = 0
        self._writes_left = PROCEDURE_WRITES_MAX
        self.written_bytes_left = PROCEDURE_WRITTEN_BYTES_MAX

    # --- reading ----------------------------------------------------------------------------

    def get(self, table: str, key: bytes) -> bytes | None:
        if self._doomed:
            self._check_key(table, key)
        written = self._written.get(table, _NOTHING)
        if key in written:
            value = written[key]
        else:
            found = self._tables.existing(table)
            value = None if found is None else keys.get(self._txn, found, key)
        self.spend(0 if value is None else len(value))
        return value

    def first(self, table: str, prefix: bytes, start: bytes = b"") -> tuple[bytes, bytes] | None:
        at = max(prefix, start)
        if self._doomed:
            self._check_range(table, prefix, at)
        written = self._written.get(table, _NOTHING)
        own = self._first_put(table, prefix, at) if written else None
        walk = self._walk(table)
        more = walk is not None and walk.seek(at)
        while more and walk is not None and walk.key.startswith(prefix):
            key = walk.key
            if own is not None and own <= key:
                break
            if key not in written:
                value = walk.value()
                self.spend(len(key) + len(value))
                return key, value
            self.spend(len(key))  # it is deleted
            more = walk.next()
        mine = None if own is None else written[own]
        if own is None or mine is None:
            self.spend(0)
            return None
        self.spend(len(own) + len(mine))
        return own, mine

    def _walk(self, table: str) -> keys.Walk | None:
        walk = self._walks.get(table)
        if walk is None and (found := self._tables.existing(table)) is not None:
            walk = self._walks[table] = keys.Walk(self._txn, found)
        return walk

    def _first_put(self, table: str, prefix: bytes, at: bytes) -> bytes | None:
        ordered = self._ordered.get(table)
        if ordered is None:
            written = self._written[table]
            ordered = self._ordered[table] = sorted(k for k, v in written.items() if v is not None)
        place = bisect_left(ordered, at)
        if place < len(ordered) and ordered[place].startswith(prefix):
            return ordered[place]
        return None

    # --- writing ----------------------------------------------------------------------------

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._write(table, key, value, len(key) + len(value))

    def delete(self, table: str, key: bytes) -> None:
        self._write(table, key, None, len(key))

    def _write(self, table: str, key: bytes, value: bytes | None, size_bytes: int) -> None:
        try:
            commands.check_table(table)
            commands.check_key(key)
            if value is not None:
                commands.check_value(value)
        except PredastoreError as error:
            raise self.broken(error) from None
        if self._doomed:
            self._check_key(table, key)
        self._spend_writes(size_bytes)
        written = self._written.get(table)
        if written is None:
            written = self._written[table] = {}
        if table in self._ordered and (written.get(key) is None) is not (value is None):
            ordered = self._ordered[table]
            if value is None:
                ordered.pop(bisect_left(ordered, key))
            else:
                insort(ordered, key)
        written[key] = value

    def delete_prefix(self, table: str, prefix: bytes) -> None:
        try:
            commands.check_table(table)
            commands.check_prefix(prefix)
        except PredastoreError as error:
            raise self.broken(error) from None
        self._spend_writes(len(prefix))
        found = self._tables.existing(table)
        if found is not None:
            room = DELETE_PREFIX_KEYS_MAX - self._doomed_count
            self._doomed_count += keys.count_below(self._txn, found, prefix, room + 1)
            if self._doomed_count > DELETE_PREFIX_KEYS_MAX:
                raise self.broken(
                    TooLarge(f"more than {DELETE_PREFIX_KEYS_MAX} keys to delete at once")
                )
        written = self._written.get(table)
        if written is not None:
            kept = {key: value for key, value in written.items() if not key.startswith(prefix)}
            self._written[table] = kept
            self._ordered.pop(table, None)
        self._doomed.append((found, table, prefix))

    def _spend_writes(self, size_bytes: int) -> None:
        self._writes_left -= 1
        self.written_bytes_left -= size_bytes
        if self._writes_left < 0 or self.written_bytes_left < 0:
            raise self.broken(
                TooLarge(
                    f"over {PROCEDURE_WRITES_MAX} writes, or {PROCEDURE_WRITTEN_BYTES_MAX} bytes "
                    "of them"
                )
            )

    def _check_key(self, table: str, key: bytes) -> None:
        for _, name, prefix in self._doomed:
            if name == table and key.startswith(prefix):
                raise self._too_late(table, prefix)

    def _check_range(self, table: str, prefix: bytes, at: bytes) -> None:
        """May keys with `prefix`, from `at` on, be looked for?"""
        for _, name, doomed in self._doomed:
            meets = doomed.startswith(prefix) or prefix.startswith(doomed)
            is_beyond = at > doomed and not at.startswith(doomed)
            if name == table and meets and not is_beyond:
                raise self._too_late(table, doomed)

    def _too_late(self, table: str, prefix: bytes) -> PredastoreError:
        what = f"{table}: the keys below {prefix!r} were deleted before, which is for the end"
        return self.broken(ProcedureFailed(what))

    # --- the end ----------------------------------------------------------------------------

    def drop(self) -> None:
        """Do nothing of all that."""
        self._written.clear()
        self._doomed.clear()

    def check_room(self) -> None:
        """TooLarge where `write` would create more tables than there may be."""
        new = {
            name
            for name, rows in self._written.items()
            if self._tables.existing(name) is None and any(v is not None for v in rows.values())
        }
        if new and not self._tables.room_for(new):
            raise TooLarge("too many tables")

    def write(self) -> None:
        """Do it, in the transaction; nothing is read through this view afterwards."""
        for table, _, prefix in self._doomed:
            if table is not None:
                keys.delete_below(self._txn, table, prefix)
        for name, written in self._written.items():
            for key, value in written.items():
                if value is not None:
                    keys.put(self._txn, self._tables.created(name), key, value)
                elif (found := self._tables.existing(name)) is not None:
                    keys.delete(self._txn, found, key)


def call(procedure: Procedure, view: CallView, arguments: bytes) -> bytes:
    """A procedure's answer; what it does is ready for `view.write`. TooLarge, FormatError,
    ProcedureFailed: nothing is to be done, by no member."""
    try:
        answer = procedure.run(view, arguments)
    except Refusal as refusal:
        view.drop()
        answer = refusal.answer
    except (*_OUTCOMES, *_OF_THIS_MEMBER):
        raise
    except Exception as error:
        raise _failed(procedure, error) from error
    answer = view.checked(answer, PROCEDURE_ANSWER_BYTES_MAX)
    view.check_room()
    return answer


def ask(question: Question, view: SnapshotView, arguments: bytes) -> bytes:
    """A question's answer; TooLarge, ProcedureFailed."""
    try:
        answer = question.run(view, arguments)
    except (*_OUTCOMES, *_OF_THIS_MEMBER):
        raise
    except Exception as error:
        raise _failed(question, error) from error
    return view.checked(answer, READ_BYTES_MAX)


def _failed(which: Procedure | Question, error: Exception) -> ProcedureFailed:
    logger.error("s3db: %s broke off", which.name, exc_info=error)
    return ProcedureFailed(f"{which.name}: {type(error).__name__}: {error}")

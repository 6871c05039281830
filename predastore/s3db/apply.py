"""How commands change the state: one `Application` for each write transaction.

Deterministic: what a command does follows from the state and the command alone, so members
that apply the same commands hold the same state. A command that breaks a bound changes nothing
and is answered with its error, on every member alike. One that this program can not read, or whose
procedure it does not have, is another matter: other members may well do it, so this one stops
(MemberFailed) before it.

Every op of a batch is known to succeed before the first is done, and so is all that a procedure
does, so that no command is ever done in part: the bounds that depend on the state are checked with
the preconditions.

The answers of the last REQUESTS_REMEMBERED_MAX commands are kept, refusals too: a request that was
told to be too large is not done after all when it comes again. `requests` has request id -> (index,
answer), and `window` has index -> request id, to forget the oldest by. A state whose callers never
ask twice remembers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from predastore.base.errors import (
    FormatError,
    MemberFailed,
    PreconditionFailed,
    PredastoreError,
    TooLarge,
    from_wire,
)
from predastore.base.limits import DELETE_PREFIX_KEYS_MAX, KEPT_BYTES_MAX, REQUESTS_REMEMBERED_MAX
from predastore.s3db import clock, commands, keys, views
from predastore.s3db.commands import (
    Absent,
    Applied,
    Batch,
    Call,
    Check,
    Command,
    Delete,
    DeletePrefix,
    Equals,
    Exists,
    Keep,
    Put,
)
from predastore.s3db.procedures import Procedure, Procedures
from predastore.s3db.views import CallView, Tables

if TYPE_CHECKING:
    import lmdb

    from predastore.s3db.environment import Environment

Outcome: TypeAlias = Applied | PredastoreError


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a command: `failed_check` is -1 where none failed, `error` the code of
    what it broke off with (a message may differ from one program to the next), or nothing."""

    index: int
    failed_check: int
    kept: tuple[tuple[bytes, bytes], ...]
    answer: bytes = b""
    error: str = ""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Answer)


class Application:
    """Applies commands within one write transaction."""

    def __init__(
        self,
        txn: lmdb.Transaction[bytes],
        tables: Tables,
        environment: Environment,
        procedures: Procedures,
        *,
        remembers: bool = True,
    ) -> None:
        self._txn = txn
        self._remembers = remembers
        self._tables = tables
        self._requests = environment.requests
        self._window = environment.window
        self._procedures = procedures
        self.remembered_count = environment.remembered_count
        self.level = environment.level
        self.time = environment.time

    def apply(self, index: int, command: bytes) -> Outcome:
        """Do one command; its errors are returned. MemberFailed: this program can not do it."""
        if not command:
            return Applied()
        try:
            commands.check_size(command)
            read = self._read(index, command)
            procedure = None if isinstance(read, Batch) else self._procedure(index, read)
            commands.validate(read)
            remembered = self._txn.get(read.request_id, db=self._requests)
            if remembered is not None:
                return _outcome(_DECODER.decode(remembered))
        except MemberFailed:
            raise
        except PredastoreError as error:
            return error
        try:
            answer = self._do(index, read, procedure)
        except PredastoreError as error:
            self._remember(read.request_id, _Answer(index, -1, (), error=error.code))
            return error
        self._remember(read.request_id, answer)
        return _outcome(answer)

    def _read(self, index: int, command: bytes) -> Command:
        try:
            return commands.parse(command)
        except FormatError as error:
            raise self._can_not(f"entry {index} can not be read ({error})") from error

    def _procedure(self, index: int, call: Call) -> Procedure | None:
        """None: it is one of s3db's own."""
        if call.procedure in clock.BUILT_IN:
            return None
        procedure = self._procedures.get(call.procedure)
        if procedure is None:
            raise self._can_not(f'entry {index} needs the procedure "{call.procedure}"')
        self.level = max(self.level, procedure.level)
        return procedure

    def _can_not(self, what: str) -> MemberFailed:
        return MemberFailed(
            f"{what}, and this program (level {self._procedures.level}) can not do it: install the "
            "version that the other members run, and start this one again"
        )

    def _do(self, index: int, command: Command, procedure: Procedure | None) -> _Answer:
        failed = self._failed_check(command.checks)
        if failed >= 0:
            return _Answer(index, failed, ())
        if isinstance(command, Batch):
            self._check_bounds(command)
            return _Answer(index, -1, self._do_ops(command))
        if procedure is None:
            self.time, answer = clock.called(command.procedure, self.time, command.arguments)
            return _Answer(index, -1, (), answer)
        view = CallView(self._txn, self._tables, self.time.time_ms)
        answer = views.call(procedure, view, command.arguments)
        view.write()
        return _Answer(index, -1, (), answer)

    def _failed_check(self, checks: tuple[Check, ...]) -> int:
        for number, check in enumerate(checks):
            if not self._holds(check):
                return number
        return -1

    def _holds(self, check: Check) -> bool:
        if isinstance(check, Exists):
            return self._get(check.table, check.key) is not None
        if isinstance(check, Absent):
            return self._get(check.table, check.key) is None
        if isinstance(check, Equals):
            return self._get(check.table, check.key) == check.value
        return self._count_below(check.table, check.prefix, 1) == 0

    def _check_bounds(self, batch: Batch) -> None:
        """TooLarge if doing `batch` to this state would break a bound.

        A prefix may also cover keys that an earlier op of the batch puts; they are few, by the
        bound on ops.
        """
        if not self._tables.room_for({op.table for op in batch.ops if isinstance(op, Put)}):
            raise TooLarge("too many tables")
        put_bytes: dict[tuple[str, bytes], int] = {}  # values that this batch itself writes
        kept_bytes = deleted_count = 0
        for op in batch.ops:
            if isinstance(op, Put):
                put_bytes[op.table, op.key] = len(op.value)
            elif isinstance(op, Keep):
                size = put_bytes.get((op.table, op.key))
                if size is None:
                    size = len(self._get(op.table, op.key) or b"")
                put_bytes[op.table, op.under] = size
                kept_bytes += len(op.under) + size
                if kept_bytes > KEPT_BYTES_MAX:
                    raise TooLarge(f"what is to be kept has over {KEPT_BYTES_MAX} bytes")
            elif isinstance(op, DeletePrefix):
                room = DELETE_PREFIX_KEYS_MAX - deleted_count
                deleted_count += self._count_below(op.table, op.prefix, room + 1)
                if deleted_count > DELETE_PREFIX_KEYS_MAX:
                    raise TooLarge(f"more than {DELETE_PREFIX_KEYS_MAX} keys to delete at once")

    def _do_ops(self, batch: Batch) -> tuple[tuple[bytes, bytes], ...]:
        kept: list[tuple[bytes, bytes]] = []
        for op in batch.ops:
            if isinstance(op, Put):
                keys.put(self._txn, self._tables.created(op.table), op.key, op.value)
                continue
            table = self._tables.existing(op.table)
            if table is None:
                continue
            if isinstance(op, Delete):
                keys.delete(self._txn, table, op.key)
            elif isinstance(op, DeletePrefix):
                keys.delete_below(self._txn, table, op.prefix)
            elif (value := keys.get(self._txn, table, op.key)) is not None:
                keys.put(self._txn, table, op.under, value)
                kept.append((op.under, value))
        return tuple(kept)

    def _get(self, name: str, key: bytes) -> bytes | None:
        table = self._tables.existing(name)
        return None if table is None else keys.get(self._txn, table, key)

    def _count_below(self, name: str, prefix: bytes, limit: int) -> int:
        table = self._tables.existing(name)
        return 0 if table is None else keys.count_below(self._txn, table, prefix, limit)

    def _remember(self, request_id: bytes, answer: _Answer) -> None:
        if not self._remembers:
            return
        self._txn.put(request_id, _ENCODER.encode(answer), db=self._requests)
        self._txn.put(answer.index.to_bytes(8, "big"), request_id, db=self._window)
        self.remembered_count += 1
        while self.remembered_count > REQUESTS_REMEMBERED_MAX:
            oldest = self._txn.cursor(db=self._window)
            oldest.first()
            self._txn.delete(oldest.value(), db=self._requests)
            oldest.delete()
            self.remembered_count -= 1


def _outcome(answer: _Answer) -> Outcome:
    if answer.error:
        return from_wire(answer.error, "the same request was refused before; nothing was done", {})
    if answer.failed_check < 0:
        return Applied(answer.kept, answer.answer)
    return PreconditionFailed(f"check {answer.failed_check} does not hold", answer.failed_check)

"""What is read of a store: keys, pages, questions, its digest; each on one snapshot.

Readers see the state between two calls of `apply`, never a part of one, and may run in any thread.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from predastore.base.errors import LevelTooLow, PredastoreError, StoreFailed, anew
from predastore.base.limits import LIST_BYTES_MAX
from predastore.s3db import digest, keys, listing, views
from predastore.s3db.commands import Page
from predastore.s3db.views import SnapshotView

if TYPE_CHECKING:
    from pathlib import Path

    import lmdb

    from predastore.s3db.environment import Environment
    from predastore.s3db.gate import ResizeGate
    from predastore.s3db.procedures import Procedures, Question

_EMPTY: Final = Page([], [], False, b"")
_Reading: TypeAlias = "tuple[Environment, Mapping[str, keys.Table], lmdb.Transaction[bytes]]"


class StoreReader:
    """The part of a Store that reads."""

    procedures: Procedures
    _environment: Environment
    _gate: ResizeGate
    _file: Path
    _closed: bool

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of `key`; None if there is none."""
        return self.read([(table, key)])[0]

    def exists(self, table: str, key: bytes) -> bool:
        return self.get(table, key) is not None

    def read(self, wanted: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """The values of several keys (table, key), all of one moment."""
        self._gate.enter()  # as `_reading`, at a third of its price: this is the hot one
        try:
            self._check_open()
            values: list[bytes | None] = []
            tables = self._environment.tables  # before: the transaction knows no newer ones
            with self._environment.env.begin() as txn:
                for name, key in wanted:
                    table = tables.get(name)
                    values.append(None if table is None else keys.get(txn, table, key))
            return values
        finally:
            self._gate.leave()

    def scan(
        self, table: str, prefix: bytes, after: bytes, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """The first `limit` entries that begin with `prefix` and are greater than `after`.

        However large: it is `limit` that bounds the memory.
        """
        return self.list(table, prefix, b"", after, limit, bytes_max=sys.maxsize).entries

    def list_keys(self, table: str, prefix: bytes, limit: int) -> list[bytes]:
        """The first `limit` keys that begin with `prefix`."""
        page = self.list(table, prefix, b"", b"", limit, bytes_max=sys.maxsize, keys_only=True)
        return [key for key, _ in page.entries]

    def ask(self, name: str, arguments: bytes) -> bytes:
        """The answer to a question, on one snapshot. LevelTooLow: this program does not have it;
        TooLarge, ProcedureFailed."""
        question = self._question(name)
        self._gate.enter()  # as in `read`
        try:
            self._check_open()
            opened, tables = self._environment, self._environment.tables
            with opened.env.begin() as txn:
                view = SnapshotView(txn, tables, opened.time_of(txn).time_ms)
                return views.ask(question, view, arguments)
        finally:
            self._gate.leave()

    def ask_all(self, asked: Sequence[tuple[str, bytes]]) -> list[bytes | PredastoreError]:
        """The answers to several quick questions (name, arguments), on one snapshot; or the error
        of each, as of `ask`."""
        self._gate.enter()  # as in `read`
        try:
            self._check_open()
            opened, tables = self._environment, self._environment.tables
            answers: list[bytes | PredastoreError] = []
            with opened.env.begin() as txn:
                time_ms = opened.time_of(txn).time_ms
                for name, arguments in asked:
                    try:
                        view = SnapshotView(txn, tables, time_ms)
                        answers.append(views.ask(self._question(name), view, arguments))
                    except PredastoreError as error:
                        answers.append(anew(error))
            return answers
        finally:
            self._gate.leave()

    def _question(self, name: str) -> Question:
        question = self.procedures.questions.get(name)
        if question is None:
            raise LevelTooLow(f'this program (level {self.procedures.level}) can not tell "{name}"')
        return question

    def is_quick(self, name: str, arguments: bytes) -> bool:
        """Whether `ask` is a matter of microseconds."""
        question = self.procedures.questions.get(name)
        return question is None or len(arguments) <= question.quick_bytes

    def digest(self) -> bytes:
        """SHA-256; see digest.py."""
        with self._reading(long=True) as (opened, tables, txn):
            return digest.of(opened, tables, txn)

    @contextmanager
    def _reading(self, *, long: bool = False) -> Iterator[_Reading]:
        with self._gate.shared(long=long):
            self._check_open()
            tables = self._environment.tables  # as in `read`
            with self._environment.env.begin() as txn:
                yield self._environment, tables, txn

    def _check_open(self) -> None:
        if self._closed:
            raise StoreFailed(f"{self._file}: closed")

    def list(
        self,
        table: str,
        prefix: bytes,
        delimiter: bytes,
        after: bytes,
        limit: int,
        *,
        bytes_max: int = LIST_BYTES_MAX,
        keys_only: bool = False,
    ) -> Page:
        """Entries and common prefixes, as `listing.page` says."""
        with self._reading() as (_, tables, txn):
            found = tables.get(table)
            if found is None:
                return _EMPTY
            return listing.page(
                keys.Walk(txn, found),
                prefix,
                delimiter=delimiter,
                after=after,
                limit=limit,
                bytes_max=bytes_max,
                keys_only=keys_only,
            )

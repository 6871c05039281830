"""The database as a dict of dicts: what commands and listings mean, without bounds or files."""

from __future__ import annotations

from collections.abc import Callable

from predastore.base.errors import ProcedureFailed
from predastore.s3db.commands import (
    Absent,
    Batch,
    Check,
    Delete,
    DeletePrefix,
    Equals,
    Exists,
    Keep,
    Page,
    Put,
)
from predastore.s3db.procedures import Refusal, View

Tables = dict[str, dict[bytes, bytes]]


class Database:
    def __init__(self) -> None:
        self.tables: Tables = {}

    def table(self, name: str) -> dict[bytes, bytes]:
        return self.tables.get(name, {})

    def apply(self, batch: Batch) -> int | list[tuple[bytes, bytes]]:
        """The number of the check that failed, or what Keep ops kept."""
        for number, check in enumerate(batch.checks):
            if not self.holds(check):
                return number
        kept = []
        for op in batch.ops:
            table = self.tables.setdefault(op.table, {})
            match op:
                case Put():
                    table[op.key] = op.value
                case Delete():
                    table.pop(op.key, None)
                case DeletePrefix():
                    for key in [key for key in table if key.startswith(op.prefix)]:
                        del table[key]
                case Keep():
                    if op.key in table:
                        table[op.under] = table[op.key]
                        kept.append((op.under, table[op.key]))
        return kept

    def call(
        self, run: Callable[[View, bytes], bytes], arguments: bytes, time_ms: int = 0
    ) -> bytes:
        """The answer of a procedure. What it raises but Refusal is raised: nothing was done."""
        view = ModelView({name: dict(rows) for name, rows in self.tables.items()}, time_ms)
        try:
            answer = run(view, arguments)
        except Refusal as refusal:
            return refusal.answer
        view.end()
        self.tables = view.tables
        return answer

    def holds(self, check: Check) -> bool:
        table = self.table(check.table)
        match check:
            case Exists():
                return check.key in table
            case Absent():
                return check.key not in table
            case Equals():
                return table.get(check.key) == check.value
        return not any(key.startswith(check.prefix) for key in table)

    def list(self, name: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int) -> Page:
        rows: dict[bytes, bytes | None] = {}
        for key, value in self.table(name).items():
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                rows[key] = value
            else:
                rows[key[: cut + len(delimiter)]] = None
        names = sorted(row for row in rows if row > after)
        shown = names[:limit]
        return Page(
            entries=[(row, value) for row in shown if (value := rows[row]) is not None],
            prefixes=[row for row in shown if rows[row] is None],
            truncated=bool(shown) and len(names) > limit,
            next=shown[-1] if shown else b"",
        )


class ModelView:
    """A procedure's view, and a question's: of tables that are its own."""

    def __init__(self, tables: Tables, time_ms: int = 0) -> None:
        self.tables = tables
        self.time_ms = time_ms
        self.reads_left = self.read_bytes_left = self.written_bytes_left = 1 << 62
        self._gone: list[tuple[str, bytes]] = []
        self._is_broken = False

    def get(self, table: str, key: bytes) -> bytes | None:
        self._touch(table, key)
        return self.tables.get(table, {}).get(key)

    def first(self, table: str, prefix: bytes, start: bytes = b"") -> tuple[bytes, bytes] | None:
        begin = max(prefix, start)
        for name, gone in self._gone:
            overlaps = gone.startswith(prefix) or prefix.startswith(gone)
            if name == table and overlaps and (begin <= gone or begin.startswith(gone)):
                self._break()
        rows = self.tables.get(table, {})
        found = [key for key in rows if key.startswith(prefix) and key >= begin]
        return (min(found), rows[min(found)]) if found else None

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._touch(table, key)
        self.tables.setdefault(table, {})[key] = value

    def delete(self, table: str, key: bytes) -> None:
        self._touch(table, key)
        self.tables.get(table, {}).pop(key, None)

    def delete_prefix(self, table: str, prefix: bytes) -> None:
        rows = self.tables.get(table, {})
        for key in [key for key in rows if key.startswith(prefix)]:
            del rows[key]
        self._gone.append((table, prefix))

    def walk(self, table: str) -> ModelWalk:
        return ModelWalk(sorted(self.tables.get(table, {}).items()))

    def end(self) -> None:
        if self._is_broken:
            self._break()

    def _touch(self, table: str, key: bytes) -> None:
        if any(name == table and key.startswith(prefix) for name, prefix in self._gone):
            self._break()

    def _break(self) -> None:
        self._is_broken = True
        raise ProcedureFailed("deleted before")


class ModelWalk:
    def __init__(self, rows: list[tuple[bytes, bytes]]) -> None:
        self._rows = rows
        self._place = -1
        self.key = b""

    def seek(self, key: bytes) -> bool:
        self._place = sum(1 for row in self._rows if row[0] < key)
        return self._stand()

    def next(self) -> bool:
        self._place += 1
        return self._stand()

    def _stand(self) -> bool:
        is_found = self._place < len(self._rows)
        self.key = self._rows[self._place][0] if is_found else b""
        return is_found

    def value(self) -> bytes:
        return self._rows[self._place][1]

"""The database as a dict of dicts: what batches and listings mean, without bounds or files."""

from __future__ import annotations

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


class Database:
    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {}

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

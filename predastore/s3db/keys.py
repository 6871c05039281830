"""Keys of any length in exact byte order, over lmdb, whose own keys end at 511 bytes.

A key of up to 503 bytes is stored as it is. A longer one is cut: its first 503 bytes (the
stem) and an 8-byte space id make one pointer entry, which sorts where the long keys belong,
and the rest of the key is stored, under that id, in a sub-database of its own that all tables
share. A rest that is still too long is cut again:

    table:   key                                        -> value     up to 503 bytes
             stem (503) | space id (8, big endian)      -> b""       exactly 511 bytes: a pointer
    long:    space id (8) | rest (1 to 495)             -> value
             space id (8) | stem (495) | space id (8)   -> b""       again a pointer

No stored key has 504 to 510 bytes, so its length tells what an entry is. A stem has at most
one pointer; a space that a pointer names is never empty, and belongs to that pointer alone.
A key of DB_KEY_BYTES_MAX bytes is cut twice. Keys keep exact byte order however many of them
share a stem, and no operation sorts, or reads more than the entries that it returns.

Space ids are drawn from a counter in the same transaction, so they are the same on every
member that applies the same commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import lmdb

STORED_BYTES_MAX: Final = 511  # lmdb's limit as it is built everywhere
SPACE_BYTES: Final = 8
LITERAL_BYTES_MAX: Final = STORED_BYTES_MAX - SPACE_BYTES

_NO_SPACE: Final = bytes(SPACE_BYTES)  # below every id: the counter starts at 1
_COUNTER: Final = b"space-counter"
_DELETE_ROUND_COUNT: Final = 1_024  # keys in memory while a prefix is deleted


class Table(NamedTuple):
    """The sub-databases that hold one table's entries."""

    name: str
    entries: lmdb._Database
    long: lmdb._Database
    meta: lmdb._Database


class Walk:
    """A cursor over the logical keys of a table, in byte order.

    `seek` and `next` say if there is a key; then `key` and `value()` have it. It is valid for
    as long as its transaction changes nothing.
    """

    __slots__ = ("_levels", "_root", "_table", "_txn", "key")

    def __init__(self, txn: lmdb.Transaction[bytes], table: Table) -> None:
        self._txn = txn
        self._table = table
        self._root = txn.cursor(db=table.entries)
        # (cursor, space id, the logical key's bytes above this level)
        self._levels: list[tuple[lmdb.Cursor[bytes], bytes, bytes]] = []
        self.key = b""

    def seek(self, key: bytes) -> bool:
        """Go to the first key that is not less than `key`."""
        self._levels = [(self._root, b"", b"")]
        stored = key
        while True:
            cursor = self._levels[-1][0]
            if len(stored) <= LITERAL_BYTES_MAX:
                return self._stand_at(cursor.set_range(stored))
            stem = stored[:LITERAL_BYTES_MAX]
            found = cursor.set_range(stem + _NO_SPACE)
            at = cursor.key()
            if not found or not at.startswith(stem):
                return self._stand_at(found)
            self._descend(at)
            stored = at[LITERAL_BYTES_MAX:] + stored[LITERAL_BYTES_MAX:]

    def next(self) -> bool:
        """Go to the following key."""
        return self._stand_at(self._levels[-1][0].next())

    def value(self) -> bytes:
        return self._levels[-1][0].value()

    def _descend(self, pointer: bytes) -> None:
        _, space, base = self._levels[-1]
        self._levels.append(
            (
                self._txn.cursor(db=self._table.long),
                pointer[LITERAL_BYTES_MAX:],
                base + pointer[len(space) : LITERAL_BYTES_MAX],
            )
        )

    def _stand_at(self, found: bool) -> bool:
        """From wherever a cursor stands to the first logical key at or after that place."""
        while True:
            cursor, space, base = self._levels[-1]
            stored = cursor.key() if found else b""
            if not found or not stored.startswith(space):
                if len(self._levels) == 1:
                    return False
                self._levels.pop()
                found = self._levels[-1][0].next()
            elif len(stored) > LITERAL_BYTES_MAX:
                self._descend(stored)
                cursor, space, _ = self._levels[-1]
                found = cursor.set_range(space)
            else:
                self.key = base + stored[len(space) :]
                return True


def get(txn: lmdb.Transaction[bytes], table: Table, key: bytes) -> bytes | None:
    """The value of `key`, or None."""
    if len(key) <= LITERAL_BYTES_MAX:
        return txn.get(key, db=table.entries) if key else None
    db, stored = table.entries, key
    while len(stored) > LITERAL_BYTES_MAX:
        space = _space(txn, db, stored[:LITERAL_BYTES_MAX])
        if space is None:
            return None
        db, stored = table.long, space + stored[LITERAL_BYTES_MAX:]
    return txn.get(stored, db=db)


def put(txn: lmdb.Transaction[bytes], table: Table, key: bytes, value: bytes) -> None:
    """Set `key` to `value`; the key has at least one byte."""
    db, stored = table.entries, key
    while len(stored) > LITERAL_BYTES_MAX:
        stem = stored[:LITERAL_BYTES_MAX]
        space = _space(txn, db, stem)
        if space is None:
            space = _new_space(txn, table)
            txn.put(stem + space, b"", db=db)
        db, stored = table.long, space + stored[LITERAL_BYTES_MAX:]
    txn.put(stored, value, db=db)


def delete(txn: lmdb.Transaction[bytes], table: Table, key: bytes) -> bool:
    """Remove `key`, and the pointers that it leaves without a space; was it there?"""
    db, stored = table.entries, key
    pointers: list[tuple[lmdb._Database, bytes, bytes]] = []
    while len(stored) > LITERAL_BYTES_MAX:
        stem = stored[:LITERAL_BYTES_MAX]
        space = _space(txn, db, stem)
        if space is None:
            return False
        pointers.append((db, stem + space, space))
        db, stored = table.long, space + stored[LITERAL_BYTES_MAX:]
    found = txn.delete(stored, db=db)
    for holder, pointer, space in reversed(pointers):
        cursor = txn.cursor(db=table.long)
        if cursor.set_range(space) and cursor.key().startswith(space):
            break
        txn.delete(pointer, db=holder)
    return found


def count_below(txn: lmdb.Transaction[bytes], table: Table, prefix: bytes, limit: int) -> int:
    """How many keys begin with `prefix`; stops counting at `limit`."""
    walk = Walk(txn, table)
    count = 0
    more = walk.seek(prefix)
    while more and count < limit and walk.key.startswith(prefix):
        count += 1
        more = walk.next()
    return count


def delete_below(txn: lmdb.Transaction[bytes], table: Table, prefix: bytes) -> None:
    """Remove every key that begins with `prefix`, a bounded number of keys in memory at a time."""
    while True:
        walk = Walk(txn, table)
        doomed: list[bytes] = []
        more = walk.seek(prefix)
        while more and len(doomed) < _DELETE_ROUND_COUNT and walk.key.startswith(prefix):
            doomed.append(walk.key)
            more = walk.next()
        if not doomed:
            return
        for key in doomed:
            delete(txn, table, key)


def after_all(prefix: bytes) -> bytes | None:
    """The least key greater than every key that begins with `prefix`; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def _space(txn: lmdb.Transaction[bytes], db: lmdb._Database, stem: bytes) -> bytes | None:
    cursor = txn.cursor(db=db)
    if cursor.set_range(stem + _NO_SPACE):
        at = cursor.key()
        if at.startswith(stem):
            return at[LITERAL_BYTES_MAX:]
    return None


def _new_space(txn: lmdb.Transaction[bytes], table: Table) -> bytes:
    last = int.from_bytes(txn.get(_COUNTER, b"", db=table.meta), "big")
    space = (last + 1).to_bytes(SPACE_BYTES, "big")
    txn.put(_COUNTER, space, db=table.meta)
    return space

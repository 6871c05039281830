"""The versions of one key, as a procedure sees and changes them.

After each change holds: the key's row in `objects` is that of its newest version, if that is an
object, and is not there otherwise. A version's row has a row in `nulls` if and only if it is the
null version and its order is not 0.
"""

from __future__ import annotations

import msgspec

from predastore.catalog import keys
from predastore.catalog.keys import NULLS, OBJECTS, VERSIONS
from predastore.catalog.procedures import layouts
from predastore.catalog.procedures.arguments import Content
from predastore.catalog.procedures.layouts import Leavings
from predastore.catalog.rows import BucketRow, CurrentRow, Versioning, VersionRow
from predastore.s3db.procedures import Rows, View
from predastore.storage.formats import decode, encode


class Version(msgspec.Struct, frozen=True):
    """A row of `versions`, and its order."""

    order: int
    row: VersionRow
    stored: bytes

    @property
    def is_object(self) -> bool:
        return not self.row.is_marker


class Chain:
    """Reads; `ChangingChain` writes."""

    def __init__(self, rows: Rows, bucket: BucketRow, key: str) -> None:
        self._rows = rows
        self.bucket = bucket
        self.key = key
        self._prefix = keys.versions(bucket.id, key)

    def newest(self) -> Version | None:
        return self._first(b"")

    def before(self, version: Version) -> Version | None:
        """The next older one."""
        if not version.order:
            return None
        return self._first(keys.version(self.bucket.id, self.key, version.order - 1))

    def _first(self, start: bytes) -> Version | None:
        found = self._rows.first(VERSIONS, self._prefix, start)
        if found is None:
            return None
        key, stored = found
        return Version(keys.order_of(key), decode(VersionRow, stored), stored)

    def at(self, order: int) -> Version | None:
        stored = self._rows.get(VERSIONS, keys.version(self.bucket.id, self.key, order))
        return None if stored is None else Version(order, decode(VersionRow, stored), stored)

    def null(self) -> Version | None:
        """The null version, wherever it stands."""
        if self.bucket.versioning is Versioning.NEVER:
            return self.at(0)
        stored = self._rows.get(NULLS, keys.null(self.bucket.id, self.key))
        return self.at(0 if stored is None else int.from_bytes(stored, "big"))

    def find(self, version: bytes | None) -> Version | None:
        """What an id of `keys.parse_version_id` names, or (None) the newest."""
        if version is None:
            return self.newest()
        if not version:
            return self.null()
        order = int.from_bytes(version[: keys.ORDER_BYTES], "big")
        found = self.at(order)
        if found is None or found.row.is_null or found.row.random != version[keys.ORDER_BYTES :]:
            return None
        return found


class ChangingChain(Chain):
    """`leavings`: takes the layouts that no version names any more. The newest version is looked up
    once: a call that removes many versions of a key passes over none that it has removed."""

    def __init__(self, view: View, bucket: BucketRow, key: str, leavings: Leavings) -> None:
        super().__init__(view, bucket, key)
        self._view = view
        self._leavings = leavings
        self._newest: tuple[Version | None] | None = None  # None: not looked up yet

    def newest(self) -> Version | None:
        if self._newest is None:
            self._newest = (super().newest(),)
        return self._newest[0]

    def replaced(self) -> Version | None:
        """The version that goes when another is put: the null one, unless the bucket keeps all.
        No lock keeps it: only a bucket that has object lock has such versions, and it keeps all."""
        return None if self.bucket.versioning is Versioning.ENABLED else self.null()

    def add(self, row: VersionRow, content: Content | None = None) -> int:
        """Makes a version the newest, and its order; what it replaces goes. `content`: where its
        bytes are, unless they are placed already."""
        replaced = self.replaced()
        order = 0
        if self.bucket.versioning:
            newest = self.newest()
            order = 1 if newest is None else newest.order + 1
        if replaced is not None:
            self._drop(replaced)
        if content is not None:  # before what shares its layout goes
            layouts.place(self._view, self.bucket.name, self.key, content, row.summary)
            layouts.share(self._view, content, self.bucket.id, order, row.random)
        self._view.put(VERSIONS, keys.version(self.bucket.id, self.key, order), encode(row))
        if row.is_null and order:
            place = keys.null(self.bucket.id, self.key)
            self._view.put(NULLS, place, order.to_bytes(keys.ORDER_BYTES, "big"))
        self._show(Version(order, row, b""))
        if replaced is not None:
            self._let_go(replaced)
        return order

    def remove(self, version: Version) -> None:
        """The next older one is the newest then, if this one was."""
        newest = self.newest()
        self._drop(version)
        if newest is not None and newest.order == version.order:
            self._show(self.before(version))
        self._let_go(version)

    def _drop(self, version: Version) -> None:
        self._view.delete(VERSIONS, keys.version(self.bucket.id, self.key, version.order))
        if version.row.is_null and version.order:
            self._view.delete(NULLS, keys.null(self.bucket.id, self.key))

    def _let_go(self, version: Version) -> None:
        layouts.let_go(self._view, self.bucket.id, version.order, version.row, self._leavings)

    def _show(self, newest: Version | None) -> None:
        """The key's row in `objects` as its newest version has it."""
        self._newest = (newest,)
        place = keys.current(self.bucket.name, self.key)
        if newest is None or not newest.is_object:
            self._view.delete(OBJECTS, place)
            return
        row = CurrentRow(newest.order, newest.row.random, newest.row.summary)
        self._view.put(OBJECTS, place, encode(row))

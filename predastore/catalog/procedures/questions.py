"""The questions of the catalog, each on one snapshot: what a read needs; pages of versions."""

from __future__ import annotations

import msgspec

from predastore.base.limits import LISTED_BYTES_MAX, LISTED_READ_BYTES_LEFT_MIN
from predastore.catalog import keys
from predastore.catalog.keys import BUCKETS, INLINE, OBJECTS, VERSIONS
from predastore.catalog.procedures.arguments import Arguments, done
from predastore.catalog.procedures.chain import Chain, Version
from predastore.catalog.rows import Kind, Summary, VersionRow, bucket_row
from predastore.s3db.keys import after_all
from predastore.s3db.procedures import Cursor, ReadView
from predastore.storage.formats import decode, unpack


class FindObject(Arguments, frozen=True):
    """`object.find`. `version`: as `keys.parse_version_id` has it, None: what is current.
    `needs_bytes`: where they are, or the inline body."""

    bucket: str
    key: str
    version: bytes | None = None
    needs_bytes: bool = True


class FoundObject(msgspec.Struct, frozen=True, array_like=True):
    """Its answer: the rows as they are stored; b"" for none. `version` without `is_object` is a
    delete marker. `placement`: the first page of the layout. `body`: its CRC32C, then an inline
    body."""

    bucket: bytes = b""
    version: bytes = b""
    order: int = 0
    is_newest: bool = False
    placement: bytes = b""
    body: bytes = b""


class ListVersions(Arguments, frozen=True):
    """`version.list`: of a bucket's id, the versions of keys that begin with `prefix`, in order of
    the keys, the newest first, and common prefixes; after the key `key_marker`, or after the
    version of it whose order is `order_marker`. `limit` counts both."""

    bucket_id: bytes
    prefix: str
    delimiter: str
    key_marker: str
    order_marker: int | None
    limit: int


class ListedVersion(msgspec.Struct, frozen=True, array_like=True):
    """One of a listing."""

    key: str
    order: int
    random: bytes
    is_null: bool
    is_marker: bool
    is_newest: bool
    summary: Summary


class ListedVersions(msgspec.Struct, frozen=True, array_like=True):
    """Its answer. It may be short of `limit` and truncated, as its bytes are bounded. Where it is
    truncated, `next_key` and `next_order` are the markers of the next page; `next_order` is None
    behind a common prefix."""

    versions: tuple[ListedVersion, ...]
    prefixes: tuple[str, ...]
    is_truncated: bool
    next_key: str = ""
    next_order: int | None = None


def find(view: ReadView, arguments: bytes) -> bytes:
    """`FindObject` to `FoundObject`."""
    args = unpack(FindObject, arguments)
    stored = view.get(BUCKETS, keys.bucket(args.bucket))
    if stored is None:
        return done(FoundObject())
    bucket = bucket_row(stored)
    chain = Chain(view, bucket, args.key)
    version = chain.find(args.version)
    if version is None:
        return done(FoundObject(stored))
    is_newest = args.version is None or _is_newest(chain, version)
    found = FoundObject(stored, version.stored, version.order, is_newest)
    row = version.row
    if args.needs_bytes and row.kind is Kind.PLACED:
        placement = view.get(OBJECTS, row.layout)
        found = msgspec.structs.replace(found, placement=placement or b"")
    elif args.needs_bytes and row.kind is Kind.INLINE:
        found = msgspec.structs.replace(found, body=view.get(INLINE, row.layout) or b"")
    return done(found)


def _is_newest(chain: Chain, version: Version) -> bool:
    newest = chain.newest()
    return newest is not None and newest.order == version.order


def list_versions(view: ReadView, arguments: bytes) -> bytes:
    """`ListVersions` to `ListedVersions`."""
    return done(_Walk(view, unpack(ListVersions, arguments)).run())


class _Walk:
    """Over the rows of one page."""

    def __init__(self, view: ReadView, args: ListVersions) -> None:
        self._view = view
        self._cursor: Cursor = view.walk(VERSIONS)
        self._args = args
        self._base = keys.documents(args.bucket_id)
        self._below = self._base + args.prefix.encode()
        self._versions: list[ListedVersion] = []
        self._prefixes: list[str] = []
        self._bytes_left = LISTED_BYTES_MAX
        self._at_key = ""  # of the row before
        self._next: tuple[str, int | None] = ("", None)

    def run(self) -> ListedVersions:
        args, cursor = self._args, self._cursor
        more = args.limit > 0 and cursor.seek(max(self._below, self._start()))
        while more and cursor.key.startswith(self._below):
            if len(self._versions) + len(self._prefixes) >= args.limit or self._is_full():
                return self._listed(is_truncated=True)
            more = self._step()
        return self._listed(is_truncated=False)

    def _is_full(self) -> bool:
        return self._bytes_left < 0 or self._view.read_bytes_left < LISTED_READ_BYTES_LEFT_MIN

    def _start(self) -> bytes:
        args = self._args
        marker = args.key_marker
        if not marker:
            return b""
        common = self._common_prefix(marker) if marker.startswith(args.prefix) else ""
        if common:  # a marker within a common prefix is behind it
            return after_all(self._base + common.encode()) or b"\xff"
        if not args.order_marker:  # None, or behind the oldest version
            return keys.versions(args.bucket_id, marker)[:-1] + b"\1"
        start = keys.version(args.bucket_id, marker, args.order_marker - 1)
        newest = self._view.first(VERSIONS, keys.versions(args.bucket_id, marker))
        if newest is not None and newest[0] < start:
            self._at_key = marker
        return start

    def _common_prefix(self, key: str) -> str:
        """What stands for a key in the listing; "" where it stands for itself."""
        args = self._args
        if not args.delimiter:
            return ""
        head, found, _ = key[len(args.prefix) :].partition(args.delimiter)
        return args.prefix + head + found if found else ""

    def _step(self) -> bool:
        """Takes the row under the cursor; whether there is a next one."""
        cursor = self._cursor
        at = cursor.key
        key = at[len(self._base) : -1 - keys.ORDER_BYTES].decode()
        common = self._common_prefix(key)
        if common:
            self._prefixes.append(common)
            self._bytes_left -= len(common)
            self._next = (common, None)
            behind = after_all(self._base + common.encode())
            return behind is not None and cursor.seek(behind)
        row = decode(VersionRow, cursor.value())
        order = keys.order_of(at)
        self._versions.append(
            ListedVersion(
                key,
                order,
                row.random,
                row.is_null,
                row.is_marker,
                key != self._at_key,
                row.summary,
            )
        )
        self._bytes_left -= len(at) + 150
        self._at_key = key
        self._next = (key, order)
        return cursor.next()

    def _listed(self, *, is_truncated: bool) -> ListedVersions:
        key, order = self._next if is_truncated else ("", None)
        return ListedVersions(
            tuple(self._versions), tuple(self._prefixes), is_truncated, key, order
        )

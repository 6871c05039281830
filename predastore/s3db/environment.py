"""One open lmdb file of a store: its flags, its sub-databases, and whether it is ours and whole.
All of its pages are looked at before lmdb maps them (lmdbfile.py).

~meta      "format" -> u32 big endian, "applied" -> u64 big endian, the space counter, "level" ->
           u32 big endian: the highest level of a command that was done, where it is not 2, and
           "time" -> cluster time, once there was a tick (clock.py)
~long      the ends of long keys (keys.py)
~requests  request id -> answer, ~window: index -> request id (apply.py)
NAME       the entries of the table NAME; no table's name begins with "~"
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import lmdb

from predastore.base import fs, lmdbfile
from predastore.base.errors import (
    CorruptData,
    FormatError,
    NodeFull,
    StoreFailed,
    UnsupportedFormat,
)
from predastore.base.limits import (
    RAFT_RESERVE_BYTES,
    STORE_NO_ROOM_BYTES,
    STORE_READERS_MAX,
    TABLES_MAX,
)
from predastore.s3db import clock, keys
from predastore.s3db.clock import ClusterTime
from predastore.s3db.raft.messages import BASE_LEVEL
from predastore.s3db.versions import other_version

FORMAT: Final = 2
NO_ROOM: Final = (lmdb.DiskError, lmdb.MemoryError)  # after which nothing of a write was done

_FORMAT_KEY: Final = b"format"
_APPLIED_KEY: Final = b"applied"
_LEVEL_KEY: Final = b"level"
_TIME_KEY: Final = b"time"
_INTERNAL: Final = ("~meta", "~long", "~requests", "~window")
_META_PAGES: Final = 2  # at the beginning of the file
_CREATION_MAP_BYTES: Final = 1 << 20
_MODE: Final = 0o600  # of the file, and of the lock file beside it


@dataclass
class Environment:
    """An open file. `tables` is replaced as a whole, so a reader may keep what it has."""

    env: lmdb.Environment
    meta: lmdb._Database
    long: lmdb._Database
    requests: lmdb._Database
    window: lmdb._Database
    remembered_count: int  # entries of `window`, as the writer counts them
    level: int = BASE_LEVEL  # as the writer knows it
    time: ClusterTime = field(default_factory=ClusterTime)  # the same
    tables: dict[str, keys.Table] = field(default_factory=dict)

    def applied_index(self, txn: lmdb.Transaction[bytes]) -> int:
        return int.from_bytes(txn.get(_APPLIED_KEY, b"", db=self.meta), "big")

    def set_applied_index(self, txn: lmdb.Transaction[bytes], index: int) -> None:
        txn.put(_APPLIED_KEY, index.to_bytes(8, "big"), db=self.meta)

    def level_of(self, txn: lmdb.Transaction[bytes]) -> int:
        return int.from_bytes(txn.get(_LEVEL_KEY, b"", db=self.meta), "big") or BASE_LEVEL

    def set_level(self, txn: lmdb.Transaction[bytes], level: int) -> None:
        txn.put(_LEVEL_KEY, level.to_bytes(4, "big"), db=self.meta)

    def time_of(self, txn: lmdb.Transaction[bytes]) -> ClusterTime:
        return clock.unpack(txn.get(_TIME_KEY, b"", db=self.meta))

    def set_time(self, txn: lmdb.Transaction[bytes], time: ClusterTime) -> None:
        txn.put(_TIME_KEY, time.pack(), db=self.meta)

    def has_all(self, tables: Mapping[str, keys.Table]) -> bool:
        """Whether no commit has made a table that is not among `tables`, a former value of the
        field: a commit is there for readers a moment before the tables that it has made are."""
        return bool(self.env.stat()["entries"] == len(_INTERNAL) + len(tables))

    def spare_bytes(self, txn: lmdb.Transaction[bytes], tables: Iterable[keys.Table]) -> int:
        """Of the pages in the file: those that no table has."""
        shared = (self.meta, self.long, self.requests, self.window)
        stats = [txn.stat(db) for db in (*shared, *(table.entries for table in tables))]
        stats.append(self.env.stat())
        used = _META_PAGES
        for stat in stats:
            used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return max(0, self.env.info()["last_pgno"] + 1 - used) * stats[-1]["psize"]


class OpenTables:
    """The tables as a write transaction sees them: with those that it has created itself."""

    def __init__(self, environment: Environment, txn: lmdb.Transaction[bytes]) -> None:
        self._environment = environment
        self._txn = txn
        self.tables = dict(environment.tables)

    def existing(self, name: str) -> keys.Table | None:
        return self.tables.get(name)

    def room_for(self, names: set[str]) -> bool:
        return len(names | self.tables.keys()) <= TABLES_MAX

    def created(self, name: str) -> keys.Table:
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = _table(self._environment, self._txn, name)
        return table


def open_environment(file: Path, *, map_bytes: int, durable: bool) -> Environment:
    """Open or create the store's file for writing; CorruptData, FormatError."""
    if not file.exists():
        _create(file)
    env = _open(file, map_bytes=map_bytes, sync=durable)
    try:
        with env.begin(write=True) as txn:
            return _sub_databases(env, txn)
    except BaseException:
        env.close()
        raise


def verify(file: Path, level: int | None = None) -> int:
    """The applied index of a store's file that nobody has open; CorruptData, FormatError.
    UnsupportedFormat where it needs a program of more than `level`, if that is given."""
    with reading(file) as (opened, txn):
        if level is not None:
            check_level(opened, level)
        return opened.applied_index(txn)


def check_level(opened: Environment, level: int) -> None:
    """UnsupportedFormat unless a program of this level knows all that was done to the state."""
    if opened.level > level:
        raise UnsupportedFormat(
            f"{opened.env.path()}: commands of level {opened.level} were done to this state; this "
            f"program has level {level}: install the version that the other members run"
        )


@contextmanager
def reading(file: Path) -> Iterator[tuple[Environment, lmdb.Transaction[bytes]]]:
    """A store's file that nobody has open, to be read only; CorruptData, FormatError."""
    env = _open(file, readonly=True)
    try:
        with env.begin() as txn:
            yield _sub_databases(env, txn), txn
    finally:
        env.close()


def free_bytes_of(directory: Path) -> int:
    """What the file system gives to whoever is not root."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def check_room(opened: Environment, directory: Path) -> None:
    """NodeFull unless a copy in `directory` leaves the reserve as it is: where there is no room for
    the journal, the member ends."""
    tables = [table.entries for table in opened.tables.values()]
    with opened.env.begin() as txn:  # without what is free in the file: a copy is compacted
        found = map(txn.stat, (opened.meta, opened.long, opened.requests, opened.window, *tables))
        pages = sum(
            one["branch_pages"] + one["leaf_pages"] + one["overflow_pages"] for one in found
        )
    needed_bytes = pages * opened.env.stat()["psize"]
    free_bytes = free_bytes_of(directory)
    if free_bytes < needed_bytes + RAFT_RESERVE_BYTES:
        raise NodeFull(
            f"{directory}: a copy of the database has {needed_bytes >> 20} MiB; "
            f"{free_bytes >> 20} MiB are free, of which {RAFT_RESERVE_BYTES >> 20} are kept. Make "
            "room there, and try again"
        )


def _create(file: Path) -> None:
    """An empty store under its name at once: what is there later is never half made."""
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    env = _open(part, map_bytes=_CREATION_MAP_BYTES, lock=False)
    try:
        with env.begin(write=True) as txn:
            _sub_databases(env, txn, create=True)
    finally:
        env.close()
    fs.put_in_place(part, file)


def _open(
    file: Path,
    *,
    map_bytes: int = 0,
    sync: bool = True,
    readonly: bool = False,
    lock: bool = True,
) -> lmdb.Environment:
    if file.exists():
        fs.patiently(lmdbfile.check, file)
    try:
        opened: lmdb.Environment = fs.patiently(
            partial(
                lmdb.open,
                os.fspath(file),
                subdir=False,
                map_size=map_bytes,
                sync=sync,
                readonly=readonly,
                mode=_MODE,
                lock=lock and not readonly,
                max_dbs=TABLES_MAX + len(_INTERNAL),
                max_readers=STORE_READERS_MAX,
                max_spare_txns=8,
            )
        )
        return opened
    except lmdb.Error as error:
        if not lmdbfile.is_damage(error):
            raise StoreFailed(f"{file}: it can not be opened now: {error}") from error
        raise CorruptData(f"{file}: lmdb can not open it: {error}") from error


def _sub_databases(
    env: lmdb.Environment, txn: lmdb.Transaction[bytes], *, create: bool = False
) -> Environment:
    try:
        found = {name: env.open_db(name.encode(), txn, create=create) for name in _INTERNAL}
    except lmdb.NotFoundError as error:
        raise FormatError(f"{env.path()}: not a store of this program") from error
    meta, long, requests, window = (found[name] for name in _INTERNAL)
    opened = Environment(env, meta, long, requests, window, txn.stat(window)["entries"])
    opened.level, opened.time = opened.level_of(txn), opened.time_of(txn)
    if create:
        txn.put(_FORMAT_KEY, FORMAT.to_bytes(4, "big"), db=opened.meta)
    version = int.from_bytes(txn.get(_FORMAT_KEY, b"", db=opened.meta), "big")
    if version != FORMAT:
        raise other_version(env.path(), version, FORMAT)
    try:
        names = [bytes(name).decode() for name, _ in txn.cursor(db=env.open_db(None, txn))]
        opened.tables = {name: _table(opened, txn, name) for name in names if name not in _INTERNAL}
    except (lmdb.Error, UnicodeDecodeError) as error:
        raise CorruptData(f"{env.path()}: its tables can not be opened: {error}") from error
    return opened


def _table(environment: Environment, txn: lmdb.Transaction[bytes], name: str) -> keys.Table:
    entries = environment.env.open_db(name.encode(), txn)
    return keys.Table(name, entries, environment.long, environment.meta)


def room_left(file: Path) -> str:
    """What to add to an error: lmdb calls a write that a full disk cuts short an I/O error."""
    return (
        " (No space left on its disk)" if free_bytes_of(file.parent) < STORE_NO_ROOM_BYTES else ""
    )

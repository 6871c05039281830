"""The state of one database member, or of a process of its own (LocalState): tables in lmdb.

One file, `store.mdb` in the store's directory (environment.py draws it), and lmdb's lock file
beside it; of a store that is not `durable` also `store.checkpoint` (checkpoint.py draws it).

Contract
- One call of `apply` is one transaction: its commands, and the index of the last, are all in
  the file or none is. Applying the same commands, however they are split into calls, gives the
  same state, the same answers, and the same `digest`.
- Readers see the state between two calls of `apply`, never a part of one. They may run in any
  thread; `apply`, `replace_from` and `close` wait for each other.
- What survives a crash, of the process or by power loss. With `durable`, everything that
  `apply` returned from: lmdb writes the data pages and syncs them, then writes the meta page
  that points at them and syncs that. Without, `apply` syncs nothing (MDB_NOSYNC), and a store
  that was not closed opens with the state of its last checkpoint, `durable_index`: `sync` makes
  one, and so does opening, before the first write. Whoever opens a store so must be able to
  apply again what was undone: a Raft member replays its journal, and cuts it only behind
  `durable_index`. How this can be, on a file that the kernel writes back in any order: a read
  transaction, the pin, holds the pages of the last checkpoint from being used anew, and
  checkpoint.py keeps the two pages that lmdb does overwrite. It costs disk space: what was
  written since the checkpoint before the last. The file is never mapped writable, and is not
  to be exchanged by hand while `store.checkpoint` is there; `replace_from` does it in order.
- The map (address space) doubles when it is full, up to `map_bytes_max`; that waits for the
  readers of the moment. At the limit, or on a full disk, `apply` raises NodeFull, and nothing
  was changed. After any other failure to write, all further writes raise StoreFailed: what is
  on the disk is not known, and the process should end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import lmdb

from predastore.base import fs
from predastore.base.errors import (
    CorruptData,
    MemberFailed,
    NodeFull,
    StoreFailed,
    UnsupportedFormat,
)
from predastore.base.limits import STORE_MAP_BYTES_INITIAL, STORE_MAP_BYTES_MAX
from predastore.s3db import checkpoint, copies, environment
from predastore.s3db.apply import Application, Outcome
from predastore.s3db.checkpoint import Checkpoints
from predastore.s3db.clock import ClusterTime
from predastore.s3db.environment import Environment, OpenTables
from predastore.s3db.gate import ResizeGate
from predastore.s3db.procedures import NO_PROCEDURES, Procedures
from predastore.s3db.reader import StoreReader

FILE_NAME: Final = "store.mdb"


class Store(StoreReader):
    """Tables of byte keys and values; see the module for what it promises."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        map_bytes_max: int = STORE_MAP_BYTES_MAX,
        durable: bool,
        map_bytes_initial: int = STORE_MAP_BYTES_INITIAL,
        procedures: Procedures = NO_PROCEDURES,
        remembers: bool = True,
    ) -> None:
        """Open or create the store in the directory `path`; CorruptData, FormatError. `remembers`:
        answers, for requests that may come again."""
        self._file = Path(path) / FILE_NAME
        fs.make_folder(self._file.parent)
        self._map_bytes_max = map_bytes_max
        self._map_bytes_initial = min(map_bytes_initial, map_bytes_max)
        self._durable = durable
        self._remembers = remembers
        self.procedures = procedures
        self._checkpoints: Checkpoints | None = None  # where each write is synced, there are none
        # Taken in this order: a checkpoint, or what must not meet one; writes; the gate.
        self._syncing = threading.Lock()
        self._writer = threading.RLock()
        self._gate = ResizeGate()
        self._failure = ""
        self._closed = False
        self._applied_index = 0
        self._environment = self._open()

    # --- writing ----------------------------------------------------------------------------

    @property
    def applied_index(self) -> int:
        """The index of the last command that is part of the state; 0 for none."""
        return self._applied_index

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[Outcome]:
        """Do the commands (index, encoded), in one transaction; the answer of each.

        Indices rise, from above `applied_index`. An answer is Applied, or the error of a
        command that changed nothing. NodeFull: there is no room, and none was done. MemberFailed:
        this program can not do one of them, and none was done.
        """
        while True:
            with self._writer:
                self._check_writable()
                try:
                    return self._apply_once(entries)
                except lmdb.MapFullError:
                    map_bytes = self._environment.env.info()["map_size"]
                except environment.NO_ROOM as error:
                    raise NodeFull(f"{self._file}: {error}") from error
                except lmdb.Error as error:
                    if self._durable and self._was_cut_short(error):
                        raise NodeFull(f"{self._file}: {error}") from error
                    raise self._failed(error) from error
            self._grow(map_bytes)

    def try_apply(self, entries: Sequence[tuple[int, bytes]]) -> list[Outcome] | None:
        """`apply` where it need not wait for anything; else None, and nothing was done."""
        if not self._writer.acquire(blocking=False):
            return None
        try:
            self._check_writable()
            return self._apply_once(entries)
        except (lmdb.MapFullError, *environment.NO_ROOM):
            return None
        except lmdb.Error as error:
            raise self._failed(error) from error
        finally:
            self._writer.release()

    def may_take_long(self, command: bytes) -> bool:
        """Whether doing it is work for a thread; sometimes said of what is not."""
        return self.procedures.may_take_long(command)

    @property
    def level(self) -> int:
        """The highest level of a command that was done to the state: what a program must have."""
        return self._environment.level

    @property
    def time(self) -> ClusterTime:
        """Cluster time as of the last tick; the same object until the next."""
        return self._environment.time

    @property
    def durable_index(self) -> int:
        """What `applied_index` is at least after a crash."""
        checkpoints = self._checkpoints
        return self._applied_index if checkpoints is None else checkpoints.applied_index

    def sync(self) -> None:
        """Make all that was applied durable; for a store that is not `durable` by itself.

        `apply` goes on meanwhile. StoreFailed: a write to the disk failed, by now or long ago.
        """
        with self._syncing:
            self._sync(self._environment.env)

    def _sync(self, env: lmdb.Environment) -> None:
        with self._writer:
            self._check_writable()
            checkpoints = self._checkpoints
            if checkpoints is not None:
                pending = checkpoints.begin(env, self._applied_index)
        try:
            env.sync(True)
            if checkpoints is not None:
                checkpoints.finish(pending)
        except (lmdb.Error, OSError) as error:
            raise self._failed(error) from error

    def _apply_once(self, entries: Sequence[tuple[int, bytes]]) -> list[Outcome]:
        opened = self._environment
        last = self._applied_index
        with opened.env.begin(write=True) as txn:
            tables = OpenTables(opened, txn)
            application = Application(
                txn, tables, opened, self.procedures, remembers=self._remembers
            )
            outcomes: list[Outcome] = []
            for index, command in entries:
                if index <= last:
                    raise ValueError(f"command {index} after {last}")
                outcomes.append(application.apply(index, command))
                last = index
            opened.set_applied_index(txn, last)
            if application.level != opened.level:
                opened.set_level(txn, application.level)
            if application.time is not opened.time:
                opened.set_time(txn, application.time)
        opened.level, opened.time = application.level, application.time
        opened.tables, opened.remembered_count = tables.tables, application.remembered_count
        self._applied_index = last
        return outcomes

    def _was_cut_short(self, error: lmdb.Error) -> bool:
        """Whether a full disk did that to what is no part of the state yet. lmdb writes the page
        that makes it one last, and does nothing more after that has failed."""
        return not isinstance(error, lmdb.PanicError) and bool(environment.room_left(self._file))

    def _failed(self, error: Exception) -> StoreFailed:
        self._failure = str(error) + environment.room_left(self._file)
        return StoreFailed(f"{self._file}: a write failed: {self._failure}")

    def _check_writable(self) -> None:
        if self._closed:
            raise StoreFailed(f"{self._file}: closed")
        if self._failure:
            raise StoreFailed(f"{self._file}: a write failed: {self._failure}")

    def _grow(self, map_bytes: int) -> None:
        """Make room: a checkpoint sets pages free, and the map doubles if it may.

        No transaction may be open when it is resized, not even the pin.
        """
        if map_bytes >= self._map_bytes_max and self.durable_index == self._applied_index:
            raise NodeFull(f"{self._file}: its {self._map_bytes_max} bytes are full")
        with self._syncing, self._writer:
            self._check_writable()
            env = self._environment.env
            self._sync(env)  # nothing is written between this and the next pin
            with self._gate.exclusive():
                if self._checkpoints is not None:
                    self._checkpoints.unpin()
                if env.info()["map_size"] == map_bytes:
                    env.set_mapsize(min(2 * map_bytes, self._map_bytes_max))
                if self._checkpoints is not None:
                    self._checkpoints.pin(env)

    def status(self) -> dict[str, int]:
        """`applied_index`, `table_count`, `file_bytes` in use and `map_bytes_max`."""
        with self._reading() as (opened, _, _):
            pages_count = opened.env.info()["last_pgno"] + 1
            return {
                "applied_index": self._applied_index,
                "table_count": len(opened.tables),
                "file_bytes": pages_count * opened.env.stat()["psize"],
                "map_bytes_max": self._map_bytes_max,
            }

    def used_bytes(self) -> int:
        """Of the file: what tables and the like have of it, about."""
        with self._reading() as (opened, tables, txn):
            file_bytes = (opened.env.info()["last_pgno"] + 1) * opened.env.stat()["psize"]
            return file_bytes - opened.spare_bytes(txn, tables.values())

    def spare_bytes(self) -> int:
        """Of the file: what can be written anew without making it longer, about."""
        with self._reading() as (opened, tables, txn):
            return opened.spare_bytes(txn, tables.values())

    # --- whole files ------------------------------------------------------------------------

    def snapshot_to(self, path: str | os.PathLike[str]) -> int:
        """Write the state of one moment, compacted, to a new file, durably; its applied index.

        Other reads and `apply` go on meanwhile. The file appears under its name when it is
        whole; a file of that name is replaced.
        """
        target = Path(path)
        with self._gate.shared(long=True):
            self._check_open()
            copies.begin(self._environment, target)
        return copies.finish(target)

    def replace_from(self, path: str | os.PathLike[str]) -> None:
        """Take over the state of a snapshot's file, which is renamed into the store.

        The file lies in the same file system. CorruptData, FormatError: it is no snapshot, and
        the state is as it was. MemberFailed: this program is too old for it.
        """
        snapshot = Path(path)
        with self._syncing, self._writer:
            self._check_writable()
            try:
                environment.verify(snapshot, self.procedures.level)
            except UnsupportedFormat as error:
                raise MemberFailed(f"a snapshot can not be taken over: {error}") from error
            fs.sync(snapshot)
            with self._gate.exclusive():
                try:
                    self._shut()  # a checkpoint speaks of the file that goes
                    snapshot.replace(self._file)
                    fs.sync(self._file.parent)
                    self._environment = self._open()
                except BaseException as error:
                    self._failure = f"replacing it failed: {error}"
                    self._closed = True
                    raise

    def close(self) -> None:
        """Sync and close; waits for the readers."""
        with self._syncing, self._writer, self._gate.exclusive():
            if not self._closed:
                self._closed = True
                self._shut()

    def _shut(self) -> None:
        """Close the file; synced, it needs no checkpoint."""
        env = self._environment.env
        try:
            if not self._failure:
                env.sync(True)
        except lmdb.Error as error:
            raise self._failed(error) from error
        finally:
            env.close()
            checkpoint.close(self._checkpoints)
        if not self._failure:
            checkpoint.remove(self._file)

    def _open(self) -> Environment:
        if not self._file.exists():
            checkpoint.remove(self._file)
        found = checkpoint.load(self._file)
        if found is not None:
            checkpoint.restore(self._file, found)
        opened = environment.open_environment(
            self._file, map_bytes=self._map_bytes_initial, durable=self._durable
        )
        try:
            environment.check_level(opened, self.procedures.level)
            with opened.env.begin() as txn:
                self._applied_index = opened.applied_index(txn)
            if found is not None and found.applied_index != self._applied_index:
                raise CorruptData(f"{self._file}: its checkpoint is of another file")
            if self._durable:
                checkpoint.remove(self._file)
            else:
                self._checkpoints = Checkpoints(self._file, found)
                self._sync(opened.env)  # before the first write
        except BaseException:
            opened.env.close()
            raise
        return opened

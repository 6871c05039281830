"""When the state machine's checkpoints are made, and the log is cut behind them.

A commit syncs the journal and nothing else; the state machine goes back to its last checkpoint
after a crash, and what it had applied since is applied again from the journal. So a checkpoint
follows some time after the first entry that is in none, while applying goes on; and the log, and
with it the journal, is cut only behind what the last checkpoint holds.

Of a leader's journal the segments stay that followers need (archive.py): those that lag, were not
silent for long, or are getting a snapshot. So they catch up, however fast entries come; within
bounds, on the bytes and on what is left of the disk. What comes while a snapshot is on its way is
the more, the larger that is, and without it another snapshot would have to follow: so the bound on
the bytes grows with the tables.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol

from predastore.base.limits import (
    CROWDED_FREE_BYTES,
    RAFT_ARCHIVE_FRAMES_MAX,
    RAFT_CHECKPOINT_MS,
    RAFT_JOURNAL_KEPT_BYTES,
    RAFT_JOURNAL_KEPT_TABLES,
    RAFT_LAGGING_S,
    RAFT_LOG_CUT_BYTES,
    RAFT_LOG_KEPT_BYTES,
)
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.room import MemberRoom
from predastore.s3db.raft.snapshots import Sender
from predastore.s3db.raft.worker import Worker


class CheckpointedStore(Protocol):
    @property
    def applied_index(self) -> int: ...

    @property
    def durable_index(self) -> int: ...

    def sync(self) -> None: ...

    def used_bytes(self) -> int: ...


class JournalUpkeep:
    def __init__(
        self,
        core: RaftCore,
        store: CheckpointedStore,
        *,
        journal: Journal,
        room: MemberRoom,
        applier: Worker,
        syncer: Worker,
        sender: Sender,
        wake: Callable[[], None],
    ) -> None:
        """`applier`: the thread of the state machine's transactions; `syncer`: another."""
        self._loop = asyncio.get_running_loop()
        core.archive = journal.archive
        self._core = core
        self._store = store
        self._journal = journal
        self._room = room
        self._applier = applier
        self._syncer = syncer
        self._sender = sender
        self._wake = wake
        self._due: asyncio.TimerHandle | None = None
        self._is_cutting = False
        self._is_stopped = False

    def applied(self) -> None:
        """The state machine has taken entries."""
        self._plan()
        self._cut()

    def stop(self) -> None:
        self._is_stopped = True
        if self._due is not None:
            self._due.cancel()

    def _plan(self) -> None:
        """Soon all that is applied now is durable."""
        if self._due is None and self._store.durable_index < self._store.applied_index:
            sync = partial(self._syncer.run, self._store.sync, self._synced)
            self._due = self._loop.call_later(RAFT_CHECKPOINT_MS / 1000, sync)

    def _synced(self, _: None) -> None:
        self._due = None
        if not self._is_stopped:
            self._plan()

    def _cut(self) -> None:
        log, leadership = self._core.log, self._core.leadership
        if self._is_cutting or log.size_bytes < RAFT_LOG_KEPT_BYTES + RAFT_LOG_CUT_BYTES:
            return
        if leadership is None or not leadership.is_sending_snapshot():
            self._sender.close()
        if log.index_before_last(RAFT_LOG_KEPT_BYTES) <= self._store.durable_index:
            self._compact()
        else:  # entries come faster than checkpoints: let applying wait for one
            self._is_cutting = True
            self._applier.run(self._store.sync, self._cut_behind_it)

    def _cut_behind_it(self, _: None) -> None:
        self._is_cutting = False
        if not self._is_stopped:
            self._compact()

    def _compact(self) -> None:
        self._journal.kept_index = self._needed_index()
        index = self._core.log.index_before_last(RAFT_LOG_KEPT_BYTES)
        self._core.compact(min(index, self._store.durable_index))
        self._wake()

    def _needed_index(self) -> int:
        """Behind which entries are to stay in the journal, cut or not."""
        leadership = self._core.leadership
        is_full = self._room.left_bytes() < CROWDED_FREE_BYTES
        if leadership is None or is_full or self._is_large():
            return sys.maxsize
        needed = leadership.lagging_from(RAFT_LAGGING_S)
        if not leadership.is_sending_snapshot():
            return needed
        if self._sender.marker is not None:
            return min(needed, self._sender.marker.index)
        return min(needed, self._core.log.base_index, self._journal.kept_index)

    def _is_large(self) -> bool:
        """Whether the journal has more than is kept for followers."""
        if self._journal.archive.frame_count > RAFT_ARCHIVE_FRAMES_MAX:
            return True
        size_bytes = self._journal.size_bytes
        if size_bytes <= RAFT_JOURNAL_KEPT_BYTES:
            return False
        return size_bytes > RAFT_JOURNAL_KEPT_TABLES * self._store.used_bytes()

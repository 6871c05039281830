"""When the state machine's checkpoints are made, and the log is cut behind them.

A commit syncs the journal and nothing else; the state machine goes back to its last checkpoint
after a crash, and what it had applied since is applied again from the journal. So a checkpoint
follows some time after the first entry that is in none, while applying goes on; and the log, and
with it the journal, is cut only behind what the last checkpoint holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from predastore.base.limits import (
    RAFT_CHECKPOINT_MS,
    RAFT_LOG_CUT_BYTES,
    RAFT_LOG_KEPT_BYTES,
    RAFT_LOG_STRETCH,
)
from predastore.s3db.raft.core import Core
from predastore.s3db.raft.snapshots import Sender
from predastore.s3db.raft.worker import Worker


class CheckpointedStore(Protocol):
    @property
    def applied_index(self) -> int: ...

    @property
    def durable_index(self) -> int: ...

    def sync(self) -> None: ...


class Upkeep:
    def __init__(
        self,
        core: Core,
        store: CheckpointedStore,
        *,
        applier: Worker,
        syncer: Worker,
        sender: Sender,
        wake: Callable[[], None],
    ) -> None:
        """`applier`: the thread of the state machine's transactions; `syncer`: another."""
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._store = store
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
        """What a follower will need after the snapshot that it is getting stays, within bounds."""
        log, leadership = self._core.log, self._core.leadership
        if self._is_cutting or log.size_bytes < RAFT_LOG_KEPT_BYTES + RAFT_LOG_CUT_BYTES:
            return
        if leadership is None or not leadership.is_sending_snapshot():
            self._sender.close()
        elif log.size_bytes < RAFT_LOG_STRETCH * RAFT_LOG_KEPT_BYTES:
            return
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
        index = self._core.log.index_before_last(RAFT_LOG_KEPT_BYTES)
        self._core.compact(min(index, self._store.durable_index))
        self._wake()

"""Gives committed entries to the state machine: one transaction at a time.

A small one is done on the loop, which takes less time than to hand it to a thread and back, where
nothing has to be waited for; any other in a thread. On a full disk what is committed is tried
again until there is room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from predastore.base.errors import NodeFull
from predastore.base.limits import (
    RAFT_APPLY_AT_ONCE_BYTES,
    RAFT_APPLY_AT_ONCE_ENTRIES,
    RAFT_APPLY_FULL_RETRY_MS,
)
from predastore.s3db.raft.messages import COMMAND, Entry
from predastore.s3db.raft.worker import Worker

logger = logging.getLogger(__name__)

_Batches = Sequence[tuple[int, bytes]]


class StateMachine(Protocol):
    """As much of Store as is used here."""

    def apply(self, entries: _Batches) -> Sequence[Any]: ...

    def try_apply(self, entries: _Batches) -> Sequence[Any] | None: ...

    def may_take_long(self, command: bytes) -> bool: ...


class Applier:
    def __init__(
        self,
        member: int,
        store: StateMachine,
        worker: Worker,
        *,
        applied: Callable[[Sequence[Entry], Sequence[Any]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`applied` gets the entries and their outcomes on the loop, perhaps before `apply` has
        returned; `failed`, what the state machine or `applied` raised."""
        self._member = member
        self._store = store
        self._worker = worker
        self._told = applied
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._is_stopped = False

    def apply(self, entries: Sequence[Entry]) -> None:
        batches = [(entry.index, entry.data if entry.kind == COMMAND else b"") for entry in entries]
        if self._is_small(batches):
            try:
                outcomes = self._store.try_apply(batches)
            except Exception as error:
                self._failed(error)
                return
            if outcomes is not None:
                self._applied(entries, outcomes)
                return

        def work() -> Sequence[Any] | None:
            try:
                return self._store.apply(batches)
            except NodeFull:
                logger.exception(
                    "s3db: no room for what is committed", extra={"member": self._member}
                )
                return None  # nothing was done

        self._worker.run(work, partial(self._applied, entries))

    def _applied(self, entries: Sequence[Entry], outcomes: Sequence[Any] | None) -> None:
        if self._is_stopped:
            return
        if outcomes is None:
            self._loop.call_later(RAFT_APPLY_FULL_RETRY_MS / 1000, self._again, entries)
            return
        try:
            self._told(entries, outcomes)
        except Exception as error:
            self._failed(error)

    def _again(self, entries: Sequence[Entry]) -> None:
        if not self._is_stopped:
            self.apply(entries)

    def _is_small(self, batches: _Batches) -> bool:
        return (
            len(batches) <= RAFT_APPLY_AT_ONCE_ENTRIES
            and sum(len(command) for _, command in batches) <= RAFT_APPLY_AT_ONCE_BYTES
            and not any(self._store.may_take_long(command) for _, command in batches)
        )

    def stop(self) -> None:
        """`applied` is not called any more."""
        self._is_stopped = True

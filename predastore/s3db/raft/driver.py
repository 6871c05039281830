"""Does what a core asks for, in the order that makes it safe (state.py), around any I/O.

One write to the journal and one transaction of the state machine are under way at a time, side
by side. What turns bring meanwhile waits and goes together with the next: group commit, without
any timer. The member and the simulator drive their cores with this same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.messages import Entry, Marker, Message, Record, SnapshotChunk
from predastore.s3db.raft.state import ChunkWanted, ReadState, Ready


class Actions(Protocol):
    """What a driver's owner does for it; `write` and `apply` report back when they are done."""

    def send(self, messages: Sequence[Message]) -> None: ...

    def write(self, records: Sequence[Record]) -> None:
        """Append to the journal and sync, in the background; then `Driver.written`."""

    def apply(self, entries: Sequence[Entry]) -> None:
        """Give entries to the state machine, in the background or at once; then
        `Driver.applied`."""

    def answer_reads(self, reads: Sequence[ReadState]) -> None: ...

    def take_chunks(self, chunks: Sequence[SnapshotChunk]) -> None: ...

    def find_chunks(self, wanted: Sequence[ChunkWanted]) -> None: ...


class Driver:
    def __init__(self, core: RaftCore, actions: Actions) -> None:
        self.core = core
        self.applied_index = core.handed
        self._actions = actions
        self._waiting: list[Ready] = []
        self._writing: list[Ready] = []
        self._applying: Sequence[Entry] = ()
        self._awaited = 0  # the last entry whose effect somebody waits for
        self._is_held = False

    def turn(self) -> None:
        """Carry out what the core wants now; after every step, tick or proposal."""
        ready = self.core.ready()
        if ready.messages:
            self._actions.send(ready.messages)
        if ready.records or ready.messages_after_sync:
            self._waiting.append(ready)
            if not self._writing:
                self._write()
        if ready.reads:
            self._actions.answer_reads(ready.reads)
        if ready.chunks:
            self._actions.take_chunks(ready.chunks)
        if ready.chunks_wanted:
            self._actions.find_chunks(ready.chunks_wanted)
        if self._is_urgent():
            self._apply()

    def _is_urgent(self) -> bool:
        """A follower that writes applies once it has said so: the leader waits for that, and
        nobody for the state, or he says so."""
        leads = self.core.leadership is not None
        return leads or not self._writing or self._awaited > self.core.handed

    def await_applied(self, index: int) -> None:
        """Somebody waits for the state machine to take the entry `index`."""
        self._awaited = max(self._awaited, index)
        self._apply()

    def _write(self) -> None:
        """One frame, and one sync, for all that waits."""
        turns, self._waiting = self._waiting, []
        records = [record for ready in turns for record in ready.records]
        if records:
            self._writing = turns
            self._actions.write(records)
        else:
            self._speak(turns)

    def written(self) -> None:
        """The last `write` is on stable storage."""
        turns, self._writing = self._writing, []
        self.core.synced(turns[-1])
        self._speak(turns)
        if self._waiting:
            self._write()
        self.turn()
        self._apply()

    def _speak(self, turns: Sequence[Ready]) -> None:
        messages = [message for ready in turns for message in ready.messages_after_sync]
        if messages:
            self._actions.send(messages)

    def _apply(self) -> None:
        if self._applying or self._is_held:
            return
        self._applying = self.core.take_committed()
        if self._applying:
            self._actions.apply(self._applying)

    def applied(self) -> None:
        """The state machine has taken the entries of the last `apply`."""
        self.applied_index = self._applying[-1].index
        self._applying = ()
        self.turn()
        self._apply()

    def hold(self) -> bool:
        """Give the state machine nothing more, for `installed`; True once it rests."""
        self._is_held = True
        return not self._applying

    def installed(self, marker: Marker) -> None:
        """The state machine now is, durably, that of `marker`."""
        self._is_held = False
        self.core.install(marker)
        self.applied_index = marker.index
        self.turn()

    def release(self) -> None:
        """Nothing was installed after all."""
        self._is_held = False
        self.turn()

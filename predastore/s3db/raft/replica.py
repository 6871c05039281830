"""A member's copy of the log: what it takes from a leader, and what it gives up.

Rules: an entry is cut only where its term conflicts with a leader's, never at or below the
commit index; the commit index follows only what a message has shown to match; an acknowledgement
leaves once all that it speaks of is synced; what the state machine gets is committed and synced.
"""

from __future__ import annotations

from predastore.s3db.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    Marker,
    SnapshotChunk,
    SnapshotReply,
    Truncate,
)
from predastore.s3db.raft.state import RaftState


class Replica(RaftState):
    def take_committed(self) -> list[Entry]:
        """The next entries for the state machine, in order, each exactly once."""
        last = min(self.commit, self.synced_index)
        if last <= self.handed:
            return []
        entries = self.log.batch(
            self.handed + 1,
            last,
            bytes_max=self.bounds.apply_bytes,
            count_max=self.bounds.apply_entries,
        )
        self.handed = entries[-1].index
        return entries

    def receive(self, message: AppendEntries) -> None:
        """Raft figure 3.1, AppendEntries; the reply leaves once the entries are synced."""
        prev, entries = message.prev_index, message.entries
        if not _is_consecutive(message):
            return
        if prev < self.log.base_index:  # what the base covers is committed, so it matches
            entries = [entry for entry in entries if entry.index > self.log.base_index]
            if not entries:
                self._accept(message, prev + len(message.entries))
                return
        elif self.log.term_at(prev) != message.prev_term:
            self._refuse(message)
            return
        self._take(entries)
        self._accept(message, prev + len(message.entries))

    def _take(self, entries: list[Entry]) -> None:
        """Append what is new; cut only where the terms conflict (Raft 3.5).

        An append may be old, and end before the log does: what follows it stays.
        """
        for position, entry in enumerate(entries):
            term = self.log.term_at(entry.index)
            if term == entry.term:
                continue
            if term is not None:
                self.truncate(entry.index)
            self.append(entries[position:])
            return

    def _accept(self, message: AppendEntries, match: int) -> None:
        """The commit index moves no further than what this message has shown to match."""
        self.commit = max(self.commit, min(message.commit, match))
        reply = AppendReply(self.id, message.source, self.term, True, match, message.round)
        self.say(reply)

    def _refuse(self, message: AppendEntries) -> None:
        if message.prev_index <= self.commit:
            self.truncate(message.prev_index)  # stops the member: a committed entry conflicts
        hint = self.log.last_at_or_below(message.prev_index, message.prev_term)
        hint = max(hint, self.commit)
        hint_term = self.log.term_at(hint)
        assert hint_term is not None
        self.say(
            AppendReply(
                self.id,
                message.source,
                self.term,
                False,
                message.prev_index,
                message.round,
                hint,
                hint_term,
            )
        )

    # --- snapshots and compaction -------------------------------------------------------------

    def receive_chunk(self, message: SnapshotChunk) -> None:
        """The owner keeps the chunk and answers with `chunk_kept`, or `install` at the end."""
        if message.marker.index <= self.commit:
            commit = min(self.commit, self.log.last_index)
            self.say(AppendReply(self.id, message.source, self.term, True, commit, message.round))
        else:
            self.out.chunks.append(message)

    def chunk_kept(self, chunk: SnapshotChunk, offset: int) -> None:
        """All bytes before `offset` of the chunk's snapshot are here."""
        if chunk.term == self.term:
            index = chunk.marker.index
            self.say(SnapshotReply(self.id, chunk.source, self.term, index, offset, chunk.round))

    def install(self, marker: Marker) -> None:
        """The state machine now is that of `marker`, durably (Raft 5.3)."""
        assert marker.index > self.handed
        if self.log.term_at(marker.index) != marker.term:
            self.out.records.append(
                Truncate(self.log.first_index)
            )  # nothing here is known to match
            self.membership.truncate(self.log.first_index)
        self.log.rebase(marker.index, marker.term)
        self.membership.rebase(marker.index, marker.configuration)
        self.commit = max(self.commit, marker.index)
        self.handed = marker.index
        self.synced_index = max(min(self.synced_index, self.log.last_index), marker.index)
        self.truncations += 1
        self.out.records.append(marker)
        if self.leader is not None and self.leader != self.id:
            self.say(AppendReply(self.id, self.leader, self.term, True, marker.index, 0))

    def compact(self, index: int) -> None:
        """Entries up to `index` are durable in the state machine: the log may lose them."""
        assert index <= self.handed
        if index > self.log.base_index:
            configuration = self.membership.at(index)
            self.log.compact(index)
            self.membership.rebase(index, configuration)
            self.out.records.append(Marker(index, self.log.base_term, configuration))


def _is_consecutive(message: AppendEntries) -> bool:
    """Indexes without a gap, terms that do not fall: what any leader sends."""
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= message.term:
            return False
        term = entry.term
    return True

"""What a member's core holds, whatever its role, and what it wants done.

The core is sans-IO: it never writes, sends or reads a clock. `Ready` is what one turn asks
for; its owner keeps this order:

1. `messages` may leave at once: they depend on nothing that is not synced. (A leader sends
   entries while it syncs them itself, Raft 10.2.1; it counts itself only for what is synced.)
2. `records` are written to the journal, in order, and synced.
3. `messages_after_sync` leave once these records, and all of earlier turns, are synced; then
   `Core.synced(ready)` is called.
4. Committed entries are fetched with `Core.take_committed`: never one that is not synced here.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field

from predastore.base import limits
from predastore.base.errors import MemberFailed
from predastore.s3db.raft.archive import Archive, NoArchive
from predastore.s3db.raft.log import RaftLog
from predastore.s3db.raft.membership import Membership
from predastore.s3db.raft.messages import (
    NOBODY,
    Entry,
    HardState,
    Marker,
    Message,
    Record,
    SnapshotChunk,
    Truncate,
)


class Role(enum.Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True)
class Timing:
    heartbeat_s: float = limits.RAFT_HEARTBEAT_MS / 1000
    election_s: float = limits.RAFT_ELECTION_TIMEOUT_MS / 1000


@dataclass(frozen=True)
class RaftBounds:
    append_bytes: int = limits.RAFT_APPEND_BYTES_MAX
    append_entries: int = limits.RAFT_APPEND_ENTRIES_MAX
    in_flight_count: int = limits.RAFT_APPENDS_IN_FLIGHT_MAX
    in_flight_bytes: int = limits.RAFT_APPEND_BYTES_IN_FLIGHT_MAX
    uncommitted_bytes: int = limits.RAFT_UNCOMMITTED_BYTES_MAX
    log_bytes: int = limits.RAFT_LOG_BYTES_MAX
    reads_waiting: int = limits.RAFT_READS_WAITING_MAX
    apply_bytes: int = limits.RAFT_APPLY_BYTES_MAX
    apply_entries: int = limits.RAFT_APPLY_ENTRIES_MAX
    archived_appends: int = limits.RAFT_ARCHIVED_APPENDS_MAX


@dataclass(frozen=True)
class Recovered:
    """What the journal gave back at start."""

    hard_state: HardState
    marker: Marker
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class ReadState:
    """Reads of `context` are linearizable once `index` is applied; None: ask again elsewhere."""

    context: Hashable
    index: int | None


@dataclass(frozen=True)
class ChunkWanted:
    """The leader is to send `follower` the snapshot from `offset` on (`Core.send_chunk`)."""

    follower: int
    index: int
    offset: int


@dataclass
class Ready:
    sequence: int = 0
    messages: list[Message] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    messages_after_sync: list[Message] = field(default_factory=list)
    reads: list[ReadState] = field(default_factory=list)
    chunks: list[SnapshotChunk] = field(default_factory=list)
    chunks_wanted: list[ChunkWanted] = field(default_factory=list)
    last_index: int = 0
    truncations: int = 0


class RaftState:
    """The variables of Raft figure 3.1, the log, and the turn's outbox."""

    def __init__(
        self,
        member_id: int,
        recovered: Recovered,
        *,
        timing: Timing,
        bounds: RaftBounds,
        now: float,
    ) -> None:
        self.id = member_id
        self.timing = timing
        self.bounds = bounds
        self.now = now
        self.term = recovered.hard_state.term
        self.vote = recovered.hard_state.vote
        self.role = Role.FOLLOWER
        self.leader: int | None = None
        marker = recovered.marker
        self.log = RaftLog(marker.index, marker.term, recovered.entries)
        self.archive: Archive = NoArchive()  # of what the log has lost, if the owner has one
        self.membership = Membership(marker.index, marker.configuration)
        self.membership.observe(recovered.entries)
        self.commit = marker.index
        self.handed = marker.index  # entries up to here went to the state machine
        self.synced_index = self.log.last_index
        self.truncations = 0
        self.out = Ready()

    def remember(self, term: int, vote: int) -> None:
        """Change term and vote; they are synced before anything speaks of them (Raft 3.4)."""
        assert term > self.term or (term == self.term and self.vote in (NOBODY, vote))
        self.term, self.vote = term, vote
        self.out.records.append(HardState(term, vote))

    def append(self, entries: list[Entry]) -> bool:
        """Entries after the log's end; True if they changed the membership."""
        self.log.append(entries)
        self.out.records.extend(entries)
        return self.membership.observe(entries)

    def truncate(self, first: int) -> None:
        """Drop a conflicting suffix (Raft 3.5); nothing committed is ever dropped."""
        if first <= self.commit:
            raise MemberFailed(
                f"member {self.id}: a leader's entry conflicts with entry {first}, which is "
                f"committed (commit index {self.commit}): the logs have diverged. Stop this "
                "member, keep its files for inspection, and rejoin it with an empty directory"
            )
        self.log.truncate(first)
        self.membership.truncate(first)
        self.synced_index = min(self.synced_index, first - 1)
        self.truncations += 1
        self.out.records.append(Truncate(first))

    def term_at(self, index: int) -> int | None:
        """The term of an entry, of one that the log has lost too; None if it is not known."""
        if index < self.log.base_index:
            return self.archive.term_at(index)
        return self.log.term_at(index)

    def say(self, message: Message) -> None:
        """Send once all that happened so far is synced."""
        self.out.messages_after_sync.append(message)

    def say_at_once(self, message: Message) -> None:
        """Send without waiting: nothing in it depends on unsynced bytes."""
        self.out.messages.append(message)

"""What members say to each other, and the entries of their log.

Every message names its sender, its addressee and the sender's term ("Raft" below is
D. Ongaro's dissertation, "Consensus: Bridging Theory and Practice", 2014). Structs travel as
msgpack arrays, told apart by a small integer; a field is only ever added at the end, with a
default, so that members of two versions understand each other.

An entry is identified by (index, term): two logs that agree on it agree on all before it.
"""

from __future__ import annotations

from typing import Final

import msgspec

# Entry kinds
NOOP: Final = 0  # begins a leader's term (Raft 6.4: it must commit before reads are served)
COMMAND: Final = 1  # opaque bytes for the state machine
CONFIG: Final = 2  # a Configuration, in force as soon as it is in the log (Raft 4.1)

NOBODY: Final = -1  # as a vote: not given

UNKNOWN_LEVEL: Final = 0  # of a program whose member has not spoken
BASE_LEVEL: Final = 2  # of the first release; no state of a program before it can be read


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    index: int
    term: int
    kind: int
    data: bytes


class Address(msgspec.Struct, frozen=True, array_like=True):
    """Where a member is: REST over TCP on `port`, Raft over UDP on `raft_port`; and the level of
    its program (levels.py)."""

    member: int
    host: str
    port: int
    raft_port: int
    level: int = BASE_LEVEL


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Who votes, who only receives the log until it has caught up (Raft 4.2.1), and where they are.

    Without any member: of a member that does not know its cluster yet. It neither stands for
    election nor votes.
    """

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    addresses: tuple[Address, ...] = ()  # of those that are known

    def members(self) -> tuple[int, ...]:
        return self.voters + self.learners

    def pack(self) -> bytes:
        """msgpack; without addresses two arrays, as the first version wrote it."""
        if self.addresses:
            return ENCODER.encode(self)
        return ENCODER.encode((self.voters, self.learners))


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a member must remember before it speaks of it (Raft figure 3.1)."""

    term: int = 0
    vote: int = NOBODY


class Marker(msgspec.Struct, frozen=True, array_like=True):
    """The log begins after `index`: all up to it is in the state machine (Raft 5.1)."""

    index: int
    term: int
    configuration: Configuration


class Truncate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Entries from this index on conflict with a leader's, and are gone."""

    first: int


Record = Entry | HardState | Marker | Truncate  # what the journal keeps, in order


class _Message(msgspec.Struct, frozen=True, array_like=True):
    source: int
    target: int
    term: int


class PreVote(_Message, frozen=True, array_like=True, tag=1):
    """Would you vote for me in `term`, which I have not begun (Raft 9.6)?"""

    last_index: int
    last_term: int


class PreVoteReply(_Message, frozen=True, array_like=True, tag=2):
    """`term`: the term asked for if granted, else the replier's own."""

    granted: bool


class Vote(_Message, frozen=True, array_like=True, tag=3):
    """`transfer`: the old leader asked for this election (Raft 3.10)."""

    last_index: int
    last_term: int
    transfer: bool


class VoteReply(_Message, frozen=True, array_like=True, tag=4):
    granted: bool


class AppendEntries(_Message, frozen=True, array_like=True, tag=5):
    """Entries after (prev_index, prev_term); none in a heartbeat.

    `round`: the leader's read round; a reply that echoes it proves that the follower still
    took the sender for the leader when that round had begun (Raft 6.4).
    """

    prev_index: int
    prev_term: int
    commit: int
    round: int
    entries: list[Entry]


class AppendReply(_Message, frozen=True, array_like=True, tag=6):
    """Sent once all it speaks of is synced.

    success: the sender's log equals the leader's up to `match`.
    else: nothing matches at `match`, the prev_index of the append; `hint_index`, of term
    `hint_term`, is the last place at which it still may (Raft 3.3, fast backtracking).
    """

    success: bool
    match: int
    round: int
    hint_index: int = 0
    hint_term: int = 0


class TimeoutNow(_Message, frozen=True, array_like=True, tag=7):
    """Begin an election at once: leadership is handed over (Raft 3.10)."""


class SnapshotChunk(_Message, frozen=True, array_like=True, tag=8):
    """`data` at `offset` of the `total_bytes` of the state machine as of `marker` (Raft 5.3)."""

    marker: Marker
    offset: int
    total_bytes: int
    crc: int
    data: bytes
    round: int


class SnapshotReply(_Message, frozen=True, array_like=True, tag=9):
    """The follower has the bytes before `offset` of the snapshot at `index`; it wants the rest."""

    index: int
    offset: int
    round: int


Message = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | AppendEntries
    | AppendReply
    | TimeoutNow
    | SnapshotChunk
    | SnapshotReply
)

ENCODER: Final = msgspec.msgpack.Encoder()
DECODER: Final = msgspec.msgpack.Decoder(list[Message])
CONFIGURATION: Final = msgspec.msgpack.Decoder(Configuration)

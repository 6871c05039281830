"""The Raft core of one member: terms, elections, and who handles which message.

Sans-IO: messages and the time come in through `step` and `tick`, what is to be done comes out
of `ready` (state.py says in which order to do it). Everything is deterministic, given the
injected randomness. "Raft" is D. Ongaro's dissertation; each rule names its section.

Invariants, broken by nothing short of a bug, and then the member stops (MemberFailed):
one leader a term; no committed entry is truncated; nothing is applied that is not committed
and synced here; commit, handed and synced indexes stand at or before the log's end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from predastore.base.errors import MemberFailed, NotLeader
from predastore.s3db.raft.leadership import Leadership
from predastore.s3db.raft.membership import MemberChange, is_majority
from predastore.s3db.raft.messages import (
    NOBODY,
    Address,
    AppendEntries,
    AppendReply,
    Configuration,
    Marker,
    Message,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from predastore.s3db.raft.replica import Replica
from predastore.s3db.raft.state import RaftBounds, Ready, Recovered, Role, Timing


class RaftCore(Replica):
    def __init__(
        self,
        member_id: int,
        recovered: Recovered,
        *,
        applied: int,
        rng: random.Random,
        now: float,
        timing: Timing | None = None,
        bounds: RaftBounds | None = None,
    ) -> None:
        """`applied`: what the state machine already holds; it must lie within the log."""
        super().__init__(
            member_id, recovered, timing=timing or Timing(), bounds=bounds or RaftBounds(), now=now
        )
        if not self.log.base_index <= applied <= self.log.last_index:
            raise MemberFailed(
                f"member {member_id}: the state machine holds entry {applied}, the journal has "
                f"{self.log.base_index} to {self.log.last_index}: they do not belong together"
            )
        self.commit = self.handed = applied  # what was applied was committed
        self.rng = rng
        self.leadership: Leadership | None = None
        self._votes: set[int] = set()
        self._vote_at = -1  # the sequence of the Ready that carries the own vote
        self._heard_leader_at = float("-inf")
        self._sequence = 0
        self._reset_election_timer()
        if self.membership.current.voters == (self.id,):
            self.election_at = now  # nobody else to wait for

    # --- what comes in ------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Let time pass; due at `deadline()` at the latest."""
        self.now = max(self.now, now)
        if self.leadership is not None:
            if not self.leadership.tick():
                self._follow(self.term, None)
        elif self.now >= self.election_at:
            self._election_timeout()

    def deadline(self) -> float:
        return self.leadership.beat_at if self.leadership is not None else self.election_at

    def step(self, message: Message, now: float) -> None:
        self.now = max(self.now, now)
        if message.target != self.id or message.source == self.id:
            return
        if message.term > self.term and not self._meet_higher_term(message):
            return
        if message.term < self.term and not isinstance(message, PreVote):
            self._meet_lower_term(message)
            return
        handler = self._HANDLERS[type(message)]
        handler(self, message)

    def propose(self, commands: Sequence[bytes]) -> int:
        """Append commands as leader; the index of the first. Raises NotLeader."""
        return self._lead().propose(commands)

    def change_membership(
        self, change: MemberChange, member: int, address: Address | None = None
    ) -> int:
        """Append a change as leader; the index of its entry. Overloaded: not now."""
        return self._lead().change(change, member, address)

    def bootstrap(self, configuration: Configuration) -> None:
        """Be one of the first voters of a new cluster; all of them begin with the same."""
        assert self.is_unformed
        self.membership.rebase(0, configuration)
        self.out.records.append(Marker(0, 0, configuration))
        self._reset_election_timer()

    @property
    def is_unformed(self) -> bool:
        """Neither one of a new cluster's first voters nor taken in by a cluster, so far."""
        return self.log.last_index == 0 and not self.membership.current.members()

    def read_index(self, context: Hashable) -> None:
        """Ask for a read index; it comes back with `context` in Ready.reads."""
        self._lead().read(context)

    def own_read_index(self) -> int | None:
        """A read index that this member can give at once; None: `read_index` has to be asked."""
        return None if self.leadership is None else self.leadership.own_read_index()

    def transfer(self, target: int | None = None) -> int | None:
        """Hand leadership over; the successor, or None if nobody is fit."""
        return self._lead().transfer(target)

    def transfer_to_fittest(self) -> bool:
        """`transfer`, if this member leads and somebody is fit to."""
        return self.leadership is not None and self.leadership.transfer(None) is not None

    def _lead(self) -> Leadership:
        if self.leadership is None:
            raise NotLeader(f"member {self.id} does not lead", leader=self.leader)
        return self.leadership

    # --- what goes out ------------------------------------------------------------------------

    def ready(self) -> Ready:
        """All that is to be done since the last call."""
        if self.leadership is not None:
            self.leadership.flush()
        out, self.out = self.out, Ready()
        self._sequence += 1
        out.sequence = self._sequence
        out.last_index = self.log.last_index
        out.truncations = self.truncations
        if self._vote_at < 0 and self.role is Role.CANDIDATE:
            self._vote_at = out.sequence
        return out

    def synced(self, ready: Ready) -> None:
        """The records of `ready`, and of all before it, are on stable storage."""
        if ready.truncations == self.truncations:
            self.synced_index = max(self.synced_index, ready.last_index)
        if self.leadership is not None:
            self.leadership.advance()
            self._leave_if_removed()
        elif self.role is Role.CANDIDATE and 0 <= self._vote_at <= ready.sequence:
            self._count_vote(self.id)  # the own vote counts once it is synced

    # --- terms --------------------------------------------------------------------------------

    def _meet_higher_term(self, message: Message) -> bool:
        """False if the message is to be ignored; Raft 3.3: a higher term makes a follower."""
        if isinstance(message, PreVote) or (isinstance(message, PreVoteReply) and message.granted):
            return True  # speaks of a term that has not begun (Raft 9.6)
        if isinstance(message, Vote) and not message.transfer and self._has_leader():
            return False  # who hears a leader is not disturbed (Raft 4.2.3)
        from_leader = isinstance(message, AppendEntries | SnapshotChunk)
        self._follow(message.term, message.source if from_leader else None)
        return True

    def _meet_lower_term(self, message: Message) -> None:
        """Tell a deposed leader or an old candidate the term; drop anything else (Raft 3.3).

        Old replies above all: an acknowledgement counts in the term it was given in only.
        """
        if isinstance(message, Vote):
            self.say(VoteReply(self.id, message.source, self.term, False))
        elif isinstance(message, AppendEntries | SnapshotChunk):
            self.say(AppendReply(self.id, message.source, self.term, False, 0, 0))

    def _has_leader(self) -> bool:
        """A leader leads, or was heard within the shortest election timeout (Raft 4.2.3)."""
        if self.role is Role.LEADER:
            return True
        heard = self.now - self._heard_leader_at < self.timing.election_s
        return self.leader is not None and heard

    def _follow(self, term: int, leader: int | None) -> None:
        if self.leadership is not None:
            self.leadership.abandon_reads()
            self.leadership = None
        if term > self.term:
            self.remember(term, NOBODY)
        self.role = Role.FOLLOWER
        self.leader = leader
        self._reset_election_timer()

    def _reset_election_timer(self) -> None:
        """Each wait is drawn anew, so that candidates rarely collide (Raft 3.4)."""
        self.election_at = self.now + self.timing.election_s * (1 + self.rng.random())

    # --- elections ----------------------------------------------------------------------------

    def _election_timeout(self) -> None:
        self._reset_election_timer()
        if self.id not in self.membership.current.voters:
            self.leader = None  # nothing was heard of it for long
            return
        self.role, self.leader = Role.PRE_CANDIDATE, None
        self._votes = {self.id}
        for peer in self._other_voters():
            self.say(PreVote(self.id, peer, self.term + 1, self.log.last_index, self.log.last_term))
        if is_majority(self.membership.current.voters, self._votes):
            self._campaign(transfer=False)

    def _campaign(self, *, transfer: bool) -> None:
        """Begin a term and ask for votes; they leave once term and own vote are synced."""
        self._reset_election_timer()
        self.role, self.leader = Role.CANDIDATE, None
        self.remember(self.term + 1, self.id)
        self._votes = set()
        self._vote_at = -1
        last_index, last_term = self.log.last_index, self.log.last_term
        for peer in self._other_voters():
            self.say(Vote(self.id, peer, self.term, last_index, last_term, transfer))

    def _other_voters(self) -> list[int]:
        return [voter for voter in self.membership.current.voters if voter != self.id]

    def _on_pre_vote(self, message: PreVote) -> None:
        """Grant nothing to be remembered; refuse while a leader is heard (Raft 9.6)."""
        granted = (
            message.term > self.term
            and not self.is_unformed
            and not self._has_leader()
            and self.log.up_to_date(message.last_index, message.last_term)
        )
        term = message.term if granted else self.term
        self.say(PreVoteReply(self.id, message.source, term, granted))

    def _on_pre_vote_reply(self, message: PreVoteReply) -> None:
        if self.role is Role.PRE_CANDIDATE and message.granted and message.term == self.term + 1:
            self._votes.add(message.source)
            if is_majority(self.membership.current.voters, self._votes):
                self._campaign(transfer=False)

    def _on_vote(self, message: Vote) -> None:
        """One vote a term, for a log at least as complete as the own (Raft 3.4, 3.6.1)."""
        granted = (
            self.vote in (NOBODY, message.source)
            and not self.is_unformed  # it may have voted before its disk was lost
            and self.log.up_to_date(message.last_index, message.last_term)
        )
        if granted and self.vote == NOBODY:
            self.remember(self.term, message.source)
        if granted:
            self._reset_election_timer()
        self.say(VoteReply(self.id, message.source, self.term, granted))

    def _on_vote_reply(self, message: VoteReply) -> None:
        if self.role is Role.CANDIDATE and message.granted:
            self._count_vote(message.source)

    def _count_vote(self, voter: int) -> None:
        """Votes count by identity, however often a reply is delivered."""
        self._votes.add(voter)
        if is_majority(self.membership.current.voters, self._votes):
            self.role, self.leader = Role.LEADER, self.id
            self.leadership = self.new_leadership()

    def new_leadership(self) -> Leadership:
        return Leadership(self)

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        """The leader hands over: no pre-vote, and others need not wait for it (Raft 3.10)."""
        if self.role is not Role.LEADER and self.id in self.membership.current.voters:
            self._campaign(transfer=True)

    # --- what leaders and followers say -------------------------------------------------------

    def _obey(self, message: AppendEntries | SnapshotChunk) -> None:
        if self.role is Role.LEADER:
            raise MemberFailed(
                f"member {self.id}: member {message.source} leads term {self.term}, and so do I"
            )
        if self.role is not Role.FOLLOWER:
            self._follow(self.term, message.source)
        self.leader = message.source
        self._heard_leader_at = self.now
        self._reset_election_timer()

    def _on_append(self, message: AppendEntries) -> None:
        self._obey(message)
        self.receive(message)

    def _on_append_reply(self, message: AppendReply) -> None:
        if self.leadership is not None:
            self.leadership.on_append_reply(message)
            self._leave_if_removed()

    def _leave_if_removed(self) -> None:
        if self.leadership is not None and self.leadership.is_removed():
            self._follow(self.term, None)

    def _on_chunk(self, message: SnapshotChunk) -> None:
        self._obey(message)
        self.receive_chunk(message)

    def _on_snapshot_reply(self, message: SnapshotReply) -> None:
        if self.leadership is not None:
            self.leadership.on_snapshot_reply(message)

    _HANDLERS: ClassVar[dict[type, Callable[[RaftCore, Any], None]]]


RaftCore._HANDLERS = {
    PreVote: lambda core, m: core._on_pre_vote(m),
    PreVoteReply: lambda core, m: core._on_pre_vote_reply(m),
    Vote: lambda core, m: core._on_vote(m),
    VoteReply: lambda core, m: core._on_vote_reply(m),
    AppendEntries: lambda core, m: core._on_append(m),
    AppendReply: lambda core, m: core._on_append_reply(m),
    TimeoutNow: lambda core, m: core._on_timeout_now(m),
    SnapshotChunk: lambda core, m: core._on_chunk(m),
    SnapshotReply: lambda core, m: core._on_snapshot_reply(m),
}

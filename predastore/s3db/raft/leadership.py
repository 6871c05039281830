"""A leader's work for one term: replicate, count, confirm reads, hand over.

A `Leadership` lives from election to step-down, so that nothing of one term (matches, read
rounds, transfers) can leak into the next. Messages are made in `flush`, once a turn: all that
was proposed in the turn goes out in one append to each follower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence

from predastore.base.errors import NoLeader, Overloaded
from predastore.s3db.raft.archive import Archive
from predastore.s3db.raft.log import RaftLog
from predastore.s3db.raft.membership import MemberChange, changed, is_majority, majority_value
from predastore.s3db.raft.messages import (
    COMMAND,
    CONFIG,
    NOOP,
    Address,
    AppendEntries,
    AppendReply,
    Entry,
    Marker,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
)
from predastore.s3db.raft.progress import FollowerProgress, Sending
from predastore.s3db.raft.state import ChunkWanted, RaftState, ReadState


class Leadership:
    def __init__(self, state: RaftState) -> None:
        self.state = state
        self.peers: dict[int, FollowerProgress] = {}
        self.round = 0
        self.successor: int | None = None
        self._successor_until = 0.0
        self._beat_due = True
        self.beat_at = state.now + state.timing.heartbeat_s
        self._reads_waiting: list[Hashable] = []
        self._rounds: deque[tuple[int, int, list[Hashable]]] = deque()  # (round, index, contexts)
        log = state.log
        uncommitted = log.between(state.commit + 1, log.last_index)
        self._uncommitted_bytes = sum(len(entry.data) for entry in uncommitted)
        self._meet_peers()
        self._append(NOOP, [b""])  # commits, by counting, all of earlier terms (Raft 3.6.2)

    # --- time ---------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Heartbeats and deadlines; False if no majority was heard for an election timeout.

        A leader that is cut off must not go on looking like one (Raft 6.2, check-quorum).
        """
        now = self.state.now
        if self.successor is not None and now >= self._successor_until:
            self.successor = None  # the hand-over failed: take proposals again (Raft 3.10)
        if now >= self.beat_at:
            self.beat_at = now + self.state.timing.heartbeat_s
            self._beat_due = True
        since = now - self.state.timing.election_s
        heard = {peer for peer, progress in self.peers.items() if progress.heard_at >= since}
        return is_majority(self.state.membership.current.voters, heard | {self.state.id})

    # --- proposals ----------------------------------------------------------------------------

    def propose(self, commands: Sequence[bytes]) -> int:
        """Append commands; the index of the first. Nothing was done where this raises."""
        self._refuse_while_handing_over()
        size = sum(map(len, commands))
        if self._uncommitted_bytes + size > self.state.bounds.uncommitted_bytes:
            raise Overloaded("too many bytes wait to be committed; nothing was changed")
        if self.state.log.size_bytes + size > self.state.bounds.log_bytes:
            raise Overloaded("too many bytes wait to be applied; nothing was changed")
        return self._append(COMMAND, commands)

    def change(self, change: MemberChange, member: int, address: Address | None = None) -> int:
        """Append a new configuration, one server apart from the present one (Raft 4.1)."""
        self._refuse_while_handing_over()
        state = self.state
        if not self._may_change():
            raise Overloaded("another change of the membership is not committed yet")
        configuration = changed(state.membership.current, change, member, address)
        if configuration is None:
            raise Overloaded(f"can not {change.value} member {member} now")
        if change is MemberChange.PROMOTE and self.peers[member].match < state.commit:
            raise Overloaded(f"member {member} has not caught up yet")  # Raft 4.2.1
        return self._append(CONFIG, [configuration.pack()])

    def _may_change(self) -> bool:
        """The change before is committed, and an entry of this term (Raft 4.1, and its erratum)."""
        state = self.state
        return state.membership.index <= state.commit and self.committed_own_term()

    def can_do_without(self, member: int) -> bool:
        """Whether a majority of the other voters is heard, this one included."""
        since = self.state.now - 2 * self.state.timing.election_s
        heard = {peer for peer, progress in self.peers.items() if progress.heard_at >= since}
        voters = [v for v in self.state.membership.current.voters if v != member]
        return is_majority(voters, (heard | {self.state.id}) - {member})

    def caught_up_learner(self) -> int | None:
        """A learner that has all that is committed, and so may vote now (Raft 4.2.1)."""
        state = self.state
        learners = state.membership.current.learners
        if not learners or self.successor is not None or not self._may_change():
            return None
        since = state.now - state.timing.election_s
        for learner in learners:
            progress = self.peers[learner]
            if progress.match >= state.commit and progress.heard_at >= since:
                return learner
        return None

    def _refuse_while_handing_over(self) -> None:
        if self.successor is not None:
            raise NoLeader("leadership is being handed over; nothing was changed; try again")

    def _append(self, kind: int, data: Sequence[bytes]) -> int:
        state = self.state
        first = state.log.last_index + 1
        entries = [Entry(first + i, state.term, kind, item) for i, item in enumerate(data)]
        self._uncommitted_bytes += sum(map(len, data))
        if state.append(entries):
            self._meet_peers()
        return first

    def _meet_peers(self) -> None:
        members = set(self.state.membership.current.members()) - {self.state.id}
        for gone in self.peers.keys() - members:
            self._tell(gone, self.peers.pop(gone))
        for member in members - self.peers.keys():
            self.peers[member] = FollowerProgress(self.state.log.last_index + 1, self.state.now)

    def _tell(self, gone: int, progress: FollowerProgress) -> None:
        """Send who leaves the entry that says so, once: else it would ask for votes for ever
        (Raft 4.2.3 keeps that from doing harm). What is lost here is not sent again."""
        if progress.sending is Sending.REPLICATE and progress.next <= self.state.log.last_index:
            self._send_entries(gone, progress)

    # --- commitment ---------------------------------------------------------------------------

    def committed_own_term(self) -> bool:
        return self.state.log.term_at(self.state.commit) == self.state.term

    def advance(self) -> None:
        """Commit what a majority has synced, itself included only for what it has synced.

        Only an entry of the own term is committed by counting (Raft 3.6.2); those before it
        are committed with it.
        """
        state = self.state
        reached = {peer: progress.match for peer, progress in self.peers.items()}
        reached[state.id] = state.synced_index
        index = majority_value(state.membership.current.voters, reached)
        if index > state.commit and state.log.term_at(index) == state.term:
            newly = state.log.between(state.commit + 1, index)
            self._uncommitted_bytes -= sum(len(entry.data) for entry in newly)
            state.commit = index

    def is_removed(self) -> bool:
        """A leader that is no voter any more leads until that is committed (Raft 4.2.2)."""
        membership = self.state.membership
        return (
            self.state.id not in membership.current.voters and membership.index <= self.state.commit
        )

    def on_append_reply(self, message: AppendReply) -> None:
        """Replies of earlier terms never come here: their claims are not about this log."""
        progress = self._hear(message)
        if progress is None or message.match > self.state.log.last_index:
            return
        if not message.success:
            progress.refused(message.match, self._retry_at(message))
        elif progress.accepted(message.match):
            self.advance()
            self._hand_over()
        self._confirm_reads()

    def _hear(self, message: AppendReply | SnapshotReply) -> FollowerProgress | None:
        progress = self.peers.get(message.source)
        if progress is not None:
            progress.heard_at = self.state.now
            progress.round_acked = max(progress.round_acked, message.round)
        return progress

    def _retry_at(self, message: AppendReply) -> int:
        """Skip what can not match: all of higher terms than the follower's hint (Raft 3.3)."""
        log = self.state.log
        if message.hint_index < log.base_index:
            return message.hint_index + 1
        return log.last_at_or_below(message.hint_index, message.hint_term) + 1

    # --- reads (Raft 6.4) ---------------------------------------------------------------------

    def read(self, context: Hashable) -> None:
        if len(self._reads_waiting) >= self.state.bounds.reads_waiting:
            raise Overloaded("too many reads wait for their index")
        self._reads_waiting.append(context)

    def own_read_index(self) -> int | None:
        """The commit index, where it needs nobody else's word: the only voter leads, and has
        committed an entry of its term. None: `read` asks the others."""
        state = self.state
        if state.membership.current.voters == (state.id,) and self.committed_own_term():
            return state.commit
        return None

    def _start_round(self) -> None:
        """Give waiting reads the commit index, and ask everyone who the leader is.

        Not before an entry of this term is committed: until then the commit index may lack
        what an earlier leader acknowledged. While a round is under way reads gather for the
        next one; a heartbeat starts one anyway, in case messages of the last were lost.
        """
        if not self._reads_waiting or not self.committed_own_term():
            return
        if self._rounds and not self._beat_due:
            return
        self.round += 1
        self._rounds.append((self.round, self.state.commit, self._reads_waiting))
        self._reads_waiting = []
        self._beat_due = True

    def _confirm_reads(self) -> None:
        acked = {peer: progress.round_acked for peer, progress in self.peers.items()}
        acked[self.state.id] = self.round
        confirmed = majority_value(self.state.membership.current.voters, acked)
        while self._rounds and self._rounds[0][0] <= confirmed:
            _, index, contexts = self._rounds.popleft()
            self.state.out.reads.extend(ReadState(context, index) for context in contexts)

    def abandon_reads(self) -> None:
        for _, _, contexts in self._rounds:
            self._reads_waiting.extend(contexts)
        self.state.out.reads.extend(ReadState(context, None) for context in self._reads_waiting)

    # --- handing over (Raft 3.10) -------------------------------------------------------------

    def transfer(self, target: int | None) -> int | None:
        """Stop taking proposals, bring `target` (or the most advanced voter) up, and go."""
        since = self.state.now - self.state.timing.election_s
        voters = set(self.state.membership.current.voters)
        fit = [
            (progress.match, peer)
            for peer, progress in self.peers.items()
            if peer in voters and progress.heard_at >= since and target in (None, peer)
        ]
        if not fit:
            return None
        self.successor = max(fit)[1]
        self._successor_until = self.state.now + self.state.timing.election_s
        self._hand_over()
        return self.successor

    def _hand_over(self) -> None:
        state = self.state
        if self.successor is None or self.successor not in self.peers:
            return
        if self.peers[self.successor].match == state.log.last_index:
            state.say_at_once(TimeoutNow(state.id, self.successor, state.term))

    # --- sending ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Make the turn's appends: what is new, and a heartbeat where one is due."""
        self._start_round()
        last_index = self.state.log.last_index
        for peer, progress in self.peers.items():
            if self._beat_due or progress.next <= last_index:
                self._feed(peer, progress)
        if self._beat_due:
            self._hand_over()  # once more, should the first have been lost
            self._beat_due = False
        if self._rounds:
            self._confirm_reads()  # alone, one is a majority

    def _feed(self, peer: int, progress: FollowerProgress) -> None:
        bounds = self.state.bounds
        if self._beat_due:
            progress.probe_sent = False  # it may be lost
        sent, archived = False, 0
        while progress.next <= self.state.log.last_index and progress.has_room(
            bounds.in_flight_count, bounds.in_flight_bytes
        ):
            archived += progress.next <= self.state.log.base_index
            if archived > bounds.archived_appends:
                break  # each is read from the disk: the next turn has its own
            sent = self._send_entries(peer, progress)
            if not sent:
                break
        if self._beat_due and not sent:
            self._send_heartbeat(peer, progress)

    def _send_entries(self, peer: int, progress: FollowerProgress) -> bool:
        state = self.state
        prev = progress.next - 1
        prev_term = state.term_at(prev)
        entries = [] if prev_term is None else self._entries_from(progress.next)
        if prev_term is None or not entries:
            self._want_chunk(peer, progress, 0, 0)
            return False
        message = AppendEntries(
            state.id, peer, state.term, prev, prev_term, state.commit, self.round, entries
        )
        state.say_at_once(message)
        progress.sent(entries[-1].index, sum(len(entry.data) for entry in entries))
        return True

    def _entries_from(self, first: int) -> list[Entry]:
        """For one append; none where they are in the log no more, and in no archive either."""
        log, bounds = self.state.log, self.state.bounds
        is_archived = first <= log.base_index
        source: RaftLog | Archive = self.state.archive if is_archived else log
        return source.batch(
            first,
            log.base_index if is_archived else log.last_index,
            bytes_max=bounds.append_bytes,
            count_max=bounds.append_entries,
        )

    def _send_heartbeat(self, peer: int, progress: FollowerProgress) -> None:
        """An append without entries; it also finds out whether earlier appends arrived."""
        state = self.state
        prev = progress.next - 1
        prev_term = None if progress.sending is Sending.SNAPSHOT else state.term_at(prev)
        if progress.sending is not Sending.SNAPSHOT and prev_term is None:
            self._want_chunk(peer, progress, 0, 0)
        if progress.sending is Sending.SNAPSHOT:
            prev, prev_term = 0, 0  # matches everywhere, and says nothing
            self._repeat_chunk(peer, progress)
        assert prev_term is not None
        state.say_at_once(
            AppendEntries(state.id, peer, state.term, prev, prev_term, state.commit, self.round, [])
        )

    # --- snapshots (Raft 5.3) -----------------------------------------------------------------

    def _want_chunk(self, peer: int, progress: FollowerProgress, index: int, offset: int) -> None:
        progress.needs_snapshot(index, offset, self.state.now)
        self.state.out.chunks_wanted.append(ChunkWanted(peer, index, offset))

    def _repeat_chunk(self, peer: int, progress: FollowerProgress) -> None:
        """No answer for long: the chunk, or the answer, is lost."""
        patience_s = 2 * self.state.timing.election_s
        if progress.chunk_wanted and self.state.now - progress.chunk_wanted_at > patience_s:
            self._want_chunk(peer, progress, *progress.chunk_wanted)

    def on_snapshot_reply(self, message: SnapshotReply) -> None:
        progress = self._hear(message)
        if progress is not None and progress.sending is Sending.SNAPSHOT:
            self._want_chunk(message.source, progress, message.index, message.offset)
        self._confirm_reads()

    def is_sending_snapshot(self) -> bool:
        return any(p.sending is Sending.SNAPSHOT for p in self.peers.values())

    def lagging_from(self, silent_s: float) -> int:
        """The least index behind which a follower needs entries that is heard, or was not long ago;
        not of one that needs a snapshot: what it will need is behind that."""
        since = self.state.now - silent_s
        matches = [
            progress.match
            for progress in self.peers.values()
            if progress.sending is not Sending.SNAPSHOT
            and progress.heard_at >= since
            and self.state.term_at(progress.match) is not None
        ]
        return min(matches, default=self.state.log.last_index)

    def send_chunk(
        self, peer: int, marker: Marker, *, offset: int, total_bytes: int, crc: int, data: bytes
    ) -> None:
        """What the owner has read for a `ChunkWanted`."""
        progress = self.peers.get(peer)
        if progress is None or progress.sending is not Sending.SNAPSHOT:
            return
        state = self.state
        state.say_at_once(
            SnapshotChunk(
                state.id, peer, state.term, marker, offset, total_bytes, crc, data, self.round
            )
        )

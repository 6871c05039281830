"""The rules of the Raft core, one by one, without network or disk."""

from __future__ import annotations

import random
from typing import Any

import pytest

from predastore.base.errors import MemberFailed, NoLeader, NotLeader, Overloaded
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.membership import MemberChange, is_majority, majority_value
from predastore.s3db.raft.messages import (
    COMMAND,
    DECODER,
    ENCODER,
    NOBODY,
    NOOP,
    Address,
    AppendEntries,
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Marker,
    Message,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Truncate,
    Vote,
    VoteReply,
)
from predastore.s3db.raft.state import ChunkWanted, RaftBounds, ReadState, Ready, Recovered, Role

LATER = 10.0  # beyond any election timeout


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    return Entry(index, term, COMMAND, data)


def core_of(
    *terms: int,
    member: int = 1,
    voters: tuple[int, ...] = (1, 2, 3),
    learners: tuple[int, ...] = (),
    term: int | None = None,
    vote: int = NOBODY,
    base: int = 0,
    base_term: int = 0,
    **options: Any,
) -> RaftCore:
    """A member whose log holds entries of these terms, all synced, none committed."""
    entries = tuple(entry(base + 1 + i, t) for i, t in enumerate(terms))
    hard_state = HardState(max((base_term, *terms)) if term is None else term, vote)
    marker = Marker(base, base_term, Configuration(voters, learners))
    return RaftCore(
        member,
        Recovered(hard_state, marker, entries),
        applied=base,
        rng=random.Random(1),
        now=0.0,
        **options,
    )


def sync(core: RaftCore) -> Ready:
    """One turn whose records are synced at once."""
    ready = core.ready()
    core.synced(ready)
    return ready


def said(ready: Ready) -> list[Message]:
    return [*ready.messages, *ready.messages_after_sync]


def elect(core: RaftCore, now: float = LATER) -> Ready:
    """Make `core` leader with the vote of member 2; the ready that its first turn gives."""
    core.tick(now)
    core.step(PreVoteReply(2, core.id, core.term + 1, True), now)
    sync(core)
    core.step(VoteReply(2, core.id, core.term, True), now)
    assert core.role is Role.LEADER
    return core.ready()


def accept(
    core: RaftCore, source: int, match: int, *, term: int | None = None, round: int = 0
) -> None:
    reply = AppendReply(source, core.id, core.term if term is None else term, True, match, round)
    core.step(reply, core.now)


# --- elections --------------------------------------------------------------------------------


def test_a_lone_voter_leads_once_its_vote_is_synced_and_commits_alone() -> None:
    core = core_of(voters=(1,))
    core.tick(0.0)
    ready = core.ready()
    assert core.role is Role.CANDIDATE
    core.synced(ready)
    assert core.role is Role.LEADER
    core.propose([b"a"])
    ready = core.ready()
    assert core.commit == 0
    core.synced(ready)
    assert core.commit == 2
    assert [e.kind for e in core.take_committed()] == [NOOP, COMMAND]


def test_a_pre_vote_changes_no_term() -> None:
    core = core_of(1, 1)
    core.tick(LATER)
    ready = sync(core)
    assert [type(m) for m in said(ready)] == [PreVote, PreVote]
    assert (core.term, ready.records) == (1, [])


def test_votes_leave_only_after_the_sync_of_the_term() -> None:
    core = core_of(1)
    core.tick(LATER)
    core.step(PreVoteReply(2, 1, 2, True), LATER)
    ready = core.ready()
    assert HardState(2, 1) in ready.records
    assert not [m for m in ready.messages if isinstance(m, Vote)]
    assert [m.target for m in ready.messages_after_sync if isinstance(m, Vote)] == [2, 3]


def test_one_vote_a_term() -> None:
    core = core_of(1)
    core.step(Vote(2, 1, 5, 1, 1, False), LATER)
    core.step(Vote(3, 1, 5, 1, 1, False), LATER)
    core.step(Vote(2, 1, 5, 1, 1, False), LATER)
    ready = sync(core)
    granted = [(m.target, m.granted) for m in said(ready) if isinstance(m, VoteReply)]
    assert granted == [(2, True), (3, False), (2, True)]
    assert ready.records == [HardState(5, NOBODY), HardState(5, 2)]
    assert not ready.messages


def test_the_vote_of_the_journal_still_binds() -> None:
    core = core_of(1, term=5, vote=3)
    core.step(Vote(2, 1, 5, 9, 4, False), LATER)
    assert [m.granted for m in said(sync(core)) if isinstance(m, VoteReply)] == [False]


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(2, 2, True), (3, 2, True), (1, 2, False), (9, 1, False), (1, 3, True)],
)
def test_votes_go_to_logs_at_least_as_complete(
    last_index: int, last_term: int, granted: bool
) -> None:
    core = core_of(1, 2)
    core.step(PreVote(2, 1, 9, last_index, last_term), LATER)
    core.step(Vote(2, 1, 9, last_index, last_term, False), LATER)
    replies = [m for m in said(sync(core)) if isinstance(m, PreVoteReply | VoteReply)]
    assert [m.granted for m in replies] == [granted, granted]


def test_votes_count_by_identity() -> None:
    core = core_of(1, voters=(1, 2, 3, 4, 5))
    core.tick(LATER)
    for _ in range(5):
        core.step(PreVoteReply(2, 1, 2, True), LATER)
    assert core.role is Role.PRE_CANDIDATE
    core.step(PreVoteReply(3, 1, 2, True), LATER)
    sync(core)
    for _ in range(5):
        core.step(VoteReply(2, 1, 2, True), LATER)
    assert core.role is Role.CANDIDATE
    core.step(VoteReply(9, 1, 2, True), LATER)  # no voter
    assert core.role is Role.CANDIDATE
    core.step(VoteReply(3, 1, 2, True), LATER)
    assert core.role is Role.LEADER


def test_who_hears_a_leader_is_not_disturbed_but_by_a_hand_over() -> None:
    core = core_of(1, term=2)
    core.step(AppendEntries(2, 1, 2, 1, 1, 0, 0, []), 1.0)
    core.step(PreVote(3, 1, 3, 9, 9), 1.1)
    core.step(Vote(3, 1, 3, 9, 9, False), 1.1)
    assert core.term == 2
    replies = [m for m in said(sync(core)) if isinstance(m, PreVoteReply | VoteReply)]
    assert [m.granted for m in replies] == [False]
    core.step(Vote(3, 1, 3, 9, 9, True), 1.1)
    assert (core.term, core.vote) == (3, 3)


def test_a_leader_that_hears_no_majority_steps_down() -> None:
    core = core_of(1)
    elect(core)
    core.tick(LATER + 0.4)
    assert core.role is Role.LEADER
    accept(core, 3, 1)
    core.tick(LATER + 0.8)
    assert core.role is Role.LEADER
    core.tick(LATER + 1.5)
    assert core.role is Role.FOLLOWER


def test_a_deposed_leader_is_told_the_term() -> None:
    core = core_of(1, term=5)
    core.step(AppendEntries(2, 1, 3, 1, 1, 0, 0, []), LATER)
    reply = said(sync(core))[0]
    assert isinstance(reply, AppendReply)
    assert (reply.term, reply.success) == (5, False)


def test_a_second_leader_of_the_own_term_stops_the_member() -> None:
    core = core_of(1)
    elect(core)
    with pytest.raises(MemberFailed, match="so do I"):
        core.step(AppendEntries(2, 1, core.term, 1, 1, 0, 0, []), LATER)


# --- a follower's log -------------------------------------------------------------------------


def test_an_old_append_does_not_cut_what_follows_it() -> None:
    core = core_of(1, 1, 1, term=2)
    core.step(AppendEntries(2, 1, 2, 0, 0, 0, 0, [entry(1, 1)]), LATER)
    ready = sync(core)
    assert core.log.last_index == 3
    assert ready.records == []


def test_a_conflict_of_terms_cuts_the_log_from_there() -> None:
    core = core_of(1, 1, 1, term=2)
    core.step(AppendEntries(2, 1, 2, 1, 1, 0, 0, [entry(2, 2), entry(3, 2)]), LATER)
    ready = sync(core)
    assert ready.records == [Truncate(2), entry(2, 2), entry(3, 2)]
    assert [core.log.term_at(i) for i in (1, 2, 3)] == [1, 2, 2]


def test_a_conflict_at_or_below_the_commit_index_stops_the_member() -> None:
    core = core_of(1, 1, 1, term=2)
    core.step(AppendEntries(2, 1, 2, 3, 1, 2, 0, []), LATER)
    assert core.commit == 2
    with pytest.raises(MemberFailed, match="committed"):
        core.step(AppendEntries(2, 1, 2, 1, 1, 2, 0, [entry(2, 2)]), LATER)
    with pytest.raises(MemberFailed, match="committed"):
        core.step(AppendEntries(2, 1, 2, 2, 2, 2, 0, []), LATER)


def test_the_commit_index_follows_only_what_was_shown_to_match() -> None:
    core = core_of(1, 1, 1, term=2)
    core.step(AppendEntries(2, 1, 2, 1, 1, 3, 0, []), LATER)
    assert core.commit == 1


def test_acknowledgements_wait_for_the_sync() -> None:
    core = core_of(term=1)
    core.step(AppendEntries(2, 1, 1, 0, 0, 0, 7, [entry(1, 1)]), LATER)
    ready = core.ready()
    assert ready.messages == []
    assert ready.messages_after_sync == [AppendReply(1, 2, 1, True, 1, 7)]


def test_nothing_is_applied_that_is_not_synced_here() -> None:
    core = core_of(term=1)
    core.step(AppendEntries(2, 1, 1, 0, 0, 1, 0, [entry(1, 1)]), LATER)
    ready = core.ready()
    assert core.commit == 1
    assert core.take_committed() == []
    core.synced(ready)
    assert core.take_committed() == [entry(1, 1)]
    assert core.take_committed() == []


def test_a_sync_that_a_truncation_has_overtaken_does_not_count() -> None:
    core = core_of(term=1)
    core.step(AppendEntries(2, 1, 1, 0, 0, 0, 0, [entry(1, 1), entry(2, 1)]), LATER)
    before = core.ready()
    core.step(AppendEntries(3, 1, 2, 1, 1, 2, 0, [entry(2, 2)]), LATER)
    after = core.ready()
    core.synced(before)
    assert core.take_committed() == []
    core.synced(after)
    assert [e.term for e in core.take_committed()] == [1, 2]


def test_a_refusal_names_the_last_place_that_may_match() -> None:
    core = core_of(1, 1, 4, 4, term=6)
    core.step(AppendEntries(2, 1, 6, 9, 5, 0, 0, []), LATER)
    core.step(AppendEntries(2, 1, 6, 4, 3, 0, 0, []), LATER)
    hints = [(m.hint_index, m.hint_term) for m in said(sync(core)) if isinstance(m, AppendReply)]
    assert hints == [(4, 4), (2, 1)]


def test_entries_with_a_gap_or_falling_terms_are_dropped() -> None:
    core = core_of(1, term=3)
    core.step(AppendEntries(2, 1, 3, 1, 1, 0, 0, [entry(3, 3)]), LATER)
    core.step(AppendEntries(2, 1, 3, 1, 1, 0, 0, [entry(2, 3), entry(3, 2)]), LATER)
    core.step(AppendEntries(2, 1, 3, 1, 1, 0, 0, [entry(2, 4)]), LATER)
    assert core.log.last_index == 1


def test_an_append_that_reaches_below_the_base_is_taken_from_there() -> None:
    core = core_of(base=5, base_term=2, term=3)
    core.step(AppendEntries(2, 1, 3, 3, 1, 0, 0, [entry(4, 1), entry(5, 2), entry(6, 3)]), LATER)
    assert core.log.last_index == 6
    assert said(sync(core)) == [AppendReply(1, 2, 3, True, 6, 0)]


# --- a leader's log ---------------------------------------------------------------------------


def test_a_new_leader_appends_a_noop_and_sends_it_at_once() -> None:
    core = core_of(1, 1)
    ready = elect(core)
    assert ready.records == [Entry(3, 2, NOOP, b"")]
    assert {m.target for m in ready.messages if isinstance(m, AppendEntries)} == {2, 3}


def test_the_leader_counts_itself_only_for_what_it_has_synced() -> None:
    core = core_of(voters=(1, 2, 3))
    ready = elect(core)
    accept(core, 2, 1)
    assert core.commit == 1 - 1
    core.synced(ready)
    assert core.commit == 1


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    """Raft figure 3.7."""
    core = core_of(1, 2)
    core.synced(elect(core))
    accept(core, 2, 2)
    accept(core, 3, 2)
    assert core.commit == 0
    accept(core, 2, 3)
    assert core.commit == 3


def test_acknowledgements_of_an_earlier_term_do_not_count() -> None:
    core = core_of(1, 2)
    core.synced(elect(core))
    accept(core, 2, 3, term=2)
    assert core.commit == 0


def test_an_acknowledgement_beyond_the_log_does_not_count() -> None:
    core = core_of(1)
    core.synced(elect(core))
    accept(core, 2, 99)
    assert core.commit == 0


def test_all_that_a_turn_brings_goes_in_one_append() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.ready()
    core.propose([b"a", b"b"])
    core.propose([b"c"])
    appends = [m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2]
    assert [[e.data for e in m.entries] for m in appends] == [[b"a", b"b", b"c"]]


def test_appends_are_bounded_in_bytes_number_and_flight() -> None:
    bounds = RaftBounds(
        append_bytes=100, append_entries=3, in_flight_count=2, uncommitted_bytes=10_000
    )
    core = core_of(bounds=bounds)
    core.synced(elect(core))
    accept(core, 2, 1)
    core.ready()
    core.propose([bytes(40)] * 8 + [bytes(500)] + [b""] * 8)
    appends = [m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2]
    assert [len(m.entries) for m in appends] == [2, 2]
    accept(core, 2, 5)
    appends = [m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2]
    assert [len(m.entries) for m in appends] == [2, 2]
    accept(core, 2, 9)
    appends = [m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2]
    assert [len(m.entries) for m in appends] == [1, 3]
    with pytest.raises(Overloaded):
        core.propose([bytes(9_500)])


def test_a_lost_append_is_found_by_the_next_heartbeat() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.ready()
    core.propose([b"a"])
    core.ready()  # lost
    core.tick(core.now + 0.1)
    beat = next(m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2)
    assert (beat.prev_index, beat.entries) == (2, [])
    core.step(AppendReply(2, 1, core.term, False, 2, 0, 1, core.term), core.now)
    again = next(m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2)
    assert [e.data for e in again.entries] == [b"a"]


def test_backtracking_skips_whole_terms() -> None:
    core = core_of(1, 1, 1, *[5] * 50)
    elect(core)
    core.step(AppendReply(2, 1, core.term, False, 53, 0, 10, 4), LATER)
    probe = next(m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2)
    assert (probe.prev_index, probe.prev_term) == (3, 1)


def test_a_follower_refuses_proposals_and_names_the_leader() -> None:
    core = core_of(1, term=2)
    core.step(AppendEntries(3, 1, 2, 1, 1, 0, 0, []), LATER)
    with pytest.raises(NotLeader) as caught:
        core.propose([b"a"])
    assert caught.value.leader == 3


# --- reads ------------------------------------------------------------------------------------


def test_reads_wait_for_the_first_commit_of_the_term_and_a_round_begun_after_them() -> None:
    core = core_of(1, 1)
    core.synced(elect(core))
    core.read_index("r")
    assert core.ready().reads == []
    accept(core, 2, 3)  # commits the no-op; but this round began before the read
    ready = core.ready()
    assert ready.reads == []
    rounds = {m.round for m in ready.messages if isinstance(m, AppendEntries)}
    assert rounds == {1}
    accept(core, 2, 3, round=1)
    assert core.ready().reads == [ReadState("r", 3)]


def test_reads_share_rounds() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.ready()
    core.read_index("a")
    core.read_index("b")
    core.ready()
    core.read_index("c")
    assert [
        m for m in core.ready().messages if isinstance(m, AppendEntries) and not m.entries
    ] == []
    accept(core, 3, 1, round=1)
    ready = core.ready()
    assert ready.reads == [ReadState("a", 1), ReadState("b", 1)]
    assert {m.round for m in ready.messages if isinstance(m, AppendEntries)} == {2}


def test_a_refusal_of_the_same_term_confirms_leadership_too() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.read_index("a")
    core.ready()
    core.step(AppendReply(3, 1, core.term, False, 1, 1, 0, 0), LATER)
    assert core.ready().reads == [ReadState("a", 1)]


def test_reads_of_a_deposed_leader_come_back_unanswered() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.read_index("a")
    core.ready()
    core.read_index("b")
    core.step(AppendEntries(2, 1, core.term + 1, 0, 0, 0, 0, []), LATER)
    assert set(core.ready().reads) == {ReadState("a", None), ReadState("b", None)}


# --- handing over, membership -----------------------------------------------------------------


def test_leadership_goes_to_a_voter_that_has_caught_up() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.propose([b"a"])
    core.ready()
    assert core.transfer() == 2
    assert not [m for m in core.ready().messages if isinstance(m, TimeoutNow)]
    with pytest.raises(NoLeader):
        core.propose([b"b"])
    accept(core, 2, 2)
    assert [m.target for m in core.ready().messages if isinstance(m, TimeoutNow)] == [2]
    core.tick(LATER + 0.4)
    accept(core, 3, 2)
    core.tick(LATER + 0.6)
    core.propose([b"c"])  # it did not come off: the leader takes proposals again


def test_timeout_now_begins_an_election_without_a_pre_vote() -> None:
    core = core_of(1)
    core.step(AppendEntries(2, 1, 1, 1, 1, 0, 0, []), LATER)
    sync(core)
    core.step(TimeoutNow(2, 1, 1), LATER)
    votes = [m for m in sync(core).messages_after_sync if isinstance(m, Vote)]
    assert [(m.target, m.term, m.transfer) for m in votes] == [(2, 2, True), (3, 2, True)]


def test_servers_join_as_learners_and_vote_once_caught_up() -> None:
    core = core_of()
    core.synced(elect(core))
    with pytest.raises(Overloaded):
        core.change_membership(MemberChange.ADD_LEARNER, 4)  # nothing of this term is committed
    accept(core, 2, 1)
    core.change_membership(MemberChange.ADD_LEARNER, 4)
    with pytest.raises(Overloaded):
        core.change_membership(MemberChange.REMOVE, 3)  # one at a time
    sync(core)
    accept(core, 2, 2)
    assert core.membership.current == Configuration((1, 2, 3), (4,))
    with pytest.raises(Overloaded, match="caught up"):
        core.change_membership(MemberChange.PROMOTE, 4)
    accept(core, 4, 2)
    core.change_membership(MemberChange.PROMOTE, 4)
    sync(core)
    assert core.membership.current == Configuration((1, 2, 3, 4))
    accept(core, 2, 3)
    assert core.commit == 2  # three of four are needed now
    accept(core, 4, 3)
    assert core.commit == 3


def test_a_leader_that_is_removed_leads_until_that_is_committed() -> None:
    core = core_of()
    core.synced(elect(core))
    accept(core, 2, 1)
    core.change_membership(MemberChange.REMOVE, 1)
    sync(core)
    accept(core, 2, 2)
    assert core.role is Role.LEADER
    accept(core, 3, 2)
    assert core.role is Role.FOLLOWER
    core.tick(core.now + LATER)
    assert core.role is Role.FOLLOWER  # no voter, no candidate


def test_a_truncation_brings_the_old_configuration_back() -> None:
    core = core_of(1, term=1)
    change = Entry(2, 1, 2, ENCODER.encode(Configuration((1, 2, 3, 4))))
    core.step(AppendEntries(2, 1, 1, 1, 1, 0, 0, [change]), LATER)
    assert core.membership.current.voters == (1, 2, 3, 4)
    core.step(AppendEntries(3, 1, 2, 1, 1, 0, 0, [entry(2, 2)]), LATER)
    assert core.membership.current.voters == (1, 2, 3)


def test_an_acknowledgement_of_a_disk_that_was_lost_holds_up_nothing() -> None:
    """It came late, after its member was taken in anew (seed 16414 of the simulation, once)."""
    core = core_of(1, 1, 1, 1, voters=(1, 2))
    core.synced(elect(core))
    accept(core, 2, 5)
    core.change_membership(MemberChange.ADD_LEARNER, 4)
    sync(core)
    accept(core, 2, 6)
    accept(core, 4, 3)  # of the old disk
    assert core.leadership is not None
    progress = core.leadership.peers[4]
    prev = progress.next - 1
    for _ in range(3):
        beat(core)
        refuse(core, 4, prev)
        prev = progress.next - 1
    assert (progress.match, progress.next) == (0, 1)
    appends = [m for m in said(beat(core)) if isinstance(m, AppendEntries) and m.target == 4]
    assert [item.index for item in appends[0].entries] == [1, 2, 3, 4, 5, 6]
    accept(core, 4, 6)
    assert core.leadership.caught_up_learner() == 4
    assert core.commit == 6


def beat(core: RaftCore) -> Ready:
    """A turn with a heartbeat."""
    core.tick(core.deadline())
    return sync(core)


def refuse(core: RaftCore, source: int, prev_index: int) -> None:
    """As a member without any entries does."""
    core.step(AppendReply(source, core.id, core.term, False, prev_index, 0, 0, 0), core.now)


def test_a_learner_never_campaigns() -> None:
    core = core_of(1, member=4, voters=(1, 2, 3), learners=(4,))
    core.tick(LATER)
    assert core.role is Role.FOLLOWER


def test_a_member_without_a_configuration_neither_votes_nor_stands() -> None:
    """Its disk may be lost: it may have voted in this term, or acknowledged entries."""
    core = core_of(voters=())
    core.tick(LATER)
    core.step(PreVote(2, 1, 5, 9, 4), LATER)
    core.step(Vote(2, 1, 5, 9, 4, False), LATER)
    answers = [m for m in said(sync(core)) if isinstance(m, VoteReply | PreVoteReply)]
    assert [answer.granted for answer in answers] == [False, False]
    assert (core.role, core.vote) == (Role.FOLLOWER, NOBODY)


def test_first_voters_begin_with_the_same_and_elect_a_leader() -> None:
    core = core_of(voters=())
    assert core.is_unformed
    first = Configuration((1, 2, 3), (), (Address(2, "h", 1, 2),))
    core.bootstrap(first)
    assert not core.is_unformed
    assert sync(core).records == [Marker(0, 0, first)]
    elect(core)
    assert core.membership.current == first


def test_a_learner_may_vote_once_it_has_all_that_is_committed() -> None:
    core = core_of(learners=(4,))
    core.synced(elect(core))
    leadership = core.leadership
    assert leadership is not None
    assert leadership.caught_up_learner() is None  # nothing of this term is committed
    accept(core, 2, 1)
    assert leadership.caught_up_learner() is None  # it has nothing
    accept(core, 4, 1)
    assert leadership.caught_up_learner() == 4
    core.propose([b"a"])
    sync(core)
    accept(core, 2, 2)
    assert leadership.caught_up_learner() is None  # it is behind again
    accept(core, 4, 2)
    core.change_membership(MemberChange.REMOVE, 3)
    assert leadership.caught_up_learner() is None  # one change at a time


def test_a_member_can_be_done_without_while_a_majority_of_the_others_is_heard() -> None:
    core = core_of(voters=(1, 2, 3))
    core.synced(elect(core))
    leadership = core.leadership
    assert leadership is not None
    for step in range(1, 20):
        core.now = LATER + 0.1 * step
        accept(core, 2, 1)
    assert leadership.can_do_without(3)
    assert not leadership.can_do_without(2)


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    voters = tuple(range(count))
    assert is_majority(voters, voters[:needed])
    assert not is_majority(voters, voters[: needed - 1])
    values = {voter: 10 if voter < needed else 0 for voter in voters}
    assert majority_value(voters, values) == 10
    values[0] = 0
    assert majority_value(voters, values) == 0


# --- snapshots --------------------------------------------------------------------------------


def test_a_follower_whose_entries_are_gone_gets_a_snapshot() -> None:
    core = core_of(base=100, base_term=3)
    core.synced(elect(core))
    core.step(AppendReply(2, 1, core.term, False, 100, 0, 40, 2), LATER)
    assert core.ready().chunks_wanted == [ChunkWanted(2, 0, 0)]
    leadership = core.leadership
    assert leadership is not None
    marker = Marker(100, 3, core.membership.current)
    leadership.send_chunk(2, marker, offset=0, total_bytes=9, crc=1, data=b"abcd")
    assert [m.offset for m in core.ready().messages if isinstance(m, SnapshotChunk)] == [0]
    core.step(SnapshotReply(2, 1, core.term, 100, 4, 0), LATER)
    assert core.ready().chunks_wanted == [ChunkWanted(2, 100, 4)]
    accept(core, 2, 100)
    sent = next(m for m in core.ready().messages if isinstance(m, AppendEntries) and m.target == 2)
    assert (sent.prev_index, [e.index for e in sent.entries]) == (100, [101])


def test_a_chunk_that_is_not_answered_is_asked_for_again() -> None:
    core = core_of(base=100, base_term=3)
    core.synced(elect(core))
    core.step(AppendReply(2, 1, core.term, False, 100, 0, 40, 2), LATER)
    core.ready()
    again = []
    for step in range(1, 15):
        core.tick(LATER + 0.1 * step)
        accept(core, 3, 100)
        again += core.ready().chunks_wanted
    assert again == [ChunkWanted(2, 0, 0)]


def test_an_installed_snapshot_replaces_the_log() -> None:
    core = core_of(1, 1, term=4)
    core.step(AppendEntries(2, 1, 4, 0, 0, 0, 0, []), LATER)
    marker = Marker(50, 3, Configuration((1, 2, 3, 4)))
    chunk = SnapshotChunk(2, 1, 4, marker, 0, 1, 0, b"x", 0)
    core.step(chunk, LATER)
    assert core.ready().chunks == [chunk]
    core.install(marker)
    ready = sync(core)
    assert ready.records == [Truncate(1), marker]
    assert AppendReply(1, 2, 4, True, 50, 0) in ready.messages_after_sync
    assert (core.commit, core.handed, core.log.last_index) == (50, 50, 50)
    assert core.membership.current.voters == (1, 2, 3, 4)


def test_an_installed_snapshot_keeps_what_follows_it_in_the_log() -> None:
    core = core_of(1, 1, 1, term=4)
    core.install(Marker(2, 1, Configuration((1, 2, 3))))
    assert [core.log.first_index, core.log.last_index] == [3, 3]


def test_a_cut_log_keeps_the_configuration() -> None:
    core = core_of(1, 1, term=1)
    change = Entry(3, 1, 2, ENCODER.encode(Configuration((1, 2, 3, 4))))
    core.step(AppendEntries(2, 1, 1, 2, 1, 3, 0, [change]), LATER)
    sync(core)
    core.take_committed()
    core.compact(3)
    assert sync(core).records == [Marker(3, 1, Configuration((1, 2, 3, 4)))]
    assert core.membership.current.voters == (1, 2, 3, 4)


# --- the wire ---------------------------------------------------------------------------------


def test_messages_survive_the_wire() -> None:
    marker = Marker(9, 2, Configuration((1, 2), (3,)))
    messages: list[Message] = [
        PreVote(1, 2, 3, 4, 5),
        PreVoteReply(1, 2, 3, True),
        Vote(1, 2, 3, 4, 5, False),
        VoteReply(1, 2, 3, False),
        AppendEntries(1, 2, 3, 4, 5, 6, 7, [entry(5, 3, b"\x00\xff"), Entry(6, 3, NOOP, b"")]),
        AppendReply(1, 2, 3, True, 4, 5),
        TimeoutNow(1, 2, 3),
        SnapshotChunk(1, 2, 3, marker, 4, 5, 6, b"data", 7),
        SnapshotReply(1, 2, 3, 4, 5, 6),
    ]
    assert DECODER.decode(ENCODER.encode(messages)) == messages

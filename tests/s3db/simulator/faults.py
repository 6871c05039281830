"""Faults that Raft members have had, each put back into ours: the simulator must find them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from predastore.base.errors import NotLeader
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.driver import Driver
from predastore.s3db.raft.leadership import Leadership
from predastore.s3db.raft.log import RaftLog
from predastore.s3db.raft.membership import Membership, majority_value
from predastore.s3db.raft.messages import (
    NOBODY,
    AppendEntries,
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Message,
    Record,
    SnapshotChunk,
    VoteReply,
)
from predastore.s3db.raft.state import RaftBounds, ReadState, Ready, Recovered, Role, Timing

from .world import ECHOES, LOST_DISKS, POWER_CUTS, STORMY, Scenario


class TruncatesOnEveryAppend(RaftCore):
    """pysyncobj: the log is cut at every append that begins before its end, matching or not."""

    def _take(self, entries: list[Entry]) -> None:
        if entries and entries[0].index <= self.log.last_index:
            first = max(entries[0].index, self.log.first_index)
            self.commit = min(self.commit, first - 1)
            self.truncate(first)
        self.append(entries)


class CountsStaleAcknowledgements(RaftCore):
    """pysyncobj: acknowledgements carry no term, so those of an earlier one count too."""

    def _meet_lower_term(self, message: Message) -> None:
        if isinstance(message, AppendReply):
            self._on_append_reply(message)
        else:
            super()._meet_lower_term(message)


class NeverSyncs(Driver):
    """pysyncobj: no fsync, no fdatasync, ever."""

    def __init__(self, core: RaftCore, actions: Any) -> None:
        super().__init__(core, actions)
        vars(actions.journal)["sync"] = lambda: None


class SendsBeforeSync(Driver):
    """What depends on a sync is said before it."""

    def turn(self) -> None:
        real_ready = self.core.ready

        def ready() -> Ready:
            out = real_ready()
            out.messages.extend(out.messages_after_sync)
            out.messages_after_sync.clear()
            return out

        vars(self.core)["ready"] = ready
        try:
            super().turn()
        finally:
            del vars(self.core)["ready"]


class CountsVotesNotVoters(RaftCore):
    """pysyncobj: a vote is counted each time it is delivered, whoever it is from."""

    def _on_vote_reply(self, message: VoteReply) -> None:
        if self.role is Role.CANDIDATE and message.granted:
            self._deliveries = getattr(self, "_deliveries", 0) + 1
            self._count_vote(-1000 - self._deliveries)

    def _campaign(self, *, transfer: bool) -> None:
        self._deliveries = 0
        super()._campaign(transfer=transfer)

    def _count_vote(self, voter: int) -> None:
        self._votes.add(voter)
        if 2 * len(self._votes) > len(self.membership.current.voters):
            self.role, self.leader = Role.LEADER, self.id
            self.leadership = self.new_leadership()


class ReadsWithoutAsking(RaftCore):
    """pysyncobj: who was leader goes on answering reads, and a deposed one with old values."""

    def read_index(self, context: Hashable) -> None:
        if self.leadership is None:
            raise NotLeader("not the leader", leader=self.leader)
        self.out.reads.append(ReadState(context, self.commit))


class ForgetsItsVote(RaftCore):
    """pysyncobj: an empty file of term and vote is taken for a new one; it votes twice."""

    def remember(self, term: int, vote: int) -> None:
        self.term, self.vote = term, vote
        self.out.records.append(HardState(term, NOBODY))


class _AnyLog(RaftLog):
    def up_to_date(self, last_index: int, last_term: int) -> bool:
        return True


class VotesForAnyLog(RaftCore):
    """The candidate's log is not compared (Raft 3.6.1)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        log = self.log
        self.log = _AnyLog(
            log.base_index, log.base_term, log.between(log.first_index, log.last_index)
        )


class _CommitsOldTerms(Leadership):
    def advance(self) -> None:
        state = self.state
        reached = {peer: progress.match for peer, progress in self.peers.items()}
        reached[state.id] = state.synced_index
        index = majority_value(state.membership.current.voters, reached)
        state.commit = max(state.commit, index)


class CommitsEntriesOfOldTerms(RaftCore):
    """Entries of an earlier term are committed by counting (Raft figure 3.7)."""

    def new_leadership(self) -> Leadership:
        return _CommitsOldTerms(self)


class _CountsUnsyncedSelf(Leadership):
    def advance(self) -> None:
        synced, self.state.synced_index = self.state.synced_index, self.state.log.last_index
        super().advance()
        self.state.synced_index = synced


class CountsItselfBeforeSync(RaftCore):
    """The leader counts its own log before that is synced."""

    def new_leadership(self) -> Leadership:
        return _CountsUnsyncedSelf(self)


class CommitsUnverifiedTail(RaftCore):
    """pysyncobj: the commit index follows the leader's over a tail that was not compared."""

    def _accept(self, message: AppendEntries, match: int) -> None:
        super()._accept(message, match)
        self.commit = max(self.commit, min(message.commit, self.log.last_index))


class SnapshotCommitsUnverifiedTail(RaftCore):
    """pysyncobj: a snapshot message moves the commit index over a log that was not compared."""

    def receive_chunk(self, message: SnapshotChunk) -> None:
        self.commit = max(self.commit, min(message.marker.index, self.log.last_index))
        super().receive_chunk(message)


class ForgetsMembership(RaftCore):
    """pysyncobj: membership is not replayed: after a start it is that of the beginning."""

    def __init__(self, member_id: int, recovered: Recovered, **options: Any) -> None:
        super().__init__(member_id, recovered, **options)
        base = self.membership.at(self.log.base_index)
        known = {member_id, *(i for _, c in self.membership._history for i in c.members())}
        first = Configuration(tuple(sorted(known)), (), base.addresses)
        self.membership = Membership(self.log.base_index, first)


def _without_hard_state(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if not isinstance(record, HardState)]


class NeverWritesItsTerm(Driver):
    """Term and vote are kept in memory only."""

    def turn(self) -> None:
        self.core.out.records = _without_hard_state(self.core.out.records)
        super().turn()


_QUICK = Timing(heartbeat_s=0.03, election_s=0.08)

_NEVER = {"bad_network": 0, "slow_disk": 0, "change_members": 0}

# fault -> (where it shows best, a seed from which it shows soon)
CASES: Mapping[type[RaftCore] | type[Driver], tuple[Mapping[str, Any], int]] = {
    TruncatesOnEveryAppend: ({}, 0),
    CountsStaleAcknowledgements: (
        {
            **ECHOES,
            "slow": 0.4,
            "clients": 8,
            "weights": {**ECHOES["weights"], "change_members": 0},
        },
        585,
    ),
    CountsVotesNotVoters: (
        {
            "members": 5,
            "duration_s": 4.0,
            "delay_s": (0.001, 0.08),
            "doubled": 0.9,
            "strike_s": (0.01, 0.2),
            "timing": _QUICK,
            "weights": {**_NEVER, "isolate_leader": 8, "mend": 8},
        },
        0,
    ),
    ReadsWithoutAsking: (STORMY, 0),
    ForgetsItsVote: (
        {
            "duration_s": 4.0,
            "delay_s": (0.001, 0.06),
            "strike_s": (0.02, 0.2),
            "timing": Timing(heartbeat_s=0.04, election_s=0.1),
            "blink_voters": 0.9,
            "weights": {**_NEVER, "isolate_leader": 10, "mend": 8, "crash_all": 0, "pause_one": 0},
        },
        0,
    ),
    VotesForAnyLog: (STORMY, 0),
    CommitsEntriesOfOldTerms: (
        {
            "clients": 8,
            "delay_s": (0.001, 0.02),
            "loss": 0.3,
            "strike_s": (0.02, 0.2),
            "timing": _QUICK,
            "fell_leaders": 0.5,
            "bounds": RaftBounds(append_entries=1, in_flight_count=1),
            "weights": {
                **_NEVER,
                "isolate_leader": 6,
                "partition": 6,
                "mend": 10,
                "pause_one": 0,
                "cut_logs": 0,
            },
        },
        700,
    ),
    CountsItselfBeforeSync: (
        {**POWER_CUTS, "fell_leaders": 0.2, "sync_s": 0.1, "clients": 8},
        0,
    ),
    CommitsUnverifiedTail: (
        {
            "clients": 8,
            "delay_s": (0.001, 0.02),
            "loss": 0.1,
            "strike_s": (0.02, 0.3),
            "timing": _QUICK,
            "weights": {**_NEVER, "isolate_leader": 10, "partition": 6, "mend": 10},
        },
        0,
    ),
    SendsBeforeSync: (POWER_CUTS, 0),
    NeverSyncs: (POWER_CUTS, 0),
    NeverWritesItsTerm: ({}, 0),
    SnapshotCommitsUnverifiedTail: (
        {
            "clients": 8,
            "delay_s": (0.001, 0.02),
            "loss": 0.1,
            "strike_s": (0.02, 0.3),
            "timing": _QUICK,
            "weights": {**_NEVER, "isolate_leader": 10, "partition": 6, "mend": 10, "cut_logs": 16},
        },
        0,
    ),
    ForgetsMembership: (
        {
            "members": 5,
            "clients": 8,
            "strike_s": (0.02, 0.2),
            "timing": _QUICK,
            "weights": {"change_members": 16, "partition": 6, "crash_one": 8, "mend": 8},
        },
        0,
    ),
}

# Faults outside of core and driver, by the scenario that has them.
OTHERS: Mapping[str, Scenario] = {
    "pysyncobj: dump and journal do not meet, and the journal is cleared": Scenario(careless=True),
    "a request that is sent again is applied again": Scenario(**STORMY, remembers=False),
    "a procedure's answer is not remembered": Scenario(**STORMY, keeps_answers=False),
    "a command of a newer program is passed over": Scenario(upgrades=True, passes_over=True),
    "a command is proposed that not every member can do": Scenario(upgrades=True, hasty=True),
    "cluster time follows the leader's clock": Scenario(ticks=True, believes_clocks=True),
    "a lost disk votes again": Scenario(**LOST_DISKS, forgetful=True),
}


def scenario_of(fault: type[RaftCore] | type[Driver]) -> tuple[Scenario, int]:
    """Where `fault` is looked for, and the first seed to try."""
    options, first = CASES[fault]
    place = "core" if issubclass(fault, RaftCore) else "driver"
    return Scenario(**{**options, place: fault}), first

"""Configurations of the cluster, as the log brings them, and what a majority is.

A configuration is in force from the moment it stands in the log, committed or not (Raft 4.1);
a truncation brings the one before it back. One server is added, promoted or removed at a
time, so that any majority of the old and any of the new configuration meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from predastore.s3db.raft.messages import CONFIG, CONFIGURATION, Address, Configuration, Entry


class MemberChange(Enum):
    ADD_LEARNER = "add-learner"
    PROMOTE = "promote"
    REMOVE = "remove"
    MOVE = "move"  # another address; who votes stays as it is


def changed(
    configuration: Configuration, change: MemberChange, member: int, address: Address | None = None
) -> Configuration | None:
    """`configuration` with one server changed; None if there is nothing sensible to do.

    `address`: the member's, for ADD_LEARNER and MOVE.
    """
    voters, learners = configuration.voters, configuration.learners
    if (member in configuration.members()) is (change is MemberChange.ADD_LEARNER):
        return None
    addresses = configuration.addresses
    if change is not MemberChange.PROMOTE:
        addresses = tuple(known for known in addresses if known.member != member)
    if address is not None:
        addresses = (*addresses, address)
    if change is MemberChange.ADD_LEARNER:
        return Configuration(voters, (*learners, member), addresses)
    if change is MemberChange.MOVE:
        return Configuration(voters, learners, addresses)
    others = tuple(learner for learner in learners if learner != member)
    if change is MemberChange.PROMOTE:
        return None if others == learners else Configuration((*voters, member), others, addresses)
    left = tuple(voter for voter in voters if voter != member)
    return Configuration(left, others, addresses) if left else None


def is_majority(voters: Iterable[int], agreeing: Iterable[int]) -> bool:
    """Whether more than half of `voters` are among `agreeing`, counted by identity."""
    electorate = frozenset(voters)
    return 2 * len(electorate.intersection(agreeing)) > len(electorate)


def majority_value(voters: tuple[int, ...], values: Mapping[int, int]) -> int:
    """The largest value that more than half of `voters` have reached."""
    ordered = sorted((values.get(voter, 0) for voter in voters), reverse=True)
    return ordered[len(ordered) // 2] if ordered else 0


class Membership:
    def __init__(self, base_index: int, base: Configuration) -> None:
        self._history: list[tuple[int, Configuration]] = [(base_index, base)]

    @property
    def current(self) -> Configuration:
        return self._history[-1][1]

    @property
    def index(self) -> int:
        """The index of the entry that brought the current configuration."""
        return self._history[-1][0]

    def at(self, index: int) -> Configuration:
        """The configuration in force once the log reaches to `index`."""
        found = self._history[0][1]
        for since, configuration in self._history:
            if since <= index:
                found = configuration
        return found

    def observe(self, entries: Iterable[Entry]) -> bool:
        """Take configurations from appended entries; True if there was one."""
        before = len(self._history)
        for entry in entries:
            if entry.kind == CONFIG:
                self._history.append((entry.index, CONFIGURATION.decode(entry.data)))
        return len(self._history) > before

    def truncate(self, first: int) -> bool:
        """Forget configurations from index `first` on; True if the current one changed."""
        before = len(self._history)
        while len(self._history) > 1 and self._history[-1][0] >= first:
            self._history.pop()
        return len(self._history) < before

    def rebase(self, index: int, base: Configuration) -> None:
        """Begin at `index` with `base`; later configurations stay."""
        self._history = [(index, base), *(item for item in self._history if item[0] > index)]

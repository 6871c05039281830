"""What one member knows of all: the newest record of each, and when it was heard.

The dead are remembered for GOSSIP_FORGET_MS, so that old news does not raise them; the dead of
whom nothing was known are not taken in, else members would remind each other of them for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from predastore.base.limits import (
    GOSSIP_FORGET_MS,
    GOSSIP_MEMBERS_MAX,
    GOSSIP_RECORD_BYTES_MAX,
    GOSSIP_SYNC_BYTES_MAX,
)
from predastore.gossip.messages import GossipStatus, Record, Seen, size_bytes


class Roster:
    """`own`: the record of this process, which only `Roster.say` and `contradict` change."""

    def __init__(self, own: Record) -> None:
        self.own = own
        self._records: dict[str, Record] = {}
        self._heard_at: dict[str, float] = {}

    def __len__(self) -> int:
        """Members that are here, this one among them."""
        return 1 + sum(record.is_here for record in self._records.values())

    def get(self, name: str) -> Record | None:
        return self.own if name == self.own.name else self._records.get(name)

    def others(self) -> list[Record]:
        return list(self._records.values())

    def all(self) -> list[Record]:
        return sorted([self.own, *self._records.values()], key=lambda record: record.name)

    def say(self, record: Record) -> None:
        """A new record of this process."""
        assert record.name == self.own.name
        assert record.incarnation > self.own.incarnation
        self.own = record

    def is_wrong(self, heard: Record) -> bool:
        """Whether `heard`, of this process, would overrule its own record, and is not that."""
        return heard.order >= self.own.order and heard != self.own

    def contradict(self, heard: Record) -> bool:
        """Whether `heard`, of this process, is wrong; then this process's own record is newer."""
        own = self.own
        if not self.is_wrong(heard):
            return False
        self.own = Record(own.name, heard.incarnation + 1, own.status, own.facts)
        return True

    def hear(self, record: Record, now: float) -> Record | None:
        """Takes in another's record; what it replaces if it is news (itself if nothing was
        known), None if it is none."""
        old = self._records.get(record.name)
        if old is None:
            if not record.is_here or len(self._records) >= GOSSIP_MEMBERS_MAX - 1:
                return None
        elif record.order <= old.order:
            return None
        if size_bytes(record) > GOSSIP_RECORD_BYTES_MAX:
            return None
        self._records[record.name] = record
        self._heard_at[record.name] = now
        return old or record

    def mark(self, name: str, status: GossipStatus, now: float) -> Record | None:
        """Overrules a record within its incarnation; None if that changes nothing."""
        old = self._records.get(name)
        if old is None or status <= old.status:
            return None
        record = Record(name, old.incarnation, status, old.facts)
        self._records[name] = record
        self._heard_at[name] = now
        return record

    def forget(self, now: float) -> None:
        """The long dead."""
        for name, record in list(self._records.items()):
            if not record.is_here and now - self._heard_at[name] > GOSSIP_FORGET_MS / 1000:
                del self._records[name], self._heard_at[name]

    # --- comparing views ----------------------------------------------------------------------

    def seen(self) -> tuple[Seen, ...]:
        return tuple(Seen(one.name, one.incarnation, one.status) for one in self.all())

    def compare(self, theirs: Iterable[Seen]) -> tuple[tuple[Record, ...], tuple[str, ...]]:
        """(what is newer here, up to a bound; the names of what is newer there)."""
        known = {seen.name: (seen.incarnation, int(seen.status)) for seen in theirs}
        newer: list[Record] = []
        room = GOSSIP_SYNC_BYTES_MAX
        for record in self._records.values():
            order = known.get(record.name)
            if record.is_here if order is None else record.order > order:
                room -= size_bytes(record)
                if room < 0:
                    break
                newer.append(record)
        wanted = []
        for name, order in known.items():
            have = self.get(name)
            if have is None or order > have.order:
                wanted.append(name)
        return tuple(newer), tuple(wanted)

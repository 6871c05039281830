"""News to pass on: what changed, a bounded number of times, a bounded number of bytes a message.

What was passed on least goes first. The number of times grows with the logarithm of the members:
by then each has heard it but for bad luck, and the comparing of views makes up for that.
"""

from __future__ import annotations

import math

from predastore.base.limits import GOSSIP_NEWS_BYTES_MAX, GOSSIP_SPREAD
from predastore.gossip.messages import Record, size_bytes


class News:
    def __init__(self) -> None:
        self._told: dict[str, int] = {}  # by name: one piece of news of each member
        self._records: dict[str, tuple[Record, int]] = {}

    def add(self, record: Record) -> None:
        """Replaces older news of the same member."""
        self._told[record.name] = 0
        self._records[record.name] = (record, size_bytes(record))

    def take(self, members: int, *, first: Record | None = None) -> tuple[Record, ...]:
        """For one message. `first` goes along in any case: what concerns the one it is sent to."""
        times_max = GOSSIP_SPREAD * math.ceil(math.log2(members + 1))
        taken: list[Record] = []
        room = GOSSIP_NEWS_BYTES_MAX
        if first is not None:
            taken.append(first)
            room -= size_bytes(first)
        for name in sorted(self._told, key=self._told.__getitem__):
            record, size = self._records[name]
            if first is not None and name == first.name:
                continue
            if taken and size > room:
                continue
            taken.append(record)
            room -= size
            self._told[name] += 1
            if self._told[name] >= times_max:
                del self._told[name], self._records[name]
        return tuple(taken)

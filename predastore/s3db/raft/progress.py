"""What a leader knows about one follower, and what it has sent it (Raft 3.5, 10.2.1).

    PROBE      where the logs agree is not known: one append at a time, the next on its reply
    REPLICATE  appends are pipelined, up to a bound in number and bytes; `next` runs ahead
    SNAPSHOT   what the follower needs is compacted: it gets the state machine, chunk by chunk

A refusal leads from REPLICATE to PROBE, an acceptance back; heartbeats find lost appends,
because they carry the (index, term) before `next`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum


class Sending(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class FollowerProgress:
    def __init__(self, next_index: int, now: float) -> None:
        self.sending = Sending.PROBE
        self.match = 0  # the logs are known to agree up to here, synced at the follower
        self.next = next_index
        self.heard_at = now
        self.round_acked = 0
        self.probe_sent = False
        self._probed_to = 0  # the last index in it
        self.chunk_wanted: tuple[int, int] | None = None  # (snapshot index, offset) last asked for
        self.chunk_wanted_at = 0.0
        self._in_flight: deque[tuple[int, int]] = deque()  # (last index, bytes)
        self._in_flight_bytes = 0

    def has_room(self, count_max: int, bytes_max: int) -> bool:
        """Whether another append with entries may be sent now."""
        if self.sending is Sending.REPLICATE:
            return len(self._in_flight) < count_max and self._in_flight_bytes < bytes_max
        return self.sending is Sending.PROBE and not self.probe_sent

    def sent(self, last_index: int, size_bytes: int) -> None:
        if self.sending is Sending.REPLICATE:
            self.next = last_index + 1
            self._in_flight.append((last_index, size_bytes))
            self._in_flight_bytes += size_bytes
        else:
            self.probe_sent = True
            self._probed_to = last_index

    def accepted(self, match: int) -> bool:
        """Take the acceptance of all up to `match`; True if that is news."""
        while self._in_flight and self._in_flight[0][0] <= match:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        advanced = match > self.match
        self.match = max(self.match, match)
        # One whose disk is full takes a probe's place in the log, and none of its entries: with
        # more it would be flooded, for nothing.
        found = self.sending is Sending.PROBE and match >= self._probed_to
        if found or (advanced and self.sending is not Sending.REPLICATE):
            self._become(Sending.REPLICATE)
            self.next = self.match + 1
        elif self.sending is Sending.REPLICATE:
            self.next = max(self.next, match + 1)
        return advanced

    def refused(self, prev_index: int, retry_at: int) -> bool:
        """Take the refusal of an append after `prev_index`; False if it is an old one.

        A probe right after `match` that is refused takes `match` back: the acceptance was given
        by a member that has lost its disk since, and came late. (Or the refusal is the old one;
        then the next acceptance sets it right. To believe less than is true is always safe.)
        """
        probed = self.sending is Sending.PROBE and prev_index == self.next - 1
        if self.sending is Sending.SNAPSHOT or (prev_index <= self.match and not probed):
            return False
        if self.sending is Sending.PROBE and not probed:
            return False
        self._become(Sending.PROBE)
        if prev_index <= self.match:
            self.match = max(0, min(prev_index, retry_at) - 1)
        self.next = max(self.match + 1, min(retry_at, prev_index))
        return True

    def needs_snapshot(self, index: int, offset: int, now: float) -> None:
        """The chunk at `offset` of the snapshot at `index` is next; 0, 0: of any snapshot."""
        if self.sending is not Sending.SNAPSHOT:
            self._become(Sending.SNAPSHOT)
        self.chunk_wanted = (index, offset)
        self.chunk_wanted_at = now

    def _become(self, sending: Sending) -> None:
        self.sending = sending
        self.probe_sent = False
        self._probed_to = 0
        self._in_flight.clear()
        self._in_flight_bytes = 0

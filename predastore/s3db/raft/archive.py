"""Entries that the log in memory has lost, read from the journal's segments, for who lags.

What is behind a journal's marker is in the state machine, and its segments may go; while a follower
needs them (upkeep.py) they stay. So a follower that fell behind, or has got a snapshot meanwhile,
is sent what it lacks however much that is, and the log in memory stays small.

The archive is a map, kept in memory, of what this process itself has appended: of each frame with
entries its place, its first entry, and the last that still stands. A truncation ends frames, so an
entry that was given up is never found, whether another took its place or a snapshot did.

Frames are read where they are needed, in the event loop: what a follower lacks was written not long
ago, and is in the page cache, mostly.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from predastore.base.errors import FormatError
from predastore.base.limits import RAFT_ARCHIVE_DECODED_MAX
from predastore.s3db.raft.frames import (
    FRAME_BYTES,
    JournalHeader,
    frame_at,
    frame_bytes,
    unpack_records,
)
from predastore.s3db.raft.messages import Entry, Record, Truncate


class ReadableDisk(Protocol):
    def read_at(self, name: str, offset: int, size_bytes: int) -> bytes:
        """So many bytes, or fewer at the end; FileNotFoundError."""


class Archive(Protocol):
    """What a leader asks."""

    def term_at(self, index: int) -> int | None:
        """The term of an entry that is committed; None where it is not here."""

    def batch(self, first: int, last: int, *, bytes_max: int, count_max: int) -> list[Entry]:
        """Entries from `first`, not beyond `last`, all committed; none where it is not here."""


class NoArchive:
    def term_at(self, index: int) -> int | None:
        return None

    def batch(self, first: int, last: int, *, bytes_max: int, count_max: int) -> list[Entry]:
        return []


def _numbers() -> array[int]:
    return array("Q")


@dataclass
class _Segment:
    """`starts`, `ends`, `offsets`: of its frames with entries, in their order."""

    name: str
    header: JournalHeader
    starts: array[int] = field(default_factory=_numbers)
    ends: array[int] = field(default_factory=_numbers)
    offsets: array[int] = field(default_factory=_numbers)

    def forget(self, first: int) -> None:
        """Entries from `first` on stand no more."""
        while self.starts and self.starts[-1] >= first:
            self.starts.pop(), self.ends.pop(), self.offsets.pop()
        if self.ends:
            self.ends[-1] = min(self.ends[-1], first - 1)


class JournalArchive:
    """An `Archive`, which its journal tells what it does."""

    def __init__(self, disk: ReadableDisk) -> None:
        self._disk = disk
        self._segments: list[_Segment] = []
        self._decoded: dict[tuple[str, int], list[Entry]] = {}

    # --- what the journal tells -----------------------------------------------------------------

    def begun(self, name: str, header: JournalHeader) -> None:
        """A segment is what is appended to from now on."""
        self._segments.append(_Segment(name, header))

    def appended(self, records: Iterable[Record], offset: int) -> None:
        """A frame stands at `offset` of the last segment."""
        segment = self._segments[-1]
        for record in records:
            if isinstance(record, Truncate):
                self._forget(record.first)
            elif isinstance(record, Entry):
                if segment.offsets and segment.offsets[-1] == offset:
                    segment.ends[-1] = record.index
                else:
                    segment.starts.append(record.index)
                    segment.ends.append(record.index)
                    segment.offsets.append(offset)

    def unlinked(self, name: str) -> None:
        """A segment is gone."""
        self._segments = [segment for segment in self._segments if segment.name != name]

    def _forget(self, first: int) -> None:
        for segment in reversed(self._segments):
            segment.forget(first)
            if segment.starts:
                break
        self._decoded.clear()

    @property
    def frame_count(self) -> int:
        """For how many frames there is a place in memory."""
        return sum(len(segment.starts) for segment in self._segments)

    # --- what a leader asks ---------------------------------------------------------------------

    def term_at(self, index: int) -> int | None:
        found = self._from(index)
        return found[0].term if found else None

    def batch(self, first: int, last: int, *, bytes_max: int, count_max: int) -> list[Entry]:
        batch: list[Entry] = []
        size_bytes, index = 0, first
        while index <= last and (found := self._from(index)):
            for entry in found[: min(last + 1 - index, count_max - len(batch))]:
                size_bytes += len(entry.data)
                if size_bytes > bytes_max and batch:
                    return batch
                batch.append(entry)
            index = batch[-1].index + 1
            if len(batch) == count_max:
                break
        return batch

    def _from(self, index: int) -> list[Entry]:
        """The entries of a frame, from `index` on; none where that is not here."""
        for segment in reversed(self._segments):
            if segment.starts and segment.starts[0] <= index:
                place = bisect_right(segment.starts, index) - 1
                if index > segment.ends[place]:
                    return []
                entries = self._read(segment, segment.offsets[place])
                start, end = segment.starts[place], segment.ends[place]
                if len(entries) <= end - start or entries[0].index != start:
                    return []
                return entries[index - start : end - start + 1]
        return []

    def _read(self, segment: _Segment, offset: int) -> list[Entry]:
        """The entries of the frame at `offset`; none where the segment went, or can not be read."""
        place = (segment.name, offset)
        known = self._decoded.get(place)
        if known is not None:
            return known
        try:
            head = self._disk.read_at(segment.name, offset, FRAME_BYTES)
            data = self._disk.read_at(segment.name, offset, frame_bytes(head))
            moved = segment.header._replace(base=segment.header.base + offset)
            payload = frame_at(moved, data, 0)
            records = [] if payload is None else list(unpack_records(payload))
        except (OSError, FormatError):
            return []
        entries: list[Entry] = []
        for record in records:
            if isinstance(record, Truncate):
                entries = [entry for entry in entries if entry.index < record.first]
            elif isinstance(record, Entry):
                entries.append(record)
        while len(self._decoded) >= RAFT_ARCHIVE_DECODED_MAX:
            self._decoded.pop(next(iter(self._decoded)))
        self._decoded[place] = entries
        return entries

"""The journal of a member: what it must not forget, in segments of framed records.

Files: `0000000000000001.journal`, ... (frames.py draws their bytes). A segment is written under
a temporary name, synced, renamed, and the directory synced, before anything is appended to it;
so a segment under its name always has a good header and a good first frame. That first frame
repeats the hard state and the marker, so that the segments before it can go.

`append` writes one frame; `sync` makes it durable; `append` then `sync` for each step, never two
appends for one sync: that is what makes "only the last frame may be torn" true. After an error
from the disk the journal must not be used any more: what it holds is not known.

`stage` is `append` for somebody else to write and sync (journal_writer.py), where that is all
there is to do.

Start: segments are read in order. A torn last frame is cut off, and so are zeros behind the last
(disk.py); anything else that is wrong raises StartupError, with file and byte, and what the
operator can do. A segment has no such zeros any more when the next one is begun.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from predastore.base import metrics
from predastore.base.errors import FormatError, OtherVersion, StartupError, UnsupportedFormat
from predastore.base.limits import JOURNAL_SEGMENT_BYTES_MAX
from predastore.s3db.raft.archive import JournalArchive
from predastore.s3db.raft.disk import AppendFile, JournalDisk, OsAppendFile
from predastore.s3db.raft.frames import (
    FRAME_BYTES,
    HEADER_BYTES,
    JournalHeader,
    frame_at,
    next_good_frame,
    pack_frame,
    unpack_header,
    unpack_records,
)
from predastore.s3db.raft.messages import Configuration, Entry, HardState, Marker, Record, Truncate
from predastore.s3db.raft.state import Recovered

logger = logging.getLogger(__name__)

_SYNCS = metrics.histogram(
    "predastore_db_sync_seconds", "Times of a database member's fdatasync of its journal.", "member"
)

_SUFFIX: Final = ".journal"
_TEMPORARY: Final = ".new"

_MEND: Final = (
    "Acknowledged writes may be in the damaged part, so it is not stepped over. If a majority of "
    "the other members is healthy, remove this member's directory and let it join again empty; "
    "else restore the file from a backup of the disk."
)


@dataclass
class _Segment:
    number: int
    last_index: int  # of all entries ever appended to it, and of its marker
    base: int  # bytes of all segments before it

    @property
    def name(self) -> str:
        return _name(self.number)


def _name(number: int) -> str:
    return f"{number:016d}{_SUFFIX}"


class _Replay:
    """The records so far, folded: hard state, marker, entries after it."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.marker: Marker | None = None
        self.entries: list[Entry] = []

    def take(self, record: Record) -> None:
        """ValueError if the record does not follow from those before it."""
        if isinstance(record, Entry):
            self._take_entry(record)
        elif isinstance(record, HardState):
            if record.term < self.hard_state.term:
                raise ValueError(f"term {record.term} after {self.hard_state.term}")
            self.hard_state = record
        elif isinstance(record, Truncate):
            self._truncate(record.first)
        else:
            self._take_marker(record)

    def _take_entry(self, entry: Entry) -> None:
        if self.marker is None:
            raise ValueError(f"entry {entry.index} before any marker")
        # After a cut the first segment may begin with an old marker and later entries: a newer
        # marker follows (`finish` checks that it does).
        if self.entries and entry.index != self.entries[-1].index + 1:
            raise ValueError(f"entry {entry.index} after {self.entries[-1].index}")
        if not self.entries and entry.index <= self.marker.index:
            raise ValueError(f"entry {entry.index} at or before the marker {self.marker.index}")
        self.entries.append(entry)

    def _truncate(self, first: int) -> None:
        if self.entries and first <= self.entries[-1].index:
            del self.entries[max(0, first - self.entries[0].index) :]

    def _take_marker(self, marker: Marker) -> None:
        old = self.marker
        if old is not None and marker.index < old.index:
            raise ValueError(f"marker {marker.index} after {old.index}")
        self.marker = marker
        if not self.entries or (old is not None and marker.index == old.index):
            return
        position = marker.index - self.entries[0].index
        if position < 0:
            return  # within the gap before the first entry
        if position < len(self.entries) and self.entries[position].term == marker.term:
            del self.entries[: position + 1]
        else:
            self.entries.clear()

    def finish(self) -> Recovered:
        if self.marker is None:
            raise ValueError("no marker")
        if self.entries and self.entries[0].index != self.marker.index + 1:
            raise ValueError(f"entries from {self.marker.index + 1} on are missing")
        return Recovered(self.hard_state, self.marker, tuple(self.entries))


class Journal:
    def __init__(
        self,
        disk: JournalDisk,
        member: int,
        *,
        segment_bytes_max: int = JOURNAL_SEGMENT_BYTES_MAX,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._disk = disk
        self._member = member
        self.archive = JournalArchive(disk)
        self.kept_index = sys.maxsize  # segments with entries behind it stay, marker or not
        self._syncs = _SYNCS.child(str(member))
        self._segment_bytes_max = segment_bytes_max
        self._random_bytes = random_bytes
        self._segments: list[_Segment] = []
        self._header = JournalHeader(member, 0, 0, b"")
        self._file: AppendFile | None = None
        self._size_bytes = 0
        self._hard_state = HardState()
        self._marker = Marker(0, 0, Configuration(()))

    # --- start --------------------------------------------------------------------------------

    def load(self) -> Recovered | None:
        """What the journal holds; None if there is no journal yet (then `create` it)."""
        names = self._disk.list()
        for name in names:
            if name.endswith(_TEMPORARY):
                self._disk.unlink(name)
        names = [name for name in names if name.endswith(_SUFFIX)]
        if not names:
            return None
        replay = _Replay()
        for name in names:
            self._load_segment(name, replay, is_last=name == names[-1])
        try:
            recovered = replay.finish()
        except ValueError as error:
            raise self._damaged(names[0], 0, str(error)) from error
        self._hard_state, self._marker = recovered.hard_state, recovered.marker
        self._file = self._disk.open(names[-1])
        self.archive.begun(names[-1], self._header)
        # It may be what a process that was killed had not synced yet; from now on it is spoken of.
        self._file.sync()
        self._disk.sync_directory()
        return recovered

    def _load_segment(self, name: str, replay: _Replay, *, is_last: bool) -> None:
        data = self._disk.read(name)
        try:
            header = unpack_header(data, self._disk.describe(name))
        except UnsupportedFormat as error:
            raise OtherVersion(str(error)) from error
        except FormatError as error:
            raise self._damaged(name, 0, str(error)) from error
        self._check_header(name, header)
        segment = _Segment(header.number, 0, header.base)
        offset = HEADER_BYTES
        while offset < len(data):
            payload = frame_at(header, data, offset)
            if payload is None:
                self._cut(name, header, data, offset=offset, is_last=is_last)
                break
            try:
                for record in unpack_records(payload):
                    replay.take(record)
                    segment.last_index = max(segment.last_index, _index_of(record))
            except (FormatError, ValueError) as error:
                raise self._damaged(name, offset, str(error)) from error
            offset += FRAME_BYTES + len(payload)
        self._segments.append(segment)
        self._header, self._size_bytes = header, offset

    def _check_header(self, name: str, header: JournalHeader) -> None:
        if header.member != self._member:
            raise StartupError(
                f"{self._disk.describe(name)}: this is the journal of database member "
                f"{header.member}, not of member {self._member}; start the member whose data it "
                "is, or give this one a directory of its own"
            )
        wanted = self._header
        if name != _name(header.number):
            raise self._damaged(name, 16, f"segment number {header.number} in this file")
        if self._segments and (header.number, header.base) != (
            wanted.number + 1,
            wanted.base + self._size_bytes,
        ):
            raise self._damaged(name, 16, f"it does not follow segment {wanted.number}")

    def _cut(
        self, name: str, header: JournalHeader, data: bytes, *, offset: int, is_last: bool
    ) -> None:
        """The frame at `offset` is bad: cut it off if it is a torn tail, else refuse."""
        if is_last and offset > HEADER_BYTES and not data[offset:].strip(b"\0"):
            self._disk.cut(name, offset)
            return
        good = next_good_frame(header, data, offset)
        if not is_last or good is not None or offset == HEADER_BYTES:
            where = f"; good data follows at byte {good}" if good is not None else ""
            raise self._damaged(name, offset, f"a frame that was synced is bad{where}")
        self._disk.cut(name, offset)
        logger.warning(
            "journal: a torn last frame was cut off",
            extra={
                "file": self._disk.describe(name),
                "offset_bytes": offset,
                "cut_bytes": len(data) - offset,
            },
        )

    def _damaged(self, name: str, offset: int, what: str) -> StartupError:
        where = f"{self._disk.describe(name)}, byte {offset}"
        return StartupError(f"{where}: the journal is damaged: {what}. {_MEND}")

    def create(self, marker: Marker) -> Recovered:
        """A new journal, which begins after `marker`."""
        assert not self._segments
        self._marker = marker
        self._begin_segment()
        return Recovered(self._hard_state, marker)

    # --- writing ------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> None:
        """Write one frame; nothing of it counts before `sync`."""
        if self._is_full:
            self._begin_segment()
        assert self._file is not None
        self._file.append(self._frame(records))

    def stage(self, records: Sequence[Record]) -> tuple[int, bytes, int] | None:
        """One frame to be written and synced: descriptor, bytes, offset; then call `synced`.

        None: there is more to do (segments come or go); `append` and `sync` do it.
        """
        file = self._file
        releases_nothing = len(self._segments) == 1 or not any(
            isinstance(record, Marker) for record in records
        )
        if self._is_full or not releases_nothing or not isinstance(file, OsAppendFile):
            return None
        return file.place(self._frame(records))

    @property
    def _is_full(self) -> bool:
        return self._size_bytes >= self._segment_bytes_max

    def _frame(self, records: Sequence[Record]) -> bytes:
        """The bytes that come next in the file, which the caller appends."""
        frame = pack_frame(self._header, self._size_bytes, records)
        self.archive.appended(records, self._size_bytes)
        self._size_bytes += len(frame)
        segment = self._segments[-1]
        for record in records:
            segment.last_index = max(segment.last_index, _index_of(record))
            if isinstance(record, HardState):
                self._hard_state = record
            elif isinstance(record, Marker):
                self._marker = record
        return frame

    def synced(self, seconds: float) -> None:
        """What was staged is durable."""
        self._syncs.observe(seconds)

    def sync(self) -> None:
        assert self._file is not None
        begun_s = time.perf_counter()
        self._file.sync()
        self.synced(time.perf_counter() - begun_s)
        self._release()

    def _release(self) -> None:
        """Unlink segments whose entries all lie behind the marker, which is synced, unless somebody
        needs them.

        One at a time, so that no order of the disk's leaves a gap between segments.
        """
        needed = min(self._marker.index, self.kept_index)
        while len(self._segments) > 1 and self._segments[0].last_index <= needed:
            gone = self._segments.pop(0).name
            self.archive.unlinked(gone)
            self._disk.unlink(gone)
            self._disk.sync_directory()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def size_bytes(self) -> int:
        return self._header.base + self._size_bytes - self._segments[0].base

    def _begin_segment(self) -> None:
        """The segments before are synced: every append is, before the next."""
        old = self._header
        number = old.number + 1
        header = JournalHeader(
            self._member, number, old.base + self._size_bytes, self._random_bytes(8)
        )
        segment = _Segment(number, self._marker.index, header.base)
        first = pack_frame(header, HEADER_BYTES, [self._hard_state, self._marker])
        if self._file is not None:
            self._file.finish()
        temporary = segment.name + _TEMPORARY
        self._file = self._disk.create(temporary)
        self._file.append(header.pack() + first)
        self._file.sync()
        self._disk.rename(temporary, segment.name)
        self._disk.sync_directory()
        self._segments.append(segment)
        self.archive.begun(segment.name, header)
        self._header, self._size_bytes = header, HEADER_BYTES + len(first)


def _index_of(record: Record) -> int:
    return record.index if isinstance(record, Entry | Marker) else 0

"""What the records of a segment mean, where some of them are bad.

`read_records` goes through a segment without a seal, or with a damaged one. The newest segment
may end in writes that were never synced, whole, torn, or in part. So there:

- every payload is verified;
- a bad record with nothing good after it is a torn tail, to be cut off at `SegmentReading.end`;
- a bad record with good ones after it is stepped over and reported;
- a seal counts only if footers list all changes before it: the last footer may be torn;
- a shard is taken in if its commit and all its blocks are whole. If they are not, and the bad
  ones had been synced (`synced`, see _fast/frame.pyx), this is damage to a shard that may have
  been acknowledged: it is taken in, reads of the bad blocks fail, and repair has the rest.
  Otherwise it was torn before it was acknowledged: it is in `SegmentReading.dropped`. A
  shard that was moved or mended by that commit goes on as it was before.

Every other segment was synced before the next one was made: what is bad there is damage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from predastore._fast import frame
from predastore.base.limits import NODE_DAMAGE_REPORTS_MAX
from predastore.node.scanning import Gap, walk
from predastore.node.segment import Change, SegmentHeader, read_record
from predastore.node.shard import Location, check_entry, encode_entry, locations

logger = logging.getLogger(__name__)

_ALL_SYNCED = 1 << 63


@dataclass
class RecoveryReport:
    """What a start found. `damaged`: places that are bad though they had been synced."""

    rebuilt: bool = False
    segments_read: int = 0
    changes: int = 0
    damaged: int = 0
    torn_bytes: int = 0
    dropped_shards: int = 0

    def damage(self, segment: int, offset: int, what: str) -> None:
        self.damaged += 1
        if self.damaged <= NODE_DAMAGE_REPORTS_MAX:
            logger.error(
                "segment is damaged", extra={"segment": segment, "offset": offset, "what": what}
            )


@dataclass
class SegmentReading:
    """How a segment ends. `synced`: what its records say of that. `unlisted`: changes that no
    footer record lists yet. `dropped`: keys of shards whose last commit does not count; what was
    before it has to be said again. `bad`: blocks of shards that were taken in."""

    end: int
    last_footer: int
    synced: int = 0
    sealed: bool = False
    unlisted: list[Change] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)
    bad: list[tuple[bytes, int, Location]] = field(default_factory=list)


class _Judge:
    """Takes the records of one segment in order, then `finish`."""

    def __init__(
        self, descriptor: int, header: SegmentHeader, reading: SegmentReading, *, newest: bool
    ) -> None:
        self._descriptor = descriptor
        self._header = header
        self._reading = reading
        self._newest = newest
        self._synced = reading.end if newest else _ALL_SYNCED
        self._bad: list[tuple[int, int]] = []
        # Changes of shards with bad records, in order, and where the last bad record ends.
        self._suspects: dict[bytes, list[tuple[Change, int]]] = {}
        # Blocks that are whole shards, bad, with nothing good after them so far.
        self._trailing: list[tuple[Change, int]] = []

    def bad(self, start: int, end: int) -> None:
        self._bad.append((start, end))

    def record(self, record: frame.Record) -> Change | None:
        """The change that a record makes, if that is certain by now."""
        after = record.offset + frame.record_bytes(record.length)
        if not record.sound:
            self.bad(record.offset, after)
            if record.kind == frame.BLOCK and record.flags & frame.SOLE:
                self._trailing.append((self._sole(record), after))
            return None
        if record.kind == frame.SEAL and self._newest and self._reading.unlisted:
            self.bad(record.offset, after)
            return None
        self._synced = max(self._synced, record.synced_bytes)
        self._good(after, sealed=record.kind == frame.SEAL)
        if record.kind == frame.FOOTER:
            self._reading.last_footer = record.offset
            self._reading.unlisted.clear()
        elif record.kind == frame.TOMBSTONE:
            return self._change(Change(_key_of(record), None))
        elif record.kind == frame.COMMIT:
            return self._commit(record, after)
        elif record.flags & frame.SOLE:
            return self._change(self._sole(record))
        return None

    def _good(self, end: int, *, sealed: bool) -> None:
        self._reading.end = end
        self._reading.sealed = sealed
        for change, bad_end in self._trailing:
            self._suspect(change, bad_end)
        self._trailing.clear()

    def _suspect(self, change: Change, bad_end: int) -> None:
        self._reading.unlisted.append(change)
        self._suspects.setdefault(change.key, []).append((change, bad_end))

    def _change(self, change: Change) -> Change:
        self._reading.unlisted.append(change)
        self._suspects.pop(change.key, None)
        return change

    def _sole(self, record: frame.Record) -> Change:
        place = Location(record.offset, self._header.number, record.length, record.payload_crc)
        return Change(_key_of(record), encode_entry(0, [place]))

    def _commit(self, record: frame.Record, after: int) -> Change | None:
        whole = read_record(self._descriptor, record.offset, self._header.tag)
        if whole is None or not check_entry(whole[1]):
            self.bad(record.offset, after)
            return None
        change = Change(_key_of(record), whole[1])
        bad_end = self._bad_end(whole[1]) if self._bad else 0
        if bad_end:
            self._suspect(change, bad_end)
            return None
        return self._change(change)

    def _bad_end(self, entry: bytes) -> int:
        """Where the last bad block of a shard ends, in this segment; 0 if there is none."""
        return max((_end(place) for _, place in self._bad_blocks(entry)), default=0)

    def _bad_blocks(self, entry: bytes) -> Iterator[tuple[int, Location]]:
        for stripe, place in enumerate(locations(entry)):
            if place.segment == self._header.number and any(
                start < _end(place) and place.offset < stop for start, stop in self._bad
            ):
                yield stripe, place

    def finish(self, report: RecoveryReport) -> list[Change]:
        """The changes of suspects that are to be taken in."""
        for start, end in self._bad:
            if end <= self._synced:
                report.damage(self._header.number, start, f"{end - start} bytes are no record")
            else:
                report.torn_bytes += end - start
        taken = []
        for key, suspects in self._suspects.items():
            whole = [change for change, bad_end in suspects if bad_end <= self._synced]
            taken += whole
            if whole and whole[-1].entry is not None:
                found = self._bad_blocks(whole[-1].entry)
                self._reading.bad += [(key, stripe, place) for stripe, place in found]
            if suspects[-1][1] > self._synced:
                self._reading.dropped.append(key)
        report.dropped_shards += len(self._reading.dropped)
        self._reading.synced = self._synced
        return taken


def _end(place: Location) -> int:
    return place.offset + frame.record_bytes(place.length)


def _key_of(record: frame.Record) -> bytes:
    return record.object_hash + record.write_id + record.shard_index.to_bytes(2, "big")


def read_records(
    descriptor: int,
    size: int,
    header: SegmentHeader,
    start: SegmentReading,
    *,
    newest: bool,
    take: Callable[[Change], None],
    report: RecoveryReport,
) -> SegmentReading:
    """Calls `take` for each change beyond `start`, an earlier end of this segment. Returns how the
    segment ends now. UnsupportedFormat for a record of a newer version; OSError."""
    judge = _Judge(descriptor, header, start, newest=newest)
    for item in walk(descriptor, start.end, size, header.tag, payloads=newest):
        if isinstance(item, Gap):
            if not item.empty:
                judge.bad(item.start, item.end)
            continue
        change = judge.record(item)
        if change is not None:
            take(change)
    for change in judge.finish(report):
        take(change)
    return start

"""Starting a store: what the segments say beyond the index, and where the log goes on.

From the index's checkpoint, or from the first segment if the index is new or does not fit the
segments: a sealed segment is read by its footer, any other record by record (judging.py). Only
the newest can be unsealed, but for damage. A torn tail is cut off; shards that were torn before
they were acknowledged get a tombstone, so that they do not come back when the index is built
again. Everything that is taken in is synced before, and so before the index may say it.

Taking in the same changes twice comes to the same, so the index may be written at any time with
an older checkpoint; memory stays bounded however much there is to read.

An index may be older than the segments that it names: on a full disk they are unlinked before it
is written. Then it can not tell what records of shards that it does not have stand against: it was
in segments that are gone. So each of these stands against all older segments, until they are gone
or it is rewritten.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from predastore.base.errors import (
    CorruptData,
    FormatError,
    NodeFull,
    NoRoom,
    OtherVersion,
    StartupError,
    UnsupportedFormat,
)
from predastore.node.appender import Appender
from predastore.node.disk import StoreDisk
from predastore.node.identity import INDEX, SEGMENTS, NodeIdentity, renewed
from predastore.node.index import Index, IndexCheckpoint, discard_index, open_index
from predastore.node.judging import RecoveryReport, SegmentReading, read_records
from predastore.node.scanning import find_tag
from predastore.node.segment import (
    HEADER_BYTES,
    Change,
    SegmentHeader,
    footer_changes,
    read_footers,
    read_header,
    segment_numbers,
    segment_path,
)
from predastore.node.shard import as_committed, locations

logger = logging.getLogger(__name__)


def recover(
    path: Path,
    identity: NodeIdentity,
    disk: StoreDisk,
    appender: Appender,
    *,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> tuple[Index, RecoveryReport]:
    """The index, complete, and the appender ready to append. Where the index was built anew, its
    store id is another one. `progress`: called with the number of segments read so far, and of all
    that are to be read. StartupError if the segments are another node's or of a newer version, or
    there is no room for what has to be written."""
    report = RecoveryReport()
    folder = path / SEGMENTS
    if not folder.exists():
        folder.mkdir()
        disk.sync_folder(path)
    numbers = segment_numbers(folder)
    index = _fitting_index(path, folder, numbers, identity, report)
    try:
        recovery = _Recovery(folder, identity, disk, appender=appender, index=index, report=report)
        recovery.run(numbers, progress)
    except UnsupportedFormat as error:
        index.close()
        raise OtherVersion(f"{folder}: {error}; run the version that wrote it") from error
    except NodeFull as error:
        index.close()
        raise NoRoom(f"{folder}: {error}; free some space and start again") from error
    except BaseException:
        index.close()
        raise
    return index, report


def _fitting_index(
    path: Path, folder: Path, numbers: list[int], identity: NodeIdentity, report: RecoveryReport
) -> Index:
    try:
        index = open_index(path / INDEX, identity.store_id)
    except FormatError as error:
        logger.warning("index is built again", extra={"reason": str(error)})
        report.rebuilt = True
    else:
        if _fits(index, folder, numbers):
            return index
        index.close()
        report.rebuilt = bool(numbers) or index.checkpoint is not None
        if report.rebuilt:
            reason = "there was none" if index.checkpoint is None else "it does not fit"
            logger.warning("index is built again", extra={"reason": reason})
    discard_index(path / INDEX)
    return open_index(path / INDEX, renewed(path, identity).store_id)


def _fits(index: Index, folder: Path, numbers: Iterable[int]) -> bool:
    """Whether the segments that an index refers to are there."""
    here = set(numbers)
    checkpoint = index.checkpoint
    if checkpoint is None or checkpoint.segment not in here:
        return False
    if segment_path(folder, checkpoint.segment).stat().st_size < checkpoint.offset:
        return False
    # Lost blocks can be noted; what a lost commit said can not be known.
    return all(number in here for number, use in index.usage.segments.items() if use.live_commits)


class _Recovery:
    def __init__(
        self,
        folder: Path,
        identity: NodeIdentity,
        disk: StoreDisk,
        *,
        appender: Appender,
        index: Index,
        report: RecoveryReport,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._disk = disk
        self._appender = appender
        self._index = index
        self._report = report
        self._checkpoint = index.checkpoint or IndexCheckpoint(0, HEADER_BYTES, 0)
        self._is_behind = False  # the index names segments that are gone
        self._aside: set[int] = set()  # segments with nothing good in them, which are no more

    def run(self, numbers: list[int], progress: Callable[[int, int], None]) -> None:
        usage = self._index.usage
        for gone in usage.segments.keys() - set(numbers):
            self._is_behind = True
            if not usage.segments[gone].live:
                usage.forget(gone)
        dropped: list[bytes] = []
        for number in numbers:
            usage.segment(number)
        to_read = [number for number in numbers if number >= self._checkpoint.segment]
        for done, number in enumerate(to_read):
            progress(done, len(to_read))
            dropped = self._read(number, newest=number == numbers[-1])
        progress(len(to_read), len(to_read))
        if not self._appender.number:
            self._appender.begin(max(numbers, default=0) + 1)
            usage.segment(self._appender.number)
        self._revoke(dropped)
        here = {*numbers, self._appender.number} - self._aside
        self._note_lost(usage.segments.keys() - here)
        self._write_index()

    def _note_lost(self, gone: set[int]) -> None:
        """Blocks of live shards in segments that are gone are bad."""
        usage = self._index.usage
        lost = {number for number in gone if usage.segments[number].live}
        for number in gone - lost:
            usage.forget(number)
        if not lost:
            return
        logger.error("segments are lost", extra={"segments": sorted(lost)})
        for key, entry in self._index.entries():
            for stripe, place in enumerate(locations(entry)):
                if place.segment in lost:
                    self._index.mark_bad(key, stripe, place)

    def _read(self, number: int, *, newest: bool) -> list[bytes]:
        """Takes in one segment; the keys of shards that need a tombstone, none but in the newest,
        which is not sealed then."""
        path = segment_path(self._folder, number)
        descriptor = self._disk.open(path)
        kept = False
        try:
            size = os.fstat(descriptor).st_size
            header = self._header(descriptor, number, size, newest=newest)
            if header is None:
                self._set_aside(path, size, newest=newest)
                return []
            self._report.segments_read += 1
            if newest:
                self._disk.sync(descriptor)  # after a crash of the process alone, it may not be
            start = self._start(number)
            footers = read_footers(descriptor, size, header.tag, after=start.last_footer)
            if footers is not None:
                for payload in footers:
                    for change in footer_changes(payload):
                        self._take(change, number)
                return []
            reading = read_records(
                descriptor, size, header, start, newest=newest,
                take=lambda change: self._take(change, number), report=self._report,
            )  # fmt: skip
            if newest:
                self._cut(descriptor, reading.end)
                if not reading.sealed:
                    self._appender.resume(
                        descriptor, header, reading.end, synced=reading.synced,
                        last_footer=reading.last_footer, changes=reading.unlisted,
                    )  # fmt: skip
                    kept = True
            else:
                self._report.damage(number, size, "no footer")
            for key, stripe, place in reading.bad:
                self._index.mark_bad(key, stripe, place)
            return reading.dropped
        finally:
            if not kept:
                os.close(descriptor)

    def _start(self, number: int) -> SegmentReading:
        if number == self._checkpoint.segment:
            return SegmentReading(self._checkpoint.offset, self._checkpoint.last_footer)
        self._checkpoint = IndexCheckpoint(number, HEADER_BYTES, 0)
        return SegmentReading(HEADER_BYTES, 0)

    def _header(
        self, descriptor: int, number: int, size: int, *, newest: bool
    ) -> SegmentHeader | None:
        cluster_id = bytes.fromhex(self._identity.cluster_id)
        try:
            header = read_header(descriptor)
        except CorruptData:
            tag = find_tag(descriptor, size)
            if tag is None:
                return None
            self._report.damage(number, 0, "segment header")
            header = SegmentHeader(self._identity.node_id, number, tag, 0, cluster_id)
            if newest:
                self._disk.write(descriptor, [header.pack()], 0)
            return header
        if (header.node_id, header.cluster_id) != (self._identity.node_id, cluster_id):
            raise StartupError(
                f"{segment_path(self._folder, number)} belongs to node {header.node_id} of cluster "
                f"{header.cluster_id.hex()}; move it back to where it came from"
            )
        return header

    def _set_aside(self, path: Path, size: int, *, newest: bool) -> None:
        """A segment without anything good in it: a creation that was cut short, or damage."""
        if newest and size <= HEADER_BYTES:
            self._disk.unlink(path)
        else:
            self._report.damage(int(path.stem), 0, "no good record; renamed to .damaged")
            self._disk.rename(path, path.with_suffix(".damaged"))
        self._disk.sync_folder(self._folder)
        self._aside.add(int(path.stem))

    def _cut(self, descriptor: int, end: int) -> None:
        """The tail ends here, durably."""
        self._disk.truncate(descriptor, end)
        self._disk.sync(descriptor)

    def _take(self, change: Change, number: int) -> None:
        self._report.changes += 1
        if self._is_behind and self._index.get(change.key) is None:
            for older in [one for one in self._index.usage.segments if one < number]:
                self._index.usage.supersede(number, older)
        self._index.apply(change, number)
        if self._index.layer_load >= 1:
            self._index.write_frozen(self._index.freeze(self._checkpoint))

    def _revoke(self, dropped: list[bytes]) -> None:
        """Tombstones, or the commits from before, in the segment of what they revoke, even if it
        becomes larger than segments are to be: whatever a power cut leaves of them, that segment
        is judged again, until all are durable, which `_write_index` sees to. Until then no record
        says that what was torn is synced."""
        number = self._appender.number
        for key in dropped:
            before = self._index.get(key)
            change = Change(key, None if before is None else as_committed(before))
            if change.entry is None:
                self._appender.tombstone(key)
            else:
                self._appender.commit(key, change.entry)
            self._appender.list_change(change)
            self._appender.flush()
            self._index.apply(change, number)

    def _write_index(self) -> None:
        """A checkpoint at the end of the log, so that the next start has nothing to read again."""
        try:
            self._appender.footer()
            self._appender.flush()
        except NodeFull:
            return  # the index stays in memory; reads work
        self._appender.sync()
        place = IndexCheckpoint(
            self._appender.number, self._appender.end, self._appender.last_footer
        )
        if place != self._index.checkpoint or self._index.unsaid:
            self._index.write_frozen(self._index.freeze(place))

"""Reading everything back, so that damage is found while there are other shards to mend it from.

Within each period all segments are read once, in order, from the disk and not from memory, and the
CRC of every record is checked. Blocks of live shards that are bad are noted (badblocks.py): repair
replaces them. Segments with damage to what a rebuild of the index would need (headers, commits,
footers) are noted too: compaction writes anew what is in them.

How far it has come is kept in the index, with what was found so far, so that a restart goes on
from there. What was written after a round began is read in the next one. Where as much as can be
remembered is bad, the scrub waits until some of it has been mended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData
from predastore.base.limits import (
    NODE_PAGE_SHARDS_MAX,
    NODE_SCRUB_ASKED_BYTES_S,
    NODE_SCRUB_BYTES_S_MIN,
    NODE_SCRUB_DAMAGED_MAX,
    NODE_SCRUB_RANGES_MAX,
    NODE_SCRUB_STEP_BYTES,
    NODE_SCRUB_TIME_SHARE,
)
from predastore.node import moving
from predastore.node.index import Index
from predastore.node.log import SegmentState
from predastore.node.messages import ScrubStatus
from predastore.node.pace import Pace
from predastore.node.scanning import find_tag, stretches
from predastore.node.segment import (
    HEADER_BYTES,
    SEAL_RECORD_BYTES,
    read_header,
    read_record,
    segment_path,
)
from predastore.node.shard import Location, location, locations
from predastore.node.threads import Threads
from predastore.node.writer import Writer

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ScrubReading:
    """One segment being checked; its methods run in threads. `ranges`: where no good record is;
    `structure`: whether a rebuild of the index would miss something."""

    def __init__(self, path: Path, number: int, index: Index, end: int | None) -> None:
        self._number = number
        self._index = index
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._sealed = end is None
        self.size = os.fstat(self._descriptor).st_size if end is None else end
        self.ranges: list[tuple[int, int]] = []
        self.structure = False
        self.found = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def steps(self, start: int) -> Iterator[int]:
        """Checks stretch after stretch from offset `start` on; yields how far it has come."""
        tag = self._tag()
        if tag is None:
            self._bad_range(HEADER_BYTES, self.size)
            return
        self._forget_pages(start)
        for stretch in stretches(
            self._descriptor, max(start, HEADER_BYTES), self.size, tag,
            payloads=True, window_bytes=NODE_SCRUB_STEP_BYTES,
        ):  # fmt: skip
            end = stretch.base
            for record in stretch.records:
                end = record.offset + frame.record_bytes(record.length)
                if not record.sound:
                    self._unsound(record)
            if stretch.gap is not None:
                end = stretch.gap.end
                if self._sealed or not stretch.gap.empty:
                    self._bad_range(stretch.gap.start, end)
            self._forget_pages(end)
            yield end
        if (
            self._sealed
            and read_record(self._descriptor, self.size - SEAL_RECORD_BYTES, tag) is None
        ):
            self.structure = True

    def _tag(self) -> int | None:
        try:
            return read_header(self._descriptor).tag
        except CorruptData:
            self.structure = True
            return find_tag(self._descriptor, self.size)

    def _forget_pages(self, at: int) -> None:
        """What is read next comes from the disk: memory is not what is to be checked."""
        os.posix_fadvise(self._descriptor, at, 2 * NODE_SCRUB_STEP_BYTES, os.POSIX_FADV_DONTNEED)

    def _bad_range(self, start: int, end: int) -> None:
        self.structure = True
        if len(self.ranges) >= NODE_SCRUB_RANGES_MAX:
            start = self.ranges[0][0]  # one range from the first place to the last
            self.ranges.clear()
        self.ranges.append((start, end))

    def _unsound(self, record: frame.Record) -> None:
        if record.kind != frame.BLOCK:
            self.structure = True
            return
        key = record.object_hash + record.write_id + record.shard_index.to_bytes(2, "big")
        entry = self._index.get(key)
        place = location(entry, record.stripe) if entry else None
        if place and (place.segment, place.offset) == (self._number, record.offset):
            self.found += self._index.mark_bad(key, record.stripe, place)

    def good(self, place: Location) -> bool:
        """Whether a block of this segment can be read as it should be."""
        if not any(start <= place.offset < end for start, end in self.ranges):
            return True
        block = os.pread(self._descriptor, place.length, place.payload_offset)
        return len(block) == place.length and crc32c(block) == place.crc


def _look_up(
    index: Index, number: int, after: bytes, good: Callable[[Location], bool]
) -> tuple[bytes | None, int]:
    """Marks live blocks of a segment that are bad, of a page of the index. The key to go on after,
    and how many were not known."""
    rows = index.page(after, NODE_PAGE_SHARDS_MAX)
    found = 0
    for key, entry in rows:
        for stripe, place in enumerate(locations(entry)):
            if place.segment == number and not good(place):
                found += index.mark_bad(key, stripe, place)
    return (rows[-1][0] if rows else None), found


class Scrubber:
    """For one event loop."""

    def __init__(
        self,
        folder: Path,
        writer: Writer,
        index: Index,
        *,
        pace: Pace,
        threads: Threads,
        period_s: float,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._writer = writer
        self._index = index
        self._pace = pace
        self._threads = threads
        self._period_s = period_s
        self._now_s = now_s
        self._asked = False
        self._restarted = False
        self._total_bytes = self._done_bytes = 0

    def ask(self) -> None:
        """A round begins at once, from the first segment on, and is quick about it."""
        self._asked = self._restarted = True
        self._begin()

    def status(self) -> ScrubStatus:
        state = self._index.scrub
        share = self._done_bytes / self._total_bytes if self._total_bytes else 0.0
        return ScrubStatus(
            state.running,
            min(share, 1.0) if state.running else 1.0,
            state.started_ms,
            state.finished_ms,
            state.found,
            len(state.damaged),
        )

    async def step(self) -> bool:
        """Carries a round to its end, if one is due or has begun. StoreFailed."""
        if not self._index.scrub.running:
            next_ms = self._index.scrub.started_ms + self._period_s * 1000
            if self._now_ms() < next_ms:
                return False
            self._begin()
        while True:
            self._restarted = False
            await self._round()
            if not self._restarted:
                return True

    def _now_ms(self) -> int:
        return int(self._now_s() * 1000)

    def _begin(self) -> None:
        self._update(
            segment=0, offset=0, started_ms=self._now_ms(), running=True, found=0, damaged=[]
        )

    def _update(self, **fields: object) -> None:
        self._index.scrub = msgspec.structs.replace(self._index.scrub, **fields)

    async def _round(self) -> None:
        survey = moving.Survey(asyncio.get_running_loop().create_future())
        await self._writer.run(survey)
        sizes = await self._threads.run(self._sizes, survey.found)
        self._total_bytes, self._done_bytes = sum(sizes.values()), 0
        for segment in survey.found:
            here = self._index.scrub
            if segment.number >= here.segment:
                await self._check(segment, here.offset if segment.number == here.segment else 0)
                if self._restarted:
                    return
                self._update(segment=segment.number + 1, offset=0)
            self._done_bytes += sizes.get(segment.number, 0)
        self._asked = False
        self._update(finished_ms=self._now_ms(), running=False)
        logger.info("scrub finished", extra={"bad_blocks": self._index.scrub.found})

    def _sizes(self, found: list[SegmentState]) -> dict[int, int]:
        sizes = {}
        for one in found:
            with suppress(FileNotFoundError):
                size = segment_path(self._folder, one.number).stat().st_size
                sizes[one.number] = one.end_bytes or size
        return sizes

    async def _check(self, segment: SegmentState, start: int) -> None:
        path, number = segment_path(self._folder, segment.number), segment.number
        try:
            reading = await self._threads.run(
                ScrubReading, path, number, self._index, segment.end_bytes
            )
        except FileNotFoundError:
            use = self._index.usage.segments.get(number)
            if use is not None and use.live:  # else it was unlinked since it was listed
                await self._look_up(number, lambda _: False)
            return
        base = self._done_bytes
        try:
            steps = reading.steps(start)
            while not self._restarted:
                end = await self._work(lambda: next(steps, None))
                if self._restarted or end is None:
                    break
                self._done_bytes = base + end
                self._note(number, reading)
                if not reading.ranges:  # they are looked up at the end; until then, from here again
                    self._update(segment=number, offset=end)
            if reading.ranges:
                await self._look_up(number, reading.good)
            self._note(number, reading)
        except asyncio.CancelledError:
            await self._threads.finish()  # one of them may be reading
            raise
        finally:
            self._done_bytes = base
            reading.close()

    async def _look_up(self, number: int, good: Callable[[Location], bool]) -> None:
        after: bytes | None = b""
        while after is not None and not self._restarted:
            page = partial(_look_up, self._index, number, after, good)
            after, found = await self._work(page)
            self._update(found=self._index.scrub.found + found)

    async def _work(self, work: Callable[[], T]) -> T:
        """One step in a thread, and the rest after it."""
        while self._index.bad.full and not self._restarted:
            await self._pace.rest(0.0, 1.0, 1.0)
        began_s = time.monotonic()
        result = await self._threads.run(work)
        worked_s = time.monotonic() - began_s
        usual = max(NODE_SCRUB_BYTES_S_MIN, 2 * self._total_bytes / self._period_s)
        rate = max(usual, NODE_SCRUB_ASKED_BYTES_S) if self._asked else usual
        await self._pace.rest(worked_s, NODE_SCRUB_TIME_SHARE, NODE_SCRUB_STEP_BYTES / rate)
        return result

    def _note(self, number: int, reading: ScrubReading) -> None:
        """What a segment has turned out to be like so far."""
        if self._restarted:
            return
        found, reading.found = reading.found, 0
        damaged = self._index.scrub.damaged
        if reading.structure and number not in damaged and len(damaged) < NODE_SCRUB_DAMAGED_MAX:
            logger.error("segment is damaged", extra={"segment": number})
            damaged = [*damaged, number]
        if found or damaged is not self._index.scrub.damaged:
            self._update(found=self._index.scrub.found + found, damaged=damaged)

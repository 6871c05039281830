"""Space of deleted and replaced shards comes back.

Segments are only appended to, so what was deleted leaves holes. Where these are more than a share
of what is needed, the segment with the least in it is read through once; what is live in it is
written anew at the end of the log (moving.py), and the segment is unlinked. In each step, what
shards point at is durable before they point at it, and the old copy goes last: a process that ends
anywhere leaves both, and the next compaction has one less to move.

Tombstones are written anew while a commit that they revoke may stand in an older segment. Should
so many gather that they are a burden, the oldest such segment is rewritten, however full it is.

Live blocks that are bad stay where they are, and with them their segment, until they are replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    NODE_COMPACT_DEAD_SHARE,
    NODE_COMPACT_FULL_SHARE,
    NODE_COMPACT_KEYS_MAX,
    NODE_COMPACT_PENDING_BYTES,
    NODE_COMPACT_SLACK_BYTES_MAX,
    NODE_COMPACT_SLACK_PART,
    NODE_COMPACT_STEP_BYTES,
    NODE_COMPACT_TIME_SHARE,
    NODE_COMPACT_TOMBSTONE_SHARE,
)
from predastore.node import moving
from predastore.node.disk import StoreDisk
from predastore.node.index import Index
from predastore.node.log import SegmentState
from predastore.node.moving import Block
from predastore.node.pace import Pace
from predastore.node.scanning import find_tag, stretches
from predastore.node.segment import (
    HEADER_BYTES,
    footer_changes,
    read_footers,
    read_header,
    segment_path,
)
from predastore.node.shard import counts, entry_bytes, location, locations
from predastore.node.threads import Threads
from predastore.node.writer import Writer

logger = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """A segment, its size on disk, and what of that is needed."""

    state: SegmentState
    size_bytes: int

    @property
    def needed_bytes(self) -> int:
        state = self.state
        return state.needed_bytes + (state.tombstone_bytes if state.older else 0)

    @property
    def dead_bytes(self) -> int:
        return max(0, self.size_bytes - self.needed_bytes)


def choose(
    segments: Sequence[Candidate],
    *,
    slack_bytes: int,
    hungry: bool,
    stuck: Mapping[int, int],
    damaged: Collection[int],
) -> Candidate | None:
    """The segment to be rewritten, if it is worth it. `hungry`: the disk is nearly full. `stuck`:
    what was needed of segments that could not be emptied; they are left alone while it is.
    `damaged`: segments to be rewritten in any case."""
    needed = sum(one.needed_bytes for one in segments)
    dead = sum(one.dead_bytes for one in segments)
    free = [
        one
        for one in segments
        if not one.state.busy and stuck.get(one.state.number) != one.state.needed_bytes
    ]
    for one in free:
        if one.state.number in damaged:
            return one
    tombstones = sum(one.state.tombstone_bytes for one in segments if one.state.older)
    if tombstones > needed * NODE_COMPACT_TOMBSTONE_SHARE + slack_bytes:
        older = {number for one in segments for number in one.state.older}
        named = [one for one in free if one.state.number in older]
        if named:
            return named[0]
    bound = slack_bytes // 8 if hungry else needed * NODE_COMPACT_DEAD_SHARE + slack_bytes
    # Ending the segment that is written to is worth it only if most of what is dead is in it.
    free = [one for one in free if one.state.end_bytes is None or 2 * one.dead_bytes > dead]
    if dead <= bound or not free:
        return None
    best = min(free, key=lambda one: one.needed_bytes / max(1, one.size_bytes))
    worth = best.needed_bytes < best.size_bytes * NODE_COMPACT_FULL_SHARE
    return best if worth else None


class _Step(NamedTuple):
    """What a stretch of a segment holds. `touched`: shards to be committed anew, and how many
    blocks they have."""

    blocks: list[Block]
    touched: dict[bytes, int]
    tombstones: list[bytes]


class _Victim:
    """A segment being read; its methods run in threads."""

    def __init__(self, path: Path, number: int, index: Index, *, damaged: bool) -> None:
        self._number = number
        self._damaged = damaged
        self._index = index
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)

    def steps(self) -> Iterator[_Step]:
        try:
            tag: int | None = read_header(self._descriptor).tag
        except CorruptData:
            tag = find_tag(self._descriptor, self._size)
        if tag is None:
            return
        # Tombstones whose records are damaged are still in the footers.
        footers = read_footers(self._descriptor, self._size, tag) if self._damaged else None
        for payload in footers or ():
            yield _Step(
                [], {}, [change.key for change in footer_changes(payload) if change.entry is None]
            )
        for stretch in stretches(
            self._descriptor, HEADER_BYTES, self._size, tag,
            payloads=True, window_bytes=NODE_COMPACT_STEP_BYTES,
        ):  # fmt: skip
            step = _Step([], {}, [])
            data = memoryview(stretch.data)
            for record in stretch.records:
                at = record.offset - stretch.base + frame.HEADER_BYTES
                self._sort(record, data[at : at + record.length], step)
            yield step

    def _sort(self, record: frame.Record, payload: memoryview, step: _Step) -> None:
        key = record.object_hash + record.write_id + record.shard_index.to_bytes(2, "big")
        if record.kind == frame.TOMBSTONE:
            step.tombstones.append(key)
            return
        if record.kind not in (frame.BLOCK, frame.COMMIT):
            return
        entry = self._index.get(key)
        if entry is None:
            return
        if record.kind == frame.COMMIT:
            if counts(entry).commit_segment == self._number:
                step.touched[key] = counts(entry).block_count
            return
        place = location(entry, record.stripe)
        here = (self._number, record.offset, record.length, record.payload_crc)
        if place and record.sound and (place.segment, place.offset, *place[2:]) == here:
            step.blocks.append(Block(key, record.stripe, place, payload))
            step.touched[key] = counts(entry).block_count

    def left(self) -> Iterator[_Step]:
        """What `steps` did not find, because its records are damaged, though the index knows."""
        for key, entry in self._index.entries():
            step = _Step([], {}, [])
            if counts(entry).commit_segment == self._number:
                step.touched[key] = counts(entry).block_count
            for stripe, place in enumerate(locations(entry)):
                if place.segment != self._number:
                    continue
                payload = os.pread(self._descriptor, place.length, place.payload_offset)
                if len(payload) == place.length and crc32c(payload) == place.crc:
                    step.blocks.append(Block(key, stripe, place, memoryview(payload)))
                    step.touched[key] = counts(entry).block_count
                else:
                    self._index.mark_bad(key, stripe, place)
                if sum(block.place.length for block in step.blocks) >= NODE_COMPACT_STEP_BYTES:
                    yield step
                    step = _Step([], {}, [])
            if step.touched:
                yield step


@dataclass
class CompactionProgress:
    """Since the store was opened."""

    segments: int = 0
    moved_bytes: int = 0
    reclaimed_bytes: int = 0


@dataclass
class _Touched:
    """Shards whose blocks were copied, until they are committed anew. Those with large entries
    wait for the end of the segment, as each commit writes the whole entry."""

    small: set[bytes] = field(default_factory=set)
    large: set[bytes] = field(default_factory=set)
    copied_bytes: int = 0


class Compactor:
    """For one event loop."""

    def __init__(
        self,
        folder: Path,
        disk: StoreDisk,
        writer: Writer,
        index: Index,
        *,
        pace: Pace,
        threads: Threads,
        segment_bytes_max: int,
        reserve_bytes: int,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._writer = writer
        self._index = index
        self._pace = pace
        self._threads = threads
        self._slack_bytes = min(
            segment_bytes_max // NODE_COMPACT_SLACK_PART, NODE_COMPACT_SLACK_BYTES_MAX
        )
        self._hungry_below_bytes = 2 * reserve_bytes
        self._sizes: dict[int, int] = {}
        self._stuck: dict[int, int] = {}
        self._hungry = False
        self._share = NODE_COMPACT_TIME_SHARE
        self.progress = CompactionProgress()

    async def step(self) -> bool:
        """Rewrites one segment if that is due, and has those unlinked that nothing needs. False if
        there was none. NodeFull, StoreFailed: it could not."""
        segments = await self._survey()
        if any(_unneeded(one.state) for one in segments):
            await self._writer.run(moving.WriteIndex(_future()))
        segments = [one for one in segments if not _unneeded(one.state)]
        victim = choose(
            segments,
            slack_bytes=self._slack_bytes,
            hungry=self._hungry,
            stuck=self._stuck,
            damaged=self._index.scrub.damaged,
        )
        if victim is None:
            return False
        await self._rewrite(victim)
        return True

    async def _survey(self) -> list[Candidate]:
        survey = moving.Survey(_future())
        await self._writer.run(survey)
        free_bytes = await self._threads.run(self._measure, survey.found)
        self._hungry = free_bytes < self._hungry_below_bytes
        self._share = 1.0 if self._hungry else NODE_COMPACT_TIME_SHARE
        return [
            Candidate(one, self._sizes[one.number] if one.end_bytes is None else one.end_bytes)
            for one in survey.found
            if one.end_bytes is not None or one.number in self._sizes
        ]

    def _measure(self, found: Sequence[SegmentState]) -> int:
        """Sizes of sealed segments, which do not change; a segment that is lost has none."""
        for state in found:
            if state.end_bytes is None and state.number not in self._sizes:
                with suppress(FileNotFoundError):
                    size = segment_path(self._folder, state.number).stat().st_size
                    self._sizes[state.number] = size
        return self._disk.free_bytes(self._folder)

    def unlinked(self, numbers: Sequence[int]) -> None:
        """These segments are gone."""
        for number in numbers:
            self.progress.reclaimed_bytes += self._sizes.pop(number, 0)
            self._stuck.pop(number, None)
        scrub = self._index.scrub
        if not set(numbers).isdisjoint(scrub.damaged):
            left = [number for number in scrub.damaged if number not in numbers]
            self._index.scrub = msgspec.structs.replace(scrub, damaged=left)

    # --- one segment ----------------------------------------------------------------------

    async def _rewrite(self, victim: Candidate) -> None:
        number = victim.state.number
        if victim.state.end_bytes is not None:
            await self._writer.run(moving.Seal(_future(), number))
        path = segment_path(self._folder, number)
        try:
            source = await self._threads.run(
                _Victim, path, number, self._index, damaged=number in self._index.scrub.damaged
            )
        except FileNotFoundError:
            self._stuck[number] = victim.state.needed_bytes  # the last of it was just deleted
            return
        touched = _Touched()
        try:
            await self._carry_out(source.steps(), number, touched)
            if self._is_live(number):
                await self._carry_out(source.left(), number, touched)
        except asyncio.CancelledError:
            await self._threads.finish()  # one of them may be reading
            raise
        finally:
            source.close()
        if self._is_live(number):
            use = self._index.usage.segments[number]
            self._stuck[number] = use.live_bytes + use.commit_bytes
            logger.warning("segment has bad blocks and stays", extra={"segment": number})
            return
        await self._writer.run(moving.Retire(_future(), number))
        failpoint("node.compact.retired")
        self.progress.segments += 1

    def _is_live(self, number: int) -> bool:
        use = self._index.usage.segments.get(number)
        return use is not None and use.live

    async def _carry_out(self, steps: Iterator[_Step], number: int, touched: _Touched) -> None:
        while True:
            began_s = time.monotonic()
            step = await self._threads.run(next, steps, None)
            if step is None:
                break
            for at in range(0, len(step.tombstones), NODE_COMPACT_KEYS_MAX):
                keys = step.tombstones[at : at + NODE_COMPACT_KEYS_MAX]
                await self._writer.run(moving.Carry(_future(), number, keys))
                failpoint("node.compact.carried")
            if step.blocks:
                await self._writer.run(moving.Move(_future(), step.blocks))
                failpoint("node.compact.copied")
            self._touch(step, touched)
            if touched.copied_bytes >= NODE_COMPACT_PENDING_BYTES:
                await self._relocate(number, touched.small)
                touched.copied_bytes = 0
            if len(touched.large) >= NODE_COMPACT_KEYS_MAX:
                await self._relocate(number, touched.large)
            await self._pace.rest(time.monotonic() - began_s, self._share)
        await self._relocate(number, touched.small)
        await self._relocate(number, touched.large)

    def _touch(self, step: _Step, touched: _Touched) -> None:
        for key, block_count in step.touched.items():
            large = entry_bytes(block_count) > NODE_COMPACT_STEP_BYTES // 4
            (touched.large if large else touched.small).add(key)
        size = sum(block.place.length for block in step.blocks)
        touched.copied_bytes += size + len(step.touched)
        self.progress.moved_bytes += size

    async def _relocate(self, number: int, keys: set[bytes]) -> None:
        waiting = list(keys)
        keys.clear()
        for at in range(0, len(waiting), NODE_COMPACT_KEYS_MAX):
            part = waiting[at : at + NODE_COMPACT_KEYS_MAX]
            await self._writer.run(moving.Relocate(_future(), number, part))
            failpoint("node.compact.relocated")


def _unneeded(state: SegmentState) -> bool:
    return not state.busy and state.end_bytes is None and not state.needed_bytes and not state.older


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()

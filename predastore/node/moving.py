"""Operations of compaction: what a segment still holds is written anew at the end of the log.

They go through the writer like any other, so that nothing points at bytes that are not durable.
A block is copied only if its shard still says that it is where it was read; so what was deleted,
mended or moved meanwhile stays as it is. Until `Relocate` takes effect, a copy is dead space.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import NamedTuple

from predastore.node.log import SegmentLog, SegmentState
from predastore.node.operations import StoreOperation
from predastore.node.shard import Location, as_committed, counts, location, locations


class Block(NamedTuple):
    """A block as it was read, and verified."""

    key: bytes
    stripe: int
    place: Location
    payload: memoryview


class Move(StoreOperation):
    """Blocks are copied. That need not be durable before `Relocate` is, so it costs no sync that
    requests would have to wait for."""

    moves = True

    def __init__(self, future: asyncio.Future[None], blocks: Sequence[Block]) -> None:
        super().__init__(future, sum(block.place.length for block in blocks))
        self._blocks = blocks

    def stage(self, log: SegmentLog) -> None:
        for key, stripe, place, payload in self._blocks:
            entry = log.entry(key)
            if entry is None or location(entry, stripe) != place:
                continue
            log.copy(key, stripe, payload, place.crc)


class Relocate(StoreOperation):
    """Shards are where their copies are, and committed anew if they were in the segment."""

    moves = True

    def __init__(self, future: asyncio.Future[None], segment: int, keys: Collection[bytes]) -> None:
        super().__init__(future)
        self._segment, self._keys = segment, keys

    def stage(self, log: SegmentLog) -> None:
        for key in self._keys:
            entry = log.entry(key)
            if entry is not None:
                self._commit(log, key, entry)
            log.copies.forget([key])

    def _commit(self, log: SegmentLog, key: bytes, entry: bytes) -> None:
        places = list(locations(entry))
        moved = counts(entry).commit_segment == self._segment
        for stripe, place in log.copies.blocks(key).items():
            old = places[stripe]
            if old.segment == self._segment and old[2:] == place[2:]:
                places[stripe] = place
                moved = True
        if moved:
            log.commit(key, as_committed(entry, places))


class Carry(StoreOperation):
    """Tombstones of a segment are written anew where something older may need them."""

    moves = True

    def __init__(self, future: asyncio.Future[None], segment: int, keys: Sequence[bytes]) -> None:
        super().__init__(future)
        self._segment, self._keys = segment, keys

    def stage(self, log: SegmentLog) -> None:
        log.carry(self._segment, self._keys)


class Retire(StoreOperation):
    """A segment that nothing live is in, and whose tombstones were carried, can go."""

    moves = True

    def __init__(self, future: asyncio.Future[None], segment: int) -> None:
        super().__init__(future)
        self._segment = segment

    def stage(self, log: SegmentLog) -> None:
        log.retire(self._segment)


class Survey(StoreOperation):
    """`found`: what each segment holds."""

    lasting = False

    def __init__(self, future: asyncio.Future[None]) -> None:
        super().__init__(future)
        self.found: list[SegmentState] = []

    def stage(self, log: SegmentLog) -> None:
        self.found = log.survey()


class Seal(StoreOperation):
    """The segment that is written to is ended, if it is this one, so that it can be rewritten."""

    moves = True

    def __init__(self, future: asyncio.Future[None], segment: int) -> None:
        super().__init__(future)
        self._segment = segment

    def stage(self, log: SegmentLog) -> None:
        log.seal(self._segment)


class WriteIndex(StoreOperation):
    """The index is to be written soon, and segments that nothing needs are to go."""

    def stage(self, log: SegmentLog) -> None:
        log.layer_wanted = True

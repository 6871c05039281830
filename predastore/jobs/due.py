"""The rows of `due`, and the pages of placements that they are about, read a few at a time.

A row that can not be read, or whose work can not be done yet, is put back under a later time: it is
`postponed`, the longer, the more often that was done before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from predastore.base.errors import PredastoreError
from predastore.base.limits import (
    GARBAGE_BATCH_MAX,
    GARBAGE_EXTENTS_MAX,
    GARBAGE_READ_ROWS,
    GARBAGE_RETRY_S_MAX,
    GARBAGE_RETRY_S_MIN,
)
from predastore.catalog import keys
from predastore.catalog.keys import DUE, OBJECTS
from predastore.catalog.rows import GarbageRow, PlacementRow, Waste
from predastore.s3db.commands import Delete, Op, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode, rewritten

_PLACED: Final = (Waste.LAYOUT, Waste.EXTENT)

logger = logging.getLogger(__name__)


@dataclass
class Due:
    """A row of `due` as it is stored under `key`. `is_stuck`: some of its bytes are not gone."""

    key: bytes
    stored: bytes
    row: GarbageRow
    is_stuck: bool = False


@dataclass(frozen=True)
class Piece:
    """A page, at `place`, of what a LAYOUT or EXTENT lets go of. `page` is None where it can not be
    read, and where it `is_gone`: was collected before. `is_last`: of its row."""

    due: Due
    place: bytes
    page: PlacementRow | None
    is_gone: bool
    is_last: bool


def read(entries: Sequence[tuple[bytes, bytes]]) -> tuple[list[Due], list[Op]]:
    """The rows, and what postpones those that can not be read, which is logged."""
    found: list[Due] = []
    unread: list[Op] = []
    for key, stored in entries:
        try:
            found.append(Due(key, stored, decode(GarbageRow, stored)))
        except PredastoreError as error:
            logger.warning("a row of garbage can not be read", extra={"error": str(error)})
            unread += _later(key, stored, GARBAGE_RETRY_S_MAX)
    return found, unread


def postponed(due: Due) -> list[Op]:
    """Puts a row back for later; the longer, the more often that was done."""
    row = msgspec.structs.replace(due.row, tries=due.row.tries + 1)
    pause_s = min(GARBAGE_RETRY_S_MIN * 2 ** min(due.row.tries, 30), GARBAGE_RETRY_S_MAX)
    return _later(due.key, rewritten(due.stored, row), pause_s)


def _later(key: bytes, stored: bytes, pause_s: float) -> list[Op]:
    return [
        Delete(DUE, key),
        Put(DUE, keys.due_again(key, now_ms() + int(pause_s * 1000)), stored),
    ]


async def pieces(state: GlobalState, found: Sequence[Due]) -> AsyncIterator[Piece]:
    """The pages of each, one behind the other: the first ones of some rows are read together."""
    for start in range(0, len(found), GARBAGE_READ_ROWS):
        some = found[start : start + GARBAGE_READ_ROWS]
        first = await state.read([(OBJECTS, keys.deleted(due.row.name)) for due in some])
        for due, stored in zip(some, first, strict=True):
            page = _page(due, stored)
            count = max(1, due.row.pages, len(page.pages) if page is not None else 0)
            place = keys.deleted(due.row.name)
            yield Piece(due, place, page, stored is None, count == 1)
            for number in range(1, count):
                place = keys.deleted(due.row.name, number)
                other = await state.get(OBJECTS, place)
                yield Piece(due, place, _page(due, other), other is None, number == count - 1)


def _page(due: Due, stored: bytes | None) -> PlacementRow | None:
    """None: it was collected before, or can not be read, which is logged."""
    if stored is None:
        return None
    try:
        return decode(PlacementRow, stored)
    except PredastoreError as error:
        logger.warning(
            "a page of garbage can not be read",
            extra={"garbage": due.row.name.hex(), "error": str(error)},
        )
        return None


async def batches(found: AsyncIterator[Piece]) -> AsyncIterator[list[Piece]]:
    """Pieces with about as many extents as are let go of at once."""
    taken: list[Piece] = []
    count = 0
    async for piece in found:
        taken.append(piece)
        count += len(piece.page.extents) if piece.page is not None else 0
        if count >= GARBAGE_EXTENTS_MAX:
            yield taken
            taken, count = [], 0
    if taken:
        yield taken


class DueWalk:
    """From the front of `due` over what is due, as long as there are only LAYOUTs and EXTENTs, and
    `goes_on` says so. Afterwards `others` are the rows that are neither and that it came to, `met`
    whether it came to any row, `next_ms` when the one behind is due (None: there is none).
    `late_ms`: for how long the last page's first row had been due."""

    def __init__(self, state: GlobalState, goes_on: Callable[[], bool]) -> None:
        self._state = state
        self._goes_on = goes_on
        self.others: list[Due] = []
        self.met = False
        self.next_ms: int | None = None
        self.late_ms = 0

    async def batches(self) -> AsyncGenerator[list[Piece], None]:
        """As the function; rows that can not be read are postponed on the way."""
        after, has_more = b"", True
        while has_more and not self.others:
            page = await self._state.list(DUE, b"", b"", after, GARBAGE_BATCH_MAX)
            now = now_ms()
            entries = [entry for entry in page.entries if entry[0] < keys.due_until(now)]
            self.late_ms = max(0, now - keys.due_ms_of(entries[0][0])) if entries else 0
            self.met = self.met or bool(entries)
            if len(entries) < len(page.entries):
                self.next_ms = keys.due_ms_of(page.entries[len(entries)][0])
            found, unread = read(entries)
            if unread:
                await self._state.commit(batch(*unread))
            placed = [due for due in found if due.row.waste in _PLACED]
            self.others = [due for due in found if due.row.waste not in _PLACED]
            async for some in batches(pieces(self._state, placed)):
                yield some
            after = page.next
            has_more = page.truncated and len(entries) == len(page.entries) and self._goes_on()


async def ahead(found: AsyncGenerator[list[Piece], None]) -> AsyncGenerator[list[Piece], None]:
    """The same ones; while one is worked off, the next is read."""
    reading = asyncio.ensure_future(anext(found, None))
    try:
        while (some := await reading) is not None:
            reading = asyncio.ensure_future(anext(found, None))
            yield some
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await found.aclose()

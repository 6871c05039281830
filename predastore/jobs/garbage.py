"""`Garbage`: works off what is due, in order of time.

What nothing refers to any more has a row in `due`, under the time at which its bytes may go:
readers on other gateways that began before it was let go of have ended by then. The rows are taken
from the front of the table, some at a time; what is due is never looked for. A row goes when every
node has let go of its bytes. One that can not go yet is put back with a later time, later each
time: so nothing is held up, and nothing has to be remembered.

In a cluster one process does this, the one that heals. If two do, for a moment, it does no harm:
to let go of bytes twice is to let go of them once.

A store without a grace time (plain files) has no other gateways: there `retire` lets go of bytes at
once, unless a reader of this process needs them; the rows are left to the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from predastore.base import metrics
from predastore.base.errors import PreconditionFailed, PredastoreError
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    BACKEND_PARTS_PAGE_MAX,
    BACKEND_UPLOADS_PAGE_MAX,
    GARBAGE_BATCH_MAX,
    GARBAGE_EXTENTS_MAX,
    GARBAGE_LOOKS_MAX,
    GARBAGE_READ_ROWS,
    GARBAGE_RETRY_S_MAX,
    GARBAGE_RETRY_S_MIN,
    GARBAGE_WAIT_S_MAX,
)
from predastore.catalog import keys
from predastore.catalog.keys import COMPLETED, DUE, OBJECTS, PARTS, UPLOADS
from predastore.catalog.readers import Readers
from predastore.catalog.rows import GarbageRow, PartRow, PlacementRow, Waste
from predastore.s3db.commands import Delete, Equals, Op, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import Extent, now_ms
from predastore.storage.formats import decode, encode
from predastore.storage.interface import ByteStore

T = TypeVar("T")

logger = logging.getLogger(__name__)

_COLLECTED = metrics.counter(
    "predastore_garbage_collected_total", "Layouts and parts of which the bytes were let go."
).child()
_POSTPONED = metrics.counter(
    "predastore_garbage_postponed_total", "Times that a node did not let go, or a reader was there."
).child()


@dataclass
class _Entry:
    """A row of `due`, and, of a LAYOUT or EXTENT, the pages that it is about."""

    key: bytes
    row: GarbageRow
    pages: list[PlacementRow] = field(default_factory=list)

    @property
    def extents(self) -> list[Extent]:
        return [extent for page in self.pages for extent in page.extents]

    @property
    def places(self) -> list[bytes]:
        """The keys of its pages."""
        return [keys.deleted(self.row.name, number) for number in range(max(1, self.row.pages))]


class Garbage:
    """`start` it, `close` it before the store. `is_mine`: whether this process works off what is
    due."""

    def __init__(
        self,
        state: GlobalState,
        store: ByteStore,
        readers: Readers,
        is_mine: Callable[[], bool] = lambda: True,
    ) -> None:
        self._state = state
        self._store = store
        self._readers = readers
        self._is_mine = is_mine
        self._looks: dict[bytes, int] = {}  # of names that readers needed: who looked by then
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to work off what is due."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """What waits is found again at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def retire(self, names: Sequence[bytes]) -> None:
        """Takes note of names that a procedure has let go of; with no grace time their bytes are
        gone on return, if they could be. Does not raise."""
        if not names or self._store.grace_s:
            return
        try:
            for some in _slices(names, GARBAGE_READ_ROWS):
                await self._let_go_at_once(some)
        except PredastoreError as error:
            logger.warning("garbage is let go of later", extra={"error": str(error)})
        self._wake.set()

    async def _let_go_at_once(self, names: Sequence[bytes]) -> None:
        looks = self._readers.now
        entries = [_Entry(b"", GarbageRow(Waste.LAYOUT, name)) for name in names]
        await self._read(entries)
        for entry in entries:
            if entry.pages and entry.pages[0].pages:
                entry.row = msgspec.structs.replace(entry.row, pages=len(entry.pages[0].pages))
                await self._read([entry])
        free = []
        for entry in entries:
            if self._is_needed(entry, looks):
                self._remember(entry.row.name, looks)
            else:
                free += entry.extents
        if free:
            await self._store.release(free)

    def _remember(self, name: bytes, looks: int) -> None:
        while len(self._looks) >= GARBAGE_LOOKS_MAX:
            del self._looks[next(iter(self._looks))]
        self._looks[name] = looks

    def _is_needed(self, entry: _Entry, looks: int) -> bool:
        """Whether readers of this process still need it: some read it, or looked at its key by the
        time that `looks` tells of."""
        if self._readers.hold(entry.row.name):
            return True
        if self._store.grace_s or entry.row.waste is not Waste.LAYOUT:
            return False
        return any(
            self._readers.look_at(f"{page.bucket}/{page.key}", looks) for page in entry.pages[:1]
        )

    # --- background -----------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause_s = GARBAGE_WAIT_S_MAX
            try:
                if self._is_mine():
                    pause_s = await self._pass()
            except PredastoreError as error:
                logger.warning("garbage collection will go on later", extra={"error": str(error)})
                pause_s = GARBAGE_RETRY_S_MIN
            except Exception:
                logger.exception("garbage collection failed; it will go on later")
            if pause_s > 0:
                try:
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _pass(self) -> float:
        """Works off some of what is due; in how many seconds there may be more."""
        page = await self._state.list(DUE, b"", b"", b"", GARBAGE_BATCH_MAX)
        until = keys.due_until(now_ms())
        entries = [
            _Entry(key, decode(GarbageRow, stored)) for key, stored in page.entries if key < until
        ]
        placed = [e for e in entries if e.row.waste in (Waste.LAYOUT, Waste.EXTENT)]
        await self._collect(placed)
        for entry in entries:
            if entry.row.waste is Waste.UPLOAD:
                await self._end(entry, is_done=await self._let_go_of_parts(entry.row.name))
            elif entry.row.waste is Waste.BUCKET:
                await self._end_uploads(entry.row.name)
                await self._end(entry, is_done=True)
            elif entry.row.waste is Waste.COMPLETED:
                await self._end(entry, is_done=True)
        if len(entries) == len(page.entries):
            return 0.0 if entries else GARBAGE_WAIT_S_MAX
        left_ms = keys.due_ms_of(page.entries[len(entries)][0]) - now_ms()
        return min(max(0.05, left_ms / 1000), GARBAGE_WAIT_S_MAX)

    async def _collect(self, entries: Sequence[_Entry]) -> None:
        for some in _slices(entries, GARBAGE_READ_ROWS):
            await self._read(some)
            for few in _by_extents(some):
                done = await self._release(few)
                failpoint("collector.released")
                await self._settle(few, done)

    async def _read(self, entries: Sequence[_Entry]) -> None:
        """Their pages; none where another process has collected them."""
        places = [(entry, place) for entry in entries for place in entry.places]
        for entry in entries:
            entry.pages = []
        for some in _slices(places, GARBAGE_READ_ROWS):
            read = await self._state.read([(OBJECTS, place) for _, place in some])
            for (entry, _), stored in zip(some, read, strict=True):
                if stored is not None:
                    entry.pages.append(decode(PlacementRow, stored))

    async def _release(self, entries: Sequence[_Entry]) -> list[_Entry]:
        """Those whose bytes are gone from everywhere now."""
        free = [
            entry
            for entry in entries
            if not self._is_needed(entry, self._looks.get(entry.row.name, self._readers.now))
        ]
        every = [extent for entry in free for extent in entry.extents]
        gone = await self._store.release(every) if every else []
        done, start = [], 0
        for entry in free:
            end = start + len(entry.extents)
            if all(gone[start:end]):
                done.append(entry)
            start = end
        return done

    async def _settle(self, entries: Sequence[_Entry], done: Sequence[_Entry]) -> None:
        """Removes the rows of what is done, and puts those of the others back for later."""
        ops: list[Op] = []
        finished = {entry.key for entry in done}
        for entry in entries:
            if entry.key in finished:
                self._looks.pop(entry.row.name, None)
                ops += (Delete(OBJECTS, place) for place in entry.places)
                ops.append(Delete(DUE, entry.key))
            else:
                ops += _postponed(entry)
        _COLLECTED.value += len(finished)
        _POSTPONED.value += len(entries) - len(finished)
        if ops:
            await self._state.commit(batch(*ops))

    async def _end(self, entry: _Entry, *, is_done: bool) -> None:
        ops: tuple[Op, ...] = (Delete(DUE, entry.key),) if is_done else _postponed(entry)
        if entry.row.waste is Waste.COMPLETED:
            ops = (Delete(COMPLETED, entry.row.name), *ops)
        await self._state.commit(batch(*ops))

    # --- uploads --------------------------------------------------------------------------

    async def _let_go_of_parts(self, name: bytes) -> bool:
        """Of all that are stored under an upload that has ended; whether all are gone."""
        after, truncated, all_gone = b"", True, True
        while truncated:
            page = await self._state.list(PARTS, name + b"/", b"", after, BACKEND_PARTS_PAGE_MAX)
            truncated, after = page.truncated, page.next
            extents = [decode(PartRow, stored).extent for _, stored in page.entries]
            gone = await self._store.release(extents) if extents else []
            failpoint("collector.released")
            done = [row for row, is_gone in zip(page.entries, gone, strict=True) if is_gone]
            all_gone = all_gone and len(done) == len(extents)
            if done and not await self._forget_parts(done):
                all_gone = False  # healing has moved one meanwhile
        return all_gone

    async def _forget_parts(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        checks = tuple(Equals(PARTS, key, stored) for key, stored in rows)
        try:
            await self._state.commit(batch(*(Delete(PARTS, key) for key, _ in rows), checks=checks))
        except PreconditionFailed:
            return False
        return True

    async def _end_uploads(self, bucket_id: bytes) -> None:
        """Ends all uploads of a bucket that was deleted."""
        prefix, truncated = keys.documents(bucket_id), True
        while truncated:
            page = await self._state.list(UPLOADS, prefix, b"", b"", BACKEND_UPLOADS_PAGE_MAX)
            truncated = page.truncated
            ops: list[Op] = []
            for key, _ in page.entries:
                name = keys.upload_name(bucket_id, key[-keys.UPLOAD_ID_CHARS :].decode())
                row = GarbageRow(Waste.UPLOAD, name)
                ops.append(Delete(UPLOADS, key))
                ops.append(Put(DUE, keys.due(now_ms(), row.waste, name), encode(row)))
            if ops:
                await self._state.commit(batch(*ops))


def _postponed(entry: _Entry) -> tuple[Op, ...]:
    """Puts a row back for later; the longer, the more often that was done."""
    row = msgspec.structs.replace(entry.row, tries=entry.row.tries + 1)
    pause_s = min(GARBAGE_RETRY_S_MIN * 2 ** min(entry.row.tries, 30), GARBAGE_RETRY_S_MAX)
    later = keys.due(now_ms() + int(pause_s * 1000), row.waste, row.name)
    return (Delete(DUE, entry.key), Put(DUE, later, encode(row)))


def _slices(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _by_extents(entries: Sequence[_Entry]) -> Iterable[list[_Entry]]:
    """Parts of the entries with no more extents than are let go of at once."""
    taken: list[_Entry] = []
    count = 0
    for entry in entries:
        if taken and count + len(entry.extents) > GARBAGE_EXTENTS_MAX:
            yield taken
            taken, count = [], 0
        taken.append(entry)
        count += len(entry.extents)
    if taken:
        yield taken

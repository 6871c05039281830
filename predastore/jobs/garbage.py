"""Lets go of bytes that nothing refers to any more, and then of the entries that tell of them.

A commit that replaces or removes a record leaves it under a `deleted:` key of the same table. The
entry is due once this process has known of it for the byte store's grace time, so that readers
on other gateways that began before the commit can finish; readers in this process hold their
extents as long as they need. An entry goes when every node has let go of its extents; until then it
is tried again, less and less often. What other processes left behind is found by scanning at the
start and now and then; to collect an entry twice does no harm.

Memory is bounded: records are read again when they are due, and entries beyond COLLECTOR_BYTES_MAX
are left to a scan, which comes as soon as there is room for them. What takes long or fails is
worked off apart from the rest.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from predastore.base.errors import NoLeader, PredastoreError
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    COLLECTOR_ALONE_MAX,
    COLLECTOR_BATCH_MAX,
    COLLECTOR_BYTES_MAX,
    COLLECTOR_ENTRY_BYTES,
    COLLECTOR_EXTENTS_MAX,
    COLLECTOR_RETRY_S_MAX,
    COLLECTOR_RETRY_S_MIN,
    COLLECTOR_SCAN_S,
    COLLECTOR_SMALL_BYTES,
)
from predastore.catalog.readers import Readers
from predastore.catalog.upload_garbage import end_uploads, release_parts
from predastore.s3db.commands import Batch, Delete, DeletePrefix, Op, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage import records
from predastore.storage.interface import ByteStore
from predastore.storage.records import OBJECTS, PARTS, Extent, GarbageRecord

logger = logging.getLogger(__name__)


class _Entry:
    """A `deleted:` entry that waits until `due` (loop time). `is_small`: its record. `alone`: it is
    worked off so, as it is many extents or could not be let go of together with others. `ended`:
    its record, where that tells of uploads that have ended. `looks`: who looks at its key since
    then, or before, needs its extents."""

    __slots__ = ("alone", "due", "ended", "is_small", "key", "looks", "retry_s", "table")

    def __init__(self, table: str, key: bytes, stored: bytes, due: float, looks: int) -> None:
        self.table = table
        self.looks = looks
        self.key = key
        self.is_small = len(stored) <= COLLECTOR_SMALL_BYTES
        self.due = due
        self.ended: GarbageRecord | None = None
        self.alone = False
        self.retry_s = COLLECTOR_RETRY_S_MIN

    @property
    def name(self) -> tuple[str, bytes]:
        return self.table, self.key

    @property
    def bytes_kept(self) -> int:
        return COLLECTOR_ENTRY_BYTES + len(self.key)

    def __lt__(self, other: _Entry) -> bool:
        return self.due < other.due


class _Garbage(NamedTuple):
    """What an entry lets go of; None if that can not be read now."""

    entry: _Entry
    extents: tuple[Extent, ...] | None


class Collector:
    """`retire` what a commit kept; a background task, begun by `start` or then, does the rest."""

    def __init__(
        self,
        state: GlobalState,
        store: ByteStore,
        readers: Readers,
        *,
        scan_s: float = COLLECTOR_SCAN_S,
    ) -> None:
        self._state = state
        self._store = store
        self._readers = readers
        self._scan_s = scan_s
        self._waiting: list[_Entry] = []  # heaps, these and
        self._alone: list[_Entry] = []
        self._known: set[tuple[str, bytes]] = set()
        self._known_bytes = 0
        self._has_refused = False  # there are entries that there was no room for
        self._tables = (OBJECTS, PARTS)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begins to collect, and to look for what earlier runs left."""
        if self._task is None and not self._closed:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """What waits is found again by the scan at the next start."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def waiting_count(self) -> int:
        """Entries known and not yet collected."""
        return len(self._known)

    async def retire(self, table: str, kept: Sequence[tuple[bytes, bytes]]) -> None:
        """Takes note of the entries (key, stored record) that a commit left in `table`.

        With no grace time their bytes are gone on return, if they could be; does not raise.
        """
        if not kept:
            return
        entries = self._entries(table, kept)
        if self._store.grace_s == 0:
            try:
                async for taken in self._batches(_given(entries, kept), at_once=True):
                    await self._release(taken)
            except PredastoreError as error:
                logger.warning("garbage collection will go on later", extra={"error": str(error)})
        self._add(entries)

    def _entries(self, table: str, found: Sequence[tuple[bytes, bytes]]) -> list[_Entry]:
        due, looks = asyncio.get_running_loop().time() + self._store.grace_s, self._readers.now
        return [_Entry(table, key, stored, due, looks) for key, stored in found]

    # --- background -----------------------------------------------------------------------

    def _add(self, entries: Sequence[_Entry]) -> bool:
        """False: there is no room for all of them."""
        fits = True
        for entry in entries:
            if entry.name in self._known:
                continue
            if self._known_bytes + entry.bytes_kept > COLLECTOR_BYTES_MAX:
                fits = False
                continue
            self._known.add(entry.name)
            self._known_bytes += entry.bytes_kept
            self._push(entry)
        self._has_refused = self._has_refused or not fits
        self.start()
        self._wake.set()
        return fits

    def _push(self, entry: _Entry) -> None:
        heapq.heappush(self._alone if entry.alone else self._waiting, entry)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_scan = loop.time()
        while True:
            self._wake.clear()
            try:
                if self._has_room_again() or loop.time() >= next_scan:
                    next_scan = loop.time() + COLLECTOR_RETRY_S_MIN  # if it fails
                    await self._scan()
                    next_scan = loop.time() + self._scan_s
                await self._collect(_due(self._waiting, loop.time(), COLLECTOR_BATCH_MAX))
                for _ in range(COLLECTOR_ALONE_MAX):
                    await self._collect(_due(self._alone, loop.time(), 1))
            except PredastoreError as error:
                logger.warning("garbage collection will go on later", extra={"error": str(error)})
            except Exception:
                logger.exception("garbage collection failed; it will go on later")
            dues = [heap[0].due for heap in (self._waiting, self._alone) if heap]
            if not self._has_room_again():
                await self._wait(min((next_scan, *dues)) - loop.time())

    def _has_room_again(self) -> bool:
        return self._has_refused and self._known_bytes < COLLECTOR_BYTES_MAX // 2

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _scan(self) -> None:
        """Adds the entries that other processes, or an earlier one, left behind, or that there was
        no room for."""
        self._has_refused = False
        self._tables = self._tables[::-1]  # that one may be full of them is no matter to the other
        for table in self._tables:
            after, truncated = b"", True
            while truncated:
                page = await self._state.list(
                    table, records.DELETED_PREFIX, b"", after, COLLECTOR_BATCH_MAX
                )
                if not self._add(self._entries(table, page.entries)):
                    return
                truncated, after = page.truncated, page.next

    async def _collect(self, entries: Sequence[_Entry]) -> None:
        """Releases the bytes of `entries`; those that are not free of them come up again."""
        left = dict.fromkeys(entries)
        try:
            async for taken in self._batches(self._read(entries)):
                done = await self._collect_batch(taken)
                for entry, _ in taken:
                    del left[entry]
                self._settle([entry for entry, _ in taken], done)
        finally:
            self._settle([*left], ())

    async def _batches(
        self, read: AsyncIterator[tuple[_Entry, bytes | None]], *, at_once: bool = False
    ) -> AsyncIterator[list[_Garbage]]:
        """Entries and their records, parted into what is worked off together. `at_once`: an upload
        too, instead of alone and later."""
        taken: list[_Garbage] = []
        count = 0
        async for entry, stored in read:
            garbage = _Garbage(entry, _extents(entry, stored, at_once=at_once))
            taken.append(garbage)
            count += len(garbage.extents or ())
            if count >= COLLECTOR_EXTENTS_MAX:
                yield taken
                taken, count = [], 0
        if taken:
            yield taken

    async def _read(self, entries: Sequence[_Entry]) -> AsyncIterator[tuple[_Entry, bytes | None]]:
        """Each with its record; None where another process has collected it."""
        small = [entry for entry in entries if entry.is_small]
        read = await self._state.read([entry.name for entry in small]) if small else []
        records_read = dict(zip(small, read, strict=True))
        for entry in entries:
            if entry.is_small:
                yield entry, records_read[entry]
            else:
                yield entry, await self._state.get(*entry.name)

    async def _collect_batch(self, taken: Sequence[_Garbage]) -> list[_Entry]:
        """The entries that are gone now: none where that fails. Raises only what the next batch
        would meet, too."""
        try:
            done = await self._release(taken)
            failpoint("collector.released")
            if done:
                await self._state.commit(_removal(done))
        except NoLeader:
            raise
        except PredastoreError as error:
            logger.warning("garbage collection will go on later", extra={"error": str(error)})
        except Exception:
            logger.exception("garbage collection failed; it will go on later")
        else:
            return done
        for entry, _ in taken:
            entry.alone = True
        return []

    def _settle(self, entries: Sequence[_Entry], done: Sequence[_Entry]) -> None:
        now = asyncio.get_running_loop().time()
        finished = set(done)
        for entry in entries:
            if entry in finished:
                self._known.discard(entry.name)
                self._known_bytes -= entry.bytes_kept
                continue
            entry.due = now + entry.retry_s
            entry.retry_s = max(
                COLLECTOR_RETRY_S_MIN, min(2 * entry.retry_s, COLLECTOR_RETRY_S_MAX)
            )
            self._push(entry)

    async def _release(self, taken: Sequence[_Garbage]) -> list[_Entry]:
        """The entries whose bytes are gone from everywhere now."""
        wanted = [
            (entry, extents)
            for entry, extents in taken
            if extents is not None and not self._is_needed(entry, extents)
        ]
        every = [each for _, extents in wanted for each in extents]
        gone = await self._store.release(every) if every else []
        done: list[_Entry] = []
        start = 0
        for entry, extents in wanted:
            end = start + len(extents)
            if all(gone[start:end]) and await self._has_ended(entry):
                done.append(entry)
            start = end
        return done

    def _is_needed(self, entry: _Entry, extents: Sequence[Extent]) -> bool:
        """Whether readers of this process still need what an entry lets go of."""
        if self._readers.hold(extents):
            return True
        if self._store.grace_s or entry.table != OBJECTS:
            return False
        return self._readers.look_at(records.hash_of_deleted(entry.key), entry.looks)

    async def _has_ended(self, entry: _Entry) -> bool:
        """Whether nothing is left of the uploads that an entry tells of, if it does."""
        if entry.ended is None:
            return True
        if not entry.ended.uploads:
            return await release_parts(self._state, self._store, entry.ended.upload_id)
        garbage = await end_uploads(self._state, entry.ended.uploads)
        self._add(self._entries(PARTS, garbage))
        entry.retry_s = 0  # there may be more of them
        return not garbage


def _extents(entry: _Entry, stored: bytes | None, *, at_once: bool) -> tuple[Extent, ...] | None:
    """What the entry lets go of, apart from what has `ended`. None: it can not be read now, which
    is logged, or it tells of uploads, and is to come up alone."""
    if stored is None:
        return ()
    try:
        deleted = records.decode_deleted(stored)
    except PredastoreError as error:
        logger.warning(
            "a deleted entry can not be read",
            extra={"table": entry.table, "key": entry.key.hex(), "error": str(error)},
        )
        return None
    if isinstance(deleted, GarbageRecord) and (deleted.upload_id or deleted.uploads):
        is_turn = entry.alone or (at_once and not deleted.uploads)
        entry.ended, entry.alone = deleted, True
        return deleted.extents if is_turn else None
    return records.extents_of(deleted)


async def _given(
    entries: Sequence[_Entry], kept: Sequence[tuple[bytes, bytes]]
) -> AsyncIterator[tuple[_Entry, bytes | None]]:
    for entry, (_, stored) in zip(entries, kept, strict=True):
        yield entry, stored


def _due(heap: list[_Entry], now: float, count: int) -> list[_Entry]:
    """Takes out at most so many whose time has come."""
    taken: list[_Entry] = []
    while heap and heap[0].due <= now and len(taken) < count:
        taken.append(heapq.heappop(heap))
    return taken


def _removal(done: Sequence[_Entry]) -> Batch:
    """The commit that removes entries, and the parts of uploads that they tell of."""
    ops: list[Op] = []
    for entry in done:
        ops.append(Delete(entry.table, entry.key))
        if entry.ended is not None and entry.ended.upload_id:
            ops.append(DeletePrefix(PARTS, records.parts_prefix(entry.ended.upload_id)))
    return batch(*ops)

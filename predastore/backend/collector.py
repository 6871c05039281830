"""Lets go of bytes that nothing refers to any more, and then of the entries that tell of them.

A commit that replaces or removes a record leaves it under a `deleted:` key of the same table. The
entry is due once this process has known of it for the byte store's grace time, so that readers
on other gateways that began before the commit can finish; readers in this process hold their
extents as long as they need. An entry goes when every node has let go of its extents; until then it
is tried again, less and less often. What other processes left behind is found by scanning at the
start and now and then; to collect an entry twice does no harm.

Memory is bounded: entries beyond COLLECTOR_ENTRIES_MAX are left to a later scan.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from predastore.backend import records
from predastore.backend.interface import ByteStore
from predastore.backend.records import OBJECTS, PARTS, Extent, GarbageRecord, PartRecord
from predastore.backend.state import GlobalState
from predastore.errors import NoLeader, PredastoreError
from predastore.failpoints import failpoint
from predastore.limits import (
    BACKEND_SCAN_PAGE_MAX,
    COLLECTOR_BATCH_MAX,
    COLLECTOR_BYTES_MAX,
    COLLECTOR_ENTRIES_MAX,
    COLLECTOR_EXTENTS_MAX,
    COLLECTOR_RETRY_S_MAX,
    COLLECTOR_RETRY_S_MIN,
    COLLECTOR_SCAN_S,
)
from predastore.s3db.commands import Batch, Delete, DeletePrefix, Op, batch

logger = logging.getLogger(__name__)

_TABLES: Final = (OBJECTS, PARTS)


class _Entry:
    """A `deleted:` entry that waits until `due` (loop time). `alone`: to be worked off so."""

    __slots__ = ("alone", "due", "key", "retry_s", "stored", "table", "upload_id")

    def __init__(self, table: str, key: bytes, stored: bytes, due: float) -> None:
        self.table = table
        self.key = key
        self.stored = stored
        self.due = due
        self.upload_id = ""
        self.alone = False
        self.retry_s = float(COLLECTOR_RETRY_S_MIN)

    def __lt__(self, other: _Entry) -> bool:
        return self.due < other.due


class _Garbage(NamedTuple):
    """What an entry lets go of; None if that can not be read now."""

    entry: _Entry
    extents: tuple[Extent, ...] | None


class Collector:
    """`retire` what a commit kept; a background task, begun by `start` or then, does the rest."""

    def __init__(
        self, state: GlobalState, store: ByteStore, *, scan_s: float = COLLECTOR_SCAN_S
    ) -> None:
        self._state = state
        self._store = store
        self._scan_s = scan_s
        self._waiting: list[_Entry] = []
        self._known: set[tuple[str, bytes]] = set()
        self._known_bytes = 0  # of their records
        self._readers: Counter[bytes] = Counter()
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

    @contextmanager
    def reading(self, extents: Sequence[Extent]) -> Iterator[None]:
        """Keeps the extents from being released by this process meanwhile."""
        ids = [extent.write_id for extent in extents]
        self._readers.update(ids)
        try:
            yield
        finally:
            for write_id in ids:
                self._readers[write_id] -= 1
                if not self._readers[write_id]:
                    del self._readers[write_id]

    async def retire(self, table: str, kept: Sequence[tuple[bytes, bytes]]) -> None:
        """Takes note of the entries (key, stored record) that a commit left in `table`.

        With no grace time their bytes are gone on return, if they could be; does not raise.
        """
        if not kept:
            return
        now = asyncio.get_running_loop().time()
        entries = [_Entry(table, key, stored, now + self._store.grace_s) for key, stored in kept]
        if self._store.grace_s == 0:
            async for taken in self._batches(entries):
                await self._release(taken)
        self._add(entries)

    # --- background -----------------------------------------------------------------------

    def _add(self, entries: Sequence[_Entry]) -> bool:
        """False: there is no room for all of them."""
        fits = True
        for entry in entries:
            name = (entry.table, entry.key)
            if name in self._known:
                continue
            if (
                len(self._known) >= COLLECTOR_ENTRIES_MAX
                or self._known_bytes + len(entry.stored) > COLLECTOR_BYTES_MAX
            ):
                fits = False
                continue
            self._known.add(name)
            self._known_bytes += len(entry.stored)
            heapq.heappush(self._waiting, entry)
        self.start()
        self._wake.set()
        return fits

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_scan = loop.time()
        while True:
            self._wake.clear()
            try:
                if loop.time() >= next_scan:
                    next_scan = loop.time() + self._scan_s
                    await self._scan()
                await self._collect(self._take_due(loop.time()))
            except PredastoreError as error:
                logger.warning("garbage collection will go on later", extra={"error": str(error)})
            except Exception:
                logger.exception("garbage collection failed; it will go on later")
            until = min(next_scan, self._waiting[0].due if self._waiting else next_scan)
            await self._wait(until - loop.time())

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _take_due(self, now: float) -> list[_Entry]:
        taken: list[_Entry] = []
        while self._waiting and self._waiting[0].due <= now and len(taken) < COLLECTOR_BATCH_MAX:
            taken.append(heapq.heappop(self._waiting))
        return taken

    async def _scan(self) -> None:
        """Adds the entries that other processes, or an earlier one, left behind."""
        due = asyncio.get_running_loop().time() + self._store.grace_s
        for table in _TABLES:
            after, truncated = b"", True
            while truncated:
                page = await self._state.list(
                    table, records.DELETED_PREFIX, b"", after, COLLECTOR_BATCH_MAX
                )
                found = [_Entry(table, key, stored, due) for key, stored in page.entries]
                if not self._add(found):
                    return
                truncated, after = page.truncated, page.next

    async def _collect(self, entries: Sequence[_Entry]) -> None:
        """Releases the bytes of `entries`; those that are not free of them come up again."""
        left = dict.fromkeys(entries)
        try:
            async for taken in self._batches(entries):
                done = await self._collect_batch(taken)
                for entry, _ in taken:
                    del left[entry]
                self._settle([entry for entry, _ in taken], done)
        finally:
            self._settle([*left], ())

    async def _batches(self, entries: Sequence[_Entry]) -> AsyncIterator[list[_Garbage]]:
        """All of `entries`, parted into what is worked off at once."""
        taken: list[_Garbage] = []
        count = 0
        for entry in entries:
            garbage = _Garbage(entry, await self._extents(entry))
            if entry.alone:
                yield [garbage]
                continue
            taken.append(garbage)
            count += len(garbage.extents or ())
            if count >= COLLECTOR_EXTENTS_MAX:
                yield taken
                taken, count = [], 0
        if taken:
            yield taken

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
                self._known.discard((entry.table, entry.key))
                self._known_bytes -= len(entry.stored)
                continue
            entry.due = now + entry.retry_s
            entry.retry_s = min(2 * entry.retry_s, COLLECTOR_RETRY_S_MAX)
            heapq.heappush(self._waiting, entry)

    async def _release(self, taken: Sequence[_Garbage]) -> list[_Entry]:
        """The entries whose bytes are gone from everywhere now."""
        wanted = [
            (entry, extents)
            for entry, extents in taken
            if extents is not None and not any(each.write_id in self._readers for each in extents)
        ]
        gone = await self._store.release([each for _, extents in wanted for each in extents])
        done: list[_Entry] = []
        start = 0
        for entry, extents in wanted:
            end = start + len(extents)
            if all(gone[start:end]):
                done.append(entry)
            start = end
        return done

    async def _extents(self, entry: _Entry) -> tuple[Extent, ...] | None:
        """What the entry lets go of; None (and a line in the log) if it can not be read now."""
        try:
            deleted = records.decode_deleted(entry.stored)
            if not isinstance(deleted, GarbageRecord):
                return records.extents_of(deleted)
            entry.upload_id = deleted.upload_id
            entry.alone = entry.alone or bool(deleted.upload_id)
            parts = await self._parts(deleted.upload_id) if deleted.upload_id else ()
            return (*deleted.extents, *parts)
        except PredastoreError as error:
            logger.warning(
                "a deleted entry can not be read",
                extra={"table": entry.table, "key": entry.key.hex(), "error": str(error)},
            )
            return None

    async def _parts(self, upload_id: str) -> tuple[Extent, ...]:
        """The extents of all parts of an upload that was aborted."""
        extents: list[Extent] = []
        after = b""
        while True:
            page = await self._state.list(
                PARTS, records.parts_prefix(upload_id), b"", after, BACKEND_SCAN_PAGE_MAX
            )
            extents += (records.decode(PartRecord, stored).extent for _, stored in page.entries)
            after = page.next
            if not page.truncated:
                return tuple(extents)


def _removal(done: Sequence[_Entry]) -> Batch:
    """The commit that removes entries, and the parts of uploads that they tell of."""
    ops: list[Op] = []
    for entry in done:
        ops.append(Delete(entry.table, entry.key))
        if entry.upload_id:
            ops.append(DeletePrefix(PARTS, records.parts_prefix(entry.upload_id)))
    return batch(*ops)

"""`Garbage`: works off what is due, in order of time.

What nothing refers to any more has a row in `due`, under the time at which its bytes may go:
readers on other gateways that began before it was let go of have ended by then. The rows are taken
from the front of the table, some at a time, and two such batches at once; what is due is never
looked for. A row goes when every node has let go of its bytes. One that can not go yet is put back
with a later time, later each time: so nothing is held up, and nothing has to be remembered.

In a cluster one process does this, the one that heals. If two do, for a moment, it does no harm:
to let go of bytes twice is to let go of them once.

A store without a grace time (plain files) has no other gateways: there `retire` lets go of bytes at
once, unless a reader of this process needs them; the rows are left to the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

from predastore.base import metrics
from predastore.base.errors import (
    NodeFull,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    PredastoreError,
    StoreFailed,
)
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    GARBAGE_LOOKS_MAX,
    GARBAGE_RETRY_S_MIN,
    GARBAGE_WAIT_S_MAX,
    GARBAGE_WAIT_S_MIN,
)
from predastore.catalog.keys import COMPLETED, DUE, OBJECTS
from predastore.catalog.readers import Readers
from predastore.catalog.rows import GarbageRow, Waste
from predastore.jobs import ended_uploads
from predastore.jobs.due import Due, DueWalk, Piece, ahead, batches, pieces, postponed
from predastore.s3db.commands import Delete, Op, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import HASH_BYTES, now_ms
from predastore.storage.interface import ByteStore

logger = logging.getLogger(__name__)

# The next one would meet them, too.
_OF_ALL: Final = (NoLeader, OutcomeUnknown, Overloaded, NodeFull, StoreFailed)

_COLLECTED = metrics.counter(
    "predastore_garbage_collected_total", "Rows of what was due of which nothing is left."
).child()
_POSTPONED = metrics.counter(
    "predastore_garbage_postponed_total", "Times that a node did not let go, or a reader was there."
).child()
_LATE = metrics.gauge(
    "predastore_garbage_late_seconds", "How long the garbage that is next has been due."
).child()


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
        looks = self._readers.now
        uploads = [name for name in names if len(name) > HASH_BYTES]
        rows = [GarbageRow(Waste.LAYOUT, name) for name in names if len(name) <= HASH_BYTES]
        try:
            async for some in batches(pieces(self._state, [Due(b"", b"", row) for row in rows])):
                await self._release(some, looks)
                failpoint("collector.retired")
            for name in uploads:
                await ended_uploads.let_go(self._state, self._store, name)
        except PredastoreError as error:
            logger.warning("garbage is let go of later", extra={"error": str(error)})
        self._wake.set()

    # --- bytes ----------------------------------------------------------------------------

    async def _release(self, some: Sequence[Piece], looks: int) -> list[bool]:
        """Of each, whether its bytes are gone from everywhere now. Those who looked at a key by
        the time of `looks`, or when it was first tried, need what it named."""
        free = [
            piece.page.extents
            if piece.page is not None and not self._is_needed(piece, looks)
            else None
            for piece in some
        ]
        every = [extent for extents in free if extents is not None for extent in extents]
        gone = await self._store.release(every) if every else []
        told: list[bool] = []
        start = 0
        for piece, extents in zip(some, free, strict=True):
            end = start + len(extents or ())
            told.append(piece.is_gone if extents is None else all(gone[start:end]))
            start = end
        return told

    def _is_needed(self, piece: Piece, looks: int) -> bool:
        """Whether readers of this process still need it."""
        name = piece.due.row.name
        if self._readers.hold(name):
            return True
        if self._store.grace_s or piece.page is None or len(name) != HASH_BYTES:
            return False
        looks = self._looks.get(name, looks)
        if not self._readers.look_at(f"{piece.page.bucket}/{piece.page.key}", looks):
            return False
        while len(self._looks) >= GARBAGE_LOOKS_MAX:
            del self._looks[next(iter(self._looks))]
        self._looks[name] = looks
        return True

    # --- background -----------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause_s = GARBAGE_WAIT_S_MAX
            try:
                if self._is_mine():
                    pause_s = await self._pass()
                else:
                    _LATE.value = 0.0
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
        """Works off what is due; in how many seconds there may be more."""
        walk = DueWalk(self._state, self._is_mine)
        await self._let_go_of_all(walk)
        await self._forget([due for due in walk.others if due.row.waste is Waste.COMPLETED])
        for due in walk.others:
            if due.row.waste in (Waste.UPLOAD, Waste.BUCKET):
                await self._end(due)
        if walk.met:
            return 0.0  # what was put back may be due before all others
        if walk.next_ms is None:
            return GARBAGE_WAIT_S_MAX
        left_s = (walk.next_ms - now_ms()) / 1000
        return min(max(GARBAGE_WAIT_S_MIN, left_s), GARBAGE_WAIT_S_MAX)

    async def _let_go_of_all(self, walk: DueWalk) -> None:
        """What a walk comes to, two batches at once: nodes have something to do while what they
        have done is committed. Not so where both have pages of one row, of which the last one
        decides whether it is done with."""
        running: list[tuple[asyncio.Task[None], Due]] = []
        try:
            async with aclosing(ahead(walk.batches())) as found:
                async for some in found:
                    _LATE.value = walk.late_ms / 1000
                    while running and (len(running) > 1 or some[0].due is running[-1][1]):
                        await running[0][0]
                        del running[0]
                    running.append((asyncio.ensure_future(self._let_go(some)), some[-1].due))
            _LATE.value = walk.late_ms / 1000
            for task, _ in running:
                await task
        finally:
            for task, _ in running:
                task.cancel()
            await asyncio.gather(*(task for task, _ in running), return_exceptions=True)

    async def _let_go(self, some: Sequence[Piece]) -> None:
        """Of all of them together; each for itself where that fails."""
        try:
            gone = await self._release(some, self._readers.now)
            failpoint("collector.released")
            await self._record(some, gone)
            failpoint("collector.settled")
        except _OF_ALL:
            raise
        except Exception as error:
            if len(some) == 1:
                await self._stuck(some[0].due, error)
                some[0].due.is_stuck = True
            else:
                for piece in some:
                    await self._let_go([piece])

    async def _record(self, some: Sequence[Piece], gone: Sequence[bool]) -> None:
        """Removes the pages of what is gone, and the rows of what is done with; puts those of the
        others back for later."""
        stuck = {
            piece.due.key
            for piece, is_gone in zip(some, gone, strict=True)
            if not is_gone or piece.due.is_stuck
        }
        ops: list[Op] = [
            Delete(OBJECTS, piece.place)
            for piece, is_gone in zip(some, gone, strict=True)
            if is_gone and not piece.is_gone
        ]
        done = [piece.due for piece in some if piece.is_last and piece.due.key not in stuck]
        left = [piece.due for piece in some if piece.is_last and piece.due.key in stuck]
        for due in done:
            ops.append(Delete(DUE, due.key))
            self._looks.pop(due.row.name, None)
        for due in left:
            ops += postponed(due)
        await self._commit(ops)
        _COLLECTED.value += len(done)
        _POSTPONED.value += len(left)
        for piece in some:
            piece.due.is_stuck |= piece.due.key in stuck

    async def _forget(self, completed: Sequence[Due]) -> None:
        ops: list[Op] = []
        for due in completed:
            ops += (Delete(COMPLETED, due.row.name), Delete(DUE, due.key))
        await self._commit(ops)

    async def _end(self, due: Due) -> None:
        """Of an upload, or of the uploads of a bucket, as many as are ended together."""
        try:
            if due.row.waste is Waste.BUCKET:
                if not await ended_uploads.end(self._state, due.row.name):
                    return
            elif not await ended_uploads.let_go(self._state, self._store, due.row.name):
                await self._commit(postponed(due))
                _POSTPONED.value += 1
                return
            await self._commit([Delete(DUE, due.key)])
            _COLLECTED.value += 1
        except _OF_ALL:
            raise
        except Exception as error:
            await self._stuck(due, error)

    async def _stuck(self, due: Due, error: Exception) -> None:
        logger.warning(
            "garbage can not be let go of now",
            extra={"waste": due.row.waste.name, "garbage": due.row.name.hex(), "error": str(error)},
            exc_info=None if isinstance(error, PredastoreError) else error,
        )
        await self._commit(postponed(due))
        _POSTPONED.value += 1

    async def _commit(self, ops: Sequence[Op]) -> None:
        if ops:
            await self._state.commit(batch(*ops))

"""The one thread that writes to a store.

It takes all operations that wait, writes their records with as few calls as can be, answers those
that need not last, syncs once for all that must, and answers them: so concurrent requests share
one sync, and the next batch gathers while a sync runs. Index layers are written by a second
thread, so that no operation waits for lmdb unless it falls far behind.

A block is borrowed until its operation is answered. So a caller who is cancelled gets it back only
when the writer has not begun with it, or is done with it.

When writing or syncing fails, nothing is known about what is on disk: every operation fails with
StoreFailed from then on, until the store is opened again. Reads go on.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from pathlib import Path

from predastore.base import tracing
from predastore.base.errors import NodeFull, Overloaded, StoreFailed, anew
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    NODE_INDEX_LAYER_LOAD_MAX,
    NODE_QUEUE_BYTES_MAX,
    NODE_QUEUE_OPERATIONS_MAX,
)
from predastore.node.budget import BlockBudget
from predastore.node.disk import StoreDisk
from predastore.node.index import Index
from predastore.node.log import NewLayer, SegmentLog
from predastore.node.operations import StoreOperation
from predastore.node.segment import segment_path

logger = logging.getLogger(__name__)


class _Signal(Enum):
    WAKE = "look whether all is well"
    STOP = "end after what came before"


class Writer:
    """`run` from the event loop that made it; `unlinked` is called there with the numbers of
    segments that are gone."""

    def __init__(
        self,
        log: SegmentLog,
        index: Index,
        disk: StoreDisk,
        folder: Path,
        *,
        unlinked: Callable[[list[int]], None],
    ) -> None:
        self._log = log
        self._index = index
        self._disk = disk
        self._folder = folder
        self._unlinked = unlinked
        self._loop = asyncio.get_running_loop()
        self._budget = BlockBudget(NODE_QUEUE_BYTES_MAX, NODE_QUEUE_OPERATIONS_MAX)
        self._queue: queue.SimpleQueue[StoreOperation | _Signal] = queue.SimpleQueue()
        self._waiting = 0
        self._stopping = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._writing: tuple[NewLayer, Future[None]] | None = None
        self._index_thread = ThreadPoolExecutor(1, thread_name_prefix="node-index")
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._main, name="node-writer", daemon=True)
        self._thread.start()

    # --- in the event loop ----------------------------------------------------------------

    async def run(self, operation: StoreOperation) -> None:
        """Returns when the operation is done, or raises its error."""
        await self._budget.acquire(operation.size_bytes)
        if self._stopping or self.failure or self._waiting >= NODE_QUEUE_OPERATIONS_MAX:
            self._budget.release(operation.size_bytes)
            if self._stopping:
                raise StoreFailed("the store is closed")
            if self.failure:
                raise StoreFailed(self.failure)
            raise Overloaded("the node has too many writes waiting; try again later")
        self._waiting += 1
        self._queue.put(operation)
        try:
            await operation.future
        except asyncio.CancelledError:
            if operation.claim():
                self._release(operation)
            elif not operation.answered:
                operation.future = self._loop.create_future()
                await _outlast(operation.future)
            raise
        finally:
            # Its error has a traceback with frames that have the operation, and its block.
            del operation.future
        if tracing.tracer is not None and operation.synced_ns is not None:
            tracing.tracer.record("fdatasync", *operation.synced_ns)

    def _release(self, operation: StoreOperation) -> None:
        operation.answered = True
        self._waiting -= 1
        self._budget.release(operation.size_bytes)

    def _answer(self, operations: list[StoreOperation]) -> None:
        for operation in operations:
            self._release(operation)
            if operation.future.done():
                continue
            if operation.error is None:
                operation.future.set_result(None)
            else:
                operation.future.set_exception(anew(operation.error))

    def wake(self) -> None:
        """Has the writer look again whether its files are there, and whether the index can be
        written. Any thread may call."""
        self._queue.put(_Signal.WAKE)

    async def close(self) -> None:
        """Carries out what waits, writes the index, and ends the threads."""
        if not self._stopping:
            self._stopping = True
            self._queue.put(_Signal.STOP)
        await asyncio.shield(self._stopped)
        self._thread.join()

    # --- in the writer's thread -----------------------------------------------------------

    def _main(self) -> None:
        try:
            while True:
                batch, stop = self._take()
                self._carry_out(batch)
                del batch  # its blocks are others', while this waits
                if stop:
                    break
            self._finish()
        finally:
            self._in_loop(lambda: self._stopped.set_result(None))

    def _take(self) -> tuple[list[StoreOperation], bool]:
        """All that waits; and whether the writer is to stop after it."""
        batch: list[StoreOperation] = []
        item = self._queue.get()
        while item is not _Signal.STOP:
            if isinstance(item, StoreOperation) and item.claim():
                batch.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _carry_out(self, batch: list[StoreOperation]) -> None:
        left = batch
        try:
            if not self.failure:
                self._log.run(batch)
                early = [one for one in batch if not one.lasting or one.error]
                if early and len(early) < len(batch):
                    left = [one for one in batch if one.lasting and not one.error]
                    self._answer_soon(early)
                begun_ns = time.time_ns()
                self._log.sync()
                if tracing.tracer is not None:
                    for one in left:
                        one.synced_ns = (begun_ns, time.time_ns())
        except Exception as error:
            self._fail(error)
        if self.failure:
            for operation in left:
                operation.error = operation.error or StoreFailed(self.failure)
        self._answer_soon(left)
        if not self.failure:
            try:
                self._write_index()
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        logger.error("store accepts no more writes", exc_info=error)
        self.failure = (
            f"the node's disk failed ({error}); it accepts no writes until the disk is in order "
            "and the node is started again"
        )

    def _write_index(self) -> None:
        """Has the index written, when it is time."""
        if self._writing is not None:
            layer, written = self._writing
            if not written.done() and self._index.layer_load < NODE_INDEX_LAYER_LOAD_MAX:
                return
            if isinstance(written.exception(), NodeFull):
                self._begin_writing(layer)
                return
            written.result()
            self._writing = None
        if not self._log.layer_due:
            return
        try:
            layer = self._log.begin_layer()
        except NodeFull:
            return  # tried again after the next batch
        self._begin_writing(layer)

    def _begin_writing(self, layer: NewLayer) -> None:
        written = self._index_thread.submit(self._write_layer, layer)
        self._writing = (layer, written)
        written.add_done_callback(self._written)

    def _written(self, written: Future[None]) -> None:
        if not isinstance(written.exception(), NodeFull):  # that is tried again when asked for
            self.wake()

    def _finish(self) -> None:
        try:
            if self._writing is not None:
                layer, written = self._writing
                if isinstance(written.exception(), NodeFull):
                    self._write_layer(layer)
                else:
                    written.result()
            if not self.failure:
                self._write_layer(self._log.begin_layer())
        except Exception as error:
            # Nothing is lost: the next start reads the log from the last checkpoint on.
            logger.warning("index not written at close", exc_info=error)
        self._index_thread.shutdown()
        self._log.close()

    # --- in the index thread --------------------------------------------------------------

    def _write_layer(self, layer: NewLayer) -> None:
        try:
            self._index.write_frozen(layer.frozen)
        except NodeFull:
            # Room can be made here. If the process ends before the index is written, it does not
            # fit the segments any more, and is built again.
            self._unlink(layer.dead)
            self._index.write_frozen(layer.frozen)
        failpoint("node.index.written")
        self._unlink(layer.dead)

    def _unlink(self, dead: list[int]) -> None:
        if not dead:
            return
        gone = dead.copy()
        while dead:
            # One by one: a tombstone must never be gone before the commit that it revokes.
            with suppress(FileNotFoundError):  # it was lost, and what was in it has been replaced
                self._disk.unlink(segment_path(self._folder, dead[0]))
            del dead[0]
            self._disk.sync_folder(self._folder)
            failpoint("node.segment.unlinked")
        logger.info("segments unlinked", extra={"segments": gone})
        self._in_loop(lambda: self._unlinked(gone))

    # --- between threads ------------------------------------------------------------------

    def _answer_soon(self, operations: list[StoreOperation]) -> None:
        if operations:
            self._in_loop(lambda: self._answer(operations))

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            logger.debug("event loop ended before its store was closed")


async def _outlast(future: asyncio.Future[None]) -> None:
    """Waits for a future whatever happens to the waiter."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue  # the first cancellation is raised after this
    if not future.cancelled():
        future.exception()

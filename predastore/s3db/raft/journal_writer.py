"""Writes a journal beside the event loop: one write, with its sync, at a time.

Nearly all are a frame at the end of a file: those go to a thread that needs no interpreter
(_fast/syncer), so neither waits for the other. What else a write brings, a new segment or the
end of old ones, is done by a thread of Python's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from predastore._fast.syncer import Syncer
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import Record
from predastore.s3db.raft.worker import Worker


class JournalWriter:
    def __init__(
        self,
        journal: Journal,
        name: str,
        *,
        written: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`written` and `failed` are called on the loop, once for each `write`."""
        self._journal = journal
        self._written = written
        self._failed = failed
        self._worker = Worker(name, failed)
        self._syncer = Syncer()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._syncer.fileno(), self._synced)

    def write(self, records: Sequence[Record]) -> None:
        """Append a frame and sync it; not before the one before is written."""
        try:
            staged = self._journal.stage(records)
        except Exception as error:
            self._failed(error)
            return
        if staged is not None:
            self._syncer.begin(*staged)
            return

        def work() -> None:
            self._journal.append(records)
            self._journal.sync()

        self._worker.run(work, lambda _: self._written())

    def _synced(self) -> None:
        try:
            seconds = self._syncer.finish()
        except BlockingIOError:
            return  # a wake-up for nothing
        except OSError as error:
            self._failed(error)
            return
        self._journal.synced(seconds)
        self._written()

    async def close(self) -> None:
        """Waits for the write under way, whose end nobody is told, and closes the journal."""
        self._loop.remove_reader(self._syncer.fileno())
        await self._worker.close()
        await asyncio.to_thread(self._syncer.close)
        self._journal.close()

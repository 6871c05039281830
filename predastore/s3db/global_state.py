"""GlobalState: where records live; LocalState in this process, DistributedState in the cluster.

Tables hold byte keys and byte values. A read sees every commit that was acknowledged before it
began, through whichever process. A commit is durable when it returns; PreconditionFailed: nothing
was changed; OutcomeUnknown: it may or may not have happened. Procedures and questions
(s3db/procedures.py) are those that the process was wired with: `call` is a commit, `ask` a read.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from predastore.base.errors import (
    LevelTooLow,
    NodeFull,
    Overloaded,
    PredastoreError,
    StoreFailed,
    anew,
)
from predastore.base.limits import (
    BACKEND_COMMITS_WAITING_MAX,
    BACKEND_STATE_READ_THREADS,
    LEVELS_TOLD_MS,
    RETRY_PAUSE_MS_MAX,
)
from predastore.s3db import clock, commands
from predastore.s3db.clock import Clocks
from predastore.s3db.commands import Applied, Batch, Check, Command, Delete, Page, Put
from predastore.s3db.local_time import LocalTime
from predastore.s3db.procedures import NO_PROCEDURES, Procedures
from predastore.s3db.store import Store

if TYPE_CHECKING:
    from predastore.s3db.client import Client

T = TypeVar("T")

logger = logging.getLogger(__name__)


class GlobalState(Protocol):
    """The calls of both. `list`: entries and common prefixes greater than `after`, at most
    `limit` of both, and fewer where a bound on bytes is met: go on while `truncated`. `level`: of
    the procedures that may be called, now. `spare_bytes`: that records may take of a disk which the
    state has already; 0 where it has none of this process. `takes_inline`: bodies may lie in it."""

    @property
    def level(self) -> int: ...

    @property
    def spare_bytes(self) -> int: ...

    @property
    def takes_inline(self) -> bool: ...

    async def get(self, table: str, key: bytes) -> bytes | None: ...
    async def set(self, table: str, key: bytes, value: bytes) -> None: ...
    async def delete(self, table: str, key: bytes) -> None: ...
    async def exists(self, table: str, key: bytes) -> bool: ...
    async def list_keys(self, table: str, prefix: bytes, limit: int) -> builtins.list[bytes]: ...
    async def scan(
        self, table: str, prefix: bytes, after: bytes, limit: int
    ) -> builtins.list[tuple[bytes, bytes]]: ...
    async def read(self, wanted: Sequence[tuple[str, bytes]]) -> builtins.list[bytes | None]: ...
    async def list(
        self, table: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> Page: ...
    async def commit(self, batch: Batch) -> Applied: ...
    async def call(
        self, name: str, arguments: bytes, checks: tuple[Check, ...] = ()
    ) -> Applied: ...
    async def ask(self, name: str, arguments: bytes) -> bytes: ...
    async def close(self) -> None: ...


class LocalState:
    """A store of this process alone. Commits waiting together share one sync; where the disk has no
    room for all of them together, they are made one by one."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        procedures: Procedures = NO_PROCEDURES,
        clocks: Clocks | None = None,
    ) -> None:
        """`clocks`: this machine's, where none are given."""
        self._store = Store(path, durable=True, procedures=procedures, remembers=False)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state-write")
        self._readers = ThreadPoolExecutor(
            BACKEND_STATE_READ_THREADS, thread_name_prefix="state-read"
        )
        self._spare_bytes = self._store.spare_bytes()
        self._waiting: builtins.list[tuple[bytes, asyncio.Future[Applied]]] = []
        self._round: asyncio.Task[None] | None = None
        self._closed = False
        self._time = LocalTime(lambda: self._store.time, self._submit, clocks or clock.system())

    @property
    def spare_bytes(self) -> int:
        return self._spare_bytes

    @property
    def takes_inline(self) -> bool:
        return False

    @property
    def level(self) -> int:
        return self._store.procedures.level

    async def get(self, table: str, key: bytes) -> bytes | None:
        return await self._in_reader(self._store.get, table, key)

    async def set(self, table: str, key: bytes, value: bytes) -> None:
        await self.commit(commands.batch(Put(table, key, value)))

    async def delete(self, table: str, key: bytes) -> None:
        await self.commit(commands.batch(Delete(table, key)))

    async def exists(self, table: str, key: bytes) -> bool:
        return await self._in_reader(self._store.exists, table, key)

    async def list_keys(self, table: str, prefix: bytes, limit: int) -> builtins.list[bytes]:
        return await self._in_reader(self._store.list_keys, table, prefix, limit)

    async def scan(
        self, table: str, prefix: bytes, after: bytes, limit: int
    ) -> builtins.list[tuple[bytes, bytes]]:
        return await self._in_reader(self._store.scan, table, prefix, after, limit)

    async def read(self, wanted: Sequence[tuple[str, bytes]]) -> builtins.list[bytes | None]:
        return await self._in_reader(self._store.read, wanted)

    async def list(
        self, table: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> Page:
        return await self._in_reader(self._store.list, table, prefix, delimiter, after, limit)

    async def commit(self, batch: Batch) -> Applied:
        return await self._commit(batch)

    async def call(self, name: str, arguments: bytes, checks: tuple[Check, ...] = ()) -> Applied:
        if name not in self._store.procedures:
            raise self._store.procedures.unknown(name)
        return await self._commit(commands.call(name, arguments, checks))

    async def ask(self, name: str, arguments: bytes) -> bytes:
        self._time.start()
        return await self._in_reader(self._store.ask, name, arguments)

    async def _commit(self, command: Command) -> Applied:
        self._time.start()
        done = self._submit(command)
        try:
            return await done
        finally:
            del done  # its error has a traceback with this frame

    def _submit(self, command: Command) -> asyncio.Future[Applied]:
        encoded = commands.encode(command)
        if self._closed:
            raise StoreFailed("the state is closed")
        if len(self._waiting) >= BACKEND_COMMITS_WAITING_MAX:
            raise Overloaded("too many commits are waiting")
        done: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._waiting.append((encoded, done))
        if self._round is None:
            self._round = asyncio.ensure_future(self._apply_rounds())
        return done

    async def close(self) -> None:
        """Commits accepted before are done."""
        self._closed = True
        await self._time.close()
        if self._round is not None:
            await self._round
        self._readers.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        self._store.close()

    async def _apply_rounds(self) -> None:
        """While commits wait: all of them in one transaction, with one sync."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            taken, self._waiting = self._waiting, []
            index = self._store.applied_index
            entries = [(index + 1 + n, encoded) for n, (encoded, _) in enumerate(taken)]
            try:
                outcomes: Sequence[Applied | PredastoreError] = await loop.run_in_executor(
                    self._writer, self._apply_round, entries
                )
            except PredastoreError as error:
                outcomes = [anew(error)] * len(taken)
            except Exception as error:
                logger.exception("applying commits failed")
                outcomes = [StoreFailed(f"applying commits failed: {error}")] * len(taken)
            for (_, done), outcome in zip(taken, outcomes, strict=True):
                _settle(done, outcome)
        self._round = None

    def _apply_round(
        self, entries: Sequence[tuple[int, bytes]]
    ) -> builtins.list[Applied | PredastoreError]:
        outcomes = self._apply(entries)
        self._spare_bytes = self._store.spare_bytes()
        return outcomes

    def _apply(
        self, entries: Sequence[tuple[int, bytes]]
    ) -> builtins.list[Applied | PredastoreError]:
        try:
            return self._store.apply(entries)
        except PredastoreError as error:
            if len(entries) == 1:
                return [anew(error)]
            if not isinstance(error, NodeFull):
                raise
        return [outcome for entry in entries for outcome in self._apply([entry])]

    async def _in_reader(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)


class DistributedState:
    """The cluster's state, through a client that finds and follows the leader.

    Members of a new cluster say their level once they are in it. So for some seconds after the
    process has begun, a call that is refused for their level is tried again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told_s = time.monotonic() + LEVELS_TOLD_MS / 1000

    @property
    def spare_bytes(self) -> int:
        return 0

    @property
    def takes_inline(self) -> bool:
        return not self._client.is_crowded

    @property
    def level(self) -> int:
        return self._client.level

    async def get(self, table: str, key: bytes) -> bytes | None:
        return await self._client.get(table, key)

    async def set(self, table: str, key: bytes, value: bytes) -> None:
        await self.commit(commands.batch(Put(table, key, value)))

    async def delete(self, table: str, key: bytes) -> None:
        await self.commit(commands.batch(Delete(table, key)))

    async def exists(self, table: str, key: bytes) -> bool:
        return await self._client.exists(table, key)

    async def list_keys(self, table: str, prefix: bytes, limit: int) -> builtins.list[bytes]:
        return await self._client.list_keys(table, prefix, limit)

    async def scan(
        self, table: str, prefix: bytes, after: bytes, limit: int
    ) -> builtins.list[tuple[bytes, bytes]]:
        return await self._client.scan(table, prefix, after, limit)

    async def read(self, wanted: Sequence[tuple[str, bytes]]) -> builtins.list[bytes | None]:
        return await self._client.read(wanted)

    async def list(
        self, table: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> Page:
        return await self._client.list(table, prefix, delimiter, after, limit)

    async def commit(self, batch: Batch) -> Applied:
        return await self._client.commit(batch)

    async def call(self, name: str, arguments: bytes, checks: tuple[Check, ...] = ()) -> Applied:
        while True:
            try:
                return await self._client.call(name, arguments, checks)
            except LevelTooLow:
                if time.monotonic() > self._told_s:
                    raise
            await asyncio.sleep(RETRY_PAUSE_MS_MAX / 1000)

    async def ask(self, name: str, arguments: bytes) -> bytes:
        return await self._client.ask(name, arguments)

    async def close(self) -> None:
        """The client's endpoint belongs to the process."""


def _settle(done: asyncio.Future[Applied], outcome: Applied | PredastoreError) -> None:
    """Answers a waiting commit, if it still waits."""
    if done.done():
        return
    if isinstance(outcome, PredastoreError):
        done.set_exception(anew(outcome))
    else:
        done.set_result(outcome)

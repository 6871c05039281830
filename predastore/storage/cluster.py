"""What writers and readers of stripes share: the nodes, their health, memory, and threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from predastore.base.errors import FormatError, NodeError, RpcError
from predastore.base.limits import (
    BACKEND_DROP_TIMEOUT_MS,
    BACKEND_DROPS_MAX,
    BACKEND_READ_BYTES_MAX,
    BACKEND_WRITE_BYTES_MAX,
    HEDGES_MAX,
    NODE_DELETE_REFS_MAX,
    NODE_STATUS_TIMEOUT_MS,
    NODE_TAKES_TIMEOUT_MS,
    POOL_THREADS,
)
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring
from predastore.node.messages import BadShards, NodeStatus, ShardPlaces, ShardRows, ShardStat
from predastore.node.shard import ShardRef
from predastore.storage.buffers import Budget, Pool
from predastore.storage.health import Health

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

NODE_ERRORS: Final = (NodeError, RpcError, FormatError)


async def ended(tasks: list[asyncio.Task[Any]] | deque[asyncio.Task[Any]]) -> None:
    """Cancels what still runs of them, and returns at its end, with `tasks` empty: whatever one
    raised has a traceback with the caller's frame, and all that is known there."""
    try:
        running = [task for task in tasks if not task.done() and task.cancel()]
        if running:
            await asyncio.wait(running)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # looked at, so that it is not reported as lost
    finally:
        tasks.clear()


class Nodes(Protocol):
    """The part of node.client.NodeClient that is used here."""

    async def put(
        self, node: int, ref: ShardRef, block: Buffer, crc: int, *, timeout_ms: int
    ) -> None: ...
    async def append(
        self, node: int, ref: ShardRef, stripe: int, block: Buffer, crc: int, *, timeout_ms: int
    ) -> None: ...
    async def commit(
        self, node: int, ref: ShardRef, block_count: int, byte_count: int, *, timeout_ms: int
    ) -> None: ...
    async def read(
        self, node: int, ref: ShardRef, stripe: int, offset: int, length: int, *, timeout_ms: int
    ) -> memoryview: ...
    async def delete(self, node: int, refs: Sequence[ShardRef], *, timeout_ms: int) -> None: ...
    async def abort(self, node: int, ref: ShardRef, *, timeout_ms: int) -> None: ...
    async def stat(self, node: int, ref: ShardRef, *, timeout_ms: int) -> ShardStat: ...
    async def locate(
        self, node: int, ref: ShardRef, first: int, *, timeout_ms: int
    ) -> ShardPlaces: ...
    async def shards(
        self, node: int, after: bytes, limit: int, *, timeout_ms: int
    ) -> ShardRows: ...
    async def bad(self, node: int, after: bytes, limit: int, *, timeout_ms: int) -> BadShards: ...
    async def status(self, node: int, *, timeout_ms: int) -> NodeStatus: ...


class ShardCluster:
    """One for a DistributedStore."""

    def __init__(
        self, nodes: Nodes, ring: Ring, code: Code, block_bytes: int, write_shards: int
    ) -> None:
        """`write_shards`: so many must be durable before a write is acknowledged."""
        self.nodes = nodes
        self.code = code
        self.write_shards = write_shards
        self.block_bytes = block_bytes
        self.set_ring(ring)
        self.health = Health(asyncio.get_running_loop().time)
        self.write_budget = Budget(BACKEND_WRITE_BYTES_MAX)
        self.read_budget = Budget(BACKEND_READ_BYTES_MAX)
        self.pool = Pool()
        self.hedges = asyncio.Semaphore(HEDGES_MAX)
        self._threads = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="coding")
        self._drops: set[asyncio.Future[object]] = set()
        self._closed = False
        self._asking: dict[int, asyncio.Task[None]] = {}  # nodes that failed

    def set_ring(
        self, ring: Ring, draining: Iterable[int] = (), removed: Iterable[int] = ()
    ) -> None:
        """New shards go to the nodes of `ring` from now on; `draining` ones keep what they have
        until it has been moved; those that were `removed` are none of the cluster any more."""
        self.ring = ring
        self.active = frozenset(node.id for node in ring.nodes)
        self.known = self.active.union(draining)
        self.removed = frozenset(removed)

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Work on bulk data, which releases the GIL, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # --- nodes that fail ------------------------------------------------------------------

    def failed(self, node: int) -> None:
        """A request's call to `node` failed: until it answers again, others are asked first."""
        self.health.failed(node)
        if node in self.known and node not in self._asking and not self._closed:
            task = asyncio.ensure_future(self._ask(node))
            self._asking[node] = task
            task.add_done_callback(lambda _: self._asking.pop(node, None))

    async def _ask(self, node: int) -> None:
        """Asks the node how it is, after rests, until it answers."""
        while node in self.known and not self.health.is_well(node):
            await asyncio.sleep(self.health.rest_s(node))
            try:
                await self.nodes.status(node, timeout_ms=NODE_STATUS_TIMEOUT_MS)
            except NODE_ERRORS:
                self.health.failed_again(node)
            else:
                self.health.answered(node)

    async def count_takers(self, enough: int) -> int:
        """How many of the active nodes say that they take shards now; no further than `enough`."""
        asked = [asyncio.ensure_future(self._takes_shards(node)) for node in self.active]
        count = 0
        try:
            for answer in asyncio.as_completed(asked):
                count += await answer
                if count >= enough:
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return count

    async def _takes_shards(self, node: int) -> bool:
        try:
            status = await self.nodes.status(node, timeout_ms=NODE_TAKES_TIMEOUT_MS)
        except NODE_ERRORS:
            return False
        return not status.failure and status.free_bytes > 0

    # --- letting go -----------------------------------------------------------------------

    def drop_later(self, shards: Iterable[tuple[int, ShardRef]]) -> None:
        """Drops shards (node, ref) of an abandoned write, committed or not; best effort.

        What is not dropped is an orphan, for the daily pass.
        """
        self._later(lambda node, ref: self.delete(node, (ref,)), shards)

    def abort_later(self, shards: Iterable[tuple[int, ShardRef]]) -> None:
        """The same for those that are not committed, and only for those."""
        self._later(self._abort, shards)

    def _later(
        self,
        call: Callable[[int, ShardRef], Awaitable[object]],
        shards: Iterable[tuple[int, ShardRef]],
    ) -> None:
        for node, ref in shards:
            if node in self.known and len(self._drops) < BACKEND_DROPS_MAX:
                task = asyncio.ensure_future(call(node, ref))
                self._drops.add(task)
                task.add_done_callback(self._drops.discard)

    async def _abort(self, node: int, ref: ShardRef) -> None:
        with suppress(*NODE_ERRORS):
            await self.nodes.abort(node, ref, timeout_ms=BACKEND_DROP_TIMEOUT_MS)

    async def delete(self, node: int, refs: Sequence[ShardRef]) -> bool:
        """Whether `node` has let go of all of them."""
        if node not in self.known:
            return True  # it has left the cluster, and took its shards along
        for start in range(0, len(refs), NODE_DELETE_REFS_MAX):
            try:
                await self.nodes.delete(
                    node,
                    refs[start : start + NODE_DELETE_REFS_MAX],
                    timeout_ms=BACKEND_DROP_TIMEOUT_MS,
                )
            except NODE_ERRORS:
                return False
        return True

    async def close(self) -> None:
        self._closed = True
        asking = [*self._asking.values()]
        for asked in asking:
            asked.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        while self._drops:
            await asyncio.wait(self._drops)
        self._threads.shutdown(wait=True)

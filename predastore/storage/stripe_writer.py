"""Writing one object's bytes as shards: stripes are received, coded and sent, all three at once.

    body -> [stripe s] -> digests, parity, CRCs in a thread -> block i of stripe s to node i
             filling      stripe s-1                           stripe s-2

At most BACKEND_STRIPES_PER_REQUEST_MAX stripes are in memory, fewer when the process's budget is
short. A shard's blocks go to its node in order, then a commit; an object of one stripe needs one
`put` to each node. On success every shard that is not MISSING is durable.

A node that fails, or misses its deadline, in the first stripe is replaced by the next spare of
the ring. Later the shard is given up, as its earlier blocks are gone from memory. The quorum is
the cluster's `write_shards`, k or more. Where fewer are left, but k of an object of not too many
stripes, and a spare, the missing ones are made again at the end (stripe_restore); else the write
fails at once (NotEnoughNodes, NodeFull).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from typing import Any

from predastore.base.errors import NodeFull, NotEnoughNodes, Overloaded
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    BACKEND_BUSY_PAUSE_MS,
    BACKEND_FIRST_READ_BYTES,
    BACKEND_INLINE_BYTES_MAX,
    BACKEND_RESTORED_STRIPES_MAX,
    BACKEND_STRIPES_PER_REQUEST_MAX,
)
from predastore.coding import erasure
from predastore.node.shard import ShardRef
from predastore.storage.body import expect_end, fill, first_bytes
from predastore.storage.cluster import NODE_ERRORS, ShardCluster, ended
from predastore.storage.extents import MISSING, now_ms
from predastore.storage.interface import DigestSink, Source
from predastore.storage.stripe_restore import restore


@dataclass(slots=True)
class _Stripe:
    """A stripe in memory. `held_bytes`: its share of the budget."""

    number: int
    data_bytes: int
    buffer: bytearray | mmap
    held_bytes: int


class StripeWriter:
    """Writes one object once: `write`, and `abandon` if that raised. `may_end`: `size` is the most
    that it may have, until `write` has returned."""

    def __init__(
        self,
        cluster: ShardCluster,
        shard_hash: bytes,
        write_id: bytes,
        size: int,
        *,
        may_end: bool = False,
    ) -> None:
        self._cluster = cluster
        self._code = cluster.code
        self.size = size
        self._may_end = may_end
        self._refs = [ShardRef(shard_hash, write_id, index) for index in range(cluster.code.shards)]
        self._count = erasure.stripe_count(size, cluster.code, cluster.block_bytes)
        self._at_once = self._count == 1  # whatever the count is in the end
        self._left: list[tuple[int, ShardRef]] = []  # what may lie where it is not wanted
        self._full = False
        self.began_ms = 0  # Unix time before which no shard was durable
        self._quorum = cluster.write_shards
        self.nodes = cluster.ring.place(shard_hash, cluster.code.shards)
        self._spares: list[int] | None = None  # looked for when one is needed
        self._avoid_the_unwell()

    async def write(self, source: Source, digests: DigestSink) -> None:
        """Takes the whole body; on return `nodes` says where each shard is durable."""
        if self._count == 0:
            self.began_ms = now_ms()  # it has no shards that could be lost
            await expect_end(source)
        elif self._count == 1:
            await self._write_one(source, digests)
            self._give_up_departed()
            if self._placed() < self._quorum:
                raise self._too_few()
        else:
            await self._write_many(source, digests)
            if self._count:
                await self._commit()
            else:
                self.began_ms = now_ms()
            self._give_up_departed()
            await self._restore()
        self._drop_strays()

    async def _write_one(self, source: Source, digests: DigestSink) -> None:
        stripe = await self._receive(0, source, deque())
        try:
            self.began_ms = now_ms()
            if stripe.data_bytes:
                await self._send(stripe, *await self._code_stripe(stripe, digests))
        finally:
            self._cluster.write_budget.give(stripe.held_bytes)

    async def _write_many(self, source: Source, digests: DigestSink) -> None:
        pending: deque[asyncio.Task[None]] = deque()
        coded, sent = _done(), _done()
        try:
            number = 0
            while number < self._count:
                while len(pending) >= BACKEND_STRIPES_PER_REQUEST_MAX:
                    await pending.popleft()
                stripe = await self._receive(number, source, pending)
                if not stripe.data_bytes:
                    self._cluster.write_budget.give(stripe.held_bytes)
                    break
                number += 1
                done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                pending.append(
                    asyncio.ensure_future(self._forward(stripe, digests, coded, done, sent))
                )
                # Not in the task, which never begins where it is cancelled soon enough.
                pending[-1].add_done_callback(partial(self._give_back, stripe.held_bytes))
                coded, sent = done, pending[-1]
            while pending:
                await pending.popleft()
        finally:
            del sent  # as `ended` clears `pending`
            await ended(pending)

    def _give_back(self, held_bytes: int, _: asyncio.Future[None]) -> None:
        self._cluster.write_budget.give(held_bytes)

    def abandon(self) -> None:
        """Drops everything that was written, in the background."""
        placed = zip(self.nodes, self._refs, strict=True)
        self._cluster.drop_later(
            [*self._left, *((node, ref) for node, ref in placed if node != MISSING)]
        )
        self._left = []

    def _drop_strays(self) -> None:
        """Where a shard has no node, healing may build it on that of a stray, and a late delete
        would take it from there: such a stray is only forgotten, if it is not committed."""
        homeless = {shard for shard, node in enumerate(self.nodes) if node == MISSING}
        self._cluster.drop_later([left for left in self._left if left[1].index not in homeless])
        self._cluster.abort_later([left for left in self._left if left[1].index in homeless])
        self._left = []

    # --- receiving ------------------------------------------------------------------------

    async def _receive(
        self, number: int, source: Source, pending: deque[asyncio.Task[None]]
    ) -> _Stripe:
        """The next stripe, filled; of the last one the body's end has been seen, too. Where the
        body may end, it may be that there is nothing in it."""
        geometry = erasure.stripe_geometry(self.size, self._code, self._cluster.block_bytes, number)
        count = geometry.data_bytes
        size_bytes = erasure.stripe_bytes(self._code, count)
        first = b""
        if number == 0 and count > BACKEND_FIRST_READ_BYTES:
            first = await first_bytes(source, may_end=self._may_end)
        held = size_bytes if count > BACKEND_INLINE_BYTES_MAX else 0
        if held:
            await self._take(held, pending)
        try:
            buffer = self._cluster.pool.get(size_bytes)
            with memoryview(buffer) as view:
                view[: len(first)] = first
                budget = self._cluster.write_budget
                filled = await fill(source, view[:count], len(first), budget, may_end=self._may_end)
            if filled < count:
                self.size, self._count = geometry.offset_bytes + filled, number + bool(filled)
            if number >= self._count - 1:
                await expect_end(source)
        except BaseException:
            self._cluster.write_budget.give(held)
            raise
        return _Stripe(number, filled, buffer, held)

    async def _take(self, count: int, pending: deque[asyncio.Task[None]]) -> None:
        """A share of the budget; whoever holds one already does not wait for others."""
        while not self._cluster.write_budget.try_take(count):
            if not pending:
                await self._cluster.write_budget.take(count)
                return
            await pending.popleft()

    # --- coding and sending ---------------------------------------------------------------

    async def _forward(
        self,
        stripe: _Stripe,
        digests: DigestSink,
        coded_before: asyncio.Future[None],
        coded: asyncio.Future[None],
        sent_before: asyncio.Future[None],
    ) -> None:
        """Codes the stripe after the one before was coded, and sends it after that was sent."""
        try:
            await asyncio.wait((coded_before,))
            length, crcs = await self._code_stripe(stripe, digests)
            coded.set_result(None)
            await asyncio.shield(sent_before)
            await self._send(stripe, length, crcs)
            failpoint("put.stripe.sent")
        finally:
            coded.cancel()
            del sent_before  # its error has a traceback with this frame

    async def _code_stripe(self, stripe: _Stripe, digests: DigestSink) -> tuple[int, list[int]]:
        """The length of the stripe's blocks, and the CRC of each."""
        if stripe.data_bytes <= BACKEND_INLINE_BYTES_MAX:
            return self._encode(stripe, digests)
        return await self._cluster.in_thread(self._encode, stripe, digests)

    def _encode(self, stripe: _Stripe, digests: DigestSink) -> tuple[int, list[int]]:
        with memoryview(stripe.buffer) as view:
            digests.update(view[: stripe.data_bytes])
        return erasure.encode_stripe(self._code, stripe.buffer, stripe.data_bytes)

    async def _send(self, stripe: _Stripe, length: int, crcs: list[int]) -> None:
        view = memoryview(stripe.buffer)
        await _all(
            [
                self._send_block(
                    shard, stripe.number, view[shard * length : (shard + 1) * length], crcs[shard]
                )
                for shard, node in enumerate(self.nodes)
                if node != MISSING
            ]
        )
        if self._placed() < self._quorum and not self._can_restore():
            raise self._too_few()

    async def _send_block(self, shard: int, number: int, block: memoryview, crc: int) -> None:
        """One block to its node, or, in the first stripe, to the first spare that takes it."""
        nodes, ref = self._cluster.nodes, self._refs[shard]
        while (node := self.nodes[shard]) != MISSING:
            if self._at_once:
                call = partial(nodes.put, node, ref, block, crc)
            else:
                call = partial(nodes.append, node, ref, number, block, crc)
            if await self._done_by(node, call):
                return
            self._give_up(shard, replace=number == 0)

    async def _done_by(self, node: int, call: Callable[..., Awaitable[None]]) -> bool:
        """Whether `node` did it in time; what it is too busy for is asked of it again."""
        clock = asyncio.get_running_loop().time
        timeout_ms = self._cluster.health.write_timeout_ms(node)
        give_up_at = clock() + timeout_ms / 1000
        pause_s = BACKEND_BUSY_PAUSE_MS / 1000
        while True:
            began = clock()
            try:
                await call(timeout_ms=timeout_ms)
            except Overloaded:
                if clock() + pause_s > give_up_at:
                    return False
                await asyncio.sleep(pause_s)
                pause_s *= 2
            except NODE_ERRORS as error:
                self._full = self._full or isinstance(error, NodeFull)
                self._cluster.failed(node)
                return False
            else:
                self._cluster.health.wrote(node, clock() - began)
                return True

    async def _commit(self) -> None:
        """Makes the shards of an object of several stripes durable."""
        byte_count = erasure.shard_bytes(self.size, self._code, self._cluster.block_bytes)
        self.began_ms = now_ms()

        async def commit(shard: int, node: int) -> None:
            ref = self._refs[shard]
            call = partial(self._cluster.nodes.commit, node, ref, self._count, byte_count)
            if not await self._done_by(node, call):
                self._give_up(shard, replace=False)

        await _all(
            [commit(shard, node) for shard, node in enumerate(self.nodes) if node != MISSING]
        )

    async def _restore(self) -> None:
        """Makes shards again on spares until there is a quorum, if k are durable."""
        while self._placed() < self._quorum:
            if not self._can_restore():
                raise self._too_few()
            shard, spare = self.nodes.index(MISSING), self._next_spare()
            holders = {index: node for index, node in enumerate(self.nodes) if node != MISSING}
            stray = (spare, self._refs[shard])
            self._left.append(stray)
            if await restore(
                self._cluster, self._refs, holders, self.size, shard, spare, self._done_by
            ):
                self._left.remove(stray)
                self.nodes[shard] = spare

    # --- nodes that fail ------------------------------------------------------------------

    def _avoid_the_unwell(self) -> None:
        """Nodes that rest after a failure are not asked, unless the quorum needs them."""
        well = [self._cluster.health.is_well(node) for node in self.nodes]
        for shard, is_well in enumerate(well):
            if not is_well:
                spare = self._next_spare()
                if spare != MISSING or sum(well) >= self._quorum:
                    self.nodes[shard] = spare

    def _next_spare(self) -> int:
        """The best other node that is well; MISSING when there is none left."""
        spares = self._well_spares()
        return spares.pop(0) if spares else MISSING

    def _well_spares(self) -> list[int]:
        if self._spares is None:
            used = [*self.nodes, *(node for node, _ in self._left)]
            ranked = self._cluster.ring.spares(self._refs[0].object_hash, used)
            self._spares = [node for node in ranked if self._cluster.health.is_well(node)]
        return self._spares

    def _give_up(self, shard: int, *, replace: bool) -> None:
        self._left.append((self.nodes[shard], self._refs[shard]))
        self.nodes[shard] = self._next_spare() if replace else MISSING

    def _give_up_departed(self) -> None:
        """What lies on nodes that have left the cluster since the write began is nobody's."""
        for shard, node in enumerate(self.nodes):
            if node != MISSING and node not in self._cluster.known:
                self._give_up(shard, replace=False)

    def _placed(self) -> int:
        return len(self.nodes) - self.nodes.count(MISSING)

    def _can_restore(self) -> bool:
        """Whether what lacks for a quorum can be made again once the others are committed."""
        return (
            1 < self._count <= BACKEND_RESTORED_STRIPES_MAX
            and self._placed() >= self._code.k
            and bool(self._well_spares())
        )

    def _too_few(self) -> NodeFull | NotEnoughNodes:
        message = (
            f"{self._placed()} of {len(self.nodes)} shards were placed, {self._quorum} are needed"
        )
        return NodeFull(message) if self._full else NotEnoughNodes(message)


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    """Runs all at once; whatever one raises, or a cancellation, is raised when all have ended.

    They are short, and there are few: each is awaited in turn, which costs less than a `gather`.
    """
    create_task = asyncio.get_running_loop().create_task
    tasks = deque(create_task(each) for each in work)
    try:
        while tasks:
            await tasks.popleft()
    finally:
        await ended(tasks)  # buffers are lent until then


def _done() -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done

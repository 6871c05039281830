"""Reading a range of one extent from its shards, whatever k of them can be had.

Stripe by stripe, some read ahead: the runs of data blocks that the range needs are asked for
together, and handed on as they come. Where one is missing, corrupt or slow, whole blocks of other
shards are read and what is wanted is computed from any k of them; whichever is there first
counts. A node that failed or was slow is not waited for again by the same read.

Each block was verified by its node against the CRC that the coder computed, so what arrives is
right or an error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import groupby

from predastore.base.errors import ObjectUnreadable, Overloaded, ShardCorrupt, ShardNotFound
from predastore.base.limits import (
    BACKEND_BUSY_PAUSE_MS,
    BACKEND_INLINE_BYTES_MAX,
    BACKEND_PATIENCE_MS,
    BACKEND_PATIENCE_PAUSE_MS,
    BACKEND_READ_TIMEOUT_MS,
    BACKEND_SLOW_STRIPES,
    BACKEND_STRIPES_PER_REQUEST_MAX,
)
from predastore.coding import erasure
from predastore.coding.erasure import Code, Slice
from predastore.node.shard import ShardRef
from predastore.storage.cluster import NODE_ERRORS, Buffer, ShardCluster, ended
from predastore.storage.extents import ShardExtent
from predastore.storage.interface import Damaged


class StripeReader:
    """Reads one extent; `damaged` is told of shards that are missing from their nodes or bad."""

    def __init__(self, cluster: ShardCluster, extent: ShardExtent, damaged: Damaged) -> None:
        self.cluster = cluster
        self.extent = extent
        self.code = Code(extent.k, extent.m)
        # MISSING, or on a node that has left the configuration.
        self.gone = {n for n, node in enumerate(extent.nodes) if node not in cluster.known}
        self._unreached: set[int] = set()  # those of `gone` whose nodes may come back
        self._patient_until = 0.0  # loop time; set when patience is first needed
        self._slow_until: dict[int, int] = {}  # shard -> the stripe from which it is asked again
        self._damaged = damaged
        self._refs = [
            ShardRef(extent.shard_hash, extent.write_id, index) for index in range(self.code.shards)
        ]

    def read(self, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        """The bytes [start, end); ObjectUnreadable."""
        full_stripe = self.code.k * self.extent.block_bytes
        if start < end and start // full_stripe == (end - 1) // full_stripe:
            return self._read_one(start, end)
        return self._read_many(start, end)

    async def _read_one(self, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        """Bytes of a single stripe: nothing is read ahead, so no task is needed for it. A few
        take no share of the budget, as when they are written."""
        (runs,) = self._stripes(start, end)
        if end - start <= BACKEND_INLINE_BYTES_MAX:
            for buffer in await self._fetch(runs):
                yield buffer
            return
        budget = self.cluster.read_budget
        await budget.take(end - start)
        try:
            for buffer in await self._fetch(runs):
                with budget.with_client():
                    yield buffer
        finally:
            budget.give(end - start)

    async def _read_many(self, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        stripes = self._stripes(start, end)
        budget = self.cluster.read_budget
        ahead: deque[tuple[asyncio.Task[list[Buffer]], int]] = deque()
        upcoming = next(stripes, None)
        try:
            while upcoming is not None or ahead:
                while upcoming is not None and len(ahead) < BACKEND_STRIPES_PER_REQUEST_MAX - 1:
                    cost = sum(run.length_bytes for run in upcoming)
                    if not budget.try_take(cost):
                        if ahead:
                            break
                        await budget.take(cost)
                    ahead.append((asyncio.ensure_future(self._fetch(upcoming)), cost))
                    upcoming = next(stripes, None)
                for buffer in await ahead[0][0]:
                    with budget.with_client():
                        yield buffer
                _, cost = ahead.popleft()
                budget.give(cost)
        finally:
            budget.give(sum(cost for _, cost in ahead))
            await ended(deque(ahead.popleft()[0] for _ in range(len(ahead))))

    def _stripes(self, start: int, end: int) -> Iterator[list[Slice]]:
        """The runs of each stripe that the range touches."""
        extent = self.extent
        runs = erasure.slices(extent.size, self.code, extent.block_bytes, start, end)
        for _, group in groupby(runs, lambda run: run.stripe):
            yield list(group)

    async def _fetch(self, runs: list[Slice]) -> list[Buffer]:
        return await _StripeFetch(self, runs).run()

    async def read_block(self, shard: int, stripe: int, offset: int, length: int) -> memoryview:
        """Part of a block; an error of NODE_ERRORS, after which the shard is not asked again,
        but for one corrupt block, which says nothing about the others."""
        node = self.extent.nodes[shard]
        try:
            return await self._read_block(node, self._refs[shard], stripe, offset, length)
        except NODE_ERRORS as error:
            if isinstance(error, ShardNotFound | ShardCorrupt):
                self._damaged(self.extent, shard)
            elif not isinstance(error, Overloaded):
                self.cluster.failed(node)
            if not isinstance(error, ShardCorrupt):
                self.gone.add(shard)
            if not isinstance(error, ShardCorrupt | ShardNotFound):
                self._unreached.add(shard)
            raise

    async def forgiven(self) -> set[int]:
        """Shards to ask once more, after a pause; none when the read has waited long enough.

        Too few shards can be had, and some nodes did not answer: one that has just been started
        again is reached within the time that rpc takes to dial it anew.
        """
        now = asyncio.get_running_loop().time()
        self._patient_until = self._patient_until or now + BACKEND_PATIENCE_MS / 1000
        if not self._unreached or now > self._patient_until:
            return set()
        await asyncio.sleep(BACKEND_PATIENCE_PAUSE_MS / 1000)
        self.gone -= self._unreached
        return set(self._unreached)

    async def _read_block(
        self, node: int, ref: ShardRef, stripe: int, offset: int, length: int
    ) -> memoryview:
        """What the node is too busy for is asked of it again."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + BACKEND_READ_TIMEOUT_MS / 1000
        pause_s = BACKEND_BUSY_PAUSE_MS / 1000
        health = self.cluster.health
        while True:
            began = clock()
            health.reads(node)
            try:
                data = await self.cluster.nodes.read(
                    node, ref, stripe, offset, length, timeout_ms=BACKEND_READ_TIMEOUT_MS
                )
            except Overloaded:
                health.replied(node)
                if clock() + pause_s > give_up_at:
                    raise
                await asyncio.sleep(pause_s)
                pause_s *= 2
            except NODE_ERRORS:
                health.replied(node)
                raise
            else:
                health.replied(node)
                health.has_read(node, clock() - began)
                return data

    def by_preference(self, shards: Sequence[int], stripe: int) -> list[int]:
        """Shards worth asking, the best first: those without doubts, data before parity."""
        usable = [shard for shard in shards if shard not in self.gone]
        return sorted(usable, key=lambda shard: (self.is_doubtful(shard, stripe), shard))

    def is_doubtful(self, shard: int, stripe: int) -> bool:
        """Whether others are to be asked before this shard: it failed, or was slow of late."""
        return (
            shard in self.gone
            or self._slow_until.get(shard, 0) > stripe
            or not self.cluster.health.is_well(self.extent.nodes[shard])
            or self.cluster.health.is_silent(self.extent.nodes[shard])
        )

    def was_slow(self, shard: int, stripe: int) -> None:
        self._slow_until[shard] = stripe + BACKEND_SLOW_STRIPES


class _StripeFetch:
    """One stripe's runs. `whole`: blocks that are here in full; `parts`: runs that are here."""

    def __init__(self, reader: StripeReader, runs: list[Slice]) -> None:
        self._reader = reader
        self._runs = runs
        self._stripe = runs[0].stripe
        extent = reader.extent
        self._block_bytes = erasure.stripe_geometry(
            extent.size, reader.code, extent.block_bytes, self._stripe
        ).block_bytes
        self._wanted = {run.block: run for run in runs}
        self._parts: dict[int, Buffer] = {}
        self._whole: dict[int, memoryview] = {}
        self._asked_whole: set[int] = set()
        self._tasks: dict[asyncio.Task[memoryview], int] = {}

    async def run(self) -> list[Buffer]:
        """The runs in order."""
        try:
            for shard, run in self._wanted.items():
                if not self._reader.is_doubtful(shard, self._stripe):
                    self._ask(shard, run.offset_bytes, run.length_bytes)
            late = 0
            if len(self._tasks) == len(self._wanted):
                late = await self._wait_for_all(self._reader.cluster.health.hedge_s)
            if len(self._parts) < len(self._wanted):
                await self._rebuild(late)
        finally:
            await ended([*self._tasks])
        return [self._parts[run.block] for run in self._runs]

    def _ask(self, shard: int, offset: int, length: int) -> None:
        if length == self._block_bytes:
            self._asked_whole.add(shard)
        reading = self._reader.read_block(shard, self._stripe, offset, length)
        self._tasks[asyncio.get_running_loop().create_task(reading)] = shard

    async def _wait_for_all(self, seconds: float) -> int:
        """Until every run is here, one has failed, or it takes too long: how many blocks that were
        asked for in full are late."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        asked_count = len(self._tasks)
        await asyncio.sleep(0)  # nodes of this process answer in one turn from the page cache
        self._collect({task for task in self._tasks if task.done()})
        while self._tasks and (left := deadline - clock()) > 0:
            if len(self._parts) + len(self._tasks) < asked_count:
                return 0
            await self._wait(left)
        return sum(shard in self._asked_whole for shard in self._tasks.values())

    async def _wait(self, seconds: float) -> bool:
        """Waits for the next answer, and takes what came; False when nothing did."""
        done, _ = await asyncio.wait(
            self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return self._collect(done)

    def _collect(self, done: set[asyncio.Task[memoryview]]) -> bool:
        """Takes what came, and leaves `done` empty (as `ended` does); False when it was."""
        came = bool(done)
        while done:
            task = done.pop()
            shard = self._tasks.pop(task)
            try:
                self._take(shard, task.result())
            except NODE_ERRORS:
                continue  # asked of another
            finally:
                del task
        return came

    def _take(self, shard: int, data: memoryview) -> None:
        run = self._wanted.get(shard)
        if len(data) == self._block_bytes:
            self._whole[shard] = data
            if run is not None:
                data = data[run.offset_bytes : run.offset_bytes + run.length_bytes]
        if run is not None:
            self._parts.setdefault(shard, data)

    async def _rebuild(self, late: int) -> None:
        """Whole blocks of any k shards, unless the runs that are late come first."""
        while not await self._rebuilt(late):
            back = await self._reader.forgiven()
            if not back:
                raise ObjectUnreadable(
                    f"{len(self._whole)} of {self._reader.code.k} blocks of stripe {self._stripe} "
                    "can be had"
                )
            self._asked_whole -= back

    async def _rebuilt(self, extra: int) -> bool:
        """False when there is no shard left to ask. `extra`: blocks to ask for beyond the k that
        are here or under way."""
        reader = self._reader
        async with reader.cluster.hedges:
            while len(self._parts) < len(self._wanted):
                if len(self._whole) >= reader.code.k:
                    self._mark_slow()
                    await self._reconstruct()
                    return True
                self._ask_for_more(reader.code.k + extra)
                if not self._tasks:
                    return False
                if not await self._wait(reader.cluster.health.hedge_s):
                    extra += 1
        return True

    def _ask_for_more(self, count: int) -> None:
        """Asks until `count` whole blocks are here or on their way, as far as there are shards."""
        reader = self._reader
        under_way = sum(shard in self._asked_whole for shard in self._tasks.values())
        lacking = count - len(self._whole) - under_way
        if lacking <= 0:
            return
        rest = [shard for shard in range(reader.code.shards) if shard not in self._asked_whole]
        for shard in reader.by_preference(rest, self._stripe)[:lacking]:
            self._ask(shard, 0, self._block_bytes)

    def _mark_slow(self) -> None:
        """Whoever has not answered by now is asked last for a while."""
        for shard in self._tasks.values():
            self._reader.was_slow(shard, self._stripe)

    async def _reconstruct(self) -> None:
        reader = self._reader
        missing = [shard for shard in self._wanted if shard not in self._parts]
        arguments = (reader.code, self._whole, missing, self._block_bytes)
        if self._block_bytes * reader.code.k <= BACKEND_INLINE_BYTES_MAX:
            blocks = erasure.reconstruct(*arguments)
        else:
            blocks = await reader.cluster.in_thread(erasure.reconstruct, *arguments)
        for shard, block in blocks.items():
            self._take(shard, memoryview(block))

"""Making shards of one extent anew, on nodes where they are wanted, stripe by stripe.

A shard is copied from a node that has it, if one does; else its blocks are computed from those of
any k others, which are read once for all shards that are wanted. So of each stripe at most k
blocks are read, or one for each shard that is copied, and every block is written once. A few
stripes are in memory at most. Blocks come checked by their nodes against the CRC that the first
coder computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from predastore._fast.crc import crc32c
from predastore.base.errors import NotEnoughNodes, ObjectUnreadable, ShardCorrupt, ShardNotFound
from predastore.base.failpoints import failpoint
from predastore.base.limits import BACKEND_INLINE_BYTES_MAX, HEALING_CALL_TIMEOUT_MS
from predastore.coding import erasure
from predastore.coding.erasure import Code
from predastore.jobs.healing.context import HealingContext
from predastore.storage.cluster import NODE_ERRORS, Buffer
from predastore.storage.extents import MISSING, ShardExtent
from predastore.storage.interface import Damaged


class Rebuild:
    """`wanted`: the node for each shard to be made. `copied`: those of them to be copied from
    their present nodes. `stripes`: of shards that stay where they are and have some bad blocks,
    which. `damaged` is told of other shards that are found missing or bad."""

    def __init__(
        self,
        context: HealingContext,
        extent: ShardExtent,
        wanted: Mapping[int, int],
        *,
        copied: frozenset[int] = frozenset(),
        stripes: Mapping[int, frozenset[int]] | None = None,
        damaged: Damaged,
    ) -> None:
        self._context = context
        self._nodes = context.cluster.nodes
        self._extent = extent
        self._code = Code(extent.k, extent.m)
        self._wanted = dict(wanted)
        self._copied = set(copied)
        self._only = dict(stripes or {})
        self._damaged = damaged
        self._gone = {
            shard
            for shard, node in enumerate(extent.nodes)
            if node == MISSING
            or not context.watch.is_up(node)
            or (shard in wanted and shard not in copied and shard not in self._only)
        }
        self.read_bytes = 0
        self.written_bytes = 0

    async def run(self) -> frozenset[int]:
        """The shards that are durable where they are wanted; the others' nodes failed.
        ObjectUnreadable: fewer than k shards can be had now."""
        extent = self._extent
        count = erasure.stripe_count(extent.size, self._code, extent.block_bytes)
        try:
            for stripe in range(count):
                shards = [shard for shard in self._wanted if self._is_wanted(shard, stripe)]
                if shards:
                    await self._stripe(stripe, count, shards)
                    failpoint("healing.rebuild.stripe")
            if count > 1:
                await self._commit(count)
        except BaseException:
            await self._abort(count)
            raise
        return frozenset(self._wanted)

    def _is_wanted(self, shard: int, stripe: int) -> bool:
        return shard not in self._only or stripe in self._only[shard]

    async def _stripe(self, stripe: int, count: int, shards: list[int]) -> None:
        context, extent = self._context, self._extent
        length = erasure.stripe_geometry(
            extent.size, self._code, extent.block_bytes, stripe
        ).block_bytes
        held = (self._code.k + len(shards)) * length
        urgent = self._code.shards - len(self._gone) <= self._code.k
        async with context.throttle.slot(urgent=urgent) as turn:
            await context.budget.take(held)
            try:
                before = self.read_bytes + self.written_bytes
                blocks = await self._blocks(stripe, length, shards)
                await asyncio.gather(
                    *(self._write(shard, stripe, count, blocks[shard]) for shard in shards)
                )
                turn.byte_count = self.read_bytes + self.written_bytes - before
            finally:
                context.budget.give(held)
        if not self._wanted:
            raise NotEnoughNodes("no node took the shards that were made")

    # --- reading --------------------------------------------------------------------------

    async def _blocks(self, stripe: int, length: int, shards: list[int]) -> dict[int, Buffer]:
        """The stripe's block of each of the shards."""
        failed = {shard for shard, bad in self._only.items() if stripe in bad}
        have: dict[int, Buffer] = {}
        await self._read(sorted(self._copied.intersection(shards)), stripe, length, have, failed)
        lacking = [shard for shard in shards if shard not in have]
        if not lacking:
            return have
        while (lacks := self._code.k - len(have)) > 0:
            usable = set(range(self._code.shards)).difference(self._gone, failed, have)
            if len(usable) < lacks:
                raise ObjectUnreadable(
                    f"{len(have) + len(usable)} of {self._code.k} blocks of stripe {stripe} "
                    "can be had"
                )
            best = sorted(usable, key=lambda shard: (not self._is_well(shard), shard))
            await self._read(best[:lacks], stripe, length, have, failed)
        return have | await self._reconstruct(have, lacking, length)

    def _is_well(self, shard: int) -> bool:
        return self._context.cluster.health.is_well(self._extent.nodes[shard])

    async def _read(
        self,
        shards: list[int],
        stripe: int,
        length: int,
        have: dict[int, Buffer],
        failed: set[int],
    ) -> None:
        """Adds to `have` what can be read, and to `failed` what can not."""
        blocks = await asyncio.gather(*(self._read_one(each, stripe, length) for each in shards))
        for shard, block in zip(shards, blocks, strict=True):
            if block is None:
                failed.add(shard)
            else:
                have[shard] = block
                self.read_bytes += length

    async def _read_one(self, shard: int, stripe: int, length: int) -> Buffer | None:
        node, ref = self._extent.nodes[shard], self._context.ref(self._extent, shard)
        try:
            return await self._nodes.read(
                node, ref, stripe, 0, length, timeout_ms=HEALING_CALL_TIMEOUT_MS
            )
        except NODE_ERRORS as error:
            if isinstance(error, ShardNotFound | ShardCorrupt):
                self._damaged(self._extent, shard)
            if not isinstance(error, ShardCorrupt):  # of which other blocks may be good
                self._gone.add(shard)
                self._copied.discard(shard)
            return None

    async def _reconstruct(
        self, have: Mapping[int, Buffer], lacking: list[int], length: int
    ) -> dict[int, Buffer]:
        arguments = (self._code, have, lacking, length)
        if length * self._code.k <= BACKEND_INLINE_BYTES_MAX:
            return {**erasure.reconstruct(*arguments)}
        return {**await self._context.cluster.in_thread(erasure.reconstruct, *arguments)}

    # --- writing --------------------------------------------------------------------------

    async def _write(self, shard: int, stripe: int, count: int, block: Buffer) -> None:
        node, ref = self._wanted[shard], self._context.ref(self._extent, shard)
        if len(block) <= BACKEND_INLINE_BYTES_MAX:
            crc = crc32c(block)
        else:
            crc = await self._context.cluster.in_thread(crc32c, block)
        if count == 1:
            call = partial(self._nodes.put, node, ref, block, crc)
        else:
            call = partial(self._nodes.append, node, ref, stripe, block, crc)
        try:
            await call(timeout_ms=HEALING_CALL_TIMEOUT_MS)
        except NODE_ERRORS:
            del self._wanted[shard]
            self._copied.discard(shard)
            await self._abort_one(node, shard)
        else:
            self.written_bytes += len(block)

    async def _commit(self, count: int) -> None:
        extent = self._extent
        byte_count = erasure.shard_bytes(extent.size, self._code, extent.block_bytes)

        async def commit(shard: int, node: int) -> None:
            try:
                await self._nodes.commit(
                    node,
                    self._context.ref(extent, shard),
                    count,
                    byte_count,
                    timeout_ms=HEALING_CALL_TIMEOUT_MS,
                )
            except NODE_ERRORS:
                del self._wanted[shard]

        await asyncio.gather(*(commit(*each) for each in list(self._wanted.items())))

    async def _abort(self, count: int) -> None:
        if count > 1:
            for shard, node in self._wanted.items():
                await self._abort_one(node, shard)

    async def _abort_one(self, node: int, shard: int) -> None:
        try:
            await self._nodes.abort(
                node, self._context.ref(self._extent, shard), timeout_ms=HEALING_CALL_TIMEOUT_MS
            )
        except NODE_ERRORS:
            return  # it forgets by itself what nobody adds to

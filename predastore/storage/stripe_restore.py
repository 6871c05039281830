"""A shard of an object that is being written, made again from the k others that are durable.

Where nodes die in the middle of a body, the earlier blocks of their shards are gone from memory,
and with fewer than the quorum left the write would have to fail. The k shards that were committed
have all of it: stripe by stripe their blocks are read, the missing one is computed, and a spare
node takes it. One stripe is in memory at a time, within the writers' budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from predastore._fast.crc import crc32c
from predastore.base.limits import BACKEND_READ_TIMEOUT_MS
from predastore.coding import erasure
from predastore.node.shard import ShardRef
from predastore.storage.cluster import NODE_ERRORS, ShardCluster

DoneBy = Callable[[int, Callable[..., Awaitable[None]]], Awaitable[bool]]


async def restore(
    cluster: ShardCluster,
    refs: Sequence[ShardRef],
    holders: Mapping[int, int],
    size: int,
    shard: int,
    spare: int,
    done_by: DoneBy,
) -> bool:
    """Whether `shard` is durable at `spare` now. `holders`: the node of each of k durable shards.

    False: a node failed, and what the spare has is to be dropped. `done_by` (node, call) says
    whether the node did it in time.
    """
    code, block_bytes = cluster.code, cluster.block_bytes
    count = erasure.stripe_count(size, code, block_bytes)
    for stripe in range(count):
        length = erasure.stripe_geometry(size, code, block_bytes, stripe).block_bytes
        held = (code.k + 1) * length
        await cluster.write_budget.take(held)
        try:
            blocks = await asyncio.gather(
                *(
                    _block(cluster, node, refs[index], stripe, length)
                    for index, node in holders.items()
                )
            )
            present = dict(zip(holders, blocks, strict=True))
            have = {index: block for index, block in present.items() if block is not None}
            if len(have) < code.k:
                return False
            block, crc = await cluster.in_thread(_computed, cluster, have, shard, length)
            append = partial(cluster.nodes.append, spare, refs[shard], stripe, block, crc)
            if not await done_by(spare, append):
                return False
        finally:
            cluster.write_budget.give(held)
    byte_count = erasure.shard_bytes(size, code, block_bytes)
    return await done_by(
        spare, partial(cluster.nodes.commit, spare, refs[shard], count, byte_count)
    )


async def _block(
    cluster: ShardCluster, node: int, ref: ShardRef, stripe: int, length: int
) -> memoryview | None:
    try:
        return await cluster.nodes.read(
            node, ref, stripe, 0, length, timeout_ms=BACKEND_READ_TIMEOUT_MS
        )
    except NODE_ERRORS:
        cluster.failed(node)
        return None


def _computed(
    cluster: ShardCluster, have: Mapping[int, memoryview], shard: int, length: int
) -> tuple[bytearray, int]:
    block = erasure.reconstruct(cluster.code, have, (shard,), length)[shard]
    return block, crc32c(block)

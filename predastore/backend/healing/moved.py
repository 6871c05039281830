"""Shards that were left behind on their former nodes, which let go of them after a while.

Readers that hold an older record may still be reading them. While a shard waits here, it is not
moved back to that node, so that what is deleted is never what a record names.
"""

from __future__ import annotations

from collections.abc import Mapping

from predastore.backend import records
from predastore.backend.healing.context import Context
from predastore.backend.healing.records import HEALING, MOVED_PREFIX, MovedRecord, moved_key
from predastore.backend.records import ShardExtent
from predastore.failpoints import failpoint
from predastore.limits import COLLECTOR_BATCH_MAX
from predastore.node.shard import ShardRef
from predastore.s3db.commands import Delete, batch


async def release(context: Context) -> int:
    """Deletes the shards whose time has come from the nodes that answer; how many wait still."""
    waiting, after, truncated = 0, b"", True
    while truncated:
        page = await context.state.list(HEALING, MOVED_PREFIX, b"", after, COLLECTOR_BATCH_MAX)
        truncated, after = page.truncated, page.next or after
        due: dict[int, list[tuple[bytes, ShardRef]]] = {}
        for key, stored in page.entries:
            moved = records.decode(MovedRecord, stored)
            if records.now_ms() - moved.moved_ms < context.grace_s * 1000:
                waiting += 1
                continue
            ref = ShardRef(moved.shard_hash, moved.write_id, moved.index)
            due.setdefault(moved.node, []).append((key, ref))
        for node, shards in due.items():
            if not await context.cluster.delete(node, [ref for _, ref in shards]):
                waiting += len(shards)
                continue
            failpoint("healing.moved.deleted")
            ops = [Delete(HEALING, key) for key, _ in shards]
            await context.state.commit(batch(*ops, checks=(context.lease.check,)))
    return waiting


async def waiting(context: Context, extent: ShardExtent, goals: Mapping[int, int]) -> set[int]:
    """Of the shards and their new nodes, those where the node is still to let go of the shard."""
    wanted = [
        (HEALING, moved_key(extent.shard_hash, extent.write_id, shard, node))
        for shard, node in goals.items()
    ]
    stored = await context.state.read(wanted)
    return {shard for shard, value in zip(goals, stored, strict=True) if value is not None}

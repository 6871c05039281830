"""Shards that were left behind on their former nodes, which let go of them after a while.

Readers that hold an older record may still be reading them. While a shard waits here, it is not
moved back to that node, so that what is deleted is never what a record names.
"""

from __future__ import annotations

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


async def is_waiting(context: Context, extent: ShardExtent, shard: int, node: int) -> bool:
    """Whether `node` is still to let go of this shard."""
    key = moved_key(extent.shard_hash, extent.write_id, shard, node)
    return await context.state.exists(HEALING, key)

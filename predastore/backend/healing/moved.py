"""Shards that were left behind on their former nodes, which let go of them after a while.

Readers that hold an older record may still be reading them. While a shard waits here, it is not
made anew on that node, so that what is deleted is never what a record names. Where it is wanted
there again, it is taken back: one commit makes the record name it, and the entry here goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from predastore.backend import records
from predastore.backend.cluster import NODE_ERRORS
from predastore.backend.healing.claims import name_of
from predastore.backend.healing.context import Context
from predastore.backend.healing.records import HEALING, MOVED_PREFIX, MovedRecord, moved_key
from predastore.backend.records import ShardExtent
from predastore.errors import ShardNotFound
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
            waiting += len(shards) - await _let_go(context, node, shards)
    return waiting


async def _let_go(context: Context, node: int, shards: Sequence[tuple[bytes, ShardRef]]) -> int:
    """Has `node` delete them, but for those that are taken back; how many are deleted."""
    names = {name_of(ref.write_id, ref.index, node): (key, ref) for key, ref in shards}
    with context.claims.deleting(context.claims.unclaimed(names)) as unclaimed:
        # Again, as from here on nobody takes them back: that may have been since they were listed.
        stored = await context.state.read([(HEALING, names[name][0]) for name in unclaimed])
        mine = [names[name] for name, value in zip(unclaimed, stored, strict=True) if value]
        if not mine or not context.lease.is_held:
            return 0
        if not await context.cluster.delete(node, [ref for _, ref in mine]):
            return 0
        failpoint("healing.moved.deleted")
        ops = [Delete(HEALING, key) for key, _ in mine]
        await context.state.commit(batch(*ops, checks=(context.lease.check,)))
    return len(mine)


async def waiting(
    context: Context, extent: ShardExtent, goals: Mapping[int, int]
) -> dict[int, tuple[bytes, bytes]]:
    """Of the shards and their new nodes, those where the node is still to let go of the shard, with
    the entry (key, value) that says so."""
    keys = [
        moved_key(extent.shard_hash, extent.write_id, shard, node) for shard, node in goals.items()
    ]
    stored = await context.state.read([(HEALING, key) for key in keys])
    return {
        shard: (key, value)
        for shard, key, value in zip(goals, keys, stored, strict=True)
        if value is not None
    }


async def is_well(context: Context, extent: ShardExtent, shard: int, node: int) -> bool:
    """Whether `node` has a shard that it is still to let go of, with no block that is bad."""
    try:
        return not await context.bad_stripes(node, context.ref(extent, shard))
    except (ShardNotFound, *NODE_ERRORS):
        return False

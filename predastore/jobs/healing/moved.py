"""Shards that were left behind on their former nodes, which let go of them after a while.

Readers that hold an older record may still be reading them. While a shard waits here, it is not
made anew on that node, so that what is deleted is never what a record names. Where it is wanted
there again, it is taken back: one commit makes the record name it, and the entry here goes. That
is over once the entry is marked, which happens before the node is told to delete the shard: a
delete whose answer is lost may be done at any later time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from predastore.base.errors import PreconditionFailed, ShardNotFound
from predastore.base.failpoints import failpoint
from predastore.base.limits import GARBAGE_BATCH_MAX
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.records import MOVED_PREFIX, MovedRecord, moved_key
from predastore.node.shard import ShardRef
from predastore.s3db.commands import Delete, Equals, Put, batch
from predastore.storage import extents
from predastore.storage.cluster import NODE_ERRORS
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import decode, encode


async def release(context: HealingContext) -> int:
    """Deletes the shards whose time has come from the nodes that answer; how many wait still."""
    waiting, after, truncated = 0, b"", True
    while truncated:
        page = await context.state.list(HEALING, MOVED_PREFIX, b"", after, GARBAGE_BATCH_MAX)
        truncated, after = page.truncated, page.next or after
        due: dict[int, list[tuple[bytes, bytes, MovedRecord]]] = {}
        for key, stored in page.entries:
            moved = decode(MovedRecord, stored)
            if extents.now_ms() - moved.moved_ms < context.grace_s * 1000:
                waiting += 1
                continue
            due.setdefault(moved.node, []).append((key, stored, moved))
        for node, shards in due.items():
            if not context.lease.is_held:
                return waiting
            waiting += len(shards) - await _let_go(context, node, shards)
    return waiting


async def _let_go(
    context: HealingContext, node: int, shards: Sequence[tuple[bytes, bytes, MovedRecord]]
) -> int:
    """Marks the entries (key, value) of shards, and has `node` delete them; how many it did."""
    marks = [
        Put(HEALING, key, encode(msgspec.structs.replace(moved, moved_ms=0)))
        for key, _, moved in shards
    ]
    still = (Equals(HEALING, key, value) for key, value, _ in shards)
    try:
        await context.state.commit(batch(*marks, checks=(context.lease.check, *still)))
    except PreconditionFailed:
        return 0  # one was taken back, or another process heals now
    if not context.lease.is_held:
        return 0
    refs = [ShardRef(moved.shard_hash, moved.write_id, moved.index) for _, _, moved in shards]
    if not await context.cluster.delete(node, refs):
        return 0
    failpoint("healing.moved.deleted")
    ops = [Delete(HEALING, key) for key, _, _ in shards]
    await context.state.commit(batch(*ops, checks=(context.lease.check,)))
    return len(shards)


async def waiting(
    context: HealingContext, extent: ShardExtent, goals: Mapping[int, int]
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


async def can_be_taken_back(
    context: HealingContext, extent: ShardExtent, shard: int, node: int, value: bytes
) -> bool:
    """Whether `node`, which is still to let go of the shard by the entry of this value, was not
    told to yet, and has it with no block that is bad."""
    if not decode(MovedRecord, value).moved_ms:
        return False
    try:
        return not await context.bad_stripes(node, context.ref(extent, shard))
    except (ShardNotFound, *NODE_ERRORS):
        return False

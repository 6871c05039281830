"""Shards with blocks that their nodes know to be bad, from scrubbing or from a read."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping

from predastore.base.limits import (
    HEALING_BAD_SHARDS_MAX,
    HEALING_CALL_TIMEOUT_MS,
    NODE_PAGE_SHARDS_MAX,
    REPAIR_BATCH_MAX,
)
from predastore.catalog import keys
from predastore.catalog.keys import OBJECTS, REPAIR
from predastore.catalog.rows import PlacementRow, RepairRow
from predastore.jobs.healing.claims import name_of
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.holders import Holder
from predastore.jobs.healing.presence import Fault, ShardName, note_op
from predastore.s3db.commands import batch
from predastore.storage.cluster import NODE_ERRORS, Nodes
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import decode


def digest(names: Iterable[ShardName]) -> bytes:
    """Of bad shards of one node, in whatever order."""
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(name_of(*name))
    return found.digest()[:16]


async def bad_on(nodes: Nodes, node: int) -> dict[ShardName, bytes]:
    """The bad shards of a node, with the hash that each lies under; a bounded number of them. What
    is raised where it does not answer is one of NODE_ERRORS."""
    found: dict[ShardName, bytes] = {}
    after, more = b"", True
    while more and len(found) < HEALING_BAD_SHARDS_MAX:
        page = await nodes.bad(
            node, after, NODE_PAGE_SHARDS_MAX, timeout_ms=HEALING_CALL_TIMEOUT_MS
        )
        for row in page.rows:
            found[ShardName(row.ref.write_id, row.ref.index, node)] = row.ref.object_hash
        more = page.more and bool(page.rows)
        if page.rows:
            after = page.rows[-1].ref.key()
    return found


async def bad_shards(context: HealingContext) -> dict[ShardName, bytes]:
    """The bad shards of all nodes that answer, with the hash that each lies under; a bounded number
    of them at once."""
    found: dict[ShardName, bytes] = {}
    for node in context.watch.nodes_with_bad:
        if len(found) < HEALING_BAD_SHARDS_MAX:
            with contextlib.suppress(*NODE_ERRORS):
                found |= await bad_on(context.cluster.nodes, node)
    return found


async def note(context: HealingContext, bad: Mapping[ShardName, bytes]) -> set[ShardName]:
    """Notes those of objects that were put whole, whose record lies under the same hash; the rest,
    whose records only a walk can find."""
    rest: set[ShardName] = set()
    names = list(bad)
    for start in range(0, len(names), REPAIR_BATCH_MAX):
        rest |= await _note_some(context, names[start : start + REPAIR_BATCH_MAX], bad)
    return rest


async def _note_some(
    context: HealingContext, names: Iterable[ShardName], bad: Mapping[ShardName, bytes]
) -> set[ShardName]:
    by_extent: dict[tuple[bytes, bytes], list[ShardName]] = {}
    for name in names:
        by_extent.setdefault((bad[name], name.write_id), []).append(name)
    rest: set[ShardName] = set()
    ops = []
    for (hash_, write_id), group in by_extent.items():
        repair_key = keys.repair(hash_, write_id)
        stored, noted = await context.state.read(((OBJECTS, hash_), (REPAIR, repair_key)))
        fault = None if stored is None else _fault(hash_, stored, group)
        if fault is None:
            rest |= set(group)
        elif noted is None or not _says(noted, fault):
            ops.append(note_op(fault))
    if ops:
        await context.state.commit(batch(*ops))
    return rest


def _fault(hash_: bytes, stored: bytes, group: Iterable[ShardName]) -> Fault | None:
    row = decode(PlacementRow, stored)
    for extent in row.extents:
        if isinstance(extent, ShardExtent):
            shards = tuple(
                sorted(
                    name.shard
                    for name in group
                    if name.write_id == extent.write_id
                    and name.shard < len(extent.nodes)
                    and extent.nodes[name.shard] == name.node
                )
            )
            if shards:
                return Fault(Holder(OBJECTS, hash_, stored, row), extent, shards)
    return None


def _says(noted: bytes, fault: Fault) -> bool:
    return set(fault.shards) <= set(decode(RepairRow, noted).shards)

"""Where shards of an extent are to go."""

from __future__ import annotations

from collections.abc import Container, Iterable

from predastore.coding import erasure
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring
from predastore.jobs.healing.watch import Watch
from predastore.storage.extents import ShardExtent


def wanted_nodes(ring: Ring, extent: ShardExtent) -> list[int]:
    """The nodes that the ring names for the extent; none where it has too few."""
    count = extent.k + extent.m
    return ring.place(extent.shard_hash, count) if len(ring.nodes) >= count else []


def for_lost(
    ring: Ring,
    watch: Watch,
    extent: ShardExtent,
    lost: Iterable[int],
    without: Container[tuple[int, int]] = (),
) -> dict[int, int]:
    """A node for each of the `lost` shards that can have one now: its own, if that is to be counted
    on; else one of those that the ring names; else the next on the ring. `without`: shards and
    nodes that do not go together."""
    targets: dict[int, int] = {}
    homeless = []
    for shard in lost:
        own = extent.nodes[shard]
        if watch.takes_shards(own) and (shard, own) not in without:
            targets[shard] = extent.nodes[shard]
        else:
            homeless.append(shard)
    if homeless:
        taken = {node for shard, node in enumerate(extent.nodes) if shard not in homeless}
        first = [node for node in wanted_nodes(ring, extent) if node not in taken]
        ranked = [*first, *ring.spares(extent.shard_hash, taken.union(first))]
        free = [node for node in ranked if watch.takes_shards(node)]
        for shard in homeless:
            node = next((node for node in free if (shard, node) not in without), None)
            if node is not None:
                targets[shard] = node
                free.remove(node)
    return targets


def moves(ring: Ring, extent: ShardExtent) -> dict[int, int]:
    """The node for each shard that has to move, so that the extent lies on the nodes that the ring
    names with as few moves as can be. Shards without a node are for repair."""
    wanted = wanted_nodes(ring, extent)
    free = [node for node in wanted if node not in extent.nodes]
    movers = [shard for shard, node in enumerate(extent.nodes) if node >= 0 and node not in wanted]
    targets: dict[int, int] = {}
    if not wanted:
        return targets
    for shard in movers:
        if wanted[shard] in free:
            targets[shard] = wanted[shard]
            free.remove(wanted[shard])
    rest = [shard for shard in movers if shard not in targets]
    return targets | dict(zip(rest, free, strict=False))


def bytes_of_shard(extent: ShardExtent) -> int:
    return erasure.shard_bytes(extent.size, Code(extent.k, extent.m), extent.block_bytes)

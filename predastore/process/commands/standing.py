"""How the cluster stands: its nodes, what heals it, what is missing, and what nodes that are to be
emptied wait for. What `s3d cluster status` shows, as JSON has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from predastore.base.config.model import ACTIVE
from predastore.base.errors import PredastoreError
from predastore.base.limits import COMMAND_CALL_TIMEOUT_MS
from predastore.gossip import Record
from predastore.jobs.healing.rebalance import digest
from predastore.jobs.healing.records import ProgressRecord
from predastore.node.messages import NodeStatus
from predastore.process.commands import leaving, missing
from predastore.s3db.global_state import GlobalState
from predastore.storage.cluster import Nodes
from predastore.storage.ring_table import RingTable

STALE_S: Final = 30.0  # what is said of healing is older where no process heals


async def look(
    state: GlobalState,
    client: Nodes,
    table: RingTable,
    processes: Sequence[Record],
    shards_of_an_object: int,
) -> dict[str, Any]:
    """`table` and `processes`: as they are now."""
    said = await statuses(client, [row.id for row in table.nodes])
    removed = [row.id for row in table.removed]
    known = await missing.read(state, [*said, *removed])
    bad = {
        node: one.bad_shards
        for node, one in said.items()
        if isinstance(one, NodeStatus) and one.bad_shards
    }
    damaged = await missing.damaged(client, bad, known.healing)
    nodes = [
        {
            "id": row.id,
            "host": row.host,
            "port": row.port,
            "state": row.state,
            "weight": row.weight,
            **_node(row.id, said[row.id], processes),
        }
        for row in table.nodes
    ]
    healing = known.healing
    return {
        "nodes": nodes,
        "waits": await leaving.look(state, table.nodes, said),
        "removed": _removed(table, processes),
        "healing": None if healing is None else _healing(healing, digest(table.active())),
        "missing": None
        if healing is None
        else missing.summary(known, nodes, removed, damaged, shards_of_an_object),
    }


async def statuses(client: Nodes, nodes: Sequence[int]) -> dict[int, NodeStatus | str]:
    """What each node says of itself, or why it does not."""

    async def ask(node: int) -> NodeStatus | str:
        try:
            return await client.status(node, timeout_ms=COMMAND_CALL_TIMEOUT_MS)
        except PredastoreError as error:
            return str(error)

    return dict(zip(nodes, await asyncio.gather(*map(ask, nodes)), strict=True))


def takers(nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many nodes take new shards now."""
    return sum(node["state"] == ACTIVE and node["health"] == "good" for node in nodes)


def _node(node: int, said: NodeStatus | str, processes: Sequence[Record]) -> dict[str, Any]:
    seen = next((one for one in processes for row in one.facts.nodes if row.id == node), None)
    if isinstance(said, str):
        health = "no answer" if seen is None else seen.status.name.lower()
        return {"health": "no answer" if health == "alive" else health, "error": said}
    health = "FAILED" if said.failure else "full" if said.free_bytes <= 0 else "good"
    return {
        "health": health,
        **({"error": said.failure} if said.failure else {}),
        "shards": said.shard_count,
        "live_bytes": said.live_bytes,
        "used_bytes": said.used_bytes,
        "free_bytes": said.free_bytes,
        "bad_shards": said.bad_shards,
        "store_id": said.store_id,
    }


def _removed(table: RingTable, processes: Sequence[Record]) -> list[dict[str, Any]]:
    """Nodes that were removed, and whether a process runs them all the same."""
    running = {row.id for one in processes if one.is_here for row in one.facts.nodes}
    return [
        {"id": row.id, "host": row.host, "port": row.port, "runs": row.id in running}
        for row in table.removed
    ]


def process(record: Record) -> dict[str, Any]:
    facts = record.facts
    return {
        "name": record.name,
        "host": facts.host,
        "port": facts.port,
        "status": record.status.name.lower(),
        "nodes": [row.id for row in facts.nodes],
        "members": [row.id for row in facts.members],
        "version": facts.ring_version,
        "software": facts.software,
    }


def _healing(progress: ProgressRecord, ring: bytes) -> dict[str, Any]:
    """`ring`: the digest of the one that is to be in use."""
    found = {name: getattr(progress, name) for name in progress.__struct_fields__}
    for name in ("seen", "unnamed_bad"):
        del found[name]  # `missing` says what follows from it
    found["ring_settled"] = (found.pop("ring") == ring) and progress.ring_settled
    return {**found, "age_s": round(max(0.0, time.time() - progress.at_ms / 1000), 1)}


def is_whole(found: Mapping[str, Any]) -> bool:
    """Whether every node is good, nothing is missing, and every shard is where it belongs, as of
    now: what a process said that heals no longer does not count."""
    healing = found["healing"]
    return (
        healing is not None
        and healing["age_s"] <= STALE_S
        and found["missing"]["whole"]
        and not healing["moves_left"]
        and bool(healing["ring_settled"])
        and all(node["health"] == "good" for node in found["nodes"])
    )

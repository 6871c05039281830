"""Which shards a cluster lacks now, true to life: those to be repaired, and those that nobody can
count on because their node does not answer or has failed.

A node that has failed, but answers, says what it held. Of one that is down nobody can tell: what it
told the process that heals last counts. When it has been down for long its shards are put on the
repair table, and built elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from predastore.backend.healing.records import FAILED, GOOD, ProgressRecord, SeenNode
from predastore.commands import remote
from predastore.config.model import ACTIVE
from predastore.limits import HEALING_BYTES_PER_S_MAX, NODE_LOST_MS

WELL = ("good", "full")  # the health of a node whose shards can be read


def summary(
    healing: ProgressRecord, nodes: Sequence[Mapping[str, Any]], shards_of_an_object: int
) -> dict[str, Any]:
    """As JSON has it. `seconds_left`: at least so long; -1: it can not be done as things are."""
    health = {node["id"]: node["health"] for node in nodes}
    own = {node["id"]: (node["shards"], node["live_bytes"]) for node in nodes if "shards" in node}
    away = [
        _saying(one, own)
        for one in healing.seen
        if one.node not in healing.noted_nodes
        and one.node in health
        and (one.state != GOOD or health[one.node] not in WELL)
    ]
    shards, size = sum(one.shards for one in away), sum(one.live_bytes for one in away)
    total_bytes = healing.bytes_left + size + healing.homeless_bytes
    takers = sum(node["state"] == ACTIVE and node["health"] == "good" for node in nodes)
    lacks_nodes = bool(healing.homeless_shards) or (shards > 0 and takers < shards_of_an_object)
    wait_s = max((_given_up_in_s(one) for one in away), default=0)
    rate = healing.rate_bytes_s or HEALING_BYTES_PER_S_MAX
    return {
        "shards": healing.shards_left + shards + healing.homeless_shards,
        "bytes": total_bytes,
        "seconds_left": -1 if lacks_nodes else wait_s + total_bytes // rate,
        "unreachable_shards": shards,
        "unreachable_bytes": size,
        "unreachable": [
            {
                "node": one.node,
                "why": "has failed"
                if one.state == FAILED or health[one.node] == "FAILED"
                else "does not answer",
                "shards": one.shards,
                "bytes": one.live_bytes,
                "given_up_in_s": _given_up_in_s(one),
            }
            for one in away
        ],
        "homeless_shards": healing.homeless_shards,
        "homeless_bytes": healing.homeless_bytes,
    }


def _saying(one: SeenNode, own: Mapping[int, tuple[int, int]]) -> SeenNode:
    """With what the node says itself, if it answers: that is newer."""
    shards, live_bytes = own.get(one.node, (one.shards, one.live_bytes))
    return msgspec.structs.replace(one, shards=shards, live_bytes=live_bytes)


def _given_up_in_s(one: SeenNode) -> int:
    return one.lost_in_s if one.state != GOOD else NODE_LOST_MS // 1000


def lines(found: Mapping[str, Any]) -> list[str]:
    """For people."""
    if not found["shards"] and not found["unreachable"]:
        return ["redundancy: no shard is known to be missing"]
    can_be_done = found["seconds_left"] >= 0
    when = f"at least {remote.span(found['seconds_left'])} left"
    said = [
        f"redundancy: {found['shards']} shards are missing, {remote.size(found['bytes'])}, "
        + (when if can_be_done else "until a node is back, or one is added")
    ]
    for one in found["unreachable"]:
        then = f"in {remote.span(one['given_up_in_s'])} they are built elsewhere"
        said.append(
            f"  {one['shards']} of them, {remote.size(one['bytes'])}, on node {one['node']}, which "
            f"{one['why']}; {then if can_be_done else 'no other node can take them'}"
        )
    if found["homeless_shards"]:
        said.append(
            f"  {found['homeless_shards']} of them, {remote.size(found['homeless_bytes'])}, of "
            "nodes that were given up; no other node can take them"
        )
    return said

"""Which shards a cluster lacks now, true to life, and of which nobody can say it yet.

Counted by the records: those on the repair table, and those that records name on nodes that do not
answer or have failed. How many these are is counted when a node is down for some seconds; until
then what it last said of itself is told instead. A node whose directory no pass has looked through
since it was made is being checked: nothing is known of it. So is a node that has just been removed,
until a pass has seen that no record names it.

The order of the questions matters: what nodes say of themselves, then what was looked through, then
the repair table, on which all was noted before that. So what is on its way is met once at least.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from predastore.base.config import losses
from predastore.base.config.model import ACTIVE
from predastore.base.limits import (
    BACKEND_SCAN_PAGE_MAX,
    COMMAND_NOTES_MAX,
    HEALING_BYTES_PER_S_MAX,
    NODE_LOST_MS,
)
from predastore.catalog.keys import HEALING, REPAIR
from predastore.catalog.rows import RepairRow
from predastore.jobs.healing import scrubbed, targets
from predastore.jobs.healing.records import (
    FAILED,
    GOOD,
    LEFT,
    PROGRESS_KEY,
    RESTORED_KEY,
    NodeRecord,
    ProgressRecord,
    SeenNode,
    node_key,
)
from predastore.process.commands import remote
from predastore.s3db.global_state import GlobalState
from predastore.storage.cluster import NODE_ERRORS, Nodes
from predastore.storage.extents import MISSING, missing_of
from predastore.storage.formats import decode

WELL = ("good", "full")  # the health of a node whose shards can be read


@dataclass
class Notes:
    """What is on the repair table: shards and bytes by the node that the record names for them.
    `is_all`: it was looked through to its end."""

    shards: Counter[int] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    is_all: bool = True


@dataclass(frozen=True)
class KnownState:
    """What s3db says. `looked_through`: the store id of each node."""

    healing: ProgressRecord | None
    looked_through: Mapping[int, str]
    notes: Notes


async def read(state: GlobalState, nodes: Sequence[int]) -> KnownState:
    """After the nodes were asked."""
    keys = [PROGRESS_KEY, RESTORED_KEY, *map(node_key, nodes)]
    progress, restored, *stored = await state.read([(HEALING, key) for key in keys])
    found = {
        node: decode(NodeRecord, value)
        for node, value in zip(nodes, stored, strict=True)
        if value is not None
    }
    looked_through = {
        node: one.store_id for node, one in found.items() if one.restored == (restored or b"")
    }
    healing = None if progress is None else decode(ProgressRecord, progress)
    return KnownState(healing, looked_through, await _notes(state))


async def _notes(state: GlobalState) -> Notes:
    found, after, count = Notes(), b"", 0
    while True:
        page = await state.list(REPAIR, b"", b"", after, BACKEND_SCAN_PAGE_MAX)
        for _, stored in page.entries:
            note = decode(RepairRow, stored)
            size = targets.bytes_of_shard(note.extent)
            for shard in missing_of(note.extent, note.shards):
                node = note.extent.nodes[shard]
                found.shards[node] += 1
                found.sizes[node] += size
        count, after = count + len(page.entries), page.next or after
        if not page.truncated or count >= COMMAND_NOTES_MAX:
            found.is_all = not page.truncated
            return found


async def damaged(
    nodes: Nodes, bad: Mapping[int, int], healing: ProgressRecord | None
) -> dict[int, int]:
    """Of nodes that know of bad shards, how many: unless it is known that no record names them."""
    unnamed = {one.node: one.digest for one in healing.unnamed_bad} if healing is not None else {}
    found = {}
    for node, count in bad.items():
        try:
            names = await scrubbed.bad_on(nodes, node)
        except NODE_ERRORS:
            names = {}
        if not names or scrubbed.digest(names) != unnamed.get(node):
            found[node] = count
    return found


def summary(
    known: KnownState,
    nodes: Sequence[Mapping[str, Any]],
    removed: Iterable[int],
    bad: Mapping[int, int],
    shards_of_an_object: int,
) -> dict[str, Any]:
    """As JSON has it. `bad`: from `damaged`. `seconds_left`: at least so long; -1: it can not be
    done as things are."""
    healing = known.healing
    assert healing is not None
    health = {node["id"]: node["health"] for node in nodes}
    own = {node["id"]: (node["shards"], node["live_bytes"]) for node in nodes if "shards" in node}
    away = [
        _saying(one, own)
        for one in _seen(healing, health)
        if one.node not in healing.noted_nodes
        and one.node in health
        and (one.state != GOOD or health[one.node] not in WELL)
    ]
    counted = {one.node for one in away if one.named_shards >= 0}
    noted, noted_bytes = _noted(known.notes, healing, counted)
    shards, size = sum(one.shards for one in away), sum(one.live_bytes for one in away)
    total = noted + shards + healing.homeless_shards
    total_bytes = noted_bytes + size + healing.homeless_bytes
    takers = sum(node["state"] == ACTIVE and node["health"] == "good" for node in nodes)
    lacks_nodes = bool(healing.homeless_shards) or (shards > 0 and takers < shards_of_an_object)
    wait_s = max((_given_up_in_s(one) for one in away if one.shards), default=0)
    rate = healing.rate_bytes_s or HEALING_BYTES_PER_S_MAX
    checking = _checking(known, nodes, removed)
    return {
        "whole": not (total or away or checking or bad),
        "shards": total,
        "bytes": total_bytes,
        "seconds_left": -1 if lacks_nodes else wait_s + math.ceil(total_bytes / rate),
        "checking": checking,
        "damaged": [{"node": node, "shards": count} for node, count in sorted(bad.items())],
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
                "counted": one.named_shards >= 0,
                "given_up_in_s": _given_up_in_s(one),
            }
            for one in away
        ],
        "homeless_shards": healing.homeless_shards,
        "homeless_bytes": healing.homeless_bytes,
        "endangered_extents": healing.endangered_extents if total else 0,
    }


def _seen(healing: ProgressRecord, health: Mapping[int, str]) -> list[SeenNode]:
    """What the process that heals has seen of each node; nothing yet of a new one."""
    seen = {one.node for one in healing.seen}
    new = (SeenNode(node, 0, 0, GOOD, -1) for node in sorted(health) if node not in seen)
    return [*healing.seen, *new]


def _saying(one: SeenNode, own: Mapping[int, tuple[int, int]]) -> SeenNode:
    """With what records name there, or else with what the node says itself, if it answers: that is
    newer than what it said last."""
    shards, live_bytes = own.get(one.node, (one.shards, one.live_bytes))
    if one.named_shards >= 0:
        shards, live_bytes = one.named_shards, one.named_bytes
    return msgspec.structs.replace(one, shards=shards, live_bytes=live_bytes)


def _noted(notes: Notes, healing: ProgressRecord, counted: set[int]) -> tuple[int, int]:
    """Shards and bytes on the repair table, without those that are `counted` on nodes away."""
    nodes = [node for node in notes.shards if node == MISSING or node not in counted]
    shards = sum(notes.shards[node] for node in nodes)
    sizes = sum(notes.sizes[node] for node in nodes)
    if notes.is_all:
        return shards, sizes
    return max(shards, healing.shards_left), max(sizes, healing.bytes_left)


def _checking(
    known: KnownState, nodes: Sequence[Mapping[str, Any]], removed: Iterable[int]
) -> list[dict[str, Any]]:
    """Of whom nobody can say yet whether something is missing."""
    looked = known.looked_through
    found = [
        {"node": node["id"], "why": "new"}
        for node in nodes
        if "store_id" in node and looked.get(node["id"]) != node["store_id"]
    ]
    found += [{"node": node, "why": "left"} for node in removed if looked.get(node) != LEFT]
    return found


def _given_up_in_s(one: SeenNode) -> int:
    return one.lost_in_s if one.state != GOOD else NODE_LOST_MS // 1000


# --- for people -------------------------------------------------------------------------------


def lines(found: Mapping[str, Any], percent: int = 0) -> list[str]:
    """`percent` of the records have been looked over by the pass that is under way."""
    if found["whole"]:
        return ["redundancy: no shard is known to be missing"]
    said = [f"redundancy: {_count(found)}"]
    for one in found["unreachable"]:
        said.append(f"  {_of_node(one, found['seconds_left'] >= 0)}")
    if found["homeless_shards"]:
        said.append(
            f"  {found['homeless_shards']} of them, {remote.size(found['homeless_bytes'])}, of "
            "nodes that were given up; no other node can take them"
        )
    for one in found["damaged"]:
        count = losses.counted(one["shards"], "damaged shard")
        said.append(f"  node {one['node']} has {count}, being looked for")
    said += _being_checked(found["checking"], percent)
    if found["endangered_extents"]:
        said.append(
            f"  {losses.counted(found['endangered_extents'], 'object or part')} can lose no shard "
            "more: repaired first"
        )
    return said


def _count(found: Mapping[str, Any]) -> str:
    if not found["shards"]:
        return "not known yet" if found["checking"] else "no shard is known to be missing, but"
    count = found["shards"]
    are = f"{losses.counted(count, 'shard')} {'is' if count == 1 else 'are'} missing"
    so_far = " so far" if found["checking"] else ""
    if found["seconds_left"] < 0:
        when = "until a node is back, or one is added"
    else:
        when = f"at least {remote.span(found['seconds_left'])} left"
    return f"{are}{so_far}, {remote.size(found['bytes'])}, {when}"


def _of_node(one: Mapping[str, Any], can_be_done: bool) -> str:
    if not one["shards"]:
        held = "no record names a shard there" if one["counted"] else "what it has is not known"
        return f"node {one['node']} {one['why']}; {held}"
    then = f"in {remote.span(one['given_up_in_s'])} they are built elsewhere"
    about = "" if one["counted"] else "about "
    return (
        f"{about}{one['shards']} of them, {remote.size(one['bytes'])}, on node {one['node']}, "
        f"which {one['why']}; {then if can_be_done else 'no other node can take them'}"
    )


def _being_checked(checking: Sequence[Mapping[str, Any]], percent: int) -> list[str]:
    said = []
    for why, what in (
        ("new", "all that should be there is looked for"),
        ("left", "records that still name what has left are looked for"),
    ):
        nodes = [str(one["node"]) for one in checking if one["why"] == why]
        if nodes:
            done = f", {percent}% of the records so far" if percent else ""
            who = f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(nodes)}"
            said.append(f"  being checked: {who}: {what}{done}")
    return said

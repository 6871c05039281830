"""What a node waits for that is to be emptied: shards that are still to be moved or let go of,
shards that are kept for readers, writes that are under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predastore.base.config import losses
from predastore.base.config.model import ACTIVE
from predastore.base.limits import BACKEND_GRACE_S, BACKEND_SCAN_PAGE_MAX, COMMAND_NOTES_MAX
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.records import MOVED_PREFIX, MovedRecord
from predastore.node.messages import NodeStatus
from predastore.process.commands import remote
from predastore.s3db.global_state import GlobalState
from predastore.storage import extents
from predastore.storage.formats import decode
from predastore.storage.ring_table import LEAVING, NodeRow


@dataclass
class _Kept:
    """Shards that a node keeps for readers; `last_ms`: when the last of them was moved off."""

    shards: int = 0
    last_ms: int = 0


async def look(
    state: GlobalState, rows: Sequence[NodeRow], said: Mapping[int, NodeStatus | str]
) -> list[dict[str, Any]]:
    """Of each node that gets nothing new, as JSON has it. `kept_s`: so long it keeps shards yet, if
    no more are moved."""
    going = [row for row in rows if row.state != ACTIVE]
    kept = await _kept(state) if going else {}
    found = []
    for row in going:
        status, one = said[row.id], kept.get(row.id, _Kept())
        waits: dict[str, Any] = {"node": row.id, "state": row.state, "answers": False}
        if isinstance(status, NodeStatus):
            waits |= {
                "answers": True,
                "to_move": max(0, status.shard_count - one.shards),
                "kept": one.shards,
                "kept_s": _left_s(one) if one.shards else 0,
                "being_written": status.pending_shards,
            }
        found.append(waits)
    return found


def _left_s(kept: _Kept) -> int:
    gone_s = (extents.now_ms() - kept.last_ms) / 1000
    return round(max(0.0, BACKEND_GRACE_S - gone_s))


async def _kept(state: GlobalState) -> dict[int, _Kept]:
    found: dict[int, _Kept] = {}
    after, count, more = b"", 0, True
    while more and count < COMMAND_NOTES_MAX:
        page = await state.list(HEALING, MOVED_PREFIX, b"", after, BACKEND_SCAN_PAGE_MAX)
        for _, stored in page.entries:
            moved = decode(MovedRecord, stored)
            one = found.setdefault(moved.node, _Kept())
            one.shards += 1
            one.last_ms = max(one.last_ms, moved.moved_ms)
        count, after, more = count + len(page.entries), page.next or after, page.truncated
    return found


def lines(waits: Sequence[Mapping[str, Any]], given_up_in_s: Mapping[int, int]) -> list[str]:
    """For people. `given_up_in_s`: of nodes that do not answer."""
    said = []
    for one in waits:
        node = f"node {one['node']} is {one['state']}"
        if not one["answers"]:
            seconds = given_up_in_s.get(one["node"])
            when = f" in {remote.span(seconds)}" if seconds is not None else ""
            said.append(
                f"{node}, and does not answer: it waits until it does, or is given up{when} and no "
                "record names it"
            )
            continue
        things = _things(one)
        if things:
            said.append(f"{node}; it waits for {', '.join(things)}")
        elif one["state"] == LEAVING:
            said.append(f"{node}; it is empty, and is none of the cluster in some seconds")
        else:
            said.append(f"{node}; it is empty: s3d cluster remove {one['node']} takes it out")
    return said


def _things(one: Mapping[str, Any]) -> list[str]:
    things = []
    if one["to_move"]:
        things.append(f"{losses.counted(one['to_move'], 'shard')} to be moved, or let go of")
    if one["kept"]:
        things.append(
            f"{losses.counted(one['kept'], 'shard')} kept for readers, at least "
            f"{remote.span(one['kept_s'])} more"
        )
    if one["being_written"]:
        things.append(f"{losses.counted(one['being_written'], 'shard')} being written")
    return things

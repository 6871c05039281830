"""The shard nodes of the cluster, as all gateways agree on them: one record in s3db.

    table    key    value
    nodes    ring   RingTable: a version, and a row for each node

The first gateway founds it with the [[nodes]] of its file. From then on it is changed by
conditional commits only, each of which raises the version by one, so two changes at the same time
are made one after the other, and a change that is made twice is made once. Who changes it:

- a process announces the nodes that it runs: new ones are added, their addresses brought up to
  date. Weight and state it leaves alone: an old file on one host must not undo what was told to
  another.
- an operator's command sets a node's state, and tells every process that answers.
- a reload (SIGHUP) applies what its file says of known nodes differently from before. A row that
  came is added when the process that runs it announces it: no shard is sent to a node that never
  ran. A row that went makes the node `leaving`: it gets no new shards, what it has is moved, and
  when it holds nothing any more its row goes to those of nodes that were `removed`.

A node that was removed stays so, whoever announces it, until an operator activates it: an old
process that is started again takes no part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from predastore.base.config.model import ACTIVE
from predastore.base.errors import Overloaded, PreconditionFailed, TooFewNodes
from predastore.base.limits import RING_CHANGE_TRIES_MAX
from predastore.coding.placement import RingNode
from predastore.s3db.commands import Absent, Check, Equals, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.formats import decode, encode

NODES: Final = "nodes"
RING_KEY: Final = b"ring"

LEAVING: Final = "leaving"
REMOVED: Final = "removed"


class NodeRow(msgspec.Struct, frozen=True, array_like=True):
    """`state`: ACTIVE; DRAINING: gets no new shards, and what it has is moved; LEAVING: the same,
    and then it is no node of the cluster any more: REMOVED."""

    id: int
    host: str
    port: int
    weight: float = 1.0
    state: str = ACTIVE


class RingTable(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """`nodes` and those that were `removed` are ordered by id; no id is in both."""

    version: int
    nodes: tuple[NodeRow, ...]
    removed: tuple[NodeRow, ...] = ()

    def active(self) -> list[RingNode]:
        """Those that new shards go to."""
        return [RingNode(row.id, row.host, row.weight) for row in self.nodes if row.state == ACTIVE]

    def going(self) -> list[int]:
        """Those that only keep what they have until it is moved."""
        return [row.id for row in self.nodes if row.state != ACTIVE]


Rows = Mapping[int, NodeRow]  # those that were removed are among them
Change = Callable[[Rows], Rows]


def by_id(rows: Sequence[NodeRow]) -> dict[int, NodeRow]:
    return {row.id: row for row in rows}


def announcement(own: Sequence[NodeRow]) -> Change:
    """A process runs these nodes."""

    def change(rows: Rows) -> Rows:
        new = dict(rows)
        for row in own:
            known = rows.get(row.id)
            new[row.id] = row
            if known is not None:
                new[row.id] = NodeRow(row.id, row.host, row.port, known.weight, known.state)
        return new

    return change


def difference(before: Sequence[NodeRow], after: Sequence[NodeRow]) -> Change:
    """A file that had the rows `before` has the rows `after` now."""
    old, new = by_id(before), by_id(after)

    def change(rows: Rows) -> Rows:
        changed = dict(rows)
        known = {id_ for id_, row in rows.items() if row.state != REMOVED}
        for id_, row in new.items():
            if id_ in known:
                changed[id_] = _edited(changed[id_], old.get(id_), row)
        for id_ in old.keys() - new.keys():
            if id_ in known:
                changed[id_] = msgspec.structs.replace(changed[id_], state=LEAVING)
        return changed

    return change


def _edited(row: NodeRow, before: NodeRow | None, after: NodeRow) -> NodeRow:
    """`row` with what a file says differently in `after` than in `before`."""
    if before is None:
        return after
    news = {
        field: getattr(after, field)
        for field in NodeRow.__struct_fields__
        if getattr(after, field) != getattr(before, field)
    }
    return msgspec.structs.replace(row, **news)


def following(changes: Sequence[Change]) -> Change:
    """All of them, one after the other."""

    def change(rows: Rows) -> Rows:
        for each in changes:
            rows = each(rows)
        return rows

    return change


def departure(id_: int) -> Change:
    """A node that was leaving holds nothing any more."""

    def change(rows: Rows) -> Rows:
        row = rows.get(id_)
        if row is None or row.state != LEAVING:
            return rows
        return {**rows, id_: msgspec.structs.replace(row, state=REMOVED)}

    return change


def setting(id_: int, state: str) -> Change:
    """An operator says so. One that was removed can only be made active."""

    def change(rows: Rows) -> Rows:
        if id_ not in rows or (rows[id_].state == REMOVED and state != ACTIVE):
            return rows
        return {**rows, id_: msgspec.structs.replace(rows[id_], state=state)}

    return change


class FileRows:
    """The rows of a process's file, and what has changed in them since the table took them in.

    An attempt to change the table may have been made although it failed; so what the file said in
    between is not forgotten before the table has taken in all of it, in its order."""

    def __init__(self, rows: Sequence[NodeRow]) -> None:
        self._said = [list(rows)]  # the first is what the table has taken in

    @property
    def taken_in(self) -> Sequence[NodeRow]:
        return self._said[0]

    def says(self, rows: Sequence[NodeRow]) -> bool:
        """The file has these rows now; whether the table is to be changed."""
        if rows != self._said[-1]:
            self._said.append(list(rows))
        return len(self._said) > 1

    async def take_in(self, change: Callable[[Change], Awaitable[None]]) -> None:
        """Has all of it made by `change`; what that raises. TooFewNodes: it is given up."""
        while len(self._said) > 1:
            said = list(self._said)
            steps = [difference(*pair) for pair in pairwise(said)]
            try:
                await change(following(steps))
            except TooFewNodes:
                if len(self._said) == len(said):
                    del self._said[1:]
                    raise
            else:
                del self._said[: len(said) - 1]


class RingStore:
    """`shards`: k + m; no change may leave fewer active nodes."""

    def __init__(self, state: GlobalState, shards: int) -> None:
        self._state = state
        self._shards = shards

    async def read(self) -> RingTable | None:
        """None before it is founded."""
        stored = await self._state.get(NODES, RING_KEY)
        return None if stored is None else decode(RingTable, stored)

    async def change(self, change: Change, founding: Sequence[NodeRow] = ()) -> RingTable:
        """The table after `change`; where there is none yet it is founded with `founding` first.
        TooFewNodes: refused, nothing was changed."""
        for _ in range(RING_CHANGE_TRIES_MAX):
            stored = await self._state.get(NODES, RING_KEY)
            check: Check
            if stored is None:
                check = Absent(NODES, RING_KEY)
                table = RingTable(0, tuple(sorted(founding, key=lambda row: row.id)))
            else:
                check = Equals(NODES, RING_KEY, stored)
                table = decode(RingTable, stored)
            changed = change(by_id((*table.nodes, *table.removed)))
            rows = [changed[id_] for id_ in sorted(changed)]
            new = RingTable(
                table.version + 1,
                tuple(row for row in rows if row.state != REMOVED),
                tuple(row for row in rows if row.state == REMOVED),
            )
            if (new.nodes, new.removed) == (table.nodes, table.removed) and stored is not None:
                return table
            self._check(table, new)
            try:
                put = Put(NODES, RING_KEY, encode(new))
                await self._state.commit(batch(put, checks=(check,)))
            except PreconditionFailed:
                continue
            return new
        raise Overloaded("the table of nodes is being changed by many at once; try again")

    def _check(self, old: RingTable, new: RingTable) -> None:
        active, before = len(new.active()), len(old.active())
        if active < self._shards and active < before:
            raise TooFewNodes(
                f"{active} active nodes would be left, and each object has {self._shards} shards: "
                "add nodes first, or leave more of them active"
            )

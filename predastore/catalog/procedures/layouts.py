"""Layouts, as procedures make, share and let go of them.

A layout that was ever shared has a row in `refs` for each version that names it; one that never was
has none, and one version. When the last version goes, the pages of its placement are moved under
`keys.deleted`, where nothing changes them any more, and a row of `due` says when the bytes may go.
An inline body goes at once: who reads it has it in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from predastore.catalog import keys
from predastore.catalog.keys import DUE, INLINE, OBJECTS, REFS, REPAIR
from predastore.catalog.procedures.arguments import Content, Reason, refuse
from predastore.catalog.rows import (
    GarbageRow,
    Kind,
    PlacementRow,
    RepairRow,
    Summary,
    VersionRow,
    Waste,
)
from predastore.s3db.procedures import View
from predastore.storage.extents import Extent, ShardExtent
from predastore.storage.formats import decode, encode


@dataclass
class Leavings:
    """What one call lets go of: when it is due, and the names of it."""

    due_ms: int
    names: list[bytes] = field(default_factory=list)

    def take(self) -> tuple[bytes, ...]:
        """The names since the last call."""
        taken = tuple(self.names)
        self.names.clear()
        return taken


def due_ms(view: View, now_ms: int, grace_ms: int) -> int:
    """When what is let go of now may go. A gateway whose clock is behind takes nothing from the
    readers of others: cluster time counts, where it is later."""
    return max(view.time_ms, now_ms) + grace_ms


def place(view: View, bucket_name: str, key: str, content: Content, summary: Summary) -> None:
    """Stores where the bytes of a new version are; those of a shared layout are there."""
    if content.kind is Kind.INLINE:
        view.put(INLINE, content.layout, content.crc.to_bytes(4, "big") + content.body)
    elif content.kind is Kind.PLACED and content.shared_with is None:
        row = PlacementRow(bucket_name, key, content.extents, md5=bytes.fromhex(summary.etag))
        now_ms = summary.modified_ms
        view.put(OBJECTS, content.layout, encode(row))
        note(view, content.layout, bucket_name, key, content.extents[0], content.missing, now_ms)


def share(view: View, content: Content, bucket_id: bytes, order: int, random: bytes) -> None:
    """One version more names a layout that is there. LAYOUT_GONE if it is not any more."""
    if content.shared_with is None:
        return
    layout = content.layout
    if view.get(OBJECTS, layout) is None:
        raise refuse(Reason.LAYOUT_GONE)
    if view.first(REFS, layout) is None:
        # It was never shared: then the version that the caller read is the one that names it.
        view.put(REFS, keys.ref(layout, *content.shared_with), b"")
    view.put(REFS, keys.ref(layout, bucket_id, order, random), b"")


def let_go(view: View, bucket_id: bytes, order: int, row: VersionRow, leavings: Leavings) -> None:
    """One version less, which is deleted already, names its layout."""
    if row.kind is Kind.INLINE:
        view.delete(INLINE, row.layout)
    if row.kind is not Kind.PLACED:
        return
    own = keys.ref(row.layout, bucket_id, order, row.random)
    if view.get(REFS, own) is not None:
        view.delete(REFS, own)
        if view.first(REFS, row.layout) is not None:
            return
    _release(view, row.layout, leavings)


def let_go_of_extent(view: View, page: PlacementRow, name: bytes, leavings: Leavings) -> None:
    """A part's, which was replaced; `name`: its write id."""
    view.put(OBJECTS, keys.deleted(name), encode(page))
    _owe(view, GarbageRow(Waste.EXTENT, name, 1), leavings)


def _release(view: View, layout: bytes, leavings: Leavings) -> None:
    first = view.get(OBJECTS, layout)
    if first is None:
        return
    count = max(1, len(decode(PlacementRow, first).pages))
    for number in range(count):
        place = keys.page(layout, number)
        stored = first if not number else view.get(OBJECTS, place)
        if stored is not None:
            view.delete(OBJECTS, place)
            view.put(OBJECTS, keys.deleted(layout, number), stored)
    _owe(view, GarbageRow(Waste.LAYOUT, layout, count), leavings)


def _owe(view: View, row: GarbageRow, leavings: Leavings) -> None:
    view.put(DUE, keys.due(leavings.due_ms, row.waste, row.name), encode(row))
    leavings.names.append(row.name)


def owe(view: View, row: GarbageRow, due_ms: int) -> None:
    """What is to be done at a time of its own."""
    view.put(DUE, keys.due(due_ms, row.waste, row.name), encode(row))


def note(
    view: View,
    layout: bytes,
    bucket_name: str,
    key: str,
    extent: Extent,
    missing: tuple[int, ...],
    now_ms: int,
    part: bytes = b"",
) -> None:
    """Puts shards that have no node on the repair table."""
    if missing and isinstance(extent, ShardExtent):
        row = RepairRow(bucket_name, key, extent, missing, now_ms, part)
        view.put(REPAIR, keys.repair(layout, extent.write_id), encode(row))

"""The rows that name shards, one by one or all of them, and how such a row is changed.

A row is a page of a layout (OBJECTS) or a part of an upload (PARTS). A walk visits the parts before
the layouts: completing an upload moves extents from the former to the latter, so that an extent
that is there all the time is met at least once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from predastore.base.limits import HEALING_PAGE_RECORDS
from predastore.catalog import keys
from predastore.catalog.keys import ARN, DELETED, OBJECTS, PAGE_BYTES, PARTS
from predastore.catalog.rows import PartRow, PlacementRow
from predastore.s3db.commands import Check, Equals, Op, Put
from predastore.s3db.global_state import GlobalState
from predastore.s3db.keys import after_all
from predastore.storage.extents import HASH_BYTES, Extent, ShardExtent
from predastore.storage.formats import decode, rewritten

WALKED: Final = (PARTS, OBJECTS)

_PAGE_KEY_BYTES: Final = (HASH_BYTES, HASH_BYTES + PAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Holder:
    """A row as it is stored under `key` of `table`."""

    table: str
    key: bytes
    stored: bytes
    row: PlacementRow | PartRow

    @property
    def extents(self) -> tuple[Extent, ...]:
        return (self.row.extent,) if isinstance(self.row, PartRow) else self.row.extents

    @property
    def layout(self) -> bytes:
        """Of a page."""
        return self.key[:HASH_BYTES]

    @property
    def is_first(self) -> bool:
        """The first page, or a part: one for each object."""
        return self.table == PARTS or len(self.key) == HASH_BYTES

    def naming(self, extents: Mapping[int, ShardExtent]) -> Holder:
        """As it is to be stored with the given extents, by index, in place of those it has."""
        row = self.row
        if isinstance(row, PartRow):
            row = msgspec.structs.replace(row, extent=extents[0])
        else:
            new = tuple(extents.get(n, extent) for n, extent in enumerate(row.extents))
            row = msgspec.structs.replace(row, extents=new)
        return Holder(self.table, self.key, rewritten(self.stored, row), row)

    def replaced_by(self, new: Holder) -> tuple[list[Check], list[Op]]:
        """For the commit that puts `new` in its place, if it is still there."""
        return [Equals(self.table, self.key, self.stored)], [Put(self.table, self.key, new.stored)]


async def find(state: GlobalState, layout: bytes, part: bytes) -> list[Holder]:
    """The rows that may name an extent of a layout, or of the part (b"": of none)."""
    wanted = [(OBJECTS, layout)]
    if part:
        wanted.append((PARTS, part))
    stored, *of_part = await state.read(wanted)
    found = []
    if stored is not None:
        first = decode(PlacementRow, stored)
        found.append(Holder(OBJECTS, layout, stored, first))
        if len(first.pages) > 1:
            found += await _other_pages(state, layout, len(first.pages))
    if of_part and of_part[0] is not None:
        found.append(Holder(PARTS, part, of_part[0], decode(PartRow, of_part[0])))
    return found


async def _other_pages(state: GlobalState, layout: bytes, count: int) -> list[Holder]:
    places = [keys.page(layout, number) for number in range(1, count)]
    return [
        Holder(OBJECTS, place, stored, decode(PlacementRow, stored))
        for place, stored in zip(
            places, await state.read([(OBJECTS, place) for place in places]), strict=True
        )
        if stored is not None
    ]


async def walk(
    state: GlobalState, table: str, after: bytes = b""
) -> AsyncGenerator[tuple[list[Holder], bytes], None]:
    """The rows of `table` in pages, each with the place behind it."""
    truncated = True
    while truncated:
        page = await state.list(table, b"", b"", after, HEALING_PAGE_RECORDS)
        truncated = page.truncated
        after = _behind(page.next or after)
        yield _holders(table, page.entries), after


async def walk_deleted(state: GlobalState) -> AsyncGenerator[Sequence[Extent], None]:
    """The extents that wait for their nodes to let go of them, in pages."""
    after, truncated = b"", True
    while truncated:
        page = await state.list(OBJECTS, DELETED, b"", after, HEALING_PAGE_RECORDS)
        truncated, after = page.truncated, page.next or after
        yield [
            extent for _, stored in page.entries for extent in decode(PlacementRow, stored).extents
        ]


def _behind(key: bytes) -> bytes:
    """`key`, or the end of what it lies in, where that names no shards that a walk looks at."""
    for prefix in (DELETED, ARN):
        if key.startswith(prefix):
            return after_all(prefix) or key
    return key


def _holders(table: str, entries: Sequence[tuple[bytes, bytes]]) -> list[Holder]:
    if table == PARTS:
        return [Holder(table, key, stored, decode(PartRow, stored)) for key, stored in entries]
    return [
        Holder(table, key, stored, decode(PlacementRow, stored))
        for key, stored in entries
        if len(key) in _PAGE_KEY_BYTES and not key.startswith((DELETED, ARN))
    ]

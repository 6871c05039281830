"""What a store of files asks of the catalog's rows: `Files`, the Placements of storage/interface.

A plain path belongs to a bucket's name and a key, and rows to a bucket's id: so the path is that of
the bucket which has the name now, and of the version of order 0, which is the one that was put
before the bucket had versions.
"""

from __future__ import annotations

from collections.abc import Sequence

from predastore.catalog import keys, refusals
from predastore.catalog.keys import BUCKETS, OBJECTS, PARTS, UPLOADS, VERSIONS
from predastore.catalog.procedures.questions import FindObject, FoundObject
from predastore.catalog.rows import PartRow, PlacementRow, bucket_row
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import Extent
from predastore.storage.formats import decode


class Files:
    """Over the state that the rows are in."""

    def __init__(self, state: GlobalState) -> None:
        self._state = state

    async def placed(self, layout: bytes) -> list[Extent]:
        """All pages' extents, in their order; fewer where the last version that names it goes
        meanwhile."""
        first = await self._page(layout, 0)
        if first is None:
            return []
        found = [*first.extents]
        for number in range(1, len(first.pages)):
            page = await self._page(layout, number)
            found += () if page is None else page.extents
        return found

    async def part(self, key: bytes) -> Extent | None:
        """Also of an upload that has ended, until its parts are let go of."""
        stored = await self._state.get(PARTS, key)
        return None if stored is None else decode(PartRow, stored).extent

    async def plain(self, bucket: str, key: str) -> Sequence[Extent]:
        """As of one moment. Where its layout has several pages, those of the first: it was made of
        parts then, and has no plain path."""
        asked = FindObject(bucket, key, version=b"")
        found = refusals.read(FoundObject, await self._state.ask("object.find", asked.encode()))
        if found.order or not found.placement:
            return ()
        return decode(PlacementRow, found.placement).extents

    async def has_anything(self, bucket: str) -> bool:
        stored = await self._state.get(BUCKETS, keys.bucket(bucket))
        if stored is None:
            return False
        row = bucket_row(stored)
        for table in (VERSIONS, UPLOADS):
            if await self._state.list_keys(table, keys.documents(row.id), 1):
                return True
        return False

    async def _page(self, layout: bytes, number: int) -> PlacementRow | None:
        stored = await self._state.get(OBJECTS, keys.page(layout, number))
        return None if stored is None else decode(PlacementRow, stored)

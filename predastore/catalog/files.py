"""What a store of files asks of the catalog's rows: `Files`, the Placements of storage/interface.

A plain path belongs to a bucket's name and a key, and rows to a bucket's id: so the path is that of
the bucket which has the name now, and of the version of order 0, which is the one that was put
before the bucket had versions.
"""

from __future__ import annotations

from predastore.catalog import keys
from predastore.catalog.keys import BUCKETS, OBJECTS, PARTS, UPLOADS, VERSIONS
from predastore.catalog.rows import BucketRow, Kind, PartRow, PlacementRow, VersionRow
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import Extent
from predastore.storage.formats import decode


class Files:
    """Over the state that the rows are in. It reads row by row: a version that goes meanwhile may
    be found without its extents."""

    def __init__(self, state: GlobalState) -> None:
        self._state = state

    async def placed(self, layout: bytes) -> list[Extent]:
        """All pages' extents, in their order."""
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

    async def plain(self, bucket: str, key: str) -> list[Extent]:
        row = await self._bucket(bucket)
        if row is None:
            return []
        stored = await self._state.get(VERSIONS, keys.version(row.id, key, 0))
        version = None if stored is None else decode(VersionRow, stored)
        if version is None or version.kind is not Kind.PLACED:
            return []
        return await self.placed(version.layout)

    async def has_anything(self, bucket: str) -> bool:
        row = await self._bucket(bucket)
        if row is None:
            return False
        for table in (VERSIONS, UPLOADS):
            if await self._state.list_keys(table, keys.documents(row.id), 1):
                return True
        return False

    async def _page(self, layout: bytes, number: int) -> PlacementRow | None:
        stored = await self._state.get(OBJECTS, keys.page(layout, number))
        return None if stored is None else decode(PlacementRow, stored)

    async def _bucket(self, name: str) -> BucketRow | None:
        stored = await self._state.get(BUCKETS, keys.bucket(name))
        return None if stored is None else decode(BucketRow, stored)

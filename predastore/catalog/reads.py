"""Reading: look-ups, bytes, and the parts of an object.

A look-up is one question: bucket, version and the first page of its layout, as of one moment. The
bytes of a version that is let go of meanwhile stay for the store's grace time; without one, for as
long as this process looks at the key or holds the layout (readers.py).
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager

from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData, ObjectReplaced, ObjectUnreadable
from predastore.catalog import keys, refusals
from predastore.catalog.core import CatalogCore
from predastore.catalog.errors import NoSuchKey, NoSuchVersion
from predastore.catalog.keys import OBJECTS
from predastore.catalog.procedures.questions import FindObject, FoundObject
from predastore.catalog.readers import Look
from predastore.catalog.rows import BucketRow, Kind, PlacementRow, VersionRow, bucket_row
from predastore.catalog.streams import StreamSource, VersionStream
from predastore.catalog.values import DeleteMarker, Finding, ObjectVersion, PlacedPart
from predastore.storage.extents import Extent, ShardExtent
from predastore.storage.formats import decode
from predastore.storage.interface import Buffer, Opened


class CatalogReads(CatalogCore):
    """Part of `Catalog`."""

    async def find(
        self, bucket: str, key: str, version_id: str = "", *, needs_bytes: bool = True
    ) -> Finding:
        """The version of this id, or ("") what is current, with its bucket; one round trip.
        NoSuchVersion for what is no id. `needs_bytes`: they will be read."""
        version = parsed(version_id)
        asked = FindObject(bucket, key, version, needs_bytes)
        found = refusals.read(FoundObject, await self._state.ask("object.find", asked.encode()))
        if not found.bucket:
            return Finding()
        row = bucket_row(found.bucket)
        if not found.version:
            return Finding(row)
        return self._finding(row, key, found)

    def _finding(self, bucket: BucketRow, key: str, found: FoundObject) -> Finding:
        row = decode(VersionRow, found.version)
        if row.is_marker:
            name = keys.version_id(found.order, row.random, is_null=row.is_null)
            return Finding(
                bucket, marker=DeleteMarker(name, row.summary.modified_ms, found.is_newest)
            )
        version = ObjectVersion(
            bucket,
            key,
            found.order,
            row,
            is_newest=found.is_newest,
            placement=decode(PlacementRow, found.placement) if found.placement else None,
            body=_checked(found.body) if found.body else None,
        )
        return Finding(bucket, version)

    def looking(self, bucket: str, key: str) -> AbstractContextManager[Look]:
        """Around a `find` and the `open_read` of what it finds, which is given the look: it finds
        the bytes, though the version goes meanwhile. No client is to be waited for within the
        block, and nothing written: what replaces the version waits for its end."""
        return self._readers.looking(f"{bucket}/{key}")

    # --- bytes ----------------------------------------------------------------------------

    async def open_read(
        self, version: ObjectVersion, start: int, end: int, look: Look | None = None
    ) -> VersionStream:
        """The bytes [start, end) of a version just found, of which the first are had already.
        `look`: that in which it was found; it ends here.

        The caller closes it (`aclose`) if it does not read to the end. ObjectReplaced: another one
        is current now, and this one's bytes are gone: look up again. ObjectUnreadable: fewer than
        k shards can be had. NoSuchKey, NoSuchVersion: it was deleted meanwhile.
        """
        opened = _nothing if look is None else look.end
        try:
            return await self._begin(version, start, end, opened, certain=False)
        except ObjectUnreadable as error:
            bucket, key = version.bucket.name, version.key
            with self.looking(bucket, key) as again:
                opened()
                wanted = "" if version.is_newest else version.version_id
                now = (await self.find(bucket, key, wanted)).version
                if now is None:
                    raise (NoSuchVersion() if wanted else NoSuchKey(Key=key)) from error
                if now.row.layout != version.row.layout:
                    raise ObjectReplaced(f"{bucket}/{key} was replaced") from error
                return await self._begin(now, start, end, again.end, certain=True)
        finally:
            opened()

    def at_hand(self, version: ObjectVersion, start: int, end: int) -> memoryview | None:
        """The bytes [start, end) of a version just found, where they came with it; None where they
        have to be read. ObjectUnreadable."""
        if version.row.kind is Kind.PLACED:
            return None
        return _body(version)[start:end]

    async def open_source(
        self, version: ObjectVersion, start: int, end: int, look: Look | None = None
    ) -> StreamSource:
        """The bytes [start, end) as a body for `put` or `put_part`, to be used in `async with`.
        `look`: as `open_read`."""
        return StreamSource(await self.open_read(version, start, end, look))

    async def _begin(
        self, version: ObjectVersion, start: int, end: int, opened: Opened, *, certain: bool
    ) -> VersionStream:
        if version.row.kind is Kind.PLACED:
            buffers = self._read(version, start, end, opened, certain=certain)
        else:
            buffers = _of_memory(version, start, end, opened)
        return await VersionStream(buffers).begin()

    async def _read(
        self, version: ObjectVersion, start: int, end: int, opened: Opened, *, certain: bool
    ) -> AsyncGenerator[Buffer, None]:
        layout = version.row.layout
        with self._readers.holding(layout):
            number, base = _page_at(await self._page(version, 0), start)
            while start < end:
                page = await self._page(version, number)
                for extent in page.extents:
                    low, high = max(start - base, 0), min(end - base, extent.size)
                    base += extent.size
                    if low >= high:
                        continue
                    start = base
                    async with contextlib.aclosing(
                        self._read_extent(version, number, extent, low, high, opened, certain)
                    ) as stream:
                        async for buffer in stream:
                            yield buffer
                number += 1

    async def _read_extent(
        self,
        version: ObjectVersion,
        number: int,
        extent: Extent,
        low: int,
        high: int,
        opened: Opened,
        certain: bool,
    ) -> AsyncGenerator[Buffer, None]:
        def damaged(bad: ShardExtent, shard: int) -> None:
            name = version.bucket.name, version.key
            self._repairs.note(version.row.layout, *name, bad, shard)

        lies: Extent | None = extent
        while lies is not None and low < high:
            try:
                async with contextlib.aclosing(
                    self._store.read(lies, low, high, damaged, opened, certain=certain)
                ) as stream:
                    async for buffer in stream:
                        low += len(buffer)
                        yield buffer
            except ObjectUnreadable:
                if (lies := await self._moved(version, number, lies)) is None:
                    raise

    async def _moved(self, version: ObjectVersion, number: int, extent: Extent) -> Extent | None:
        """The extent as the layout names it now, if its shards have been moved."""
        stored = await self._state.get(OBJECTS, keys.page(version.row.layout, number))
        for each in decode(PlacementRow, stored).extents if stored is not None else ():
            if each.write_id == extent.write_id and each != extent:
                return each
        return None

    # --- parts ----------------------------------------------------------------------------

    async def part(self, version: ObjectVersion, number: int) -> PlacedPart | None:
        """A part of a version; None: it has no part of this number."""
        if not version.part_count:
            return None
        first = await self._page(version, 0)
        at = 0
        if first.pages:
            at = max(0, bisect_right([begin for _, begin in first.pages], number) - 1)
        page = await self._page(version, at)
        start = first.pages[at][0] if first.pages else 0
        for each in page.parts:
            if each.number == number:
                return PlacedPart(start, each)
            start += each.size
        return None

    async def parts(
        self, version: ObjectVersion, after: int, limit: int
    ) -> tuple[list[PlacedPart], bool]:
        """Parts with numbers above `after`, at most `limit`, and whether there are more; none of
        what was put whole."""
        if not version.part_count:
            return [], False
        first = await self._page(version, 0)
        found: list[PlacedPart] = []
        start = 0
        for number in range(max(1, len(first.pages))):
            if len(found) > limit:
                break
            begins = [begin for _, begin in first.pages[number + 1 : number + 2]]
            if begins and begins[0] <= after:
                continue
            if first.pages:
                start = first.pages[number][0]
            for each in (await self._page(version, number)).parts:
                if each.number > after:
                    found.append(PlacedPart(start, each))
                start += each.size
        return found[:limit], len(found) > limit

    async def _page(self, version: ObjectVersion, number: int) -> PlacementRow:
        """A page of a version's layout, also while it waits for its end."""
        if not number and version.placement is not None:
            return version.placement
        layout = version.row.layout
        live, gone = await self._state.read(
            ((OBJECTS, keys.page(layout, number)), (OBJECTS, keys.deleted(layout, number)))
        )
        stored = live or gone
        if stored is None:
            raise ObjectUnreadable(f"{version.bucket.name}/{version.key} was deleted meanwhile")
        return decode(PlacementRow, stored)


def _page_at(first: PlacementRow, start: int) -> tuple[int, int]:
    """The page in which a byte lies, and the first byte of it."""
    if not first.pages:
        return 0, 0
    begins = [begin for begin, _ in first.pages]
    number = max(0, bisect_right(begins, start) - 1)
    return number, begins[number]


async def _of_memory(
    version: ObjectVersion, start: int, end: int, opened: Opened
) -> AsyncGenerator[Buffer, None]:
    """The bytes of a version that has none elsewhere."""
    body = _body(version)
    opened()
    if start < end:
        yield body[start:end]


def _body(version: ObjectVersion) -> memoryview:
    """All bytes of a version that has none elsewhere."""
    body = version.body or b""
    if len(body) != version.size:
        raise ObjectUnreadable(f"{version.bucket.name}/{version.key} has no body")
    return memoryview(body)


def _checked(stored: bytes) -> bytes:
    """An inline body; CorruptData."""
    body = stored[4:]
    if crc32c(body) != int.from_bytes(stored[:4], "big"):
        raise CorruptData("an inline body does not match its CRC32C")
    return body


def parsed(version_id: str) -> bytes | None:
    """As `keys.parse_version_id`; None for "". NoSuchVersion for what is no id."""
    if not version_id:
        return None
    version = keys.parse_version_id(version_id)
    if version is None:
        raise NoSuchVersion(VersionId=version_id)
    return version


def _nothing() -> None:
    """What an open without a look has to tell."""

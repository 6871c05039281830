"""Where a file is on its way from tmp to its path, and off it again.

A file in tmp is named for the rows that will refer to it, so that after a crash it is known which
ones to look at:

    <write id>-o-<layout>                       of a version
    <write id>-p-<layout>-<key of the part>     of a part, or by now of the version made of it

(all in hex). Only a version that was put before its bucket had versions has a plain path, so a key
has one at most. Whose the path is, is asked for under the path's lock: a file is moved there only
while its layout is one that a version names, and removed from there only where the version that may
have the path has another file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from predastore.base.errors import PredastoreError, is_exhausted
from predastore.base.failpoints import failpoint
from predastore.base.limits import EXHAUSTED_PAUSE_S, EXHAUSTED_PUBLISH_S, FILE_LOCKS
from predastore.storage import plain_names
from predastore.storage.beneath import Beneath
from predastore.storage.extents import HASH_BYTES, Extent, FileExtent
from predastore.storage.file_io import looks_like
from predastore.storage.interface import Place, Placements
from predastore.storage.plain_names import Naming, Reservations, is_plain

logger = logging.getLogger(__name__)

InThread = Callable[..., Awaitable[Any]]


class Publication:
    """`in_thread` runs a blocking function."""

    def __init__(
        self, files: Beneath, placements: Placements, in_thread: InThread, naming: Naming
    ) -> None:
        self._files = files
        self._placements = placements
        self._in_thread = in_thread
        self._naming = naming
        self._reservations = Reservations()
        self._reserved: dict[bytes, str] = {}  # write id -> the plain path it is to have
        self._in_tmp: dict[bytes, str] = {}  # write id -> its file in tmp
        self._locks = [asyncio.Lock() for _ in range(FILE_LOCKS)]

    # --- on its way in --------------------------------------------------------------------

    def begin(self, place: Place, write_id: bytes) -> str:
        """The path in tmp for a write."""
        tmp = self._naming.own(place.bucket, plain_names.TMP)
        path = f"{tmp}/{_Tmp(write_id, place.layout, place.part).name}"
        self._in_tmp[write_id] = path
        return path

    def not_begun(self, write_id: bytes) -> None:
        """There is no file after all."""
        del self._in_tmp[write_id]

    async def choose(self, place: Place, write_id: bytes) -> str:
        """The path that the file is to have; a plain one is reserved until it is published."""
        if place.part:
            return f"{self._naming.own(place.bucket, plain_names.PARTS)}/{write_id.hex()}"
        path = self._naming.plain_path(place.bucket, place.key) if place.is_plain else None
        if path is not None and self._reserve(write_id, path):
            if await self._in_thread(self._files.is_free, path):
                return path
            self._unreserve(write_id)
        return f"{self._naming.own(place.bucket, plain_names.OBJECTS)}/{write_id.hex()}"

    async def choose_again(self, place: Place, write_id: bytes) -> str:
        """The path that it is to have instead, before its commit."""
        self._unreserve(write_id)
        return await self.choose(place, write_id)

    def tmp_of(self, extent: FileExtent) -> str | None:
        """Where the file is in tmp, or was a moment ago; None: it is at its path, if anywhere."""
        return self._in_tmp.get(extent.write_id)

    async def publish(self, extent: FileExtent) -> None:
        """Moves the file to its path, after the commit; it is readable, also after a failure. One
        that was replaced by now stays in tmp, for its readers, until it is released."""
        async with self._lock(extent.path):
            source = self._in_tmp.get(extent.write_id)
            if source is None:
                return
            try:
                if not await self._is_current(extent, source):
                    return
                await self._patiently(self._files.move, source, extent.path)
                failpoint("file.published")
            except (OSError, PredastoreError) as error:
                logger.error(
                    "an object's file could not be moved to its path, or not durably",
                    extra={"path": extent.path, "error": str(error)},
                )
                if await self._is_there(source):
                    return
            finally:
                self._unreserve(extent.write_id)
            del self._in_tmp[extent.write_id]

    async def _patiently(self, work: Callable[..., None], *arguments: str) -> None:
        """Does it, for some time again and again while nothing but a descriptor lacks."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + EXHAUSTED_PUBLISH_S
        while True:
            try:
                await self._in_thread(work, *arguments)
                return
            except OSError as error:
                if not is_exhausted(error) or clock() > give_up_at:
                    raise
            await asyncio.sleep(EXHAUSTED_PAUSE_S)

    async def _is_there(self, source: str) -> bool:
        try:
            return bool(await self._in_thread(self._files.exists, source))
        except (OSError, PredastoreError):
            return True

    # --- on its way out -------------------------------------------------------------------

    async def forget(self, write_id: bytes) -> None:
        """Removes what was written and is not referred to, if it is still in tmp."""
        source = self._in_tmp.pop(write_id, None)
        self._unreserve(write_id)
        if source is not None:
            await self._patiently(self._files.remove, source)

    async def release(self, extent: FileExtent) -> None:
        """Removes the file of a version that was replaced or deleted, unless the path has gone
        over to another version."""
        async with self._lock(extent.path):
            await self.forget(extent.write_id)
            if not is_plain(extent.path):
                await self._in_thread(self._files.remove, extent.path)
            elif not await self._is_taken(extent.path):
                await self._in_thread(self._remove_plain, extent)

    def _remove_plain(self, extent: FileExtent) -> None:
        if looks_like(self._files, extent):
            self._files.remove(extent.path, prune=True)

    # --- start ----------------------------------------------------------------------------

    async def recover(self) -> None:
        """Publishes what an earlier run had committed, and removes the rest of tmp."""
        for tmp in self._naming.all_of(plain_names.TMP):
            for name in await self._in_thread(self._files.names, tmp):
                await self._recover(f"{tmp}/{name}", name)

    async def _recover(self, path: str, name: str) -> None:
        extent = await self._committed(name)
        if extent is None:
            await self._in_thread(self._files.remove, path)
            return
        self._in_tmp[extent.write_id] = path
        if is_plain(extent.path):
            self._reserve(extent.write_id, extent.path)
        await self.publish(extent)

    async def _committed(self, name: str) -> FileExtent | None:
        """The extent of the row that refers to a file in tmp."""
        try:
            tmp = _Tmp.parsed(name)
        except ValueError:
            return None
        found: list[Extent | None] = [*await self._placements.placed(tmp.layout)]
        if tmp.part:
            found.append(await self._placements.part(tmp.part))
        for extent in found:
            if isinstance(extent, FileExtent) and extent.write_id == tmp.write_id:
                return extent
        return None

    # --- whose a plain path is --------------------------------------------------------------

    async def _is_current(self, extent: FileExtent, source: str) -> bool:
        """Whether the file, which is in tmp, may be moved to its path."""
        if not is_plain(extent.path):
            return True
        layout = _Tmp.parsed(source.rpartition("/")[2]).layout
        extents = await self._placements.placed(layout)
        return any(each.write_id == extent.write_id for each in extents)

    async def _is_taken(self, path: str) -> bool:
        """Whether the file at a plain path is that of the version which may have the path."""
        bucket, _, key = path.partition("/")
        extents = await self._placements.plain(bucket, key)
        files = (each for each in extents if isinstance(each, FileExtent))
        return any(each.path == path and each.write_id not in self._in_tmp for each in files)

    def _lock(self, path: str) -> asyncio.Lock:
        return self._locks[hash(path) % len(self._locks)]

    def _reserve(self, write_id: bytes, path: str) -> bool:
        if not self._reservations.reserve(path):
            return False
        self._reserved[write_id] = path
        return True

    def _unreserve(self, write_id: bytes) -> None:
        path = self._reserved.pop(write_id, None)
        if path is not None:
            self._reservations.release(path)


@dataclass(frozen=True)
class _Tmp:
    """What the name of a file in tmp says. `part`: as in a Place."""

    write_id: bytes
    layout: bytes
    part: bytes = b""

    @property
    def name(self) -> str:
        if self.part:
            return f"{self.write_id.hex()}-p-{self.layout.hex()}-{self.part.hex()}"
        return f"{self.write_id.hex()}-o-{self.layout.hex()}"

    @classmethod
    def parsed(cls, name: str) -> _Tmp:
        """ValueError for a name that is none."""
        write_id, _, layout, *rest = name.split("-")
        tmp = cls(bytes.fromhex(write_id), bytes.fromhex(layout), bytes.fromhex("-".join(rest)))
        if tmp.name != name or len(tmp.layout) != HASH_BYTES:
            raise ValueError(f"no file of ours has this name: {name!r}")
        return tmp

"""Where a file is on its way from tmp to its path, and off it again.

A file in tmp is named for the record that will refer to it, so that after a crash it is known
which record to look at:

    <write id>-o-<object hash>                              an object
    <write id>-p-<upload id>-<part number>-<object hash>    a part, or by now part of the object

(ids and hashes in hex). Whether a plain path belongs to a version is decided by the state, under
the path's lock: only the version that the object's record names is moved there, and only what no
record names is removed from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from predastore.base.errors import PredastoreError, is_exhausted
from predastore.base.limits import EXHAUSTED_PAUSE_S, EXHAUSTED_PUBLISH_S, FILE_LOCKS
from predastore.s3db.global_state import GlobalState
from predastore.storage import plain_names, records
from predastore.storage.beneath import Beneath
from predastore.storage.file_io import looks_like
from predastore.storage.interface import Place
from predastore.storage.plain_names import Naming, Reservations, is_plain
from predastore.storage.records import (
    OBJECTS,
    PARTS,
    Extent,
    FileExtent,
    ObjectRecord,
    PartRecord,
)

logger = logging.getLogger(__name__)

InThread = Callable[..., Awaitable[Any]]


class Publication:
    """`in_thread` runs a blocking function."""

    def __init__(
        self, files: Beneath, state: GlobalState, in_thread: InThread, naming: Naming
    ) -> None:
        self._files = files
        self._state = state
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
        path = f"{tmp}/{_tmp_name(place, write_id)}"
        self._in_tmp[write_id] = path
        return path

    def not_begun(self, write_id: bytes) -> None:
        """There is no file after all."""
        del self._in_tmp[write_id]

    async def choose(self, place: Place, write_id: bytes) -> str:
        """The path that the file is to have; a plain one is reserved until it is published."""
        if place.upload_id:
            return f"{self._naming.own(place.bucket, plain_names.PARTS)}/{write_id.hex()}"
        path = self._naming.plain_path(place.bucket, place.key)
        if path is not None and self._reserve(write_id, path):
            if await self._in_thread(self._files.is_free, path):
                return path
            self._unreserve(write_id)
        return f"{self._naming.own(place.bucket, plain_names.OBJECTS)}/{write_id.hex()}"

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
                if not await self._is_current(extent):
                    return
                await self._patiently(self._files.move, source, extent.path)
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
        """The extent of the record that refers to a file in tmp."""
        write_id, _, rest = name.partition("-")
        hash_ = rest.rpartition("-")[2]
        try:
            wanted = bytes.fromhex(write_id)
            found = await self._extents(bytes.fromhex(hash_))
            if rest.startswith("p-"):
                _, upload_id, number, _ = rest.split("-")
                found += await self._part_extents(upload_id, int(number))
        except ValueError:
            return None
        for extent in found:
            if isinstance(extent, FileExtent) and extent.write_id == wanted:
                return extent
        return None

    # --- what the state says --------------------------------------------------------------

    async def _is_current(self, extent: FileExtent) -> bool:
        if not is_plain(extent.path):
            return True
        extents = await self._extents(_hash_of(extent.path))
        return any(each.write_id == extent.write_id for each in extents)

    async def _is_taken(self, path: str) -> bool:
        """Whether the file at a plain path is that of the version that the record names."""
        extents = await self._extents(_hash_of(path))
        files = (each for each in extents if isinstance(each, FileExtent))
        return any(each.path == path and each.write_id not in self._in_tmp for each in files)

    async def _extents(self, hash_: bytes) -> list[Extent]:
        stored = await self._state.get(OBJECTS, hash_)
        return [] if stored is None else [*records.decode(ObjectRecord, stored).extents]

    async def _part_extents(self, upload_id: str, number: int) -> list[Extent]:
        stored = await self._state.get(PARTS, records.part_key(upload_id, number))
        return [] if stored is None else [records.decode(PartRecord, stored).extent]

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


def _hash_of(path: str) -> bytes:
    """The object hash of the key that a plain path is of."""
    bucket, _, key = path.partition("/")
    return records.object_hash(bucket, key)


def _tmp_name(place: Place, write_id: bytes) -> str:
    hash_ = records.object_hash(place.bucket, place.key).hex()
    if place.upload_id:
        return f"{write_id.hex()}-p-{place.upload_id}-{place.number}-{hash_}"
    return f"{write_id.hex()}-o-{hash_}"

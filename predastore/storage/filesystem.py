"""FilesystemStore: objects as plain files under <base_path>/<bucket>/.

    <base_path>/<bucket>/<key>                 an object, where its key can be a path (plain_names)
                                               and it was put before its bucket had versions
    <base_path>/.predastore/objects/<id>       any other version of an object
    <base_path>/.predastore/parts/<id>         a part of a multipart upload. Completing copies no
                                               bytes: the object goes on referring to its parts
    <base_path>/.predastore/tmp/<id>-...       bytes before their commit, or just after it
    <base_path>/.predastore/state/             LocalState

A bucket may have a directory of its own (`pathnames`): it stands for <base_path>/<bucket>, and has
a .predastore of its own, with tmp, parts and objects.

Bytes go to tmp and are synced; the commit; then the file is moved to its path. The extent has a
CRC for each block, and every block is checked when it is read. In between, and after a crash in
between, rows refer to bytes that are still in tmp: this process knows of them, and the next one
puts them where they belong before it serves anything. What is in tmp and no row refers to is
removed. A plain path is given to the version that has it at that moment, under a lock, so that two
writers of one key can not leave the older bytes.

This process is the only one on its base path. Symbolic links are never followed (beneath).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from predastore.base.errors import CorruptData, NodeFull, PredastoreError
from predastore.base.limits import (
    BACKEND_FIRST_READ_BYTES,
    BACKEND_READ_BYTES_MAX,
    BACKEND_WRITE_BYTES_MAX,
    FILE_BLOCK_BYTES,
    POOL_THREADS,
)
from predastore.base.threads import in_thread, until_done
from predastore.s3db.global_state import GlobalState
from predastore.storage.beneath import Beneath
from predastore.storage.body import expect_end, fill, first_bytes
from predastore.storage.buffers import Budget, Pool
from predastore.storage.extents import Extent, FileExtent
from predastore.storage.file_io import FileWriter, disk_errors
from predastore.storage.file_reader import FileReader
from predastore.storage.interface import (
    Buffer,
    Damaged,
    DigestSink,
    Opened,
    Place,
    Placements,
    Source,
    Written,
)
from predastore.storage.pathnames import in_force, names_below
from predastore.storage.plain_names import OBJECTS, OWN_DIRECTORY, PARTS, TMP, Naming
from predastore.storage.publication import Publication
from predastore.storage.room import OBSTACLE, Room
from predastore.storage.shared_sync import SharedSync


class FilesystemStore:
    """Made by `open`; `state` is where the rows are, on the same disk, and `placements` what they
    say. `files`, `naming`, `room` and `in_thread`: of what lies here, also for who makes objects of
    files (catalog/adoption.py)."""

    def __init__(
        self, files: Beneath, state: GlobalState, placements: Placements, naming: Naming
    ) -> None:
        self.files = files
        self._threads = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="files")
        self.in_thread = partial(in_thread, self._threads)
        self._write_budget = Budget(BACKEND_WRITE_BYTES_MAX)
        self._read_budget = Budget(BACKEND_READ_BYTES_MAX)
        self._pool = Pool()
        self.room = Room(lambda: state.spare_bytes)
        self._sync_tmp = {
            tmp: SharedSync(partial(self.in_thread, files.sync_directory, tmp))
            for tmp in naming.all_of(TMP)
        }
        self.naming = naming
        self.publication = Publication(files, placements, self.in_thread, naming)
        self._reader = FileReader(
            files, self.publication, self.in_thread, self._read_budget, self._pool
        )

    @classmethod
    async def open(
        cls,
        base_path: Path,
        state: GlobalState,
        placements: Placements,
        pathnames: Mapping[str, Path] | None = None,
    ) -> FilesystemStore:
        """Makes the directories, and finishes what a crash left half done. `pathnames`: of buckets
        whose files lie elsewhere; StartupError where they do not."""
        roots = await in_force(base_path, pathnames or {}, placements)
        files, naming = await asyncio.get_running_loop().run_in_executor(
            None, _prepare, base_path, roots
        )
        store = cls(files, state, placements, naming)
        try:
            await store.publication.recover()
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def shares(self) -> bool:
        """A file has one path, and goes with the one version that names it."""
        return False

    @property
    def grace_s(self) -> float:
        """A reader has its file open; the name can go at once."""
        return 0.0

    def held_bytes(self) -> dict[str, int]:
        return {
            "bodies_in": self._write_budget.held_bytes,
            "bodies_out": self._read_budget.held_bytes,
            "pool": self._pool.kept_bytes,
            "pool_used": self._pool.used_bytes,
        }

    async def close(self) -> None:
        self._threads.shutdown(wait=True)
        self.files.close()

    # --- writing --------------------------------------------------------------------------

    async def write(
        self,
        place: Place,
        write_id: bytes,
        source: Source,
        size: int,
        digests: DigestSink,
        *,
        may_end: bool = False,
    ) -> Written:
        path = self.publication.begin(place, write_id)
        try:
            descriptor = await self._create(path, write_id, size)
            try:
                writer = FileWriter(descriptor, digests, self.room)
                size = await self._receive(source, size, writer, may_end=may_end)
                crcs, inode = await self.in_thread(writer.sync)
            finally:
                await self.in_thread(os.close, descriptor)
            with disk_errors():
                await self._sync_tmp[path.rpartition("/")[0]]()
                chosen = await self.publication.choose(place, write_id)
        except BaseException:
            await asyncio.shield(self.publication.forget(write_id))
            raise
        return Written(FileExtent(chosen, write_id, size, FILE_BLOCK_BYTES, crcs, inode))

    async def _create(self, path: str, write_id: bytes, size: int) -> int:
        """The descriptor of a new file, where so many bytes have room, and their rows have."""

        def create() -> int:
            self.room.check(self.files.disk_of(OWN_DIRECTORY), 0)
            self.room.check(self.files.disk_of(path), size)
            return self.files.create(path)

        with disk_errors():
            try:
                return await self.in_thread(create, undo=os.close)
            except (OSError, NodeFull):
                self.publication.not_begun(write_id)
                raise

    async def _receive(
        self, source: Source, size: int, writer: FileWriter, *, may_end: bool
    ) -> int:
        """The body, one block being received while the one before is written; its size."""
        first = b""
        if size > BACKEND_FIRST_READ_BYTES:
            first = await first_bytes(source, may_end=may_end)
        held = 2 * min(size, FILE_BLOCK_BYTES)
        writing: asyncio.Task[None] | None = None
        await self._write_budget.take(held)
        try:
            for offset in range(0, size, FILE_BLOCK_BYTES):
                count = min(FILE_BLOCK_BYTES, size - offset)
                view = memoryview(self._pool.get(count))[:count]
                view[: len(first)] = first
                filled = await fill(source, view, len(first), self._write_budget, may_end=may_end)
                first = b""
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(self.in_thread(writer.append, view[:filled]))
                if filled < count:
                    size = offset + filled
                    break
            await expect_end(source)
            if writing is not None:
                await writing
            return size
        finally:
            try:
                if writing is not None and not writing.done():
                    await until_done(writing)
                    writing.exception()
            finally:
                del writing  # its error has a traceback with this frame
                self._write_budget.give(held)

    async def replaced(self, written: Written, place: Place) -> Written:
        extent = _filed(written.extent)
        chosen = await self.publication.choose_again(place, extent.write_id)
        return replace(written, extent=msgspec.structs.replace(extent, path=chosen))

    # --- the rest of a ByteStore ----------------------------------------------------------

    async def read(
        self,
        extent: Extent,
        start: int,
        end: int,
        damaged: Damaged,
        opened: Opened,
        *,
        certain: bool = False,
    ) -> AsyncGenerator[Buffer, None]:
        stream = self._reader.read(_filed(extent), start, end, opened, certain=certain)
        async with aclosing(stream):
            async for buffer in stream:
                yield buffer

    async def publish(self, extent: Extent) -> None:
        await self.publication.publish(_filed(extent))

    async def discard(self, extents: Sequence[Extent]) -> None:
        for extent in map(_filed, extents):
            with suppress(OSError):  # found in tmp at the next start
                await self.publication.forget(extent.write_id)

    async def check_room(self) -> None:
        with disk_errors():
            self.room.check(await self.in_thread(self.files.disk_of, OWN_DIRECTORY), 0)

    async def write_obstacle(self) -> str:
        try:
            disks = await self.in_thread(self.files.disks)
        except OSError as error:
            return f"the disk failed: {error}"
        if any(disk.f_flag & os.ST_RDONLY for disk in disks):
            return "the file system is mounted read-only"
        return OBSTACLE if any(self.room.left_bytes(disk) < 1 for disk in disks) else ""

    async def release(self, extents: Sequence[Extent]) -> list[bool]:
        return [await self._release(extent) for extent in extents]

    async def _release(self, extent: Extent) -> bool:
        try:
            await self.publication.release(_filed(extent))
        except (OSError, PredastoreError):
            return False
        return True


def _prepare(base_path: Path, roots: Mapping[str, Path]) -> tuple[Beneath, Naming]:
    """The directories, and how keys become paths in them."""
    files = Beneath(base_path, roots)
    try:
        naming = Naming(frozenset(roots), names_below(base_path, roots))
        for name in (TMP, PARTS, OBJECTS):
            for directory in naming.all_of(name):
                files.make_directory(directory)
        ignoring = frozenset(bucket for bucket in ("", *roots) if _ignores_case(files, bucket))
    except BaseException:
        files.close()
        raise
    return files, replace(naming, ignoring=ignoring)


def _ignores_case(files: Beneath, bucket: str) -> bool:
    """Whether the file system of a bucket's directory does, or ("") that of the base path."""
    probe = f"{bucket}/{OWN_DIRECTORY}/case-probe".removeprefix("/")
    files.remove(probe)
    os.close(files.create(probe))
    ignores = files.exists(f"{probe.rpartition('/')[0]}/CASE-PROBE")
    files.remove(probe)
    return ignores


def _filed(extent: Extent) -> FileExtent:
    if not isinstance(extent, FileExtent):
        raise CorruptData("this object was stored by the distributed backend")
    return extent

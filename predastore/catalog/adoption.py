"""Files that lie in a bucket's own directory already become its objects.

So a directory of plain files, of the original's or anybody's, is served once `pathname` names it.
Each file that no record speaks of is read once, for its ETag and the CRCs of its blocks, and gets a
record; the file stays where it is. A key that is written meanwhile keeps what was written. What can
not be a plain object is passed over: links and devices, names that are not UTF-8, files that can
not be read or change while they are.
"""

from __future__ import annotations

import hashlib
import logging
import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from predastore._fast.crc import crc32c
from predastore.base.errors import PreconditionFailed
from predastore.base.limits import (
    ADOPTED_AT_ONCE,
    ADOPTED_READ_BYTES,
    FILE_BLOCK_BYTES,
    S3_KEY_BYTES_MAX,
)
from predastore.catalog.commit_ops import object_ops
from predastore.s3db.commands import Absent, Check, Equals, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage import records
from predastore.storage.file_io import CRC_BYTES
from predastore.storage.filesystem import FilesystemStore
from predastore.storage.plain_names import OWN_DIRECTORY
from predastore.storage.records import BUCKETS, OBJECTS, FileExtent, ObjectRecord
from predastore.storage.room import OBSTACLE

_TYPE: Final = "binary/octet-stream"

_log = logging.getLogger(__name__)


class Adopted(NamedTuple):
    """How many files became objects, and how many were passed over."""

    taken: int
    passed_over: int


@dataclass
class _Scan:
    """A file that is being read."""

    descriptor: int
    before: os.stat_result
    position: int = 0

    def __post_init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.crcs = bytearray()

    def advance(self) -> bool:
        """Reads on for a while; False at the end."""
        for _ in range(ADOPTED_READ_BYTES // FILE_BLOCK_BYTES):
            block = os.pread(self.descriptor, FILE_BLOCK_BYTES, self.position)
            if not block:
                return False
            self.md5.update(block)
            self.crcs += crc32c(block).to_bytes(CRC_BYTES, "little")
            self.position += len(block)
            if len(block) < FILE_BLOCK_BYTES:
                return False
        return True

    def is_whole(self) -> bool:
        """Whether all of one version of the file was read."""
        now = os.fstat(self.descriptor)
        same = (now.st_size, now.st_mtime_ns) == (self.before.st_size, self.before.st_mtime_ns)
        return same and self.position == now.st_size


class Adoption:
    """Of files that lie in `store`; `state`: where its records are."""

    def __init__(self, store: FilesystemStore, state: GlobalState) -> None:
        self._files = store.files
        self._room = store.room
        self._state = state
        self._naming = store.naming
        self._in_thread = store.in_thread

    async def adopt(self, bucket: str, owner: str) -> Adopted:
        """Makes objects of the files that lie in the bucket's own directory, if it has one, and are
        none yet, as long as the bucket that is there stays there."""
        if bucket not in self._naming.roots:
            return Adopted(0, 0)
        taken = passed_over = 0
        place = (BUCKETS, records.bucket_key(bucket))
        stored = await self._state.get(*place)
        if stored is None:
            return Adopted(0, 0)
        there = Equals(*place, stored)
        paths = self._files.walk(bucket, OWN_DIRECTORY)
        while some := await self._in_thread(_some, paths):
            good = [path for path in some if self._can_be_plain(path)]
            new = await self._unknown(good)
            disk = await self._in_thread(self._files.disk_of, OWN_DIRECTORY)
            if new and self._room.left_bytes(disk) < 1:
                self._say(new[0], f"{OBSTACLE}; the next start with room goes on with it")
                return Adopted(taken, passed_over + len(new))
            made = [record for path in new if (record := await self._record(path, owner))]
            passed_over += len(some) - len(good) + len(new) - len(made)
            taken += await self._commit(bucket, made, there)
        return Adopted(taken, passed_over)

    def _can_be_plain(self, path: str) -> bool:
        bucket, _, key = path.partition("/")
        try:
            is_short = len(key.encode()) <= S3_KEY_BYTES_MAX
        except UnicodeEncodeError:
            return False
        return is_short and self._naming.plain_path(bucket, key) == path

    async def _unknown(self, paths: Sequence[str]) -> list[str]:
        """Those that no record speaks of."""
        if not paths:
            return []
        found = await self._state.read([(OBJECTS, _hash_of(path)) for path in paths])
        return [path for path, stored in zip(paths, found, strict=True) if stored is None]

    async def _record(self, path: str, owner: str) -> ObjectRecord | None:
        """The record of the object that the file becomes; None where it can not."""
        try:
            scan = await self._in_thread(self._begin, path, undo=_close)
            try:
                while await self._in_thread(scan.advance):
                    continue
                is_whole = await self._in_thread(scan.is_whole)
            finally:
                await self._in_thread(_close, scan)
        except OSError as error:
            self._say(path, error.strerror or str(error))
            return None
        if not is_whole:
            self._say(path, "it changed while it was read")
            return None
        return _record(path, owner, scan)

    def _begin(self, path: str) -> _Scan:
        descriptor = self._files.open(path)
        return _Scan(descriptor, os.fstat(descriptor))

    async def _commit(self, bucket: str, made: Sequence[ObjectRecord], there: Check) -> int:
        """How many of these became objects: all at once, or one by one where a key of them was
        written meanwhile; none where `there` does not hold."""
        if not made:
            return 0
        absent = [Absent(OBJECTS, _hash_of(f"{bucket}/{record.key}")) for record in made]
        ops = [op for record in made for op in object_ops(record)]
        try:
            await self._state.commit(batch(*ops, checks=(there, *absent)))
        except PreconditionFailed as failed:
            if failed.check == 0 or len(made) == 1:
                return 0
            return sum([await self._commit(bucket, [record], there) for record in made])
        return len(made)

    @staticmethod
    def _say(path: str, why: str) -> None:
        _log.warning("a file became no object", extra={"path": path, "error": why})


def _record(path: str, owner: str, scan: _Scan) -> ObjectRecord:
    bucket, _, key = path.partition("/")
    write_id = extents.new_id()
    inode = scan.before.st_ino
    return ObjectRecord(
        bucket=bucket,
        key=key,
        write_id=write_id,
        extents=(
            FileExtent(path, write_id, scan.position, FILE_BLOCK_BYTES, bytes(scan.crcs), inode),
        ),
        size=scan.position,
        etag=scan.md5.hexdigest(),
        modified_ms=scan.before.st_mtime_ns // 1_000_000,
        owner=owner,
        content_type=mimetypes.guess_type(key)[0] or _TYPE,
        headers={},
        user={},
    )


def _some(paths: Iterator[str]) -> list[str]:
    return list(islice(paths, ADOPTED_AT_ONCE))


def _hash_of(path: str) -> bytes:
    bucket, _, key = path.partition("/")
    return records.object_hash(bucket, key)


def _close(scan: _Scan) -> None:
    os.close(scan.descriptor)

"""Files that lie in a bucket's own directory already become its objects.

So a directory of plain files, of the original's or anybody's, is served once `pathname` names it.
Each file whose key has no object is read once, for its ETag and the CRCs of its blocks, and is put
as one; the file stays where it is. A key that is written meanwhile keeps what was written. What can
not be a plain object is passed over: links and devices, names that are not UTF-8, files that can
not be read or change while they are. A bucket that has versions takes no files: theirs lie
elsewhere, and what lies at the path of a key may be an old version of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from predastore._fast.crc import crc32c
from predastore.base.errors import TooLarge
from predastore.base.limits import (
    ADOPTED_AT_ONCE,
    ADOPTED_READ_BYTES,
    BACKEND_CONDITION_TRIES_MAX,
    FILE_BLOCK_BYTES,
    S3_KEY_BYTES_MAX,
)
from predastore.base.randomness import random_bytes
from predastore.catalog import keys, refusals
from predastore.catalog.keys import BUCKETS, VERSIONS
from predastore.catalog.procedures.arguments import (
    Condition,
    Content,
    HeldBucket,
    PutObject,
    Reason,
)
from predastore.catalog.rows import BucketRow, Detail, Kind, Summary, bucket_row
from predastore.s3db.global_state import GlobalState
from predastore.storage import extents
from predastore.storage.extents import FileExtent
from predastore.storage.file_io import CRC_BYTES
from predastore.storage.filesystem import FilesystemStore
from predastore.storage.formats import pack
from predastore.storage.plain_names import OWN_DIRECTORY
from predastore.storage.room import OBSTACLE

_TYPE: Final = "binary/octet-stream"
_NEW: Final = Condition(if_none_match="*")

_log = logging.getLogger(__name__)


class Adopted(NamedTuple):
    """How many files became objects, and how many were passed over."""

    taken: int
    passed_over: int


@dataclass(frozen=True)
class _Read:
    """A file that was read, and what is to be known of it as an object."""

    extent: FileExtent
    summary: Summary

    @property
    def key(self) -> str:
        return self.extent.path.partition("/")[2]


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
    """Of files that lie in `store`; `state`: where the rows are."""

    def __init__(self, store: FilesystemStore, state: GlobalState) -> None:
        self._files = store.files
        self._room = store.room
        self._state = state
        self._naming = store.naming
        self._in_thread = store.in_thread
        self._grace_ms = int(store.grace_s * 1000)

    async def adopt(self, bucket: str, owner: str) -> Adopted:
        """Makes objects of the files that lie in the bucket's own directory, if it has one, and are
        none yet, as long as the bucket that is there stays there, and has no versions."""
        if bucket not in self._naming.roots:
            return Adopted(0, 0)
        taken = passed_over = 0
        there = await self._bucket(bucket)
        if there is None:
            return Adopted(0, 0)
        paths = self._files.walk(bucket, OWN_DIRECTORY)
        while some := await self._in_thread(_some, paths):
            good = [path for path in some if self._can_be_plain(path)]
            new = await self._unknown(there, good)
            disk = await self._in_thread(self._files.disk_of, OWN_DIRECTORY)
            if new and self._room.left_bytes(disk) < 1:
                self._say(new[0], f"{OBSTACLE}; the next start with room goes on with it")
                return Adopted(taken, passed_over + len(new))
            read = [each for path in new if (each := await self._read(path, owner))]
            put = await self._put(there, read)
            taken += put.taken
            passed_over += len(some) - len(good) + len(new) - len(read) + put.passed_over
        return Adopted(taken, passed_over)

    async def _bucket(self, name: str) -> BucketRow | None:
        """The row of a bucket that takes files."""
        stored = await self._state.get(BUCKETS, keys.bucket(name))
        row = None if stored is None else bucket_row(stored)
        return None if row is None or row.versioning else row

    def _can_be_plain(self, path: str) -> bool:
        bucket, _, key = path.partition("/")
        try:
            is_short = len(key.encode()) <= S3_KEY_BYTES_MAX
        except UnicodeEncodeError:
            return False
        return is_short and self._naming.plain_path(bucket, key) == path

    async def _unknown(self, bucket: BucketRow, paths: Sequence[str]) -> list[str]:
        """Those whose keys have no object."""
        if not paths:
            return []
        objects = (keys.version(bucket.id, path.partition("/")[2], 0) for path in paths)
        found = await self._state.read([(VERSIONS, each) for each in objects])
        return [path for path, stored in zip(paths, found, strict=True) if stored is None]

    async def _read(self, path: str, owner: str) -> _Read | None:
        """A file that can become an object; None: it can not."""
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
        return _read(path, owner, scan)

    def _begin(self, path: str) -> _Scan:
        descriptor = self._files.open(path)
        return _Scan(descriptor, os.fstat(descriptor))

    async def _put(self, bucket: BucketRow, read: Sequence[_Read]) -> Adopted:
        """Makes objects of these, but where the key was written meanwhile; of none where the bucket
        was deleted, or has versions now."""
        taken, passed_over, left = 0, 0, [*read]
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            calls = (self._put_one(bucket, each) for each in left)  # their commits share a sync
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            taken += outcomes.count(Reason.DONE)
            passed_over += outcomes.count(Reason.TOO_LARGE)
            left = [
                each
                for each, outcome in zip(left, outcomes, strict=True)
                if outcome is Reason.BUCKET_CHANGED
            ]
            now = await self._bucket(bucket.name) if left else None
            if now is None or now.id != bucket.id:
                break
            bucket = now
        return Adopted(taken, passed_over)

    async def _put_one(self, bucket: BucketRow, read: _Read) -> Reason:
        layout = keys.layout(bucket.name, read.key, read.extent.write_id)
        detail = Detail(mimetypes.guess_type(read.key)[0] or _TYPE)
        arguments = PutObject(
            held=HeldBucket(bucket.name, bucket.id, bucket.generation),
            key=read.key,
            random=random_bytes(keys.RANDOM_BYTES),
            content=Content(Kind.PLACED, layout, extents=(read.extent,)),
            summary=read.summary,
            detail=msgspec.Raw(pack(detail)),
            now_ms=extents.now_ms(),
            grace_ms=self._grace_ms,
            condition=_NEW,
        )
        try:
            applied = await self._state.call("object.put", arguments.encode())
        except TooLarge as error:
            self._say(read.extent.path, str(error))
            return Reason.TOO_LARGE
        return refusals.reason_of(applied.answer)

    @staticmethod
    def _say(path: str, why: str) -> None:
        _log.warning("a file became no object", extra={"path": path, "error": why})


def _read(path: str, owner: str, scan: _Scan) -> _Read:
    size, write_id = scan.position, extents.new_id()
    inode = scan.before.st_ino
    extent = FileExtent(path, write_id, size, FILE_BLOCK_BYTES, bytes(scan.crcs), inode)
    modified_ms = scan.before.st_mtime_ns // 1_000_000
    return _Read(extent, Summary(size, scan.md5.hexdigest(), modified_ms, owner))


def _some(paths: Iterator[str]) -> list[str]:
    return list(islice(paths, ADOPTED_AT_ONCE))


def _close(scan: _Scan) -> None:
    os.close(scan.descriptor)

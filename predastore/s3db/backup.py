"""Backups: the state of one moment in one file, which tells whether it is whole.

    offset  bytes
    0       8        magic "S3DBBKUP"
    8       4        format, 1
    12      4        zero
    16      16       cluster id
    32      8        applied index
    40      8        when it was made, milliseconds of Unix time
    48      8        bytes of the store that follow
    56      4        zero
    60      4        CRC32C of bytes 0..59
    64      n        the store, an lmdb file without unused pages
    64 + n  32       SHA-256 of all before
    96 + n  8        magic "S3DBEND1"

Integers are little endian. A backup is hot: the member goes on meanwhile, and nothing that was
acknowledged before it was asked for is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from predastore._fast.crc import crc32c
from predastore.base import fs
from predastore.base.errors import CorruptData, StartupError, UnsupportedFormat
from predastore.base.limits import BACKUP_CHUNK_BYTES
from predastore.s3db import LEVEL, commands, environment, identity
from predastore.s3db.commands import Batch
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import Address, Configuration, Marker
from predastore.s3db.store import FILE_NAME, Store
from predastore.s3db.versions import other_version

if TYPE_CHECKING:
    from predastore.s3db.store import Store

MAGIC: Final = b"S3DBBKUP"
END_MAGIC: Final = b"S3DBEND1"
FORMAT: Final = 2
TEMPORARY: Final = "backup.snapshot"

_HEADER: Final = struct.Struct("<8sII16sQQQI")
_CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CRC.size
TRAILER_BYTES: Final = hashlib.sha256().digest_size + len(END_MAGIC)
assert HEADER_BYTES == 64

_FIRST_TERM: Final = 1  # of a restored cluster: any does, its history begins here


@dataclass(frozen=True)
class Header:
    cluster_id: bytes
    applied_index: int
    made_ms: int
    store_bytes: int

    def pack(self) -> bytes:
        head = _HEADER.pack(
            MAGIC,
            FORMAT,
            0,
            self.cluster_id,
            self.applied_index,
            self.made_ms,
            self.store_bytes,
            0,
        )
        return head + _CRC.pack(crc32c(head))

    @property
    def total_bytes(self) -> int:
        return HEADER_BYTES + self.store_bytes + TRAILER_BYTES


def unpack_header(data: bytes, where: str) -> Header:
    """CorruptData, UnsupportedFormat; `where` names the file for an operator."""
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise CorruptData(f"{where}, byte 0: this is no backup of a metadata database")
    _, version, _, cluster_id, index, made_ms, size, _ = _HEADER.unpack_from(data)
    if version != FORMAT:
        raise other_version(where, version, FORMAT)
    if _CRC.unpack_from(data, _HEADER.size) != (crc32c(data[: _HEADER.size]),):
        raise CorruptData(f"{where}, byte 0: the header fails its CRC")
    return Header(cluster_id, index, made_ms, size)


class Backup:
    """One that is being read; its copy of the store has no name any more."""

    def __init__(self, header: Header, file: FileIO) -> None:
        self.header = header
        self._file = file

    async def stream(self) -> AsyncIterator[bytes]:
        """The backup's bytes; read and hashed in threads."""
        digest = hashlib.sha256()
        with self._file:
            head = self.header.pack()
            digest.update(head)
            yield head

            def piece() -> bytes:
                data = self._file.read(BACKUP_CHUNK_BYTES)
                digest.update(data)
                return data

            while data := await asyncio.to_thread(piece):
                yield data
            yield digest.digest() + END_MAGIC

    def close(self) -> None:
        self._file.close()


def begin(store: Store, directory: Path, cluster_id: bytes) -> Backup:
    """Copy the state of this moment; NodeFull where there is no room for it in `directory`."""
    path = directory / TEMPORARY
    index = store.snapshot_to(path)
    file: FileIO = fs.patiently(FileIO, path)
    path.unlink()
    size = os.fstat(file.fileno()).st_size
    return Backup(Header(cluster_id, index, int(time.time() * 1000), size), file)


def clear(directory: Path) -> None:
    """Remove what a crash in the middle of `begin` may have left."""
    for name in (TEMPORARY, TEMPORARY + ".part"):
        (directory / name).unlink(missing_ok=True)


def receive(pieces: Iterable[bytes], path: Path) -> Header:
    """Write a backup that arrives in pieces to `path`, which appears, durably, when it is whole.

    CorruptData if it is not; FileExistsError.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; name another file, or remove it")
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        header = verify(part)
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    fs.sync(path.absolute().parent)
    return header


def verify(path: Path) -> Header:
    """The header of a whole backup; CorruptData, UnsupportedFormat, OSError."""
    for _ in _checked(path):
        pass
    with path.open("rb") as file:
        return unpack_header(file.read(HEADER_BYTES), str(path))


def _checked(path: Path) -> Iterator[bytes]:
    """The bytes of the store in a backup; raises at the end if they are not what they were."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        header = unpack_header(head, str(path))
        size = os.fstat(file.fileno()).st_size
        if size != header.total_bytes:
            raise CorruptData(f"{path}: {size} bytes; it should have {header.total_bytes}")
        digest.update(head)
        left = header.store_bytes
        while left:
            data = file.read(min(left, BACKUP_CHUNK_BYTES))
            digest.update(data)
            left -= len(data)
            yield data
        if file.read() != digest.digest() + END_MAGIC:
            raise CorruptData(
                f"{path}, byte {HEADER_BYTES + header.store_bytes}: the SHA-256 of the backup "
                "does not match: it is damaged, somewhere"
            )


def restore(
    path: Path,
    *,
    directories: dict[int, Path],
    addresses: Iterable[Address],
    cluster_id: bytes,
    held: Callable[[Path], AbstractContextManager[object]] = nullcontext,
    then: Batch | None = None,
) -> Header:
    """Make the data directories of members, by id, from a backup; nobody may be running there.

    They begin a history of their own, whose voters are these members; others join them empty.
    StartupError, and nothing is touched, where a directory holds data; UnsupportedFormat, and
    nothing is left, where the state needs a newer program; CorruptData, OSError.
    `held`: holds one of them, which it may make, for as long as it is written to. `then`: what is
    done to the state first, as the entry behind those of the backup.
    """
    header = verify(path)
    if header.cluster_id != cluster_id:
        raise StartupError(
            f"{path} is a backup of cluster {header.cluster_id.hex()}, not of this one "
            f"({cluster_id.hex()}); correct [cluster] name in the configuration"
        )
    voters = tuple(sorted(directories))
    known = tuple(address for address in addresses if address.member in directories)
    index = header.applied_index + (then is not None)
    marker = Marker(index, _FIRST_TERM, Configuration(voters, (), known))
    with ExitStack() as stack:
        there = [directory for directory in directories.values() if directory.exists()]
        for directory in there:
            stack.enter_context(held(directory))
        _check_empty(there)
        for directory in directories.values():
            if directory not in there:
                stack.enter_context(held(directory))
        _check_empty(directories.values())  # again: those that were made may have been others'
        for member, directory in directories.items():
            _restore_store(path, directory / "store")
            if then is not None:
                store = Store(directory / "store", durable=True)
                store.apply([(index, commands.encode(then))])
                store.close()
            identity.establish(directory / "raft", member, cluster_id)
            journal = Journal(OsDisk(directory / "raft" / "journal"), member)
            assert journal.load() is None
            journal.create(marker)
            journal.close()
    return header


def _check_empty(directories: Iterable[Path]) -> None:
    for directory in directories:
        for name in ("store", "raft"):
            if (directory / name).exists():
                raise StartupError(
                    f"{directory / name} is there: a restore overwrites nothing; move it away"
                )


def _restore_store(path: Path, directory: Path) -> None:
    fs.make_folder(directory.parent)
    directory.mkdir()  # an error where it is there: nothing is overwritten
    fs.sync(directory.parent)
    part = directory / (FILE_NAME + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for data in _checked(path):
            file.write(data)
    try:
        environment.verify(part, LEVEL)
    except UnsupportedFormat:
        part.unlink()
        directory.rmdir()
        raise
    fs.put_in_place(part, directory / FILE_NAME)

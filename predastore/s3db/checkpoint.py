"""The state of a store that is written without syncs, to which it goes back after a crash.

lmdb never changes a page that a reader may see, so while a read transaction of commit N is open,
all that N consists of stays in the file, whatever is written after it, except the first two
pages: there each commit notes, in turn, where its tree begins. So once the file is synced, N is
in it for good; and putting these two pages back as they were after N brings N back, whatever
became of later writes. That is a checkpoint: the two pages, in a file of their own beside the
store's, which is there exactly while the store's may hold unsynced writes.

    offset  bytes     slot k of `store.checkpoint`, at k * 3 pages; each checkpoint overwrites
    0       4         CRC32C of all that follows               the older of the two slots
    4       4         format, 1
    8       8         sequence number; the slot with the higher one counts
    16      8         applied index
    24      1 page    zeros to its end
    1 page  2 pages   the first two pages of the store's file

Integers are little endian; a page is lmdb's. A slot is written in place and synced, so a
checkpoint needs no room on the disk; one that is torn leaves the other.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from predastore._fast.crc import crc32c
from predastore.base import fs
from predastore.base.errors import CorruptData
from predastore.s3db.versions import other_version

if TYPE_CHECKING:
    import lmdb

FILE_NAME: Final = "store.checkpoint"
FORMAT: Final = 2

_HEADER: Final = struct.Struct("<IIQQ")
_CRC_BYTES: Final = 4
_META_PAGES: Final = 2
_SLOT_PAGES: Final = 1 + _META_PAGES
_SLOTS: Final = 2


@dataclass(frozen=True)
class Checkpoint:
    sequence: int
    applied_index: int
    pages: bytes  # the first two of the store's file


@dataclass(frozen=True)
class PendingCheckpoint:
    """A checkpoint of what is not synced yet, and the read transaction that holds its pages."""

    checkpoint: Checkpoint
    pin: lmdb.Transaction[bytes]


class Checkpoints:
    """Those of one open store. The last is pinned as long as the environment is open. The store's
    file stays open, too: for want of a descriptor no commit has to wait for a checkpoint."""

    def __init__(self, file: Path, last: Checkpoint | None) -> None:
        """`last`: what `file` was brought back to, if it was; it is pinned by `begin` only."""
        self.descriptor = fs.opened(file, os.O_RDONLY)
        self.file = file
        self._path = file.with_name(FILE_NAME)
        self._last = last
        self._pin: lmdb.Transaction[bytes] | None = None

    @property
    def applied_index(self) -> int:
        return -1 if self._last is None else self._last.applied_index

    def begin(self, env: lmdb.Environment, applied_index: int) -> PendingCheckpoint:
        """Of the present commit; nobody writes meanwhile. Then sync `env`, and `finish`."""
        page_bytes = env.stat()["psize"]
        sequence = 0 if self._last is None else self._last.sequence + 1
        pages = os.pread(self.descriptor, _META_PAGES * page_bytes, 0)
        if len(pages) != _META_PAGES * page_bytes:
            raise CorruptData(f"{self.file}: cut short: it has only {len(pages)} bytes")
        return PendingCheckpoint(Checkpoint(sequence, applied_index, pages), env.begin())

    def finish(self, pending: PendingCheckpoint) -> None:
        """All of it is synced: from now on a crash goes back to this."""
        if self._last is None:
            _create(self._path, pending.checkpoint)
        else:
            _overwrite(self._path, pending.checkpoint)
        self.unpin()
        self._last, self._pin = pending.checkpoint, pending.pin

    def unpin(self) -> None:
        """Before the map is resized; nothing may be written until `pin`."""
        if self._pin is not None:
            self._pin.abort()
            self._pin = None

    def pin(self, env: lmdb.Environment) -> None:
        """The present commit, which is the last checkpoint."""
        self._pin = env.begin()


def close(checkpoints: Checkpoints | None) -> None:
    """The environment is closed, or is about to be."""
    if checkpoints is not None and checkpoints.descriptor >= 0:
        os.close(checkpoints.descriptor)
        checkpoints.descriptor = -1


def load(file: Path) -> Checkpoint | None:
    """The last checkpoint of a store's file; None: nothing was written to it unsynced."""
    path = file.with_name(FILE_NAME)
    try:
        data = fs.patiently(path.read_bytes)
    except FileNotFoundError:
        return None
    half = len(data) // _SLOTS
    halves = data[:half], data[half:]
    found = [slot for slot in (_unpack(path, part) for part in halves) if slot is not None]
    if not found:
        raise CorruptData(
            f"{path}: damaged, and the store beside it may hold writes that were never synced. "
            "Move this member's whole directory away and let it join again empty, or restore a "
            "backup"
        )
    return max(found, key=lambda slot: slot.sequence)


def restore(file: Path, checkpoint: Checkpoint) -> None:
    """Bring `file`, which nobody has open, back to `checkpoint`, durably."""
    descriptor = fs.opened(file, os.O_WRONLY)
    try:
        os.pwrite(descriptor, checkpoint.pages, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(file: Path) -> None:
    """The store's file is synced and closed, or gone."""
    path = file.with_name(FILE_NAME)
    if path.exists():
        path.unlink()
        fs.sync(path.parent)


def _create(path: Path, checkpoint: Checkpoint) -> None:
    """The file appears under its name, durably, when it is whole."""
    slot = pack(checkpoint)
    fs.write_file(path, slot + bytes(len(slot)), 0o600)


def _overwrite(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the older of the two, durably."""
    slot = pack(checkpoint)
    descriptor = fs.opened(path, os.O_WRONLY)
    try:
        offset = checkpoint.sequence % _SLOTS * len(slot)
        while slot:
            written = os.pwrite(descriptor, slot, offset)
            slot, offset = slot[written:], offset + written
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def pack(checkpoint: Checkpoint) -> bytes:
    """The bytes of a slot."""
    page_bytes = len(checkpoint.pages) // _META_PAGES
    header = _HEADER.pack(0, FORMAT, checkpoint.sequence, checkpoint.applied_index)
    body = header[_CRC_BYTES:].ljust(page_bytes - _CRC_BYTES, b"\0") + checkpoint.pages
    return crc32c(body).to_bytes(_CRC_BYTES, "little") + body


def _unpack(path: Path, slot: bytes) -> Checkpoint | None:
    """None for a slot that was never written, or is torn."""
    if len(slot) <= _HEADER.size or len(slot) % _SLOT_PAGES:
        return None
    crc, version, sequence, applied_index = _HEADER.unpack_from(slot)
    if crc != crc32c(memoryview(slot)[_CRC_BYTES:]):
        return None
    if version != FORMAT:
        raise other_version(str(path), version, FORMAT)
    return Checkpoint(sequence, applied_index, slot[len(slot) // _SLOT_PAGES :])

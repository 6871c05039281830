"""Snapshots between members: the state machine's file, in checked chunks (Raft 5.3).

The leader copies its state machine once for all followers that need it, and keeps the copy open
(without a name, so that nothing is left behind) until none does. A follower collects chunks in
`incoming.snapshot`; when it has all, the owner lets the state machine rest, and the file takes
its place. The note `installing` tells a restart in the middle what to complete (recovery.py).
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from predastore._fast.crc import crc32c
from predastore.base import fs
from predastore.base.errors import FormatError, NodeFull
from predastore.base.limits import RAFT_SNAPSHOT_CHUNK_BYTES
from predastore.s3db.raft.assembly import ChunkAssembly
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.messages import Configuration, Marker, SnapshotChunk
from predastore.s3db.raft.state import ChunkWanted
from predastore.s3db.raft.worker import Worker

logger = logging.getLogger(__name__)

_NOTE = "installing"
_INCOMING = "incoming.snapshot"
_OUTGOING = "outgoing.snapshot"

_NOTES = msgspec.msgpack.Decoder(Marker)


class SnapshotStore(Protocol):
    def snapshot_to(self, path: str | os.PathLike[str]) -> int: ...

    def replace_from(self, path: str | os.PathLike[str]) -> None: ...


def read_note(directory: Path) -> Marker | None:
    """The note of an installation that may not be complete; leftovers of transfers go."""
    for name in (_INCOMING, _OUTGOING):
        (directory / name).unlink(missing_ok=True)
    return peek_note(directory)


def peek_note(directory: Path) -> Marker | None:
    """The note, with nothing else touched; FormatError."""
    try:
        data = (directory / _NOTE).read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < 4 or int.from_bytes(data[:4], "little") != crc32c(data[4:]):
        raise FormatError(f"{directory / _NOTE}: the note is damaged; remove it to go on")
    return _NOTES.decode(data[4:])


def _write_note(directory: Path, marker: Marker) -> None:
    body = msgspec.msgpack.encode(marker)
    disk = OsDisk(directory)
    temporary = _NOTE + ".new"
    disk.unlink(temporary)
    file = disk.create(temporary)
    try:
        file.append(crc32c(body).to_bytes(4, "little") + body)
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, _NOTE)
    disk.sync_directory()


class Sender:
    """The leader's side. `wake` is called when chunks have been given to the core."""

    def __init__(
        self,
        directory: Path,
        core: RaftCore,
        store: SnapshotStore,
        worker: Worker,
        wake: Callable[[], None],
    ) -> None:
        self._path = directory / _OUTGOING
        self._core = core
        self._store = store
        self._worker = worker
        self._wake = wake
        self._fd = -1
        self._total_bytes = 0
        self._waiting: dict[int, ChunkWanted] = {}
        self._is_copying = False
        self._known = (0, Configuration(()))  # the members, when the copy was begun
        self.marker: Marker | None = None

    @property
    def is_busy(self) -> bool:
        """A copy is being made, or there is one."""
        return self._is_copying or self.marker is not None

    def find(self, wanted: Sequence[ChunkWanted]) -> None:
        for want in wanted:
            self._waiting[want.follower] = want
        if self._is_copying:
            return
        if self.marker is None or self._core.term_at(self.marker.index) != self.marker.term:
            self._is_copying = True
            self._known = (self._core.membership.index, self._core.membership.current)
            self._worker.run(self._copy, self._copied)
        else:
            self._serve(self.marker)

    def _copy(self) -> tuple[int, int] | None:
        """(applied index, file descriptor) of a copy that has no name any more; None: no room."""
        try:
            index = self._store.snapshot_to(self._path)
        except NodeFull:
            logger.exception("raft: no room for a snapshot")
            return None
        fd = fs.opened(self._path, os.O_RDONLY)
        os.unlink(self._path)
        return index, fd

    def _copied(self, made: tuple[int, int] | None) -> None:
        self._is_copying = False
        self.close()
        index, self._fd = made or (0, -1)
        term, members = self._core.term_at(index), self._members_at(index)
        if made is None or term is None or members is None:
            self._waiting.clear()  # it is asked for again
            return
        self._total_bytes = os.fstat(self._fd).st_size
        self.marker = Marker(index, term, members)
        logger.info(
            "raft: a snapshot for %s",
            sorted(self._waiting),
            extra={"index": index, "size_bytes": self._total_bytes},
        )
        self._serve(self.marker)

    def _members_at(self, index: int) -> Configuration | None:
        """As of the copy's index; None where the log was cut beyond it, and they changed since."""
        membership = self._core.membership
        if index >= self._core.log.base_index:
            return membership.at(index)
        since, known = self._known
        return known if membership.current is known and since <= index else None

    def _serve(self, marker: Marker) -> None:
        for want in self._waiting.values():
            offset = want.offset if want.index == marker.index else 0
            read = partial(os.pread, self._fd, RAFT_SNAPSHOT_CHUNK_BYTES, offset)
            self._worker.run(read, partial(self._send, want, marker, offset))
        self._waiting.clear()

    def _send(self, want: ChunkWanted, marker: Marker, offset: int, data: bytes) -> None:
        if self._core.leadership is not None and marker == self.marker:
            self._core.leadership.send_chunk(
                want.follower,
                marker,
                offset=offset,
                total_bytes=self._total_bytes,
                crc=crc32c(data),
                data=data,
            )
            self._wake()

    def close(self) -> None:
        """Let the copy go, once what is being read has been read."""
        if self._fd >= 0:
            self._worker.run(partial(os.close, self._fd), lambda _: None)
            self._fd = -1
        self.marker = None


class Receiver:
    """The follower's side. `arrived` is called with the marker of a complete snapshot."""

    def __init__(
        self,
        directory: Path,
        core: RaftCore,
        store: SnapshotStore,
        worker: Worker,
        *,
        wake: Callable[[], None],
        arrived: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._path = directory / _INCOMING
        self._core = core
        self._store = store
        self._worker = worker
        self._wake = wake
        self._arrived = arrived
        self._assembly = ChunkAssembly()
        self._is_busy = False
        self.complete: Marker | None = None

    def take(self, chunks: Sequence[SnapshotChunk]) -> None:
        """A chunk that comes while another is being written is dropped; it is sent again."""
        for chunk in chunks:
            if self._is_busy or self.complete is not None:
                continue
            if self._assembly.takes(chunk):
                self._is_busy = True
                self._worker.run(partial(self._write, chunk), partial(self._written, chunk))
            else:
                self._core.chunk_kept(chunk, self._assembly.offset)
                self._wake()

    def _write(self, chunk: SnapshotChunk) -> bool:
        """False where there is no room; the chunk comes again."""
        try:
            self._write_at(chunk)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            logger.exception("raft: no room for a snapshot")
            return False
        return True

    def _write_at(self, chunk: SnapshotChunk) -> None:
        fd = fs.opened(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, chunk.offset)
            view = memoryview(chunk.data)
            offset = chunk.offset
            while view:
                count = os.pwrite(fd, view, offset)
                view, offset = view[count:], offset + count
        finally:
            os.close(fd)

    def _written(self, chunk: SnapshotChunk, is_kept: bool) -> None:
        self._is_busy = False
        if not is_kept:
            return
        if self._assembly.taken(chunk):
            self.complete = chunk.marker
            self._arrived()
        else:
            self._core.chunk_kept(chunk, self._assembly.offset)
        self._wake()

    def install(self, done: Callable[[Marker | None], None]) -> None:
        """Replace the state machine, which rests; `done` gets None if the file was refused."""
        marker = self.complete
        assert marker is not None

        def work() -> Marker | None:
            _write_note(self._directory, marker)
            try:
                self._store.replace_from(self._path)
            except FormatError as error:
                logger.error("raft: a snapshot was refused: %s", error)
                return None
            return marker

        self._worker.run(work, done)

    def reset(self) -> None:
        self.complete = None
        self._assembly.reset()
        self._path.unlink(missing_ok=True)

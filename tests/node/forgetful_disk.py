"""A disk that, when the power is cut, keeps only what was synced, and of the rest what it likes.

It works on real files, and knows for each what was durable, and what was written since. `cut`
makes the directory as a start after a power cut could find it: unsynced writes are kept, lost or
torn, sector by sector and in any order; unsynced names and lengths likewise. `cut_losing` does so
without chance. Where a process ends and the power stays on, nothing is lost, but nothing is synced
either: `revive`, and go on with the same files.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from predastore.node.disk import RealDisk
from predastore.rpc import Buffer

SECTOR_BYTES = 512
HELD_S_MAX = 120.0  # a test that forgets to let a slow disk go on fails
Sector = tuple[str, int]  # the name of a file, and the number of a sector in it


class PowerCut(OSError):
    def __init__(self) -> None:
        super().__init__(errno.EIO, "the power was cut")


class _File:
    def __init__(self) -> None:
        self.durable = b""
        self.writes: list[tuple[int, bytes]] = []
        self.name_durable = False
        self.unlinked = False


class ForgetfulDisk(RealDisk):
    """`cut_at`: the power is cut during this many-th operation that changes the disk; from then
    on every operation fails. None: not before `cut` is called."""

    def __init__(self, folder: Path, *, cut_at: int | None = None) -> None:
        self._folder = folder
        self._cut_at = cut_at
        self._operations = 0
        self._lock = threading.Lock()
        self._paths: dict[int, Path] = {}
        self._files: dict[Path, _File] = {}
        self.dead = False
        for path in folder.glob("*.seg"):
            self._files[path] = found = _File()
            found.durable = path.read_bytes()
            found.name_durable = True

    def revive(self, *, cut_at: int | None) -> None:
        """For the next process, which comes to the same files while the power is on."""
        self.dead = False
        self._operations = 0
        self._cut_at = cut_at

    def _count(self) -> None:
        if self.dead:
            raise PowerCut
        self._operations += 1
        if self._operations == self._cut_at:
            self.dead = True

    def _end(self) -> None:
        if self.dead:
            raise PowerCut

    def create(self, path: Path) -> int:
        with self._lock:
            self._count()
            descriptor = super().create(path)
            self._files[path] = _File()
            self._paths[descriptor] = path
            if self.dead:
                os.close(descriptor)
                raise PowerCut
            return descriptor

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, pieces: Sequence[Buffer], offset: int) -> None:
        with self._lock:
            self._count()
            data = b"".join(pieces)
            self._files[self._paths[descriptor]].writes.append((offset, data))
            super().write(descriptor, [data], offset)
            self._end()

    def sync(self, descriptor: int) -> None:
        with self._lock:
            self._count()
            self._end()
            path = self._paths[descriptor]
            found = self._files[path]
            found.durable = path.read_bytes() if path.exists() else found.durable
            found.writes.clear()

    def truncate(self, descriptor: int, length: int) -> None:
        with self._lock:
            self._count()
            super().truncate(descriptor, length)
            self._end()

    def sync_folder(self, path: Path) -> None:
        with self._lock:
            self._count()
            self._end()
            for name, found in list(self._files.items()):
                if found.unlinked:
                    del self._files[name]
                else:
                    found.name_durable = True

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._count()
            super().unlink(path)
            self._files[path].unlinked = True
            self._end()

    def start_writeback(self, descriptor: int, offset: int, length: int) -> None:
        """Promises nothing, and so changes nothing here."""

    def cut(self, target: Path, source: random.Random) -> None:
        """Writes what is left to the folder `target`."""
        target.mkdir(parents=True)
        kept_share = source.choice([0.0, 0.3, 0.7, 0.95, 1.0])
        for path, found in self._files.items():
            if not found.name_durable and source.random() < 0.5:
                continue
            if found.unlinked and source.random() < 0.5:
                continue
            image = bytearray(found.durable)
            length = path.stat().st_size if path.exists() else len(image)
            if source.random() < 0.5:
                length = source.randint(min(length, len(image)), max(length, len(image)))
            for offset, data in found.writes:
                _write_some(image, offset, data, lambda _: source.random() < kept_share)
            del image[length:]
            image.extend(bytes(length - len(image)))
            (target / path.name).write_bytes(image)

    def unsynced(self) -> list[Sector]:
        """Sectors that were written and not synced, but for zeros written ahead."""
        return sorted(
            {
                (path.name, sector)
                for path, found in self._files.items()
                for offset, data in found.writes
                if any(data)
                for sector in range(
                    offset // SECTOR_BYTES, (offset + len(data) - 1) // SECTOR_BYTES + 1
                )
            }
        )

    @property
    def shortened(self) -> bool:
        """Whether a file is shorter than it was when it was synced."""
        return any(
            path.exists() and path.stat().st_size < len(found.durable)
            for path, found in self._files.items()
        )

    def cut_losing(self, target: Path, lost: Collection[Sector], *, old_length: bool) -> None:
        """Writes what is left to the folder `target`: all but these unsynced sectors.
        `old_length`: and files that have become shorter are as long as before."""
        target.mkdir(parents=True)
        for path, found in self._files.items():
            if not path.exists():
                continue
            image = bytearray(found.durable)
            for offset, data in found.writes:
                _write_some(
                    image, offset, data, lambda sector, name=path.name: (name, sector) not in lost
                )
            size = path.stat().st_size
            if not old_length:
                del image[size:]
            image.extend(bytes(max(0, size - len(image))))
            (target / path.name).write_bytes(image)


def _write_some(image: bytearray, offset: int, data: bytes, keeps: Callable[[int], bool]) -> None:
    at = 0
    while at < len(data):
        size = min(SECTOR_BYTES - (offset + at) % SECTOR_BYTES, len(data) - at)
        start = offset + at
        if keeps(start // SECTOR_BYTES):
            if len(image) < start + size:
                image.extend(bytes(start + size - len(image)))
            image[start : start + size] = data[at : at + size]
        at += size


class FaultyDisk(ForgetfulDisk):
    """Also fills up, fails, flips bits, and is slow. `room_bytes`: what may still be written,
    None: no bound; `fail_next`: so many operations from now, one fails with EIO, and everything
    after it until `mend`. From `hold` to `flow` nothing that changes the disk comes to its end;
    `held`: something is waiting for that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.room_bytes: int | None = None
        self.fail_next: int | None = None
        self.held = False
        self._flowing = threading.Event()
        self._flowing.set()

    def hold(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def mend(self) -> None:
        self.room_bytes = self.fail_next = None

    def _count(self) -> None:
        if not self._flowing.is_set():
            self.held = True
            assert self._flowing.wait(HELD_S_MAX), "nobody lets the disk go on"
            self.held = False
        if self.fail_next is not None:
            self.fail_next -= 1
            if self.fail_next <= 0:
                raise OSError(errno.EIO, "the disk is broken")
        super()._count()

    def create(self, path: Path) -> int:
        if self.room_bytes == 0:
            raise OSError(errno.ENOSPC, "no space")
        return super().create(path)

    def write(self, descriptor: int, pieces: Sequence[Buffer], offset: int) -> None:
        if self.room_bytes is None:
            super().write(descriptor, pieces, offset)
            return
        data = b"".join(pieces)
        fits, self.room_bytes = data[: self.room_bytes], max(0, self.room_bytes - len(data))
        # A disk takes what it can before it says that it is full.
        super().write(descriptor, [fits], offset)
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, "no space")

    def unlink(self, path: Path) -> None:
        size = path.stat().st_size
        super().unlink(path)
        if self.room_bytes is not None:
            self.room_bytes += size

    def free_bytes(self, path: Path) -> int:
        return super().free_bytes(path) if self.room_bytes is None else self.room_bytes

    def flip(self, path: Path, at: int) -> None:
        """A bit of a file is another one from now on, whatever was synced."""
        with self._lock:
            (byte,) = path.read_bytes()[at : at + 1]
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(bytes([byte ^ 4]))
            found = self._files[path]
            if at < len(found.durable):
                image = bytearray(found.durable)
                image[at] ^= 4
                found.durable = bytes(image)

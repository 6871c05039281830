"""A disk that keeps what was synced, and of the rest whatever it likes."""

from __future__ import annotations

import random
from collections.abc import Callable

SECTOR_BYTES = 32  # finer than those of disks, so that small frames are torn as well


class _Inode:
    """`data` up to `end` was appended, the rest is zeros ahead; up to `synced` it is durable, as is
    a length of `synced_length`."""

    def __init__(self) -> None:
        self.replace(b"")

    def replace(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.end = self.synced = self.synced_length = len(data)


class _File:
    def __init__(self, inode: _Inode, *, zeros_ahead: bool) -> None:
        self._inode = inode
        self._zeros_ahead = zeros_ahead

    def append(self, data: bytes) -> None:
        inode = self._inode
        inode.data[inode.end : inode.end + len(data)] = data
        inode.end += len(data)
        if self._zeros_ahead and inode.end == len(inode.data):
            inode.data += bytes(7 * len(data) % 400)

    def sync(self) -> None:
        self._inode.synced = self._inode.end
        self._inode.synced_length = len(self._inode.data)

    def finish(self) -> None:
        del self._inode.data[self._inode.end :]
        self.sync()

    def close(self) -> None:
        pass


class SimDisk:
    """The `Disk` protocol in memory, with `crash`.

    `zeros_ahead`: files may end in zeros that nobody appended, as those of OsDisk.
    """

    def __init__(self, rng: random.Random, *, zeros_ahead: bool = False) -> None:
        self._rng = rng
        self._zeros_ahead = zeros_ahead
        self._names: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._pending: list[Callable[[dict[str, _Inode]], None]] = []

    def describe(self, name: str) -> str:
        return f"sim/{name}"

    def list(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        return bytes(self._names[name].data)

    def read_at(self, name: str, offset: int, size_bytes: int) -> bytes:
        return self.read(name)[offset : offset + size_bytes]

    def write(self, name: str, data: bytes) -> None:
        """For tests: replace the bytes of a file, durably."""
        self._names[name].replace(data)

    def create(self, name: str) -> _File:
        if name in self._names:
            raise FileExistsError(name)
        inode = _Inode()
        self._change(lambda names: names.__setitem__(name, inode))
        return _File(inode, zeros_ahead=self._zeros_ahead)

    def open(self, name: str) -> _File:
        return _File(self._names[name], zeros_ahead=self._zeros_ahead)

    def cut(self, name: str, size_bytes: int) -> None:
        inode = self._names[name]
        inode.replace(bytes(inode.data[:size_bytes]))

    def rename(self, old: str, new: str) -> None:
        inode = self._names[old]

        def renamed(names: dict[str, _Inode]) -> None:
            names.pop(old, None)
            names[new] = inode

        self._change(renamed)

    def unlink(self, name: str) -> None:
        self._change(lambda names: names.pop(name, None) and None)

    def sync_directory(self) -> None:
        self._durable = dict(self._names)
        self._pending.clear()

    def lose(self) -> None:
        """Everything, as if it were a new disk."""
        self._names, self._durable = {}, {}
        self._pending.clear()

    def _change(self, change: Callable[[dict[str, _Inode]], None]) -> None:
        change(self._names)
        self._pending.append(change)

    def crash(self) -> None:
        """Lose power: unsynced bytes and names survive in part, or torn, or not."""
        for change in self._pending:
            if self._rng.random() < 0.5:
                change(self._durable)
        self._pending.clear()
        self._names = dict(self._durable)
        for inode in self._names.values():
            self._tear(inode)

    def _tear(self, inode: _Inode) -> None:
        tail, length = inode.data[inode.synced : inode.end], len(inode.data)
        fate = self._rng.random()
        kept = bytearray()
        if tail and fate < 0.7:
            kept = tail[: self._rng.randrange(len(tail) + 1)]
            if fate < 0.2:  # the length got to the disk, some sectors did not
                for start in range(0, len(kept), SECTOR_BYTES):
                    if self._rng.random() < 0.5:
                        stop = min(start + SECTOR_BYTES, len(kept))
                        kept[start:stop] = bytes(stop - start)
            elif fate < 0.3:
                kept = tail  # all of it, by luck
        after = bytes(inode.data[: inode.synced] + kept)
        is_long = self._zeros_ahead and fate * 100 % 1 < 0.5  # a length that nobody synced
        inode.replace(after.ljust(length if is_long else inode.synced_length, b"\0"))

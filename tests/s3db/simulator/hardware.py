"""What members of a flood (flood.py) stand on: disks, threads, tables and wires that take time.

Rates are those of a `Hardware`; nothing is lost or reordered. What is not modelled is the
processor: the event loop takes no time, so figures are of what waits for disks, wires and tables.
"""

from __future__ import annotations

import asyncio
import os
import random
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from predastore._fast.crc import crc32c
from predastore.s3db.procedures import NO_PROCEDURES
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import BASE_LEVEL, Record

T = TypeVar("T")


@dataclass(frozen=True)
class Hardware:
    """Bytes a second, and seconds. `apply_s`: of a command, in a transaction that takes
    `transaction_s` besides; `piece_s`: of what threads do otherwise, a chunk read or written;
    `state_bytes`: of the tables, which do not grow, since the same keys are written again."""

    network_bytes_s: float = 1.25e9
    delay_s: float = 0.0001
    disk_bytes_s: float = 1e9
    sync_s: float = 0.0005
    apply_s: float = 40e-6
    transaction_s: float = 0.0002
    copy_bytes_s: float = 500e6
    piece_s: float = 0.001
    state_bytes: int = 512 << 20


class Bill:
    """What the work that a thread has just done takes."""

    def __init__(self) -> None:
        self.owed_s = 0.0

    def take(self, otherwise_s: float) -> float:
        owed_s, self.owed_s = self.owed_s, 0.0
        return owed_s or otherwise_s


class SimWorker:
    """A `Worker`: one piece at a time, whose result comes once its time has passed."""

    def __init__(
        self, bill: Bill, piece_s: float, name: str, on_failure: Callable[[BaseException], None]
    ) -> None:
        self._bill = bill
        self._piece_s = piece_s
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._is_busy = self._is_closed = False

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        self._queue.append((work, done))
        if not self._is_busy:
            self._begin()

    def _begin(self) -> None:
        self._is_busy = True
        work, done = self._queue.popleft()
        result = work()
        self._loop.call_later(self._bill.take(self._piece_s), self._finish, done, result)

    def _finish(self, done: Callable[[Any], None], result: Any) -> None:
        self._is_busy = False
        if self._is_closed:
            return
        try:
            done(result)
        except Exception as error:
            self._on_failure(error)
        if self._queue and not self._is_busy:
            self._begin()

    async def close(self) -> None:
        self._is_closed = True
        self._queue.clear()


class SimWriter:
    """A `JournalWriter`: a write and its sync take what their bytes need."""

    def __init__(
        self,
        hardware: Hardware,
        rng: random.Random,
        journal: Journal,
        name: str,
        *,
        written: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._hardware = hardware
        self._rng = rng
        self._journal = journal
        self._written = written
        self._failed = failed
        self._is_closed = False

    def write(self, records: Sequence[Record]) -> None:
        size_bytes = sum(len(getattr(record, "data", b"")) + 32 for record in records)
        self._journal.append(records)
        sync_s = self._hardware.sync_s * self._rng.uniform(0.5, 1.5)
        taken_s = sync_s + size_bytes / self._hardware.disk_bytes_s
        asyncio.get_running_loop().call_later(taken_s, self._synced)

    def _synced(self) -> None:
        if self._is_closed:
            return
        try:
            self._journal.sync()
        except Exception as error:
            self._failed(error)
            return
        self._written()

    async def close(self) -> None:
        self._is_closed = True


@dataclass
class _Pieces:
    """A file: what was appended, piece by piece, as it was given."""

    pieces: list[bytes] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("Q"))
    size_bytes: int = 0

    def append(self, data: bytes) -> None:
        self.pieces.append(data)
        self.starts.append(self.size_bytes)
        self.size_bytes += len(data)

    def sync(self) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        found, place = b"", max(0, bisect_right(self.starts, offset) - 1)
        while size_bytes > 0 and place < len(self.pieces):
            start = offset - self.starts[place]
            part = self.pieces[place][start : start + size_bytes]
            found, place = found + part if found else part, place + 1
            offset, size_bytes = offset + len(part), size_bytes - len(part)
        return found


class MemoryDisk:
    """A `JournalDisk` that keeps all it is given, until it is unlinked."""

    def __init__(self) -> None:
        self._files: dict[str, _Pieces] = {}

    def describe(self, name: str) -> str:
        return f"memory/{name}"

    def list(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        return b"".join(self._files[name].pieces)

    def read_at(self, name: str, offset: int, size_bytes: int) -> bytes:
        if name not in self._files:
            raise FileNotFoundError(name)
        return self._files[name].read_at(offset, size_bytes)

    def create(self, name: str) -> _Pieces:
        return self._files.setdefault(name, _Pieces())

    def open(self, name: str) -> _Pieces:
        return self._files[name]

    def cut(self, name: str, size_bytes: int) -> None:
        raise AssertionError("nothing is torn here")

    def rename(self, old: str, new: str) -> None:
        self._files[new] = self._files.pop(old)

    def unlink(self, name: str) -> None:
        self._files.pop(name, None)

    def sync_directory(self) -> None: ...


@dataclass(frozen=True)
class State:
    """`digest`: of all that was applied, in its order."""

    index: int = 0
    digest: int = 0


class SimStore:
    """A `Store` that knows what it has applied, and how long each thing takes."""

    procedures = NO_PROCEDURES
    level = BASE_LEVEL

    def __init__(self, hardware: Hardware, bill: Bill) -> None:
        self._hardware = hardware
        self._bill = bill
        self.state = self._durable = State()
        self._unsynced_bytes = 0
        self.copies_made = self.copies_taken = 0

    @property
    def applied_index(self) -> int:
        return self.state.index

    @property
    def durable_index(self) -> int:
        return self._durable.index

    def may_take_long(self, command: bytes) -> bool:
        return False

    def try_apply(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Nothing is done on the loop, which takes no time here."""

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> Sequence[None]:
        index, digest = self.state.index, self.state.digest
        for index, data in entries:  # noqa: B007 (the last one stays)
            digest = crc32c(data[:64], digest)
            self._unsynced_bytes += len(data)
        assert index == self.state.index + len(entries)
        self.state = State(index, digest)
        self._bill.owed_s += self._hardware.transaction_s + len(entries) * self._hardware.apply_s
        return [None] * len(entries)

    def sync(self) -> None:
        """What is durable counts once its time has passed."""
        size_bytes, self._unsynced_bytes = self._unsynced_bytes, 0
        taken_s = self._hardware.sync_s + size_bytes / self._hardware.disk_bytes_s
        self._bill.owed_s += taken_s
        asyncio.get_running_loop().call_later(taken_s, self._synced, self.state)

    def _synced(self, state: State) -> None:
        if state.index > self._durable.index:
            self._durable = state

    def crash(self) -> None:
        self.state = self._durable

    def used_bytes(self) -> int:
        return self._hardware.state_bytes

    def snapshot_to(self, path: str | os.PathLike[str]) -> int:
        """A file with holes: its length is that of the tables."""
        self.copies_made += 1
        Path(path).write_bytes(b"%d %d\n" % (self.state.index, self.state.digest))
        os.truncate(path, self._hardware.state_bytes)
        self._bill.owed_s += self._hardware.state_bytes / self._hardware.copy_bytes_s
        return self.state.index

    def replace_from(self, path: str | os.PathLike[str]) -> None:
        self.copies_taken += 1
        with Path(path).open("rb") as file:
            index, digest = map(int, file.readline().split())
        assert Path(path).stat().st_size == self._hardware.state_bytes
        self.state = self._durable = State(index, digest)
        self._unsynced_bytes = 0
        self._bill.owed_s += self._hardware.state_bytes / self._hardware.disk_bytes_s


class Wire:
    """What one machine sends, one thing after the other."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._free_at = 0.0

    def send(self, size_bytes: int, arrive: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._free_at = (
            max(self._free_at, loop.time()) + size_bytes / self._hardware.network_bytes_s
        )
        loop.call_at(self._free_at + self._hardware.delay_s, arrive)

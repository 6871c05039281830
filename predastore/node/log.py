"""The log of a store: operations become records, records become durable, then they take effect.

`run` stages and writes the records of some operations; `settle` syncs them all at once and only
then tells the index. In between, `entry` knows what is on the way, so that operations that come
together agree. Owned by one thread; nothing here waits for anybody.

An operation that is refused has its `error` set and leaves nothing behind. Where the disk has no
room, the operations whose records were to be written together fail together, with NodeFull, and
what they had appended to is forgotten; all others are untouched. OSError from here means that the
state of the disk is not known: the log must not be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from predastore.errors import NodeFull, PredastoreError
from predastore.failpoints import failpoint
from predastore.limits import (
    NODE_BATCH_BYTES_MAX,
    NODE_BATCH_RECORDS_MAX,
    NODE_CHECKPOINT_BYTES_MAX,
)
from predastore.node.appender import Appender
from predastore.node.disk import Disk
from predastore.node.index import Checkpoint, Frozen, Index
from predastore.node.pending import Pending
from predastore.node.segment import Change, footer_change_bytes
from predastore.node.shard import Location, as_indexed
from predastore.rpc import Buffer


class Operation(Protocol):
    """`takes_space`: refused when the disk is down to its reserve. `error`: set if it failed."""

    takes_space: bool
    error: PredastoreError | None

    def stage(self, log: Log) -> None:
        """Calls the methods of the log; raises if the operation is refused."""


@dataclass(frozen=True)
class Turn:
    """An index layer to be written, and segments that nothing needs once it is, oldest first."""

    frozen: Frozen
    dead: list[int]


class Log:
    def __init__(
        self,
        folder: Path,
        disk: Disk,
        *,
        appender: Appender,
        index: Index,
        now_ms: Callable[[], int],
        now_s: Callable[[], int],
        reserve_bytes: int,
    ) -> None:
        self.now_s = now_s
        self._folder = folder
        self._disk = disk
        self._appender = appender
        self._index = index
        self._reserve_bytes = reserve_bytes
        self.pending = Pending(now_ms)
        # Changes on the way to the index, with their segments; the first so many were flushed.
        self._changes: list[tuple[Change, int]] = []
        self._flushed_changes = 0
        self._latest: dict[bytes, bytes | None] = {}
        # Since the last flush: operations, the shards that they appended to, records.
        self._staged: list[Operation] = []
        self._touched: set[bytes] = set()
        self._staged_records = 0
        self._since_checkpoint_bytes = 0

    # --- for operations -------------------------------------------------------------------

    def entry(self, key: bytes) -> bytes | None:
        """The entry of a shard that is committed, or will be when `settle` returns; as the index
        has it."""
        if key in self._latest:
            return self._latest[key]
        return self._index.get(key)

    def bad_stripes(self, key: bytes) -> frozenset[int]:
        """Blocks of a committed shard that are known to be bad, and not about to be replaced."""
        return frozenset() if key in self._latest else self._index.bad.stripes(key)

    def block(self, key: bytes, stripe: int, block: Buffer, crc: int) -> Location:
        """A block of a shard to be committed later."""
        self._place(len(block), 0)
        offset = self._appender.block(key, stripe, block, crc, sole=False)
        self._touched.add(key)
        return Location(offset, self._appender.number, len(block), crc)

    def sole_block(
        self, key: bytes, block: Buffer, crc: int, entry_of: Callable[[Location], bytes]
    ) -> None:
        """A block that is a whole shard, and its commit."""
        entry_bytes = len(entry_of(Location(0, 0, len(block), crc)))
        self._place(len(block), footer_change_bytes(entry_bytes))
        offset = self._appender.block(key, 0, block, crc, sole=True)
        self._change(key, entry_of(Location(offset, self._appender.number, len(block), crc)))

    def commit(self, key: bytes, entry: bytes) -> None:
        self._place(len(entry), footer_change_bytes(len(entry)))
        self._appender.commit(key, entry)
        self._change(key, entry)

    def tombstone(self, key: bytes) -> None:
        self._place(0, footer_change_bytes(0))
        self._appender.tombstone(key)
        self._change(key, None)

    def _change(self, key: bytes, entry: bytes | None) -> None:
        change = Change(key, entry)
        self._appender.list_change(change)
        self._changes.append((change, self._appender.number))
        self._latest[key] = _indexed(change, self._appender.number)

    def _place(self, payload_bytes: int, entry_bytes: int) -> None:
        """Makes sure that the next record may be staged."""
        self._appender.require_fit(payload_bytes, entry_bytes)
        room = self._appender.room_for(payload_bytes, entry_bytes)
        staged_bytes = self._appender.end - self._appender.written
        if (
            not room
            or self._staged_records >= NODE_BATCH_RECORDS_MAX
            or staged_bytes + payload_bytes > NODE_BATCH_BYTES_MAX
        ):
            self.flush()
        if not room:
            self._appender.roll()
            self._index.usage.segment(self._appender.number)
        self._staged_records += 1

    # --- for the writer -------------------------------------------------------------------

    def run(self, operations: Sequence[Operation]) -> None:
        """Writes what the operations ask for; it is not durable yet."""
        low = self._disk.free_bytes(self._folder) < self._reserve_bytes
        before: bool | None = None
        for operation in operations:
            if operation.takes_space and low:
                operation.error = NodeFull("the node's disk is full but for its reserve")
                continue
            if operation.takes_space is not before:
                # Those that free space must not fail together with those that take it.
                self._flush_or_fail()
                before = operation.takes_space
            try:
                operation.stage(self)
                self._staged.append(operation)
            except PredastoreError as error:
                operation.error = error
        self._flush_or_fail()

    def _flush_or_fail(self) -> None:
        try:
            self.flush()
        except NodeFull:
            return  # each operation has its error

    def flush(self) -> None:
        """NodeFull if there is no room: what was staged is undone, its operations have failed."""
        try:
            self._since_checkpoint_bytes += self._appender.end - self._appender.written
            self._appender.flush()
        except NodeFull as error:
            for operation in self._staged:
                operation.error = NodeFull(str(error))
            del self._changes[self._flushed_changes :]
            self._latest = {change.key: _indexed(change, at) for change, at in self._changes}
            self.pending.forget(self._touched)
            raise
        finally:
            self._staged.clear()
            self._touched.clear()
            self._staged_records = 0
        self._flushed_changes = len(self._changes)
        if self._appender.footer_due:
            self._appender.footer()  # written with what comes next

    def settle(self) -> None:
        """Syncs what was run, if any of it has to be durable, and lets it take effect."""
        if not self._changes:
            return
        failpoint("node.batch.written")
        self._appender.sync()
        failpoint("node.batch.synced")
        for change, segment in self._changes:
            self._index.apply(change, segment)
        failpoint("node.batch.applied")
        self._changes.clear()
        self._latest.clear()
        self._flushed_changes = 0

    @property
    def turn_due(self) -> bool:
        return (
            self._index.layer_load >= 1 or self._since_checkpoint_bytes >= NODE_CHECKPOINT_BYTES_MAX
        )

    def turn(self) -> Turn:
        """Begins a new index layer; everything run must be settled. `write_turn` must follow."""
        self._appender.footer()
        self._appender.flush()
        self._appender.sync()
        usage = self._index.usage
        dead = usage.dead({self._appender.number} | self.pending.segments())
        for number in dead:
            usage.forget(number)
        place = Checkpoint(self._appender.number, self._appender.end, self._appender.last_footer)
        self._since_checkpoint_bytes = 0
        return Turn(self._index.freeze(place), dead)

    def close(self) -> None:
        self._appender.close()


def _indexed(change: Change, segment: int) -> bytes | None:
    return None if change.entry is None else as_indexed(change.entry, segment, 0)

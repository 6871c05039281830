"""The log of a store: operations become records, records become durable, then they take effect.

`run` stages and writes the records of some operations; `sync` syncs them all at once and only
then tells the index. In between, `entry` knows what is on the way, so that operations that come
together agree. Owned by one thread; nothing here waits for anybody.

An operation that is refused has its `error` set and leaves nothing behind. Where the disk has no
room, the operations whose records were to be written together fail together, with NodeFull, and
what they had appended to is forgotten; all others are untouched. OSError from here means that the
state of the disk is not known: the log must not be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from predastore.base.errors import NodeFull, PredastoreError, anew
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    NODE_BATCH_BYTES_MAX,
    NODE_BATCH_RECORDS_MAX,
    NODE_CHECKPOINT_BYTES_MAX,
    NODE_INDEX_LAYER_LOAD_MAX,
    NODE_MOVE_RESERVE_PART,
)
from predastore.node.appender import Appender
from predastore.node.disk import StoreDisk
from predastore.node.index import Frozen, Index, IndexCheckpoint
from predastore.node.pending import Pending
from predastore.node.segment import Change, footer_change_bytes
from predastore.node.shard import Location, as_indexed, counts
from predastore.node.usage import TOMBSTONE_BYTES, Usage
from predastore.rpc import Buffer


class LogOperation(Protocol):
    """`takes_space`: refused when the disk is down to its reserve; `moves`: refused when little of
    that is left. `error`: set if it failed."""

    takes_space: bool
    moves: bool
    error: PredastoreError | None

    def stage(self, log: SegmentLog) -> None:
        """Calls the methods of the log; raises if the operation is refused."""


@dataclass(frozen=True)
class NewLayer:
    """An index layer to be written, and segments that nothing needs once it is, oldest first."""

    frozen: Frozen
    dead: list[int]


class SegmentState(NamedTuple):
    """`needed_bytes`: of live blocks and commits; `tombstone_bytes`: of all tombstones, needed if
    `older` is not empty: segments with commits that may be revoked here. `busy`: it has blocks of
    shards that may yet be committed. `end_bytes`: of the segment that is written to."""

    number: int
    needed_bytes: int
    tombstone_bytes: int
    older: frozenset[int]
    busy: bool
    end_bytes: int | None


class SegmentLog:
    def __init__(
        self,
        folder: Path,
        disk: StoreDisk,
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
        # Copies of blocks whose shards do not point at them yet.
        self.copies = Pending(now_ms)
        self.layer_wanted = False
        self.is_index_full = False
        # Changes on the way to the index, with their segments; the first so many were flushed.
        self._changes: list[tuple[Change, int]] = []
        self._flushed_changes = self._flushed_notes = 0
        self._latest: dict[bytes, bytes | None] = {}
        # Since the last flush: operations, the shards that they appended to, records.
        self._staged: list[LogOperation] = []
        self._touched: set[bytes] = set()
        self._copied: set[bytes] = set()
        # What `sync` tells the use of segments, beyond the changes.
        self._notes: list[Callable[[Usage], None]] = []
        self._staged_records = 0
        self._since_checkpoint_bytes = 0

    # --- for operations -------------------------------------------------------------------

    def entry(self, key: bytes) -> bytes | None:
        """The entry of a shard that is committed, or will be when `sync` returns; as the index
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

    # --- for compaction -------------------------------------------------------------------

    def copy(self, key: bytes, stripe: int, block: Buffer, crc: int) -> None:
        """A copy of a block of a committed shard; `copies` has it."""
        self._place(len(block), 0)
        offset = self._appender.block(key, stripe, block, crc, sole=False)
        self._copied.add(key)
        self.copies.add(key, stripe, Location(offset, self._appender.number, len(block), crc))

    def carry(self, segment: int, keys: Collection[bytes]) -> None:
        """Tombstones of a segment are written anew, if a commit that they revoke may still stand
        somewhere."""
        usage = self._index.usage
        use = usage.segments.get(segment)
        older = use.supersedes & usage.segments.keys() if use else set()
        for key in keys if older else ():
            entry = self.entry(key)
            if entry is None:
                self._place(0, footer_change_bytes(0))
                self._appender.tombstone(key)
                self._appender.list_change(Change(key, None))
                self._notes.append(partial(_carried, at=self._appender.number, older=older))
            else:
                # Written again since: its own commit stands against the older one.
                at = counts(entry).commit_segment
                self._notes.append(partial(_stands, at=at, older=older))

    def retire(self, segment: int) -> None:
        """A segment without live data, whose tombstones were carried, is not needed any more."""
        use = self._index.usage.segments.get(segment)
        if use is not None and not use.live:
            self._notes.append(partial(Usage.retire, number=segment))
            self.layer_wanted = True

    def survey(self) -> list[SegmentState]:
        """What each segment holds, the oldest first."""
        usage, active, busy = self._index.usage, self._appender.number, self.busy()
        return [
            SegmentState(
                number,
                use.live_bytes + use.commit_bytes,
                use.tombstones * TOMBSTONE_BYTES,
                frozenset(use.supersedes & usage.segments.keys()),
                busy=number in busy,
                end_bytes=self._appender.end if number == active else None,
            )
            for number, use in sorted(usage.segments.items())
        ]

    def seal(self, segment: int) -> None:
        """Ends the segment that is written to, if it is this one."""
        if segment == self._appender.number:
            self.flush()
            self._roll()

    def _roll(self) -> None:
        self._appender.roll()
        self._index.usage.segment(self._appender.number)

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
            self._roll()
        self._staged_records += 1

    # --- for the writer -------------------------------------------------------------------

    def run(self, operations: Sequence[LogOperation]) -> None:
        """Writes what the operations ask for; it is not durable yet."""
        self._appender.require_file()
        self.pending.expire()
        free_bytes = self._disk.free_bytes(self._folder)
        # Beyond that load, lmdb has no room for a layer: else the writer would have waited for it.
        self.is_index_full = self._index.layer_load >= NODE_INDEX_LAYER_LOAD_MAX
        low = free_bytes < self._reserve_bytes or self.is_index_full
        very_low = free_bytes < self._reserve_bytes // NODE_MOVE_RESERVE_PART
        before: tuple[bool, bool] | None = None
        for operation in operations:
            if (operation.takes_space and low) or (operation.moves and very_low):
                operation.error = NodeFull(
                    "the node's index has no room to grow; make some on its disk"
                    if self.is_index_full
                    else "the node's disk is full but for its reserve"
                )
                continue
            kind = (operation.takes_space, operation.moves)
            if kind != before:
                # Those that free space must not fail together with those that take it.
                self._flush_or_fail()
                before = kind
            try:
                operation.stage(self)
                self._staged.append(operation)
            except PredastoreError as error:
                operation.error = anew(error)
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
            self.copies.forget(self._copied)
            del self._notes[self._flushed_notes :]
            raise
        finally:
            self._staged.clear()
            self._touched.clear()
            self._copied.clear()
            self._staged_records = 0
        self._flushed_changes = len(self._changes)
        self._flushed_notes = len(self._notes)
        if self._appender.footer_due:
            self._appender.footer()  # written with what comes next

    def sync(self) -> None:
        """Syncs what was run, if any of it has to be durable, and lets it take effect."""
        if not self._changes and not self._notes:
            return
        failpoint("node.batch.written")
        self._appender.sync()
        failpoint("node.batch.synced")
        self._appender.require_file()
        for change, segment in self._changes:
            self._index.apply(change, segment)
        for note in self._notes:
            note(self._index.usage)
        failpoint("node.batch.applied")
        self._changes.clear()
        self._notes.clear()
        self._latest.clear()
        self._flushed_changes = self._flushed_notes = 0

    @property
    def layer_due(self) -> bool:
        return (
            self.layer_wanted
            or self._index.layer_load >= 1
            or self._since_checkpoint_bytes >= NODE_CHECKPOINT_BYTES_MAX
        )

    def begin_layer(self) -> NewLayer:
        """Begins a new index layer; everything run must be synced. `write_layer` must follow."""
        self._appender.footer()
        self._appender.flush()
        self._appender.sync()
        usage = self._index.usage
        dead = usage.dead({self._appender.number} | self.busy())
        for number in dead:
            usage.forget(number)
        place = IndexCheckpoint(
            self._appender.number, self._appender.end, self._appender.last_footer
        )
        self._since_checkpoint_bytes = 0
        self.layer_wanted = False
        return NewLayer(self._index.freeze(place), dead)

    def busy(self) -> set[int]:
        """Segments that hold blocks that a shard may yet point at."""
        return self.pending.segments() | self.copies.segments()

    def close(self) -> None:
        self._appender.close()


def _indexed(change: Change, segment: int) -> bytes | None:
    return None if change.entry is None else as_indexed(change.entry, segment, 0)


def _carried(usage: Usage, at: int, older: set[int]) -> None:
    usage.tombstone(at, older)


def _stands(usage: Usage, at: int, older: set[int]) -> None:
    for number in older:
        usage.supersede(at, number)

"""Where the committed shards of a store are: lmdb on disk, the newest changes in memory.

The index is derived from the segments and never ahead of them: a change comes here when its
record is durable. Changes collect in a layer in memory; from time to time the layer is frozen and
written to lmdb, in one transaction that lmdb syncs, together with a checkpoint: the place in the
log up to which lmdb is complete. So lmdb is never written to without a sync, and thus survives a
power cut; no request waits for it; and after any stop, clean or not, the changes since the
checkpoint are read from the log again (recovery.py). If lmdb is missing, is damaged in any way, is
another store's, or does not fit the segments, it is deleted and built from the segments: every page
is looked at before it is opened, and every value ends with a CRC (lmdbfile.py).

lmdb tables: `shards` key -> entry (shard.py); `segments` number, 4 bytes big endian -> use
(usage.py); `bad` key -> its bad stripes (badblocks.py); `meta` "state" -> msgpack of `_State`.

Threads: one writer changes it (`apply`, `freeze`); `write_frozen` may run in another thread, one
at a time; anybody may look up. A lookup goes active layer, frozen layer, lmdb, and a layer is
dropped only after lmdb has it, so nothing is ever missed.
"""

from __future__ import annotations

import heapq
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import lmdb
import msgspec

from predastore.base import lmdbfile
from predastore.base.errors import FormatError, NodeFull, Overloaded, StoreFailed, is_exhausted
from predastore.base.limits import (
    NODE_INDEX_LAYER_BYTES_MAX,
    NODE_INDEX_LAYER_SHARDS_MAX,
    NODE_INDEX_MAP_BYTES,
    NODE_PAGE_SHARDS_MAX,
)
from predastore.node.badblocks import BadBlocks
from predastore.node.segment import Change
from predastore.node.shard import (
    KEY_BYTES,
    Location,
    as_indexed,
    counts,
    location,
)
from predastore.node.usage import SegmentUse, Usage

FORMAT = 5
_STATE = b"state"
_FILE_NAME = "data.mdb"  # lmdb's
# Its name is taken by something else, or nobody may read it: it is built again in its place.
_NO_INDEX = (FileExistsError, NotADirectoryError, PermissionError)


class IndexCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """Everything before `offset` of `segment`, and all of the segments before, is in the index.
    `last_footer`: offset of the last footer record of that segment before it; 0: none."""

    segment: int
    offset: int
    last_footer: int


class ScrubState(msgspec.Struct, frozen=True, array_like=True):
    """How far the scrub has come: everything before `offset` of `segment` was read in this round.
    `found`: blocks that this round found to be bad; `damaged`: segments to be rewritten."""

    segment: int = 0
    offset: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    running: bool = False
    found: int = 0
    damaged: list[int] = []


class _State(msgspec.Struct, frozen=True, array_like=True):
    format: int
    store_id: str
    checkpoint: IndexCheckpoint
    shard_count: int
    scrub: ScrubState = ScrubState()


class Frozen(msgspec.Struct, frozen=True):
    """What one transaction writes."""

    changes: dict[bytes, bytes | None]
    uses: dict[int, bytes | None]
    bad: dict[bytes, bytes | None]
    state: bytes


class Index:
    """Use `open_index`. `checkpoint` is None while nothing was ever written."""

    def __init__(self, environment: lmdb.Environment, store_id: str) -> None:
        self._environment = environment
        self._shards = environment.open_db(b"shards")
        self._segments = environment.open_db(b"segments")
        self._bad = environment.open_db(b"bad")
        self._meta = environment.open_db(b"meta")
        self.store_id = store_id
        self._layers: tuple[dict[bytes, bytes | None], dict[bytes, bytes | None]] = ({}, {})
        self._active_bytes = 0
        self._marking = threading.Lock()
        self._opened_s = int(time.time())
        self.usage = Usage()
        self.bad = BadBlocks()
        self.shard_count = 0
        self.scrub = self._stored_scrub = ScrubState()
        self.checkpoint: IndexCheckpoint | None = None
        self._load()

    def _load(self) -> None:
        with self._environment.begin() as transaction:
            raw = transaction.get(_STATE, db=self._meta)
            if raw is None:
                return
            state = msgspec.msgpack.decode(lmdbfile.unsealed(raw), type=_State)
            if state.format != FORMAT or state.store_id != self.store_id:
                raise FormatError("the index is of another format or another store")
            if state.shard_count != transaction.stat(self._shards)["entries"]:
                raise FormatError("the index has not as many shards as it says")
            for number, use in transaction.cursor(db=self._segments):
                decoded = SegmentUse.decode(lmdbfile.unsealed(use))
                self.usage.segments[int.from_bytes(number, "big")] = decoded
            for key, stripes in transaction.cursor(db=self._bad):
                self.bad.load(bytes(key), lmdbfile.unsealed(stripes))
        self.shard_count = state.shard_count
        self.scrub = self._stored_scrub = state.scrub
        self.checkpoint = state.checkpoint

    def get(self, key: bytes) -> bytes | None:
        """The entry of a shard; None if it is not there. StoreFailed if lmdb can not be read."""
        for layer in self._layers:
            if key in layer:
                return layer[key]
        try:
            with self._environment.begin(buffers=True) as transaction:
                found = transaction.get(key, db=self._shards)
                return None if found is None else lmdbfile.unsealed(bytes(found))
        except lmdb.Error as error:
            raise _unreadable(error) from error

    def page(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` shards in the order of their keys, beyond `after`, with their entries."""
        # In this order: what leaves a layer is in lmdb by then.
        overlay: dict[bytes, bytes | None] = {}
        for layer in reversed(self._layers):
            overlay |= layer
        there = (key for key, value in overlay.items() if value is not None and key > after)
        changed = heapq.nsmallest(limit, there)  # what was deleted takes no place among them
        found: list[tuple[bytes, bytes]] = []
        try:
            with self._environment.begin() as transaction:
                cursor = transaction.cursor(db=self._shards)
                stored = cursor.iternext() if cursor.set_range(after + b"\0") else iter(())
                for key, entry in heapq.merge(
                    stored, ((key, b"") for key in changed), key=lambda item: item[0]
                ):
                    value = overlay[key] if key in overlay else lmdbfile.unsealed(entry)
                    if value is not None and (not found or found[-1][0] != key):
                        found.append((key, value))
                        if len(found) == limit:
                            break
        except lmdb.Error as error:
            raise _unreadable(error) from error
        return found

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Every shard and its entry, in pages; what changes meanwhile may be in it or not."""
        after = b""
        while rows := self.page(after, NODE_PAGE_SHARDS_MAX):
            yield from rows
            after = rows[-1][0]

    def apply(self, change: Change, segment: int) -> None:
        """Takes in what a durable record in `segment` says."""
        old = self.get(change.key)
        if old is not None:
            self.usage.remove(old)
            self.shard_count -= 1
        entry = None
        if change.entry is not None:
            entry = as_indexed(change.entry, segment, self._opened_s)
            self.usage.add(entry)
            self.shard_count += 1
        if old is not None:
            self._supersede(segment, counts(old).commit_segment, change)
        if old is not None or entry is not None:
            self._set(change.key, old, entry)

    def _supersede(self, segment: int, older: int, change: Change) -> None:
        if change.entry is None:
            self.usage.tombstone(segment, [older])
        else:
            self.usage.supersede(segment, older)

    def _set(self, key: bytes, old: bytes | None, entry: bytes | None) -> None:
        with self._marking:
            self._layers[0][key] = entry
            self._active_bytes += KEY_BYTES + len(entry or b"")
            if key in self.bad:
                self.bad.clear(key, _moved(old, entry, self.bad.stripes(key)))

    def mark_bad(self, key: bytes, stripe: int, place: Location) -> bool:
        """A block is bad; unless it has been replaced, or was known already."""
        with self._marking:
            entry = self.get(key)
            if entry is None or location(entry, stripe) != place:
                return False
            return self.bad.mark(key, [stripe]) > 0

    @property
    def layer_load(self) -> float:
        """How full the active layer is: from 1 on it should be frozen."""
        return max(
            len(self._layers[0]) / NODE_INDEX_LAYER_SHARDS_MAX,
            self._active_bytes / NODE_INDEX_LAYER_BYTES_MAX,
        )

    @property
    def unsaid(self) -> bool:
        """Whether lmdb does not know all that was found out about damage."""
        return self.bad.changed or self.scrub is not self._stored_scrub

    def freeze(self, checkpoint: IndexCheckpoint) -> Frozen:
        """Begins a new active layer. `write_frozen` must succeed before the next `freeze`."""
        active, frozen = self._layers
        assert not frozen, "one frozen layer at a time"
        uses = {
            number: use.encode() if (use := self.usage.segments.get(number)) else None
            for number in self.usage.changed
        }
        self.usage.changed = set()
        self._layers = ({}, active)
        self._active_bytes = 0
        # What the scrub found is taken after how far it was.
        self._stored_scrub = scrub = self.scrub
        state = _State(FORMAT, self.store_id, checkpoint, self.shard_count, scrub)
        self.checkpoint = checkpoint
        return Frozen(active, uses, self.bad.take_changes(), msgspec.msgpack.encode(state))

    def write_frozen(self, frozen: Frozen) -> None:
        """Writes and syncs, all or nothing. NodeFull if there is no room: to be tried again.
        StoreFailed if lmdb can not."""
        try:
            with self._environment.begin(write=True) as transaction:
                uses = {number.to_bytes(4, "big"): use for number, use in frozen.uses.items()}
                for table, changes in (
                    (self._shards, frozen.changes),
                    (self._segments, uses),
                    (self._bad, frozen.bad),
                    (self._meta, {_STATE: frozen.state}),
                ):
                    # In key order, so that neighbours share pages while they are hot.
                    for key, value in sorted(changes.items()):
                        if value is None:
                            transaction.delete(key, db=table)
                        else:
                            transaction.put(key, lmdbfile.sealed(key, value), db=table)
        except (lmdb.DiskError, lmdb.MemoryError) as error:
            raise NodeFull(f"no room for the node's index: {error}") from error
        except (lmdb.Error, OSError) as error:
            raise StoreFailed(f"the node's index can not be written: {error}") from error
        self._layers = (self._layers[0], {})

    def close(self) -> None:
        self._environment.close()


def _moved(old: bytes | None, entry: bytes | None, stripes: frozenset[int]) -> list[int] | None:
    """Which of these stripes are somewhere else now; None: all of the shard is."""
    if old is None or entry is None:
        return None
    return [stripe for stripe in stripes if location(old, stripe) != location(entry, stripe)]


def _unreadable(error: lmdb.Error) -> StoreFailed | Overloaded:
    if is_exhausted(error):
        return Overloaded(f"the node's index can not be read now: {error}")
    return StoreFailed(
        f"the node's index can not be read ({error}); stop the node, delete its index folder, and "
        "start it: the index is built again from the segments"
    )


def open_index(path: Path, store_id: str) -> Index:
    """The index in a folder, made if there is none. FormatError if what is there is no index of
    this store, or damaged; `discard_index` and open again. OSError, StoreFailed: it can not be
    opened now."""
    environment: lmdb.Environment | None = None
    try:
        path.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            lmdbfile.check(path / _FILE_NAME, with_crcs=True)
        environment = lmdb.open(
            str(path), map_size=NODE_INDEX_MAP_BYTES, max_dbs=4, max_spare_txns=4, mode=0o600
        )
        return Index(environment, store_id)
    except (lmdb.Error, msgspec.MsgspecError, FormatError, struct.error, *_NO_INDEX) as error:
        if environment is not None:
            environment.close()
        if isinstance(error, lmdb.Error) and not lmdbfile.is_damage(error):
            raise StoreFailed(f"the index in {path} can not be opened: {error}") from error
        raise FormatError(f"the index in {path} can not be used: {error}") from error


def discard_index(path: Path) -> None:
    """Deletes the index, which is derived data, and whatever has its name. A folder that is a mount
    or a link to one stays, empty; what can not be emptied is renamed."""
    try:
        if path.is_dir():
            for entry in path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        elif path.exists() or path.is_symlink():
            path.unlink()
    except OSError:
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged")
        path.rename(aside)
        with suppress(OSError):
            aside.chmod(0o700)
        shutil.rmtree(aside, ignore_errors=True)

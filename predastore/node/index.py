"""Where the committed shards of a store are: lmdb on disk, the newest changes in memory.

The index is derived from the segments and never ahead of them: a change comes here when its
record is durable. Changes collect in a layer in memory; from time to time the layer is frozen and
written to lmdb, in one transaction that lmdb syncs, together with a checkpoint: the place in the
log up to which lmdb is complete. So lmdb is never written to without a sync, and thus survives a
power cut; no request waits for it; and after any stop, clean or not, the changes since the
checkpoint are read from the log again (recovery.py). If lmdb is missing, does not open, is
another store's, or does not fit the segments, it is deleted and built from the segments.

lmdb tables: `shards` key -> entry (shard.py); `segments` number, 4 bytes big endian -> use
(usage.py); `meta` "state" -> msgpack of `_State`.

Threads: one writer changes it (`apply`, `freeze`); `write_frozen` may run in another thread, one
at a time; anybody may look up. A lookup goes active layer, frozen layer, lmdb, and a layer is
dropped only after lmdb has it, so nothing is ever missed.
"""

from __future__ import annotations

import shutil
import struct
from contextlib import suppress
from pathlib import Path

import lmdb
import msgspec

from predastore.errors import FormatError, NodeFull, StoreFailed
from predastore.limits import (
    NODE_INDEX_LAYER_BYTES_MAX,
    NODE_INDEX_LAYER_SHARDS_MAX,
    NODE_INDEX_MAP_BYTES,
)
from predastore.node.segment import Change
from predastore.node.shard import KEY_BYTES, counts, with_commit_segment
from predastore.node.usage import SegmentUse, Usage

FORMAT = 1
_STATE = b"state"


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """Everything before `offset` of `segment`, and all of the segments before, is in the index.
    `last_footer`: offset of the last footer record of that segment before it; 0: none."""

    segment: int
    offset: int
    last_footer: int


class _State(msgspec.Struct, frozen=True, array_like=True):
    format: int
    store_id: str
    checkpoint: Checkpoint
    shard_count: int


class Frozen(msgspec.Struct, frozen=True):
    """What one transaction writes."""

    changes: dict[bytes, bytes | None]
    uses: dict[int, bytes | None]
    state: bytes


class Index:
    """Use `open_index`. `checkpoint` is None while nothing was ever written."""

    def __init__(self, environment: lmdb.Environment, store_id: str) -> None:
        self._environment = environment
        self._shards = environment.open_db(b"shards")
        self._segments = environment.open_db(b"segments")
        self._meta = environment.open_db(b"meta")
        self._store_id = store_id
        self._layers: tuple[dict[bytes, bytes | None], dict[bytes, bytes | None]] = ({}, {})
        self._active_bytes = 0
        self.usage = Usage()
        self.shard_count = 0
        self.checkpoint: Checkpoint | None = None
        self._load()

    def _load(self) -> None:
        with self._environment.begin() as transaction:
            raw = transaction.get(_STATE, db=self._meta)
            if raw is None:
                return
            state = msgspec.msgpack.decode(raw, type=_State)
            if state.format != FORMAT or state.store_id != self._store_id:
                raise FormatError("the index is of another format or another store")
            for number, use in transaction.cursor(db=self._segments):
                decoded = SegmentUse.decode(bytes(use))
                self.usage.segments[int.from_bytes(number, "big")] = decoded
        self.shard_count = state.shard_count
        self.checkpoint = state.checkpoint

    def get(self, key: bytes) -> bytes | None:
        """The entry of a shard; None if it is not there. StoreFailed if lmdb can not be read."""
        for layer in self._layers:
            if key in layer:
                return layer[key]
        try:
            with self._environment.begin(buffers=True) as transaction:
                found = transaction.get(key, db=self._shards)
                return None if found is None else bytes(found)
        except lmdb.Error as error:
            raise StoreFailed(
                f"the node's index can not be read ({error}); stop the node, delete its index "
                "folder, and start it: the index is built again from the segments"
            ) from error

    def apply(self, change: Change, segment: int) -> None:
        """Takes in what a durable record in `segment` says."""
        old = self.get(change.key)
        if old is not None:
            self.usage.remove(old)
            self.shard_count -= 1
        if change.entry is not None:
            entry = with_commit_segment(change.entry, segment)
            self.usage.add(entry)
            self.shard_count += 1
            self._set(change.key, entry)
        elif old is not None:
            self.usage.tombstone(segment, counts(old).commit_segment)
            self._set(change.key, None)

    def _set(self, key: bytes, entry: bytes | None) -> None:
        self._layers[0][key] = entry
        self._active_bytes += KEY_BYTES + len(entry or b"")

    @property
    def layer_load(self) -> float:
        """How full the active layer is: from 1 on it should be frozen."""
        return max(
            len(self._layers[0]) / NODE_INDEX_LAYER_SHARDS_MAX,
            self._active_bytes / NODE_INDEX_LAYER_BYTES_MAX,
        )

    def freeze(self, checkpoint: Checkpoint) -> Frozen:
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
        state = _State(FORMAT, self._store_id, checkpoint, self.shard_count)
        self.checkpoint = checkpoint
        return Frozen(active, uses, msgspec.msgpack.encode(state))

    def write_frozen(self, frozen: Frozen) -> None:
        """Writes and syncs, all or nothing. NodeFull if there is no room: to be tried again.
        StoreFailed if lmdb can not."""
        try:
            with self._environment.begin(write=True) as transaction:
                # In key order, so that neighbours share pages while they are hot.
                for key in sorted(frozen.changes):
                    entry = frozen.changes[key]
                    if entry is None:
                        transaction.delete(key, db=self._shards)
                    else:
                        transaction.put(key, entry, db=self._shards)
                for number, use in frozen.uses.items():
                    name = number.to_bytes(4, "big")
                    if use is None:
                        transaction.delete(name, db=self._segments)
                    else:
                        transaction.put(name, use, db=self._segments)
                transaction.put(_STATE, frozen.state, db=self._meta)
        except lmdb.DiskError as error:
            raise NodeFull(f"no room for the node's index: {error}") from error
        except (lmdb.Error, OSError) as error:
            raise StoreFailed(f"the node's index can not be written: {error}") from error
        self._layers = (self._layers[0], {})

    def close(self) -> None:
        self._environment.close()


def open_index(path: Path, store_id: str) -> Index:
    """The index in a folder, made if there is none. FormatError if what is there is no index of
    this store; `discard_index` and open again."""
    path.mkdir(exist_ok=True)
    environment: lmdb.Environment | None = None
    try:
        environment = lmdb.open(
            str(path), map_size=NODE_INDEX_MAP_BYTES, max_dbs=3, max_spare_txns=4
        )
        return Index(environment, store_id)
    except (lmdb.Error, msgspec.MsgspecError, FormatError, struct.error) as error:
        if environment is not None:
            environment.close()
        raise FormatError(f"the index in {path} can not be used: {error}") from error


def discard_index(path: Path) -> None:
    """Deletes the index; it is derived data."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)

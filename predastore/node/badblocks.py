"""Which blocks of live shards are known to be bad: damaged, or lost with their segment.

Found by reads, by the scrub and by recovery; taken back when a block was replaced or its shard
deleted. Kept in memory and, with the index, in lmdb, so that a restart remembers. Bounded: beyond
NODE_BAD_BLOCKS_MAX nothing more is noted, and the scrub waits (`full`).

Stored for each shard, little endian: 4 bytes for each bad stripe.

Any thread may call; each call is short.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from struct import Struct

from predastore.base.limits import NODE_BAD_BLOCKS_MAX, NODE_BAD_BLOCKS_SPARE

_STRIPE = Struct("<I")


class BadBlocks:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: dict[bytes, set[int]] = {}
        self._changed: set[bytes] = set()
        self.block_count = 0

    def __len__(self) -> int:
        """Shards with bad blocks."""
        return len(self._shards)

    def __contains__(self, key: bytes) -> bool:
        return key in self._shards

    @property
    def full(self) -> bool:
        """Whether there is only room for what a step of the scrub may find."""
        return self.block_count >= NODE_BAD_BLOCKS_MAX - NODE_BAD_BLOCKS_SPARE

    @property
    def changed(self) -> bool:
        """Whether the index on disk says something else."""
        return bool(self._changed)

    def mark(self, key: bytes, stripes: Iterable[int]) -> int:
        """How many of these were not known to be bad."""
        with self._lock:
            known = self._shards.get(key, set())
            new = set(stripes) - known
            if not new or self.block_count + len(new) > NODE_BAD_BLOCKS_MAX:
                return 0
            self._shards[key] = known | new
            self.block_count += len(new)
            self._changed.add(key)
            return len(new)

    def clear(self, key: bytes, good: Iterable[int] | None = None) -> None:
        """These blocks of a shard are good now; all of them, if none are named."""
        with self._lock:
            known = self._shards.get(key)
            if known is None:
                return
            left = set() if good is None else known - set(good)
            if left == known:
                return
            self.block_count -= len(known) - len(left)
            self._changed.add(key)
            if left:
                self._shards[key] = left
            else:
                del self._shards[key]

    def stripes(self, key: bytes) -> frozenset[int]:
        return frozenset(self._shards.get(key, ()))

    def page(self, after: bytes, limit: int) -> list[tuple[bytes, list[int]]]:
        """Up to `limit` shards in the order of their keys, beyond `after`, with their stripes."""
        with self._lock:
            keys = heapq.nsmallest(limit, (key for key in self._shards if key > after))
            return [(key, sorted(self._shards[key])) for key in keys]

    # --- with the index -------------------------------------------------------------------

    def take_changes(self) -> dict[bytes, bytes | None]:
        """What the index on disk has to be told: the value of each key that changed."""
        with self._lock:
            changes = {
                key: b"".join(map(_STRIPE.pack, sorted(found)))
                if (found := self._shards.get(key))
                else None
                for key in self._changed
            }
            self._changed = set()
            return changes

    def load(self, key: bytes, value: bytes) -> None:
        """What the index on disk says."""
        stripes = {stripe for (stripe,) in _STRIPE.iter_unpack(value)}
        self._shards[key] = stripes
        self.block_count += len(stripes)

"""Shards that are being appended to and are not committed yet; in memory only.

A restart forgets them, and their blocks are dead space. Bounded in number; one that nobody has
appended to for long is forgotten. Owned by one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from predastore.base.errors import NodeError, Overloaded
from predastore.base.limits import NODE_PENDING_IDLE_MS_MAX, NODE_PENDING_SHARDS_MAX
from predastore.node.shard import Location, encode_entry, show_key


class _Shard:
    __slots__ = ("blocks", "touched_ms")

    def __init__(self) -> None:
        self.blocks: dict[int, Location] = {}
        self.touched_ms = 0


class Pending:
    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._shards: OrderedDict[bytes, _Shard] = OrderedDict()  # least recently touched first

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, key: bytes) -> bool:
        return key in self._shards

    def expire(self) -> None:
        """Forgets those that nobody has appended to for long."""
        oldest_ms = self._now_ms() - NODE_PENDING_IDLE_MS_MAX
        while self._shards and next(iter(self._shards.values())).touched_ms < oldest_ms:
            self._shards.popitem(last=False)

    def require_place(self, key: bytes) -> None:
        """Overloaded if this shard is new and there are too many."""
        self.expire()
        if key not in self._shards and len(self._shards) >= NODE_PENDING_SHARDS_MAX:
            raise Overloaded("too many shards are being written to this node; try again later")

    def add(self, key: bytes, stripe: int, place: Location) -> None:
        """A block was written; one of the same stripe before it does not count any more."""
        shard = self._shards.setdefault(key, _Shard())
        shard.blocks[stripe] = place
        shard.touched_ms = self._now_ms()
        self._shards.move_to_end(key)

    def blocks(self, key: bytes) -> dict[int, Location]:
        """What was appended to a shard, by stripe."""
        shard = self._shards.get(key)
        return shard.blocks if shard else {}

    def entry(self, key: bytes, block_count: int, byte_count: int, written_s: int) -> bytes:
        """What a commit of the shard writes. NodeError if it is not whole."""
        blocks = self.blocks(key)
        if block_count < 1 or len(blocks) != block_count or max(blocks) != block_count - 1:
            missing = next(
                (str(stripe) for stripe in range(block_count) if stripe not in blocks), "none"
            )
            raise NodeError(
                f"shard {show_key(key)} can not be committed: {len(blocks)} blocks are here, "
                f"{block_count} were announced, first missing: {missing}"
            )
        places = [blocks[stripe] for stripe in range(block_count)]
        found = sum(place.length for place in places)
        if found != byte_count:
            raise NodeError(
                f"shard {show_key(key)} can not be committed: its blocks have {found} bytes, "
                f"{byte_count} were announced"
            )
        return encode_entry(written_s, places)

    def forget(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._shards.pop(key, None)

    def segments(self) -> set[int]:
        """Segments that hold blocks of these shards."""
        found: set[int] = set()
        for shard in self._shards.values():
            found.update(place.segment for place in shard.blocks.values())
        return found

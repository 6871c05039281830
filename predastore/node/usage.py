"""What each segment still holds that is needed, and so which segments can be unlinked.

A segment is needed while it holds a block or the commit of a live shard, or a tombstone whose
shard's commit still stands in an older segment: without the tombstone, a rebuild of the index
would bring that shard back. Whole segments that are not needed can go; rewriting those that are
needed only a little is another matter.

Stored per segment, little endian: live bytes (8), live commits (4), then 4 bytes for each segment
that a tombstone in this one is for.
"""

from __future__ import annotations

from collections.abc import Collection
from struct import Struct

from predastore._fast.frame import record_bytes
from predastore.node.shard import counts, locations

_HEAD = Struct("<QI")
_NUMBER = Struct("<I")


class SegmentUse:
    """`live_bytes`: of block records of live shards; `live_commits`: shards committed here;
    `tombstones_for`: segments with a commit that a tombstone here revokes."""

    __slots__ = ("live_bytes", "live_commits", "tombstones_for")

    def __init__(
        self, live_bytes: int = 0, live_commits: int = 0, tombstones_for: Collection[int] = ()
    ) -> None:
        self.live_bytes = live_bytes
        self.live_commits = live_commits
        self.tombstones_for = set(tombstones_for)

    @property
    def live(self) -> bool:
        return self.live_bytes > 0 or self.live_commits > 0

    def encode(self) -> bytes:
        return _HEAD.pack(self.live_bytes, self.live_commits) + b"".join(
            map(_NUMBER.pack, sorted(self.tombstones_for))
        )

    @classmethod
    def decode(cls, data: bytes) -> SegmentUse:
        numbers = [number for (number,) in _NUMBER.iter_unpack(data[_HEAD.size :])]
        live_bytes, live_commits = _HEAD.unpack_from(data)
        return cls(live_bytes, live_commits, numbers)


class Usage:
    """The use of every segment; `changed` names those that the index has not stored yet."""

    def __init__(self) -> None:
        self.segments: dict[int, SegmentUse] = {}
        self.changed: set[int] = set()

    def segment(self, number: int) -> SegmentUse:
        """The use of a segment, to be changed by the caller."""
        self.changed.add(number)
        return self.segments.setdefault(number, SegmentUse())

    def add(self, entry: bytes) -> None:
        """A shard lives."""
        self._count(entry, 1)

    def remove(self, entry: bytes) -> None:
        """A shard is gone."""
        self._count(entry, -1)

    def _count(self, entry: bytes, sign: int) -> None:
        taken: dict[int, int] = {}
        for place in locations(entry):
            taken[place.segment] = taken.get(place.segment, 0) + record_bytes(place.length)
        for number, size in taken.items():
            self.segment(number).live_bytes += sign * size
        self.segment(counts(entry).commit_segment).live_commits += sign

    def tombstone(self, segment: int, commit_segment: int) -> None:
        """A tombstone in `segment` revokes a commit in `commit_segment`."""
        if segment != commit_segment:
            self.segment(segment).tombstones_for.add(commit_segment)

    def dead(self, busy: Collection[int]) -> list[int]:
        """Segments that nothing needs, oldest first. `busy`: those that are being written to, or
        hold blocks of shards that may yet be committed."""
        found = []
        for number in sorted(self.segments):
            use = self.segments[number]
            needed = use.live or not use.tombstones_for.isdisjoint(self.segments)
            if not needed and number not in busy:
                found.append(number)
        return found

    def forget(self, number: int) -> None:
        """A segment was unlinked."""
        del self.segments[number]
        self.changed.add(number)

"""What each segment still holds that is needed, and so which segments can be unlinked.

A segment is needed while it holds a block or the commit of a live shard, or a tombstone or commit
whose shard has a commit in an older segment too: without the newer record, a rebuild of the index
would bring the older one back. Segments that are not needed are unlinked; those that are needed
only a little are rewritten (compaction.py).

Stored per segment, little endian: live bytes (8), live commits (4), commit bytes (8), tombstones
(4), then 4 bytes for each segment that this one supersedes.
"""

from __future__ import annotations

from collections.abc import Collection
from struct import Struct

from predastore._fast.frame import record_bytes
from predastore.node.segment import footer_change_bytes
from predastore.node.shard import counts, entry_bytes, locations

_HEAD = Struct("<QIQI")
_NUMBER = Struct("<I")
TOMBSTONE_BYTES = record_bytes(0) + footer_change_bytes(0)


class SegmentUse:
    """`live_bytes`: of block records of live shards; `live_commits`: shards committed here;
    `commit_bytes`: what their commits need at most, footer included; `tombstones`: written here;
    `supersedes`: older segments with a commit that a record here revokes or replaces."""

    __slots__ = ("commit_bytes", "live_bytes", "live_commits", "supersedes", "tombstones")

    def __init__(
        self,
        live_bytes: int = 0,
        live_commits: int = 0,
        commit_bytes: int = 0,
        tombstones: int = 0,
        supersedes: Collection[int] = (),
    ) -> None:
        self.live_bytes = live_bytes
        self.live_commits = live_commits
        self.commit_bytes = commit_bytes
        self.tombstones = tombstones
        self.supersedes = set(supersedes)

    @property
    def live(self) -> bool:
        return self.live_bytes > 0 or self.live_commits > 0

    def encode(self) -> bytes:
        head = _HEAD.pack(self.live_bytes, self.live_commits, self.commit_bytes, self.tombstones)
        return head + b"".join(map(_NUMBER.pack, sorted(self.supersedes)))

    @classmethod
    def decode(cls, data: bytes) -> SegmentUse:
        numbers = [number for (number,) in _NUMBER.iter_unpack(data[_HEAD.size :])]
        live_bytes, live_commits, commit_bytes, tombstones = _HEAD.unpack_from(data)
        return cls(live_bytes, live_commits, commit_bytes, tombstones, numbers)


class Usage:
    """The use of every segment; `changed` names those that the index has not stored yet."""

    def __init__(self) -> None:
        self.segments: dict[int, SegmentUse] = {}
        self.changed: set[int] = set()

    def segment(self, number: int) -> SegmentUse:
        """The use of a segment, to be changed by the caller."""
        self.changed.add(number)
        return self.segments.setdefault(number, SegmentUse())

    @property
    def live_bytes(self) -> int:
        """Of the block records of all live shards. Any thread may ask."""
        return sum(use.live_bytes for use in list(self.segments.values()))

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
        head = counts(entry)
        use = self.segment(head.commit_segment)
        use.live_commits += sign
        size = entry_bytes(head.block_count)
        use.commit_bytes += sign * (record_bytes(size) + footer_change_bytes(size))

    def supersede(self, segment: int, commit_segment: int) -> None:
        """A record in `segment` revokes or replaces a commit in `commit_segment`, an older one;
        or, where a start reads records again, a newer one: then it does not count."""
        if segment > commit_segment:
            self.segment(segment).supersedes.add(commit_segment)

    def dead(self, busy: Collection[int]) -> list[int]:
        """Segments that nothing needs, oldest first. `busy`: those that are being written to, or
        hold blocks of shards that may yet be committed."""
        found = []
        for number in sorted(self.segments):
            use = self.segments[number]
            needed = use.live or not use.supersedes.isdisjoint(self.segments)
            if not needed and number not in busy:
                found.append(number)
        return found

    def tombstone(self, segment: int, older: Collection[int]) -> None:
        """A tombstone was written that may revoke commits in any of these segments."""
        self.segment(segment).tombstones += 1
        for number in older:
            self.supersede(segment, number)

    def retire(self, number: int) -> None:
        """Whatever this segment supersedes is superseded by others now: by those that its
        tombstones were copied to, and those that supersede it. (A shard may have commits in more
        than two segments.)"""
        use = self.segment(number)
        inherited = use.supersedes & self.segments.keys()
        use.supersedes = set()
        for other, heir in self.segments.items():
            if number in heir.supersedes:
                heir.supersedes |= inherited
                self.changed.add(other)

    def forget(self, number: int) -> None:
        """A segment was unlinked."""
        self.retire(number)
        del self.segments[number]
        for other, use in self.segments.items():
            if number in use.supersedes:
                use.supersedes.discard(number)
                self.changed.add(other)

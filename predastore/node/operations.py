"""What the writer of a store is asked to do, one class for each operation.

Made in the event loop, staged by the writer's thread, answered in the loop again: `future` gets
None, or `error`. Keys were checked before. Every operation may be repeated: one that finds its
work done, or on the way, succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData, NodeError, PredastoreError
from predastore.base.limits import NODE_SHARD_BLOCKS_MAX
from predastore.node.log import SegmentLog
from predastore.node.shard import (
    as_committed,
    counts,
    encode_entry,
    locations,
    show_key,
    written_s,
)
from predastore.rpc import Buffer


class StoreOperation:
    """`lasting`: answered when it is durable, else when it is written. `takes_space`: refused when
    the disk is down to its reserve; `moves`: refused when little of that is left. `size_bytes`: of
    the block that it holds."""

    lasting: ClassVar[bool] = True
    takes_space: bool = False
    moves: bool = False

    def __init__(self, future: asyncio.Future[None], size_bytes: int = 0) -> None:
        self.future = future
        self.size_bytes = size_bytes
        self.error: PredastoreError | None = None
        self.answered = False
        self.synced_ns: tuple[int, int] | None = None  # when its sync began and ended, if traced
        self._unclaimed = [True]

    def claim(self) -> bool:
        """True for the first who asks, in whatever thread: the writer, to carry it out, or its
        maker, to withdraw it."""
        try:
            return self._unclaimed.pop()  # one atomic step
        except IndexError:
            return False

    def stage(self, log: SegmentLog) -> None:
        raise AssertionError("every operation has its own")


def _verify(key: bytes, block: Buffer, crc: int) -> None:
    if crc32c(block) != crc:
        raise CorruptData(f"a block of {show_key(key)} does not match its CRC: damaged on the way")


def _contents(entry: bytes) -> list[tuple[int, int]]:
    return [(place.length, place.crc) for place in locations(entry)]


def _differs(key: bytes) -> NodeError:
    return NodeError(f"shard {show_key(key)} is committed already, with other contents")


class PutShard(StoreOperation):
    """A whole shard of one block."""

    takes_space = True

    def __init__(self, future: asyncio.Future[None], key: bytes, block: Buffer, crc: int) -> None:
        super().__init__(future, len(block))
        self._key, self._block, self._crc = key, block, crc

    def stage(self, log: SegmentLog) -> None:
        _verify(self._key, self._block, self._crc)
        committed = log.entry(self._key)
        when_s = log.now_s()
        if committed is not None:
            if _contents(committed) != [(len(self._block), self._crc)]:
                raise _differs(self._key)
            if not log.bad_stripes(self._key):
                return
            when_s = written_s(committed)
        log.sole_block(
            self._key, self._block, self._crc, lambda place: encode_entry(when_s, [place])
        )


class AppendBlock(StoreOperation):
    """One block of a shard that is committed later; the last block of a stripe counts."""

    lasting = False
    takes_space = True

    def __init__(
        self, future: asyncio.Future[None], key: bytes, stripe: int, block: Buffer, crc: int
    ) -> None:
        super().__init__(future, len(block))
        self._key, self._stripe, self._block, self._crc = key, stripe, block, crc

    def stage(self, log: SegmentLog) -> None:
        if not 0 <= self._stripe < NODE_SHARD_BLOCKS_MAX:
            raise NodeError(
                f"stripe {self._stripe}: a shard has at most {NODE_SHARD_BLOCKS_MAX} blocks; "
                "use larger blocks"
            )
        _verify(self._key, self._block, self._crc)
        log.pending.require_place(self._key)
        place = log.block(self._key, self._stripe, self._block, self._crc)
        log.pending.add(self._key, self._stripe, place)


class CommitShard(StoreOperation):
    """All blocks of a shard are there: it exists from now on. Of one that exists, the bad blocks
    are replaced by those that were appended; these have to be what they were."""

    def __init__(
        self, future: asyncio.Future[None], key: bytes, block_count: int, byte_count: int
    ) -> None:
        super().__init__(future)
        self._key, self._block_count, self._byte_count = key, block_count, byte_count

    def stage(self, log: SegmentLog) -> None:
        committed = log.entry(self._key)
        if committed is None:
            entry = log.pending.entry(self._key, self._block_count, self._byte_count, log.now_s())
            log.commit(self._key, entry)
        else:
            self._replace(log, committed)
        log.pending.forget([self._key])

    def _replace(self, log: SegmentLog, committed: bytes) -> None:
        if counts(committed)[1:] != (self._block_count, self._byte_count):
            raise _differs(self._key)
        places = list(locations(committed))
        bad = log.bad_stripes(self._key)
        replaced = False
        for stripe, place in log.pending.blocks(self._key).items():
            if stripe >= len(places) or places[stripe][2:] != place[2:]:
                raise _differs(self._key)
            if stripe in bad:
                places[stripe] = place
                replaced = True
        if replaced:
            log.commit(self._key, as_committed(committed, places))


class DeleteShards(StoreOperation):
    """Shards cease to exist, committed or not; unknown ones are none already."""

    def __init__(self, future: asyncio.Future[None], keys: Sequence[bytes]) -> None:
        super().__init__(future)
        self._keys = keys

    def stage(self, log: SegmentLog) -> None:
        for key in self._keys:
            if log.entry(key) is not None:
                log.tombstone(key)
        log.pending.forget(self._keys)
        log.copies.forget(self._keys)  # which a compaction made that has ended early


class AbortShard(StoreOperation):
    """A shard that is not committed is forgotten."""

    lasting = False

    def __init__(self, future: asyncio.Future[None], key: bytes) -> None:
        super().__init__(future)
        self._key = key

    def stage(self, log: SegmentLog) -> None:
        log.pending.forget([self._key])

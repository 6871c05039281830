"""A shard node's store: the durable home of shards, in one directory.

    node.id              whose data this is (identity.py)
    segments/*.seg       the log, append-only (segment.py, _fast/frame.pyx)
    index/               lmdb, derived from the segments (index.py)

A shard is a sequence of blocks. It exists when its commit is durable, and does not change after
that. What is promised:

- `put`, `commit` and `delete` are durable when they return; `append` is when the commit is.
- A block is given out only if it matches the CRC that came with it, else ShardCorrupt.
- Every operation may be repeated; the same shard with other contents is refused (NodeError).
- Blocks found to be bad are remembered (`bad`). The same shard put, or appended to and committed,
  again replaces them, and nothing else of it; its good blocks are readable all the time.
- A full disk refuses `put` and `append` (NodeFull) while there is still room for the rest.
- After an I/O error, nothing is written any more (StoreFailed); reads go on.

All methods belong to the event loop that opened the store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from predastore.base.errors import (
    NodeError,
    ShardCorrupt,
    ShardNotFound,
    StoreFailed,
)
from predastore.base.limits import (
    BLOCK_BYTES_MAX,
    NODE_DELETE_REFS_MAX,
    NODE_OPEN_SEGMENTS_MAX,
    NODE_RESERVE_BYTES,
    NODE_SCRUB_DAYS_DEFAULT,
    NODE_SEGMENT_BYTES_DEFAULT,
    NODE_SEGMENT_BYTES_MAX,
    NODE_SEGMENT_BYTES_MIN,
)
from predastore.base.threads import in_thread
from predastore.node import listing, operations
from predastore.node.compaction import Compactor
from predastore.node.disk import RealDisk, StoreDisk
from predastore.node.identity import SEGMENTS
from predastore.node.log import SegmentLog
from predastore.node.messages import (
    BadShards,
    NodeStatus,
    ScrubStatus,
    ShardPlaces,
    ShardRows,
    ShardStat,
)
from predastore.node.opening import Opened, open_files
from predastore.node.pace import Pace
from predastore.node.reader import Reader
from predastore.node.scrub import Scrubber
from predastore.node.shard import (
    Location,
    ShardRef,
    counts,
    location,
    show_key,
)
from predastore.node.threads import Threads
from predastore.node.upkeep import StoreUpkeep
from predastore.node.writer import Writer
from predastore.rpc import Buffer

logger = logging.getLogger(__name__)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _now_s() -> int:
    return int(time.time())


class ShardStore:
    """Use `ShardStore.open`, and `close` it."""

    def __init__(
        self,
        path: Path,
        opened: Opened,
        *,
        segment_bytes_max: int,
        reserve_bytes: int,
        scrub_days: float,
        open_segments_max: int,
    ) -> None:
        folder = path / SEGMENTS
        self.node_id = opened.node_id
        self._store_id = opened.store_id
        self.recovery = opened.report
        self._folder = folder
        self._lock = opened.lock
        self._disk = opened.disk
        self._reserve_bytes = reserve_bytes
        self._index = opened.index
        self._reader = Reader(folder, open_segments_max)
        self._corrupt_reads = 0
        self._closed = False
        log = SegmentLog(
            folder,
            opened.disk,
            appender=opened.appender,
            index=opened.index,
            now_ms=_now_ms,
            now_s=_now_s,
            reserve_bytes=reserve_bytes,
        )
        self._log = log
        self._writer = Writer(log, opened.index, opened.disk, folder, unlinked=self._unlinked)
        self._calls = 0
        self._threads = Threads()
        self._compactor = Compactor(
            folder,
            opened.disk,
            self._writer,
            opened.index,
            pace=Pace(lambda: self._calls),
            threads=self._threads,
            segment_bytes_max=segment_bytes_max,
            reserve_bytes=reserve_bytes,
        )
        self._scrubber = Scrubber(
            folder,
            self._writer,
            opened.index,
            pace=Pace(lambda: self._calls),
            threads=self._threads,
            period_s=scrub_days * 86_400,
        )
        self._upkeep = StoreUpkeep(
            self.node_id, self._writer, opened.index, self._compactor, self._scrubber
        )

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        node_id: int,
        cluster_id: bytes,
        segment_bytes_max: int = NODE_SEGMENT_BYTES_DEFAULT,
        reserve_bytes: int = NODE_RESERVE_BYTES,
        disk: StoreDisk | None = None,
        scrub_days: float = NODE_SCRUB_DAYS_DEFAULT,
        open_segments_max: int = NODE_OPEN_SEGMENTS_MAX,
        upkeep: bool = True,
    ) -> ShardStore:
        """The store in a directory, made if there is none, recovered if it was not closed.
        `cluster_id`: 16 bytes. `upkeep`: compaction, and a scrub every `scrub_days`, by themselves.
        StartupError says why it can not be used, and what to do."""
        if not NODE_SEGMENT_BYTES_MIN <= segment_bytes_max <= NODE_SEGMENT_BYTES_MAX:
            raise ValueError("segment_bytes_max is out of its range")
        folder = Path(path)
        opened = await in_thread(
            None,
            *(open_files, folder, node_id, cluster_id, segment_bytes_max, disk or RealDisk()),
            undo=Opened.close,
        )
        store = cls(
            folder,
            opened,
            segment_bytes_max=segment_bytes_max,
            reserve_bytes=reserve_bytes,
            scrub_days=scrub_days,
            open_segments_max=open_segments_max,
        )
        if upkeep:
            store._upkeep.start()
        return store

    async def close(self) -> None:
        """Finishes what was begun, writes the index, and lets go of the directory."""
        if self._closed:
            return
        self._closed = True
        await self._upkeep.close()
        await self._writer.close()
        await self._threads.finish()
        self._reader.close()
        self._index.close()
        self._lock.release()

    # --- writing --------------------------------------------------------------------------

    async def put(self, ref: ShardRef, block: Buffer, crc: int) -> None:
        """A whole shard of one block. CorruptData if the block does not match its CRC."""
        key = self._key(ref)
        _require_block(block)
        await self._writer.run(operations.PutShard(self._future(), key, block, crc))

    async def append(self, ref: ShardRef, stripe: int, block: Buffer, crc: int) -> None:
        """One block of a shard; the last one of a stripe counts. CorruptData as `put`."""
        key = self._key(ref)
        _require_block(block)
        await self._writer.run(operations.AppendBlock(self._future(), key, stripe, block, crc))

    async def commit(self, ref: ShardRef, block_count: int, byte_count: int) -> None:
        """NodeError unless the blocks 0 to block_count - 1 were appended since the store was
        opened, and have so many bytes. Of a shard that is there, the bad blocks that were appended
        are replaced; no others need to have been."""
        key = self._key(ref)
        await self._writer.run(operations.CommitShard(self._future(), key, block_count, byte_count))

    async def delete(self, refs: Sequence[ShardRef]) -> None:
        """Shards that are not there, or not committed, are deleted too."""
        if len(refs) > NODE_DELETE_REFS_MAX:
            raise NodeError(f"at most {NODE_DELETE_REFS_MAX} shards are deleted at once")
        keys = [self._key(ref) for ref in refs]
        await self._writer.run(operations.DeleteShards(self._future(), keys))

    async def abort(self, ref: ShardRef) -> None:
        """Forgets what was appended to a shard; nothing happens to a committed one."""
        await self._writer.run(operations.AbortShard(self._future(), self._key(ref)))

    def _future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def _key(self, ref: ShardRef) -> bytes:
        if self._closed:
            raise StoreFailed("the store is closed")
        self._calls += 1
        return ref.key()

    def _unlinked(self, segments: list[int]) -> None:
        self._reader.forget(segments)
        self._compactor.unlinked(segments)

    # --- upkeep ---------------------------------------------------------------------------

    async def compact(self) -> bool:
        """Rewrites one segment, if that is due; False if not. With upkeep, this happens by
        itself."""
        return await self._compactor.step()

    async def scrub_round(self) -> bool:
        """Carries a round of the scrub to its end, if one is due; False if not. As `compact`."""
        return await self._scrubber.step()

    def scrub(self, *, start: bool) -> ScrubStatus:
        """How far the scrub is; with `start`, a round begins now."""
        if start:
            self._scrubber.ask()
        return self._scrubber.status()

    # --- reading --------------------------------------------------------------------------

    async def read(self, ref: ShardRef, stripe: int, offset: int, length: int) -> memoryview:
        """Part of a block, after the whole of it was checked. ShardNotFound, ShardCorrupt;
        NodeError if the block has no such part."""
        key = self._key(ref)
        place = self._place(key, stripe)
        if offset < 0 or length < 1 or offset + length > place.length:
            raise NodeError(
                f"{length} bytes at {offset} of block {stripe} of {show_key(key)}: it has "
                f"{place.length}"
            )
        try:
            block = await self._read(key, stripe, place)
        except ShardCorrupt as error:
            self._corrupt_reads += 1
            await self._threads.run(self._index.mark_bad, key, stripe, place)
            logger.error(
                "block is damaged",
                extra={"node": self.node_id, "shard": show_key(key), "reason": str(error)},
            )
            raise
        return block[offset : offset + length]

    async def _read(self, key: bytes, stripe: int, place: Location) -> memoryview:
        while True:
            try:
                return await self._reader.read(place)
            except FileNotFoundError as error:
                # Deleted or moved since it was looked up, and its segment with it; or it is lost.
                now = self._place(key, stripe)
                if now == place:
                    raise ShardCorrupt(
                        f"segment {place.segment} of {show_key(key)} is gone"
                    ) from error
                place = now

    def _place(self, key: bytes, stripe: int) -> Location:
        entry = self._entry(key)
        place = location(entry, stripe)
        if place is None:
            raise NodeError(
                f"shard {show_key(key)} has {counts(entry).block_count} blocks, none of number "
                f"{stripe}"
            )
        return place

    def _entry(self, key: bytes) -> bytes:
        entry = self._index.get(key)
        if entry is None:
            raise ShardNotFound(f"shard {show_key(key)} is not on node {self.node_id}")
        return entry

    async def stat(self, ref: ShardRef) -> ShardStat:
        """ShardNotFound if no such shard is committed."""
        found = counts(self._entry(self._key(ref)))
        return ShardStat(found.block_count, found.byte_count)

    # --- looking at it --------------------------------------------------------------------

    async def locate(self, ref: ShardRef, first: int = 0) -> ShardPlaces:
        """Where the blocks of a shard are, from stripe `first` on. ShardNotFound."""
        key = self._key(ref)
        return listing.places(self._index, key, self._entry(key), first)

    async def shards(self, after: bytes, limit: int) -> ShardRows:
        """Up to `limit` committed shards in the order of their keys, beyond the key `after`."""
        rows, more = await self._threads.run(listing.shards, self._index, after, limit)
        return ShardRows(rows, more, int(time.time() * 1000))

    def bad(self, after: bytes, limit: int) -> BadShards:
        """As `shards`, those with blocks known to be bad."""
        return listing.bad(self._index, after, limit)

    @property
    def failure(self) -> str:
        """Why nothing is written any more, or empty."""
        return self._writer.failure or ""

    async def status(self) -> NodeStatus:
        space = await self._threads.run(listing.space, self._folder, self._disk)
        sizes, free_bytes, total_bytes, failure = space
        used_bytes = sum(sizes)
        live_bytes = self._index.usage.live_bytes
        compaction, scrub = self._compactor.progress, self._scrubber.status()
        return NodeStatus(
            id=self.node_id,
            used_bytes=used_bytes,
            free_bytes=0 if self._log.is_index_full else max(0, free_bytes - self._reserve_bytes),
            segment_count=len(sizes),
            shard_count=self._index.shard_count,
            failure=self.failure or failure,
            corrupt_reads=self._corrupt_reads,
            damaged_places=self.recovery.damaged,
            live_bytes=live_bytes,
            dead_bytes=max(0, used_bytes - live_bytes),
            bad_shards=len(self._index.bad),
            pending_shards=len(self._log.pending),
            disk_free_bytes=free_bytes,
            disk_total_bytes=total_bytes,
            store_id=self._store_id,
            compacted_segments=compaction.segments,
            moved_bytes=compaction.moved_bytes,
            reclaimed_bytes=compaction.reclaimed_bytes,
            scrub_running=scrub.running,
            scrub_share=scrub.share,
            scrub_started_ms=scrub.started_ms,
            scrub_finished_ms=scrub.finished_ms,
            scrub_bad_blocks=scrub.bad_blocks,
            damaged_segments=scrub.damaged_segments,
        )


def _require_block(block: Buffer) -> None:
    if not 1 <= len(block) <= BLOCK_BYTES_MAX:
        raise NodeError(f"a block has 1 to {BLOCK_BYTES_MAX} bytes, not {len(block)}")

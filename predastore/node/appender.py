"""The end of the log: puts records into the current segment, and begins the next when it is full.

Owned by one thread. Records are staged, then `flush` writes all of them with one call, without
joining them; `sync` makes durable what was flushed. Offsets are given out when a record is staged,
so a flush that fails for want of room takes back everything staged, and cuts the file to what
was flushed before: the segment never has a hole. Any other error leaves the appender unusable.

Invariants: synced <= written <= end; the file's length is `extent`, and from `end` to `extent`
it is zeros. A footer record is written when what it lists is durable, so that it is true whatever
a power cut spares of a write. What is sealed is durable before the next segment exists.

Zeros ahead: to sync a record that made its file longer, the file system has to commit its journal
too, which about doubles the time. So small batches get a stretch of zeros written ahead of them,
and go into that.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base import metrics
from predastore.base.errors import NodeError, NodeFull
from predastore.base.failpoints import failpoint
from predastore.base.limits import (
    NODE_FOOTER_PART_BYTES,
    NODE_SMALL_BATCH_BYTES,
    NODE_ZERO_AHEAD_BYTES,
)
from predastore.node.disk import StoreDisk
from predastore.node.segment import (
    FOOTER,
    HEADER_BYTES,
    NO_HASH,
    NO_WRITE_ID,
    SEAL,
    SEAL_RECORD_BYTES,
    Change,
    SegmentHeader,
    footer_change,
    segment_path,
)
from predastore.node.shard import KEY_BYTES, split_key
from predastore.rpc import Buffer

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_PADDING = [bytes(n) for n in range(frame.ALIGN_BYTES)]
_ZEROS = bytes(NODE_ZERO_AHEAD_BYTES)
_NO_KEY = NO_HASH + NO_WRITE_ID + bytes(KEY_BYTES - len(NO_HASH) - len(NO_WRITE_ID))

_SYNCS = metrics.histogram(
    "predastore_node_sync_seconds", "Times of a shard node's fdatasync of its log.", "node"
)


class Appender:
    def __init__(
        self,
        folder: Path,
        disk: StoreDisk,
        *,
        node_id: int,
        cluster_id: bytes,
        segment_bytes_max: int,
    ) -> None:
        """`begin` or `resume` must follow."""
        self._folder = folder
        self._disk = disk
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._segment_bytes_max = segment_bytes_max
        self._syncs = _SYNCS.child(str(node_id))
        self._descriptor = -1
        self.number = 0
        self.tag = 0
        self.end = self.written = self.synced = self._extent = 0
        self.last_footer = 0
        self._pieces: list[Buffer] = []
        self._entries = bytearray()
        self._entry_count = 0
        self._sealed = False
        self._flushed = self._footer_state()

    # --- segments -------------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """Makes segment `number`, durably, and appends to it from now on."""
        header = SegmentHeader(
            self._node_id,
            number,
            secrets.randbits(32),
            time.time_ns() // 1_000_000,
            self._cluster_id,
        )
        path = segment_path(self._folder, number)
        descriptor = self._disk.create(path)
        try:
            self._disk.write(descriptor, [header.pack()], 0)
            self._disk.sync(descriptor)
            self._disk.sync_folder(self._folder)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_ROOM:
                raise
            self._disk.unlink(path)
            raise NodeFull("no room on the node's disk for another segment") from error
        self.resume(descriptor, header, HEADER_BYTES)

    def resume(
        self,
        descriptor: int,
        header: SegmentHeader,
        end: int,
        *,
        synced: int | None = None,
        last_footer: int = 0,
        changes: Sequence[Change] = (),
    ) -> None:
        """Appends to a segment that exists and is durable and `end` bytes long. `synced`: what
        records may say of that until the next sync, if it is less. `changes`: those that no footer
        record has yet."""
        self.close()
        self._descriptor = descriptor
        self.number, self.tag = header.number, header.tag
        self.end = self.written = self._extent = end
        self.synced = end if synced is None else synced
        self.last_footer = last_footer
        self._entries = bytearray()
        self._entry_count = 0
        self._sealed = False
        for change in changes:
            self.list_change(change)
        self._flushed = self._footer_state()

    def close(self) -> None:
        """Closes the file; what was not synced may be lost."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def room_for(self, payload_bytes: int, entry_bytes: int) -> bool:
        """Whether a record, and its entry in the footer, fit into this segment."""
        after = self.end + self._least_bytes(payload_bytes, len(self._entries) + entry_bytes)
        return not self._sealed and after <= self._segment_bytes_max

    def require_fit(self, payload_bytes: int, entry_bytes: int) -> None:
        """NodeError if a record does not even fit into an empty segment."""
        if HEADER_BYTES + self._least_bytes(payload_bytes, entry_bytes) > self._segment_bytes_max:
            raise NodeError(
                f"a record of {payload_bytes} bytes does not fit into a segment of "
                f"{self._segment_bytes_max}; raise the segment size of this node"
            )

    @staticmethod
    def _least_bytes(payload_bytes: int, entries_bytes: int) -> int:
        footer_bytes = frame.record_bytes(FOOTER.size + entries_bytes)
        return frame.record_bytes(payload_bytes) + footer_bytes + SEAL_RECORD_BYTES

    def roll(self) -> None:
        """Seals this segment, durably, and begins the next. All that was staged must have been
        flushed. NodeFull, OSError as `flush`; it may be tried again after NodeFull."""
        if not self._sealed:
            self._seal()
        failpoint("node.segment.sealed")
        self.begin(self.number + 1)
        failpoint("node.segment.begun")

    def _seal(self) -> None:
        self.footer()
        seal = SEAL.pack(self.last_footer)
        self._stage(frame.SEAL, _NO_KEY, seal, crc32c(seal))
        self.flush()
        # The seal is found from the end of the file.
        self._disk.truncate(self._descriptor, self.end)
        self._extent = self.end
        self.sync()
        self._sealed = True

    # --- records --------------------------------------------------------------------------

    def block(self, key: bytes, stripe: int, block: Buffer, crc: int, *, sole: bool) -> int:
        """Stages a block, whose CRC was checked; its offset. Ask `room_for` before."""
        flags = frame.SOLE if sole else 0
        return self._stage(frame.BLOCK, key, block, crc, flags=flags, stripe=stripe)

    def commit(self, key: bytes, entry: bytes) -> int:
        return self._stage(frame.COMMIT, key, entry, crc32c(entry))

    def tombstone(self, key: bytes) -> int:
        return self._stage(frame.TOMBSTONE, key, b"", 0)

    def list_change(self, change: Change) -> None:
        """Adds to the footer what the record staged last means."""
        self._entries += footer_change(change)
        self._entry_count += 1

    def footer(self) -> None:
        """Syncs, and stages a footer record of what has none yet; so what of the footer is in
        memory stays small. All that was staged must have been flushed."""
        if not self._entries:
            return
        self.sync()
        payload = FOOTER.pack(self.last_footer, self._entry_count) + bytes(self._entries)
        self.last_footer = self._stage(frame.FOOTER, _NO_KEY, payload, crc32c(payload))
        self._entries = bytearray()
        self._entry_count = 0

    @property
    def footer_due(self) -> bool:
        return len(self._entries) >= NODE_FOOTER_PART_BYTES

    def _footer_state(self) -> tuple[bytearray, int, int, int]:
        return self._entries, len(self._entries), self._entry_count, self.last_footer

    def _stage(
        self, kind: int, key: bytes, payload: Buffer, crc: int, *, flags: int = 0, stripe: int = 0
    ) -> int:
        offset, length = self.end, len(payload)
        header = bytearray(frame.HEADER_BYTES)
        object_hash, write_id, shard_index = split_key(key)
        frame.pack_into(
            header, 0, offset, self.tag, self.synced, kind, flags, object_hash, write_id,
            shard_index, stripe, length, crc,
        )  # fmt: skip
        self._pieces.append(header)
        if length:
            self._pieces.append(payload)
            if padding := -length % frame.ALIGN_BYTES:
                self._pieces.append(_PADDING[padding])
        self.end += frame.record_bytes(length)
        return offset

    # --- the disk -------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes what is staged. NodeFull if there is no room: then nothing of it was written.
        OSError: nothing is known."""
        if not self._pieces:
            return
        size = self.end - self.written
        try:
            if self.end > self._extent and size <= NODE_SMALL_BATCH_BYTES:
                self._zero_ahead()
            self._disk.write(self._descriptor, self._pieces, self.written)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._take_back()
            raise NodeFull("no room on the node's disk") from error
        finally:
            self._pieces = []
        if size > NODE_SMALL_BATCH_BYTES:
            with suppress(OSError):  # only a hint, and not for every file system
                self._disk.start_writeback(self._descriptor, self.written, size)
        self.written = self.end
        self._extent = max(self._extent, self.end)
        self._flushed = self._footer_state()

    def _zero_ahead(self) -> None:
        target = min(self.end + NODE_ZERO_AHEAD_BYTES, self._segment_bytes_max)
        start = self._extent
        if target <= start:
            return
        with suppress(OSError):  # its own error shows in the write that follows
            self._disk.write(self._descriptor, [memoryview(_ZEROS)[: target - start]], start)
            self._extent = target

    def _take_back(self) -> None:
        self._disk.truncate(self._descriptor, self.written)
        self._extent = self.end = self.written
        self._entries, size, self._entry_count, self.last_footer = self._flushed
        del self._entries[size:]

    def sync(self) -> None:
        """Makes durable what was flushed. OSError: nothing is known."""
        if self.synced < self.written:
            begun_s = time.perf_counter()
            self._disk.sync(self._descriptor)
            self._syncs.observe(time.perf_counter() - begun_s)
            self.synced = self.written

    def require_file(self) -> None:
        """OSError if the file is not the one of its name any more: what is written into it could
        not be found by anybody."""
        path = segment_path(self._folder, self.number)
        found = os.fstat(self._descriptor)
        try:
            named = os.stat(path)
        except FileNotFoundError:
            named = None
        if named is None or (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
            raise OSError(errno.ENOENT, f"{path} was removed or replaced while it was in use")

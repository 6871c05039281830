"""A snapshot on its way: which chunk is next, and which is good. Sans-IO.

Chunks are taken in order, each checked by its CRC32C; one that is not next, or damaged, is
answered with the offset that is. A snapshot that a new leader offers under the same marker is
another file (its pages may lie elsewhere), so it is begun anew with its first chunk.
"""

from __future__ import annotations

from predastore._fast.crc import crc32c
from predastore.s3db.raft.messages import Marker, SnapshotChunk


class ChunkAssembly:
    def __init__(self) -> None:
        self.marker: Marker | None = None
        self.offset = 0
        self._origin = (-1, -1)  # leader and term

    def takes(self, chunk: SnapshotChunk) -> bool:
        """Whether the chunk's bytes are next; if not, `offset` says what is wanted."""
        origin = (chunk.source, chunk.term)
        if chunk.marker != self.marker or origin != self._origin:
            self.marker, self._origin = chunk.marker, origin
            self.offset = 0
        if chunk.offset != self.offset or crc32c(chunk.data) != chunk.crc:
            return False
        return chunk.offset + len(chunk.data) <= chunk.total_bytes

    def taken(self, chunk: SnapshotChunk) -> bool:
        """The chunk's bytes are kept; True if they were the last."""
        self.offset += len(chunk.data)
        return self.offset == chunk.total_bytes

    def reset(self) -> None:
        self.marker, self.offset = None, 0
        self._origin = (-1, -1)

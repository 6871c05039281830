"""Building the index of a stopped node again, from its segments alone.

A start does the same by itself where the index is missing, damaged or does not fit; this is for an
operator who wants it done, or wants to see what the segments say, without starting the node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from predastore.base.errors import StartupError, StoreFailed, reason
from predastore.base.limits import NODE_SEGMENT_BYTES_DEFAULT
from predastore.node.appender import Appender
from predastore.node.disk import RealDisk
from predastore.node.identity import INDEX, SEGMENTS, DirectoryLock, NodeIdentity, read_identity
from predastore.node.index import Index, discard_index
from predastore.node.judging import RecoveryReport
from predastore.node.recovery import recover


@dataclass(frozen=True)
class Rebuilt:
    """`report`: what was found; `bad_shards`: those with blocks that are damaged or lost."""

    node_id: int
    shards: int
    live_bytes: int
    bad_shards: int
    report: RecoveryReport


def rebuild_index(path: Path, progress: Callable[[int, int], None]) -> Rebuilt:
    """Throws the index of the node in directory `path` away and builds it again. `progress` is
    called with the number of segments read and of all. StartupError: the node runs, the directory
    is no node's, or it can not be read."""
    if not path.is_dir():
        raise StartupError(f"{path} is no directory; name the path of a node ([[nodes]], path)")
    try:
        lock = DirectoryLock(path)
        try:
            identity = read_identity(path)
            return _rebuild(path, identity, progress)
        finally:
            lock.release()
    except OSError as error:
        raise StartupError.because(
            error,
            f"{error.filename or path} can not be used ({reason(error)}); mend that, and run it "
            "again as the user of the server",
        ) from error
    except StoreFailed as error:
        raise StartupError(f"{path} can not be used: {error}") from error


def _rebuild(path: Path, identity: NodeIdentity, progress: Callable[[int, int], None]) -> Rebuilt:
    disk = RealDisk()
    appender = Appender(
        path / SEGMENTS,
        disk,
        node_id=identity.node_id,
        cluster_id=bytes.fromhex(identity.cluster_id),
        segment_bytes_max=NODE_SEGMENT_BYTES_DEFAULT,
    )
    index: Index | None = None
    try:
        discard_index(path / INDEX)
        index, report = recover(path, identity, disk, appender, progress=progress)
        return Rebuilt(
            identity.node_id,
            index.shard_count,
            index.usage.live_bytes,
            len(index.bad),
            report,
        )
    finally:
        appender.close()
        if index is not None:
            index.close()

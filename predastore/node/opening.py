"""The files of a store that is to run: the directory locked, its log and index recovered."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from predastore.base import fs
from predastore.base.errors import StartupError, StoreFailed
from predastore.node.appender import Appender
from predastore.node.disk import StoreDisk
from predastore.node.identity import SEGMENTS, DirectoryLock, establish
from predastore.node.index import Index
from predastore.node.judging import RecoveryReport
from predastore.node.recovery import recover

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """What a store consists of."""

    node_id: int
    lock: DirectoryLock
    disk: StoreDisk
    appender: Appender
    index: Index
    report: RecoveryReport
    store_id: str

    def close(self) -> None:
        """Lets go of all of it, where no store has taken it over."""
        self.index.close()
        self.appender.close()
        self.lock.release()


def open_files(
    path: Path, node_id: int, cluster_id: bytes, segment_bytes_max: int, disk: StoreDisk
) -> Opened:
    """Locks the directory and recovers what is in it; StartupError. For a thread."""
    try:
        fs.make_folder(path)
        lock = DirectoryLock(path)
    except OSError as error:
        raise StartupError.because(error, f"{path} can not be used: {error}") from error
    appender = Appender(
        path / SEGMENTS,
        disk,
        node_id=node_id,
        cluster_id=cluster_id,
        segment_bytes_max=segment_bytes_max,
    )
    try:
        identity = establish(path, node_id, cluster_id)
        index, report = recover(path, identity, disk, appender)
    except BaseException as error:
        appender.close()
        lock.release()
        if isinstance(error, OSError):
            raise StartupError.because(error, f"{path} can not be used: {error}") from error
        if isinstance(error, StoreFailed):
            raise StartupError(f"{path} can not be used: {error}") from error
        raise
    logger.info("node store opened", extra={"node": node_id, "recovery": vars(report)})
    return Opened(node_id, lock, disk, appender, index, report, index.store_id)

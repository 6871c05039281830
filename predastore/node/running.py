"""A node of a process: its store, opened again and again for as long as it can not be.

What keeps a store from opening (a disk that is gone, files without permission, another's directory,
no descriptors left) is the trouble of that node alone. The process goes on; who calls the node is
told why, and so are log and gossip. After NODE_OPEN_RETRY_MS it is tried again: a disk may be back,
and then the node serves without a restart.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from predastore.base.errors import PredastoreError, StoreFailed
from predastore.base.limits import NODE_OPEN_RETRY_MS, NODE_OPEN_SEGMENTS_MAX
from predastore.node.messages import NodeStatus
from predastore.node.store import ShardStore

logger = logging.getLogger(__name__)


class RunningNode:
    """`error`: why the store is not open; None while it is, and before `start`."""

    def __init__(
        self,
        path: Path,
        *,
        node_id: int,
        cluster_id: bytes,
        scrub_days: float,
        open_segments_max: int = NODE_OPEN_SEGMENTS_MAX,
        retry_ms: int = NODE_OPEN_RETRY_MS,
    ) -> None:
        self.node_id = node_id
        self.error: Exception | None = None
        self._path = path
        self._cluster_id = cluster_id
        self._scrub_days = scrub_days
        self._open_segments_max = open_segments_max
        self._retry_s = retry_ms / 1000
        self._store: ShardStore | None = None
        self._retrying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once the store is open, or was found not to open now."""
        await self._try()
        if self.error is not None:
            self._retrying = asyncio.create_task(self._retry())

    async def close(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
            with suppress(asyncio.CancelledError):
                await self._retrying
        if self._store is not None:
            await self._store.close()

    @property
    def problem(self) -> str:
        """Why it can not be opened, or empty."""
        return "" if self.error is None else f"it can not be opened: {self.error}"

    def opened(self) -> ShardStore:
        """StoreFailed while there is none."""
        if self._store is None:
            raise StoreFailed(f"node {self.node_id}: {self.problem or 'it is being opened'}")
        return self._store

    async def status(self) -> NodeStatus:
        """As the store's; StoreFailed while there is none."""
        return await self.opened().status()

    async def _retry(self) -> None:
        while self.error is not None:
            await asyncio.sleep(self._retry_s)
            await self._try()
        logger.info("node could be opened", extra={"node": self.node_id})

    async def _try(self) -> None:
        before = str(self.error)
        try:
            self._store = await ShardStore.open(
                self._path,
                node_id=self.node_id,
                cluster_id=self._cluster_id,
                scrub_days=self._scrub_days,
                open_segments_max=self._open_segments_max,
            )
            self.error = None
        except Exception as error:
            self.error = error
            if str(error) != before:  # said once, however often it is tried
                logger.error(
                    "node can not be opened; the others go on, and it is tried again",
                    extra={
                        "node": self.node_id,
                        "reason": str(error) or type(error).__name__,
                        "seconds": round(self._retry_s),
                    },
                    exc_info=None if isinstance(error, PredastoreError | OSError) else error,
                )
            error.__traceback__ = None  # it is kept, and its frames are not

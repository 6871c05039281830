"""A node's shards in the order of their keys, read in pages as they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Container

from predastore.base.limits import HEALING_CALL_TIMEOUT_MS, NODE_PAGE_SHARDS_MAX
from predastore.node.messages import ShardRow
from predastore.storage import extents
from predastore.storage.cluster import Nodes


class ShardListing:
    """Whatever a node's failure raises is one of NODE_ERRORS."""

    def __init__(self, nodes: Nodes, node: int) -> None:
        self._nodes = nodes
        self._node = node
        self._rows: deque[ShardRow] = deque()
        self._after = b""
        self._more = True
        self.clock_off_ms = 0  # the node's clock against ours, when it was asked last

    async def up_to(self, object_hash: bytes, wanted: Container[bytes]) -> list[ShardRow]:
        """The next shards, as far as those of this object hash; only those of `wanted` hashes."""
        taken: list[ShardRow] = []
        while True:
            while self._rows and self._rows[0].ref.object_hash <= object_hash:
                row = self._rows.popleft()
                if row.ref.object_hash in wanted:
                    taken.append(row)
            if self._rows or not self._more:
                return taken
            await self._fetch()

    async def pages(self) -> AsyncGenerator[list[ShardRow], None]:
        """All shards."""
        while self._more:
            await self._fetch()
            yield [*self._rows]
            self._rows.clear()

    async def _fetch(self) -> None:
        page = await self._nodes.shards(
            self._node, self._after, NODE_PAGE_SHARDS_MAX, timeout_ms=HEALING_CALL_TIMEOUT_MS
        )
        self.clock_off_ms = page.now_ms - extents.now_ms() if page.now_ms else 0
        self._rows.extend(page.rows)
        self._more = page.more and bool(page.rows)
        if page.rows:
            self._after = page.rows[-1].ref.key()

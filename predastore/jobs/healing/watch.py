"""What the process that heals knows of the nodes: which answer, whose directory is theirs now.

Each node is asked every NODE_WATCH_MS. One that has not answered for NODE_LOST_MS, or has said for
so long that its disk has failed, is lost: its shards are built again elsewhere, as far as there are
other nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from predastore.base.limits import NODE_LOST_MS, NODE_STATUS_TIMEOUT_MS
from predastore.jobs.healing.records import FAILED, GOOD, SILENT, SeenNode
from predastore.node.messages import NodeStatus
from predastore.storage.cluster import NODE_ERRORS, ShardCluster


@dataclass
class _Seen:
    """`answers`: the last question had an answer. `down_since`: loop time, if it had none, or the
    node has failed. `shards`, `live_bytes`: when it last said, if only to another process."""

    status: NodeStatus | None = None
    answers: bool = False
    down_since: float | None = None
    shards: int = 0
    live_bytes: int = 0


class Watch:
    def __init__(self, cluster: ShardCluster, *, lost_s: float = NODE_LOST_MS / 1000) -> None:
        self._cluster = cluster
        self._lost_s = lost_s
        self._seen: dict[int, _Seen] = {}

    async def look(self) -> set[int]:
        """Asks every node; those that have come back, or have another directory than before."""
        nodes = sorted(self._cluster.known)
        answers = await asyncio.gather(*(self._ask(node) for node in nodes))
        self._seen = {node: self._seen.get(node, _Seen()) for node in nodes}
        returned = set()
        for node, status in zip(nodes, answers, strict=True):
            if self._take(self._seen[node], status):
                returned.add(node)
        return returned

    def _take(self, seen: _Seen, status: NodeStatus | None) -> bool:
        seen.answers = status is not None
        was_down = seen.down_since is not None
        if status is None or status.failure:
            if not was_down:
                seen.down_since = asyncio.get_running_loop().time()
        else:
            seen.down_since = None
        if status is None:
            return False
        before, seen.status = seen.status, status
        seen.shards, seen.live_bytes = status.shard_count, status.live_bytes
        is_another = before is None or before.store_id != status.store_id
        return is_another or (was_down and seen.down_since is None)

    async def _ask(self, node: int) -> NodeStatus | None:
        try:
            return await self._cluster.nodes.status(node, timeout_ms=NODE_STATUS_TIMEOUT_MS)
        except NODE_ERRORS:
            return None

    def is_up(self, node: int) -> bool:
        """It is in the configuration, and answered when it was last asked: it can be read from."""
        seen = self._seen.get(node)
        return seen is not None and seen.answers

    def takes_shards(self, node: int) -> bool:
        """It is up and writes, and new shards may go there."""
        seen = self._seen.get(node)
        return (
            self.is_up(node)
            and node in self._cluster.active
            and seen is not None
            and seen.status is not None
            and not seen.status.failure
            and seen.status.free_bytes > 0
        )

    def is_lost(self, node: int) -> bool:
        """It is to be counted on no more: it left the configuration, or has been down for long."""
        if node not in self._cluster.known:
            return True
        seen = self._seen.get(node)
        return seen is not None and seen.down_since is not None and self._lost_in_s(seen) <= 0

    def _lost_in_s(self, seen: _Seen) -> float:
        assert seen.down_since is not None
        return self._lost_s - (asyncio.get_running_loop().time() - seen.down_since)

    def recall(self, nodes: Iterable[SeenNode]) -> None:
        """What the process that healed last knew of them, and nothing else: what this one saw may
        have been long ago."""
        now = asyncio.get_running_loop().time()
        self._seen = {
            one.node: _Seen(
                down_since=now - self._lost_s + one.lost_in_s if one.lost_in_s >= 0 else None,
                shards=one.shards,
                live_bytes=one.live_bytes,
            )
            for one in nodes
        }

    def seen(self, counted: Callable[[int], tuple[int, int]]) -> tuple[SeenNode, ...]:
        """`counted`: shards and bytes that records name on a node that is down."""
        found = []
        for node, seen in self._seen.items():
            state, lost_in_s, named = GOOD, -1, (-1, -1)
            if seen.down_since is not None:
                state = FAILED if seen.answers else SILENT
                lost_in_s = max(0, round(self._lost_in_s(seen)))
                named = counted(node)
            found.append(SeenNode(node, seen.shards, seen.live_bytes, state, lost_in_s, *named))
        return tuple(found)

    def has_seen(self, nodes: Iterable[int]) -> bool:
        """Whether each has been asked."""
        return all(node in self._seen for node in nodes)

    def store_id(self, node: int) -> str:
        """Of a node that is up; "" where it has left."""
        seen = self._seen.get(node)
        return seen.status.store_id if seen is not None and seen.status is not None else ""

    @property
    def nodes_up(self) -> list[int]:
        return [node for node in self._seen if self.is_up(node)]

    @property
    def nodes_with_bad(self) -> list[int]:
        """Those that are up and know of bad blocks."""
        return [
            node
            for node, seen in self._seen.items()
            if self.is_up(node) and seen.status is not None and seen.status.bad_shards
        ]

    @property
    def nodes_down(self) -> tuple[int, ...]:
        """Those that do not answer, or have failed."""
        return tuple(node for node, seen in self._seen.items() if seen.down_since is not None)

    def down_for(self, seconds: float) -> list[int]:
        """Those that have been down for so long."""
        before = asyncio.get_running_loop().time() - seconds
        return [
            node
            for node, seen in self._seen.items()
            if seen.down_since is not None and seen.down_since <= before
        ]

    @property
    def nodes_lost(self) -> tuple[int, ...]:
        return tuple(node for node in self._seen if self.is_lost(node))

    def shards_on(self, node: int) -> int:
        """Of a node that is up; else 0."""
        return self._seen[node].shards if self.is_up(node) else 0

    @property
    def shard_count(self) -> int:
        """Of all nodes that ever answered."""
        return sum(seen.status.shard_count for seen in self._seen.values() if seen.status)

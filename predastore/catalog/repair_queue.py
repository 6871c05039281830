"""The durable list of shards found missing or bad while reading.

Noting is immediate and never fails: each extent is written to the repair table by a background
task, once for the same set of shards. What is lost here (a full queue, a failed commit) is found
again by the next read or by scrubbing.
"""

from __future__ import annotations

import asyncio
import logging

from predastore.base import metrics
from predastore.base.errors import PredastoreError
from predastore.base.limits import REPAIR_BATCH_MAX, REPAIR_NOTED_MAX, REPAIR_WAITING_MAX
from predastore.catalog import keys
from predastore.catalog.keys import REPAIR
from predastore.catalog.rows import RepairRow
from predastore.s3db.commands import Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import ShardExtent, now_ms
from predastore.storage.formats import encode

logger = logging.getLogger(__name__)

_FOUND = metrics.counter(
    "predastore_shards_found_bad_total", "Shards that reads found missing or bad.", "node"
)
_WAITING = metrics.gauge(
    "predastore_repairs_unwritten", "Extents that wait to be written to the repair table."
).child()

_Name = tuple[bytes, str, str, ShardExtent]


class RepairQueue:
    """Writes what is noted to the state's repair table."""

    def __init__(self, state: GlobalState) -> None:
        self._state = state
        self._noted: dict[bytes, frozenset[int]] = {}  # by write id; the oldest goes first
        self._waiting: dict[_Name, frozenset[int]] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, layout: bytes, bucket: str, key: str, extent: ShardExtent, shard: int) -> None:
        """Shard `shard` of an extent of `layout` is missing from its node, or corrupt there."""
        known = self._noted.get(extent.write_id, frozenset())
        if shard in known or len(self._waiting) >= REPAIR_WAITING_MAX:
            return
        while len(self._noted) >= REPAIR_NOTED_MAX:
            del self._noted[next(iter(self._noted))]
        shards = known | {shard}
        self._noted[extent.write_id] = shards
        self._waiting[layout, bucket, key, extent] = shards
        _WAITING.value = len(self._waiting)
        _FOUND.child(str(extent.nodes[shard])).value += 1
        logger.warning(
            "shard found missing or bad",
            extra={"object": f"{bucket}/{key}", "node": extent.nodes[shard], "shard": shard},
        )
        if self._task is None:
            self._task = asyncio.ensure_future(self._write())

    async def close(self) -> None:
        """Waits for what is being written."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _write(self) -> None:
        while self._waiting:
            taken = [*self._waiting.items()][:REPAIR_BATCH_MAX]
            for name, _ in taken:
                del self._waiting[name]
            _WAITING.value = len(self._waiting)
            ops = [_note(*name, shards) for name, shards in taken]
            try:
                await self._state.commit(batch(*ops))
            except PredastoreError as error:
                logger.warning("the repair table was not written", extra={"error": str(error)})
                for (_, _, _, extent), _ in taken:
                    self._noted.pop(extent.write_id, None)
        self._task = None


def _note(layout: bytes, bucket: str, key: str, extent: ShardExtent, shards: frozenset[int]) -> Put:
    row = RepairRow(bucket, key, extent, tuple(sorted(shards)), now_ms())
    return Put(REPAIR, keys.repair(layout, extent.write_id), encode(row))

"""Letting go of deleted objects: the rows of `due`, the nodes' shards, all in one process, RS(3,2).

    garbage.rate    layouts let go of a second, rows and shards; yardstick: the same shards deleted
                    on their nodes, and nothing else
    garbage.memory  resident memory when half was left, and when nothing was, in MiB; yardstick: the
                    same before

GARBAGE_LAYOUTS=n for more than 20,000 of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, medians_row
from benchmarks.served import scratch
from predastore._fast.crc import crc32c
from predastore.base.limits import MIB
from predastore.catalog import keys
from predastore.catalog.keys import DUE, OBJECTS
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.readers import Readers
from predastore.catalog.rows import GarbageRow, PlacementRow, Waste
from predastore.coding.erasure import Code
from predastore.coding.placement import RingNode
from predastore.jobs.garbage import Garbage
from predastore.node import server
from predastore.node.client import NodeClient
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.commands import Op, Put, batch
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore, ready_ring
from predastore.storage.extents import ShardExtent, new_id, now_ms
from predastore.storage.formats import encode

LAYOUTS: Final = int(os.environ.get("GARBAGE_LAYOUTS", "20000"))
ROUNDS: Final = 4
CODE: Final = Code(3, 2)
NODES: Final = (1, 2, 3, 4, 5)
BLOCK: Final = os.urandom(512)
PUTS_AT_ONCE: Final = 256
PUTS_PER_COMMIT: Final = 2_000
AT_ONCE: Final = 1_000  # extents let go of together, by the yardstick


def rows() -> list[Row]:
    logging.disable(logging.WARNING)
    with scratch() as folder:
        return asyncio.run(_measured(folder))


async def _measured(folder: Path) -> list[Row]:
    rates: list[float] = []
    bare: list[float] = []
    resident: list[float] = []
    before: list[float] = []
    async with _site(folder) as at:
        count = LAYOUTS // ROUNDS
        for _ in range(ROUNDS):
            extents = await at.put_many(count)
            began = time.perf_counter()
            await at.delete(extents)
            bare.append(count / (time.perf_counter() - began))
            await at.owe(await at.put_many(count))
            before.append(_resident_mib())
            began = time.perf_counter()
            resident.append(await at.work_off())
            rates.append(count / (time.perf_counter() - began))
    return [
        medians_row("garbage.rate", "/s", rates, "deleted on nodes alone", bare),
        medians_row("garbage.memory", "MiB", resident, "before", before),
    ]


def _resident_mib() -> float:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


class _Site:
    def __init__(self, state: LocalState, endpoint: Endpoint) -> None:
        self._state = state
        ring = ready_ring([RingNode(node, f"host{node}") for node in NODES], CODE)
        self.store = DistributedStore(NodeClient(endpoint), ring, CODE, 64 * 1024, grace_s=1)
        self.stores: dict[int, ShardStore] = {}

    async def put_many(self, count: int) -> list[ShardExtent]:
        """Shards on their nodes, which no row names."""
        extents = [
            ShardExtent(os.urandom(32), new_id(), CODE.k, CODE.m, 64 * 1024, 1500, NODES)
            for _ in range(count)
        ]
        crc, waiting = crc32c(BLOCK), iter(extents)

        async def work() -> None:
            for extent in waiting:
                refs = [ShardRef(extent.shard_hash, extent.write_id, n) for n in range(len(NODES))]
                puts = (self.stores[ref.index + 1].put(ref, BLOCK, crc) for ref in refs)
                await asyncio.gather(*puts)

        await asyncio.gather(*(work() for _ in range(PUTS_AT_ONCE)))
        return extents

    async def delete(self, extents: Sequence[ShardExtent]) -> None:
        for start in range(0, len(extents), AT_ONCE):
            if not all(await self.store.release(extents[start : start + AT_ONCE])):
                raise RuntimeError("a node did not let go")

    async def owe(self, extents: Sequence[ShardExtent]) -> None:
        """Pages that were let go of, and rows of `due`, as procedures make them."""
        due_ms = now_ms() - 1000
        ops: list[Op] = []
        for number, extent in enumerate(extents):
            page = PlacementRow("bucket", f"photos/2026/{number:08d}.jpg", (extent,), md5=bytes(16))
            row = GarbageRow(Waste.LAYOUT, extent.shard_hash, 1)
            ops.append(Put(OBJECTS, keys.deleted(row.name), encode(page)))
            ops.append(Put(DUE, keys.due(due_ms, row.waste, row.name), encode(row)))
        for start in range(0, len(ops), PUTS_PER_COMMIT):
            await self._state.commit(batch(*ops[start : start + PUTS_PER_COMMIT]))

    async def work_off(self) -> float:
        """Until no row is left; the most memory that was resident meanwhile, in MiB."""
        garbage = Garbage(self._state, self.store, Readers())
        garbage.start()
        try:
            most = 0.0
            while await self._state.list_keys(DUE, b"", 1):
                most = max(most, _resident_mib())
                await asyncio.sleep(0.02)
        finally:
            await garbage.close()
        if await self._state.list_keys(OBJECTS, keys.DELETED, 1):
            raise RuntimeError("pages are left")
        for store in self.stores.values():
            if (await store.shards(b"", 1)).rows:
                raise RuntimeError("shards are left")
        return most


@asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[_Site]:
    async with AsyncExitStack() as stack:
        state = LocalState(folder / "state", PROCEDURES)
        stack.push_async_callback(state.close)
        endpoint = Endpoint(cluster_key=b"k" * 32, certificate=self_signed(), name="bench")
        stack.push_async_callback(endpoint.close)
        at = _Site(state, endpoint)
        stack.push_async_callback(at.store.close)
        for node in NODES:
            path = folder / f"node-{node}"
            store = await ShardStore.open(path, node_id=node, cluster_id=b"c" * 16)
            stack.push_async_callback(store.close)
            at.stores[node] = store
            endpoint.serve(f"node/{node}", server.service(store))
        yield at

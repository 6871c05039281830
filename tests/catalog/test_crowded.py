"""Small bodies lie in the metadata of real members, and on nodes once a member is crowded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.base.limits import CROWDED_FREE_BYTES, KIB, RAFT_ROOM_CHECK_MS
from predastore.catalog import keys
from predastore.catalog.catalog import Catalog
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.readers import Readers
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.jobs.garbage import Garbage
from predastore.s3db.global_state import DistributedState
from predastore.s3db.raft import room
from predastore.storage.distributed import DistributedStore
from support.backends import FakeNodes, Harness
from support.databases import database

IDS = range(1, 7)


async def scenario(at: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = {f"key{number}": bytes([number]) * 8 * KIB for number in range(2)}
    await at.put("key0", bodies["key0"])
    assert at.nodes.shard_count == 0
    assert len(await at.table(keys.INLINE)) == 1

    monkeypatch.setattr(room, "free_bytes_of", lambda _: CROWDED_FREE_BYTES - 1)
    async with asyncio.timeout(20):
        while at.state.takes_inline:
            await at.state.set("t", b"k", b"v")
    await at.put("key1", bodies["key1"])
    assert at.nodes.shard_count == 5
    assert len(await at.table(keys.INLINE)) == 1  # what is there stays
    for key, body in bodies.items():
        assert await at.get(key) == body

    monkeypatch.setattr(room, "free_bytes_of", lambda _: CROWDED_FREE_BYTES)
    async with asyncio.timeout(20):
        while not at.state.takes_inline:
            await at.state.set("t", b"k", b"v")
    await at.put("key1", bodies["key1"])
    assert len(await at.table(keys.INLINE)) == 2


def test_small_bodies_go_to_nodes_once_a_member_is_crowded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_bytes_of", lambda _: CROWDED_FREE_BYTES)
    monkeypatch.setattr("predastore.s3db.crowding.CROWDED_LOOK_MS", RAFT_ROOM_CHECK_MS)

    async def main() -> None:
        async with database(tmp_path, 1, PROCEDURES) as base:
            state, nodes, readers = DistributedState(base.client()), FakeNodes(IDS), Readers()
            ring = Ring([RingNode(node, f"host{node}") for node in IDS])
            store = DistributedStore(nodes, ring, Code(3, 2), 4 * KIB, grace_s=60)
            garbage = Garbage(state, store, readers)
            catalog = Catalog(state, store, garbage, readers, inline_max=8 * KIB)
            await catalog.create_bucket("bucket", "000000000001", "us-east-1")
            harness = Harness(catalog, garbage, state, store, tmp_path, nodes, 5)
            try:
                await scenario(harness, monkeypatch)
            finally:
                for part in (catalog, garbage, store, state):
                    await part.close()

    asyncio.run(main())

"""Objects over real shard nodes, with their stores on disk, behind one rpc endpoint."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from predastore.base.errors import ObjectUnreadable
from predastore.base.limits import KIB, S3_PART_BYTES_MIN
from predastore.catalog.catalog import Catalog
from predastore.catalog.keys import REPAIR
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.readers import Readers
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.jobs.garbage import Garbage
from predastore.node import server
from predastore.node.client import NodeClient
from predastore.node.store import ShardStore
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.global_state import LocalState
from predastore.storage.distributed import DistributedStore
from predastore.storage.extents import ShardExtent
from support.backends import OWNER, BytesSource, Harness, run, some_bytes

NODES = (1, 2, 3, 4, 5)


@asynccontextmanager
async def cluster(base: Path, running: Sequence[int] = NODES) -> AsyncIterator[Harness]:
    """Five nodes RS(3, 2), of which `running` are there."""
    async with AsyncExitStack() as stack:
        endpoint = Endpoint(cluster_key=b"k" * 32, certificate=self_signed(), name="test")
        stack.push_async_callback(endpoint.close)
        for node in running:
            store = await ShardStore.open(base / f"node-{node}", node_id=node, cluster_id=b"c" * 16)
            stack.push_async_callback(store.close)
            endpoint.serve(f"node/{node}", server.service(store))
        state = LocalState(base / "state", PROCEDURES)
        stack.push_async_callback(state.close)
        ring = Ring([RingNode(node, f"host{node}") for node in NODES])
        shards = DistributedStore(
            NodeClient(endpoint), ring, Code(3, 2), block_bytes=64 * KIB, grace_s=0
        )
        stack.push_async_callback(shards.close)
        readers = Readers()
        garbage = Garbage(state, shards, readers)
        garbage.start()
        stack.push_async_callback(garbage.close)
        catalog = Catalog(state, shards, garbage, readers)
        stack.push_async_callback(catalog.close)
        await catalog.create_bucket("bucket", "me", "eu")
        yield Harness(catalog, garbage, state, shards, base)


SIZES = [0, 1, 5000, 64 * KIB, 3 * 64 * KIB, 3 * 64 * KIB + 1, 1_000_003]


def test_every_object_reads_with_the_directories_of_any_two_nodes_removed(tmp_path: Path) -> None:
    async def fill() -> None:
        async with cluster(tmp_path) as at:
            for size in SIZES:
                await at.put(f"k{size}", some_bytes(size, size))

    async def check() -> None:
        async with cluster(tmp_path) as at:
            damaged: set[bytes] = set()
            for size in SIZES:
                data, (low, high) = some_bytes(size, size), (size // 3, size // 2)
                assert await at.get(f"k{size}") == data
                assert await at.get(f"k{size}", low, high) == data[low:high]
                version = await at.found(f"k{size}")
                if version.placement is None:
                    continue  # it has no bytes
                (extent,) = version.placement.extents
                assert isinstance(extent, ShardExtent)
                if not {2, 5}.isdisjoint(extent.nodes[: min(3, size)]):
                    damaged.add(extent.write_id)
            await at.catalog._repairs.close()
            noted = {key[32:] for key in await at.table(REPAIR)}
            assert noted == damaged, "what reading found lost is noted"

    run(fill())
    for node in (2, 5):
        shutil.rmtree(tmp_path / f"node-{node}")
    run(check())


def test_with_three_nodes_gone_reading_fails_and_with_two_writing_does(tmp_path: Path) -> None:
    async def fill() -> None:
        async with cluster(tmp_path) as at:
            await at.put("k", some_bytes(1_000_003))

    async def check() -> None:
        async with cluster(tmp_path, running=(1, 2)) as at:
            version = await at.found("k")
            with pytest.raises(ObjectUnreadable):
                await at.catalog.open_read(version, 0, version.size)
        async with cluster(tmp_path, running=(1, 2, 3, 4)) as at:
            await at.put("degraded", some_bytes(1_000_003, 2))
            placement = (await at.found("degraded")).placement
            assert placement is not None
            repair = (await at.table(REPAIR)).keys()
            assert {key[32:] for key in repair} == {each.write_id for each in placement.extents}
        async with cluster(tmp_path, running=(1, 2, 3, 5)) as at:
            assert await at.get("degraded") == some_bytes(1_000_003, 2)

    run(fill())
    run(check())


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async def fill() -> None:
        async with cluster(tmp_path) as at:
            row = await at.catalog.create_upload("bucket", "parts", OWNER)
            upload = await at.catalog.upload("bucket", "parts", row.upload_id)
            sizes = [S3_PART_BYTES_MIN, 12_345]
            parts = [
                await at.catalog.put_part(upload, n, BytesSource(some_bytes(size, n)), size)
                for n, size in enumerate(sizes, 1)
            ]
            await at.catalog.complete(
                upload, [CompletedPart(part.number, part.etag) for part in parts]
            )
            bodies = [some_bytes(n * 1000, n) for n in range(30)]
            await asyncio.gather(*(at.put(f"k{n}", body) for n, body in enumerate(bodies)))

    async def check() -> None:
        async with cluster(tmp_path) as at:
            expected = some_bytes(S3_PART_BYTES_MIN, 1) + some_bytes(12_345, 2)
            assert await at.get("parts") == expected
            for n in range(30):
                assert await at.get(f"k{n}") == some_bytes(n * 1000, n)
            for key in await at.keys():
                await at.catalog.delete("bucket", key)
            await at.no_garbage()
            assert await at.table("objects") == {}

    run(fill())
    run(check())

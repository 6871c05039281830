"""After a change of the nodes, every object ends where the ring wants it, and nobody notices."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import ShardNotFound
from predastore.catalog.keys import HEALING
from predastore.coding.placement import Ring
from predastore.jobs.healing import moved
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.records import MOVED_PREFIX, MovedRecord, moved_key
from predastore.node.shard import ShardRef
from predastore.s3db.commands import Delete, Page, Put, batch
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import encode
from support.backends import run, some_bytes
from support.healing import FAST, Cluster, cluster, healing, until


@asynccontextmanager
async def load(at: Cluster) -> AsyncIterator[list[str]]:
    """Reads and writes all the time; what failed."""
    failed: list[str] = []
    stopping = False

    async def read(seed: int) -> None:
        choose = random.Random(seed)
        while not stopping:
            key = choose.choice([*at.bodies])
            body = at.bodies[key]
            try:
                if await at.at.get(key) != body:
                    failed.append(f"{key}: other bytes")
            except Exception as error:
                failed.append(f"GET {key}: {error!r}")

    async def write(seed: int) -> None:
        number = 0
        while not stopping:
            number += 1
            key, body = f"w{seed}-{number % 20}", some_bytes(3000 * (number % 7), number)
            try:
                await at.at.put(key, body)
            except Exception as error:
                failed.append(f"PUT {key}: {error!r}")

    tasks = [asyncio.ensure_future(work) for work in (read(1), read(2), write(1))]
    try:
        yield failed
    finally:
        stopping = True
        await asyncio.gather(*tasks)


def shards_to_move(extents: list[ShardExtent], ring: Ring) -> int:
    """At least: those whose nodes are none of the ring's."""
    return sum(len(set(extent.nodes) - set(ring.place(extent.shard_hash, 5))) for extent in extents)


async def settled(at: Cluster) -> bool:
    # In this order: the last move leaves an entry for the old copy.
    return (
        await at.lies_where_the_ring_wants()
        and not await at.notes()
        and not await at.at.table(HEALING, MOVED_PREFIX)
    )


def test_a_reader_finds_shards_that_were_all_moved_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at:
            body = some_bytes(400_000, 3)
            await at.put("k", body)
            await at.put_part("parts")
            before, parts = await at.at.found("k"), await at.at.found("parts")
            under_way = await at.catalog.open_read(before, 0, before.size)
            first = bytes(await anext(under_way))
            async with healing(at) as healer:
                await until(at.is_checked)
                for node in (6, 7, 8, 9, 10):
                    await at.run_node(node)
                at.set_nodes((6, 7, 8, 9, 10), draining=(1, 2, 3, 4, 5))
                healer.config_changed()
                await until(lambda: settled(at))
            for node in (1, 2, 3, 4, 5):
                assert (await at.stores[node].status()).shard_count == 0
            rest = b"".join([bytes(buffer) async for buffer in under_way])
            assert first + rest == body
            assert await at.at.read(before, 5, 300_000) == body[5:300_000]
            assert await at.at.read(parts, 0, parts.size) == at.bodies["parts"]
            assert await at.faults() == []

    run(main())


def test_another_process_goes_on_where_one_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.jobs.healing.holders.HEALING_PAGE_RECORDS", 8)

    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put_many(40)
            for node in (6, 7):
                await at.run_node(node)
            at.set_nodes((1, 2, 3, 4, 5, 6, 7))
            least = shards_to_move(await at.extents(), at.store.cluster.ring)
            async with healing(at) as first:

                async def has_begun() -> bool:
                    return first._context.counts.moved_shards > 0

                await until(has_begun)
            async with healing(at, name="second") as second:
                await until(lambda: settled(at))
                moved = first._context.counts.moved_shards + second._context.counts.moved_shards
            assert second._context.counts.moved_shards < least, "it did not begin anew"
            assert moved <= least
            assert await at.faults() == []

    run(main())


def test_from_5_nodes_to_8_and_back_to_6_under_load(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at) as healer:
            await at.put_many(80)
            await at.put_part("parts")
            for nodes, draining in (
                ((1, 2, 3, 4, 5, 6, 7, 8), ()),
                ((1, 2, 3, 6, 7, 8), (4, 5)),
            ):
                for node in nodes:
                    if node not in at.stores:
                        await at.run_node(node)
                before = healer._context.counts.moved_shards
                at.set_nodes(nodes, draining)
                least = shards_to_move(await at.extents(), at.store.cluster.ring)
                assert least > 100
                async with load(at) as failed:
                    healer.config_changed()
                    await until(lambda: settled(at))
                assert failed == []
                shards = healer._context.counts.moved_shards - before
                assert shards <= 1.2 * least
            for node in (4, 5):
                assert (await at.stores[node].status()).shard_count == 0, "it is drained"
            at.set_nodes((1, 2, 3, 6, 7, 8))
            for node in (4, 5):
                await at.stop_node(node)
            assert await at.faults() == []

    run(main())


def test_what_still_lies_where_it_is_wanted_again_is_taken_back(tmp_path: Path) -> None:
    """A ring that changes to and fro within the readers' grace time settles each time."""

    async def main() -> None:
        async with cluster(tmp_path, (1, 2, 3, 4, 5, 6)) as at:
            await at.put_many(40)
            await at.put_part("parts")
            async with healing(at) as healer:
                healer._context.grace_s = 3600
                await until(at.is_checked)
                for draining in ((6,), (), (5,), (6,), ()):
                    nodes = [node for node in range(1, 7) if node not in draining]
                    at.set_nodes(nodes, draining)
                    healer.config_changed()
                    await until(at.lies_where_the_ring_wants)
                    for key, body in at.bodies.items():
                        assert await at.at.get(key) == body
                kept = await at.at.table(HEALING, MOVED_PREFIX)
                assert kept, "for those who read what was moved"
                healer._context.grace_s = 0
                await until(lambda: settled(at))
            assert await at.faults() == []

    run(main())


def test_what_was_taken_back_since_it_was_listed_is_not_let_go_of(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put("k", some_bytes(100_000))
            (extent,) = await at.extents()
            node, ref = extent.nodes[0], ShardRef(extent.shard_hash, extent.write_id, 0)
            key = moved_key(extent.shard_hash, extent.write_id, 0, node)
            entry = encode(MovedRecord(extent.shard_hash, extent.write_id, 0, node, 1))
            healer = Healing(at.state, at.store, "one", pace=FAST)
            context = healer._context
            assert await context.lease.beat()
            listed = at.state.list

            async def list_and_take_back(*where: Any) -> Page:
                page = await listed(*where)
                await at.state.commit(batch(Delete(HEALING, key)))
                return page

            await at.state.commit(batch(Put(HEALING, key, entry)))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(at.state, "list", list_and_take_back)
                assert await moved.release(context) == 1
            await at.stores[node].stat(ref)
            await at.state.commit(batch(Put(HEALING, key, entry)))
            with pytest.MonkeyPatch.context() as patch:

                async def stalls(_: int, __: Sequence[ShardRef]) -> bool:
                    return False

                assert await moved.can_be_taken_back(context, extent, 0, node, entry)
                patch.setattr(at.store.cluster, "delete", stalls)
                assert await moved.release(context) == 1
            # It may be done late: from here on the node's copy is not to be counted on.
            ((_, marked),) = (await moved.waiting(context, extent, {0: node})).values()
            assert not await moved.can_be_taken_back(context, extent, 0, node, marked)
            assert await moved.release(context) == 0
            with pytest.raises(ShardNotFound):
                await at.stores[node].stat(ref)
            await healer.close()

    run(main())

"""Writes that had begun when nodes were taken out: what they put there is not lost with them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from predastore.catalog.catalog import Catalog
from predastore.coding.erasure import Code
from predastore.coding.placement import RingNode
from predastore.node.client import NodeClient
from predastore.storage.distributed import DistributedStore, ready_ring
from support.backends import OWNER, BytesSource, StalledSource, run, some_bytes
from support.healing import BLOCK, FAST, Cluster, cluster, healing, until

ALL, STAY, GO = (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (6, 7)
RING_OF_ALL = ready_ring([RingNode(node, f"host{node}") for node in ALL], Code(3, 2))


async def put_where_it_was(at: Cluster) -> None:
    """Objects by a gateway that has not heard of the change; some lie on nodes that go."""
    store = DistributedStore(
        NodeClient(at.endpoint), RING_OF_ALL, Code(3, 2), block_bytes=BLOCK, grace_s=0
    )
    catalog = Catalog(at.state, store, at.garbage, at.readers)
    for number in range(8):
        key, body = f"k{number}", some_bytes(3 * BLOCK * number + 1, number)
        await catalog.put("bucket", key, BytesSource(body), len(body), OWNER)
        at.bodies[key] = body
    await catalog.close()
    await store.close()
    assert await lies_on(at, GO)


async def lies_on(at: Cluster, nodes: tuple[int, ...]) -> bool:
    return any(set(extent.nodes) & set(nodes) for extent in await at.extents())


async def is_whole(at: Cluster) -> bool:
    return await at.lies_where_the_ring_wants() and not await at.notes()


def test_a_write_gives_up_what_lies_on_nodes_that_have_left_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at, healing(at) as healer:
            await until(at.is_checked)
            body = some_bytes(20 * BLOCK)
            sources = {f"k{n}": StalledSource(body) for n in range(4)}
            puts = [
                asyncio.ensure_future(at.catalog.put("bucket", key, source, len(body), OWNER))
                for key, source in sources.items()
            ]
            for source in sources.values():
                await source.stalled.wait()
            pending = [(await at.stores[node].status()).pending_shards for node in GO]
            assert sum(pending) > 0, "such a node is not to leave yet"
            at.set_nodes(STAY)
            healer.config_changed()
            for key, source in sources.items():
                source.proceed.set()
                at.bodies[key] = body
            await asyncio.gather(*puts)
            assert not await lies_on(at, GO)
            await until(lambda: is_whole(at))
            for node in GO:
                await at.stop_node(node)
            assert await at.faults() == []

    run(main())


def test_records_that_name_nodes_which_left_are_repaired_by_the_next_pass(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at, healing(at) as healer:
            await until(at.is_checked)
            at.set_nodes(STAY)
            healer.config_changed()
            await until(lambda: _settled(healer))
            await put_where_it_was(at)
            for node in GO:
                await at.stop_node(node)
            healer.want_full_pass()
            await until(lambda: is_whole(at))
            assert await at.faults() == []

    run(main())


def test_shards_that_come_late_to_a_draining_node_are_moved_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at, healing(at) as healer:
            await until(at.is_checked)
            at.set_nodes(STAY, draining=GO)
            healer.config_changed()
            await until(lambda: _settled(healer))
            await put_where_it_was(at)
            await until(lambda: is_whole(at))
            await until(lambda: _is_empty(at))
            assert await at.faults() == []

    run(main())


def test_a_node_that_is_down_for_good_is_given_up_once_nothing_names_it(tmp_path: Path) -> None:
    async def main() -> None:
        pace = replace(FAST, lost_s=0.2)
        async with cluster(tmp_path, ALL) as at, healing(at, pace) as healer:
            await until(at.is_checked)
            await at.put_many(20)
            await at.stop_node(7)

            async def is_lost() -> bool:
                return 7 in healer._context.watch.nodes_lost

            await until(is_lost)
            assert not healer.given_up, "it is to come back"
            at.set_nodes((1, 2, 3, 4, 5, 6), draining=(7,))
            assert not healer.given_up, "records name it"
            healer.config_changed()

            async def is_given_up() -> bool:
                return healer.given_up == {7}

            await until(is_given_up)
            assert not await lies_on(at, (7,))

    run(main())


async def _settled(healer) -> bool:
    return healer._rebalance.is_settled


async def _is_empty(at: Cluster) -> bool:
    return all([(await at.stores[node].status()).shard_count == 0 for node in GO])

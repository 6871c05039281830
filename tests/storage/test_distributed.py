"""Objects on shard nodes that are down, slow, full, empty or corrupt."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import BodyMismatch, NodeFull, NotEnoughNodes, ObjectUnreadable
from predastore.catalog import keys
from predastore.catalog.keys import DELETED, REPAIR
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import RepairRow
from predastore.catalog.values import ObjectVersion
from predastore.storage import extents, stripe_writer
from predastore.storage.extents import ID_BYTES, MISSING, ShardExtent
from predastore.storage.formats import decode
from support.backends import (
    KIB,
    OWNER,
    BytesSource,
    FakeNodes,
    Harness,
    StalledSource,
    distributed,
    run,
    some_bytes,
)
from support.waiting import eventually_async

BLOCK = 4 * KIB
STRIPE = 3 * BLOCK
SMALL, LARGE = 1000, 3 * STRIPE + 77


class Ids:
    """Write ids that can be told beforehand."""

    def __init__(self) -> None:
        self.last = 0

    def new(self) -> bytes:
        self.last += 1
        return self.last.to_bytes(ID_BYTES, "big")


IDS = Ids()


@pytest.fixture(autouse=True, scope="module")
def told_beforehand() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, "new_id", IDS.new)
        yield


def chosen(at: Harness, number: int) -> list[int]:
    """The nodes that the ring names for what is written for "k" under an id."""
    layout = keys.layout("bucket", "k", number.to_bytes(ID_BYTES, "big"))
    return list(at.store._cluster.ring.place(layout, 5))


def chosen_next(at: Harness) -> list[int]:
    return chosen(at, IDS.last + 1)


def chosen_last(at: Harness) -> list[int]:
    return chosen(at, IDS.last)


async def put(at: Harness, key: str, data: bytes) -> ObjectVersion:
    await at.put(key, data)
    return await at.found(key)


def extent_of(version: ObjectVersion) -> ShardExtent:
    assert version.placement is not None
    (extent,) = version.placement.extents
    assert isinstance(extent, ShardExtent)
    return extent


def nodes_of(at: Harness) -> FakeNodes:
    assert at.nodes is not None
    return at.nodes


async def repairs(at: Harness) -> dict[bytes, RepairRow]:
    """Write id -> what the repair table says."""
    table = await at.table(REPAIR)
    return {key[32:]: decode(RepairRow, value) for key, value in table.items()}


@settings(max_examples=40, deadline=None)
@given(
    code=st.sampled_from([(1, 0), (1, 1), (2, 1), (3, 2), (4, 3)]),
    stripes=st.integers(0, 3),
    blocks=st.integers(0, 4),
    around=st.integers(-2, 2),
    lost=st.lists(st.integers(0, 6), max_size=3, unique=True),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_size_and_range_reads_with_any_m_nodes_lost(
    code: tuple[int, int],
    stripes: int,
    blocks: int,
    around: int,
    lost: list[int],
    cut: tuple[float, float],
) -> None:
    k, m = code
    size = max(0, (stripes * k + blocks) * 64 + around)

    async def main(base: Path) -> None:
        async with distributed(base, code, k + m, block_bytes=64) as at:
            data = some_bytes(size)
            record = await put(at, "k", data)
            for shard in [shard % (k + m) for shard in lost[:m]] if size else []:
                nodes_of(at).lose(extent_of(record).nodes[shard])
            low, high = sorted(round(part * size) for part in cut)
            assert await at.get("k") == data
            assert await at.get("k", low, high) == data[low:high]

    with tempfile.TemporaryDirectory() as base:
        run(main(Path(base)))


def test_shards_lie_on_the_nodes_that_the_ring_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            record = await put(at, "k", some_bytes(LARGE))
            extent = extent_of(record)
            assert list(extent.nodes) == chosen_last(at)
            assert nodes_of(at).shard_count == 5
            small = extent_of(await put(at, "s", some_bytes(SMALL)))
            assert nodes_of(at).calls("put") == 5, "one call a node for an object of one stripe"
            assert len(set(small.nodes)) == 5

    run(main())


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("fault", ["down", "full"])
def test_a_failed_node_is_replaced_by_a_spare(tmp_path: Path, fault: str, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            nodes, data = nodes_of(at), some_bytes(size)
            named = chosen_next(at)
            setattr(nodes[named[1]], fault, True)
            record = await put(at, "k", data)
            extent = extent_of(record)
            assert MISSING not in extent.nodes
            assert named[1] not in extent.nodes
            assert len(set(extent.nodes)) == 5
            assert await repairs(at) == {}
            assert await at.get("k") == data

    run(main())


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_hanging_node_is_given_up_and_not_waited_for_again(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            nodes = nodes_of(at)
            nodes.timeout_s = 0.05
            named = chosen_next(at)
            nodes[named[0]].hangs = True
            await at.put("k", some_bytes(size))
            calls = len(nodes[named[0]].calls)
            record = await put(at, "k", some_bytes(size, 2))
            assert named[0] not in extent_of(record).nodes
            assert len(nodes[named[0]].calls) <= calls + 2, "only its cleaning up"
            assert await at.get("k") == some_bytes(size, 2)

    run(main())


@pytest.mark.parametrize("fault", ["down", "hangs"])
def test_no_request_asks_a_dead_node_until_it_has_answered_again(
    tmp_path: Path, fault: str
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            nodes = nodes_of(at)
            nodes.timeout_s = 0.05
            record = await put(at, "k", some_bytes(LARGE))
            dead = extent_of(record).nodes[0]
            setattr(nodes[dead], fault, True)
            await at.get("k")
            await at.put("k2", some_bytes(LARGE))
            cluster = at.store.cluster
            assert not cluster.health.is_well(dead)
            nodes[dead].calls.clear()
            for number in range(10):
                assert await at.get("k") == some_bytes(LARGE)
                await at.put(f"n{number}", some_bytes(SMALL))
            await eventually_async(lambda: nodes[dead].calls.count("status") >= 2)
            assert {*nodes[dead].calls} <= {"status", "abort", "delete"}, "cleaning up, no request"
            setattr(nodes[dead], fault, False)
            await eventually_async(lambda: cluster.health.is_well(dead))
            await at.get("k")
            assert "read" in nodes[dead].calls

    run(main())


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_without_a_spare_k_plus_1_shards_suffice_and_the_rest_is_queued(
    tmp_path: Path, size: int
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            nodes, data = nodes_of(at), some_bytes(size)
            nodes[2].down = True
            record = await put(at, "k", data)
            extent = extent_of(record)
            (missing,) = [shard for shard, node in enumerate(extent.nodes) if node == MISSING]
            repair = (await repairs(at))[extent_of(record).write_id]
            assert (repair.bucket, repair.key, repair.shards) == ("bucket", "k", (missing,))
            assert repair.extent == extent
            assert await at.get("k") == data
            nodes[2].down = False
            nodes[1].down = True
            assert await at.get("k") == data, "any k of the k + 1 will do"

    run(main())


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("node_count", [5, 6])
def test_what_a_late_delete_would_take_from_healing_is_not_deleted(
    tmp_path: Path, size: int, node_count: int
) -> None:
    """Healing may build a shard that has no node on the very node that was given up."""

    async def main() -> None:
        async with distributed(tmp_path, node_count=node_count) as at:
            nodes = nodes_of(at)
            named = chosen_next(at)
            nodes[named[1]].full = True
            extent = extent_of(await put(at, "k", some_bytes(size)))
            calls = nodes[named[1]].calls
            if MISSING in extent.nodes:
                await eventually_async(lambda: "abort" in calls)
                assert "delete" not in calls
            else:
                await eventually_async(lambda: "delete" in calls)
                assert "abort" not in calls, "two calls could have another's between them"

    run(main())


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_below_the_quorum_nothing_is_stored(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            nodes = nodes_of(at)
            nodes[2].down = nodes[4].down = True
            with pytest.raises(NotEnoughNodes):
                await at.put("k", some_bytes(size))
            assert await at.find("k") is None
            await eventually_async(lambda: nodes.shard_count == 0)
            nodes[2].down = nodes[4].down = False
            nodes[1].full = nodes[3].full = True
            with pytest.raises(NodeFull):
                await at.put("k", some_bytes(size))
            await eventually_async(lambda: nodes.shard_count == 0)

    run(main())


def test_with_no_parity_every_node_is_needed(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, (3, 0), node_count=3) as at:
            await at.put("k", some_bytes(LARGE))
            nodes_of(at)[1].down = True
            with pytest.raises(NotEnoughNodes):
                await at.put("k", some_bytes(LARGE, 2))
            nodes_of(at)[1].down = False
            assert await at.get("k") == some_bytes(LARGE)

    run(main())


def test_a_node_that_dies_in_the_middle_costs_one_shard(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            nodes = nodes_of(at)
            source = StalledSource(some_bytes(2 * STRIPE))
            data = some_bytes(2 * STRIPE)
            task = asyncio.ensure_future(at.catalog.put("bucket", "k", source, len(data), OWNER))
            await source.stalled.wait()
            await eventually_async(lambda: nodes.calls("append") >= 5)
            named = chosen_last(at)
            nodes[named[3]].down = True
            source.proceed.set()
            await task
            record = await at.found("k")
            assert extent_of(record).nodes[3] == MISSING
            assert (await repairs(at))[extent_of(record).write_id].shards == (3,)
            assert await at.get("k") == data

    run(main())


@pytest.mark.parametrize("slack", [0, 1, STRIPE])
@pytest.mark.parametrize("size", [2 * STRIPE, LARGE])
def test_a_shard_is_made_again_where_two_nodes_die_in_the_middle(
    tmp_path: Path, size: int, slack: int
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            record, data = await _put_through_two_deaths(at, size, slack)
            nodes, extent = nodes_of(at), extent_of(record)
            named = chosen_last(at)
            (spare,) = set(nodes.nodes).difference(named)
            assert sorted(extent.nodes) == sorted([MISSING, named[0], named[2], named[4], spare])
            assert (await repairs(at))[extent_of(record).write_id].shards == (
                extent.nodes.index(MISSING),
            )
            nodes[named[0]].down = True
            assert await at.get("k") == data, "the new shard is as good as any"

    run(main())


@pytest.mark.parametrize("fault", ["spare", "stripes"])
def test_what_can_not_be_made_again_fails_and_leaves_nothing(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            nodes = nodes_of(at)
            named = chosen_next(at)
            (spare,) = set(nodes.nodes).difference(named)
            nodes[spare].full = fault == "spare"
            if fault == "stripes":
                monkeypatch.setattr(stripe_writer, "BACKEND_RESTORED_STRIPES_MAX", 1)
            with pytest.raises(NodeFull if fault == "spare" else NotEnoughNodes):
                await _put_through_two_deaths(at, LARGE)
            assert await at.find("k") is None
            well = [nodes[node] for node in (named[0], named[2], named[4], spare)]
            await eventually_async(lambda: not any(node.shards or node.pending for node in well))

    run(main())


def test_a_client_that_goes_while_a_shard_is_made_again_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=6) as at:
            nodes = nodes_of(at)
            named = chosen_next(at)
            (spare,) = set(nodes.nodes).difference(named)
            append, begun = nodes.append, asyncio.Event()

            async def watched(node: int, *arguments: Any, **more: Any) -> None:
                await append(node, *arguments, **more)
                if node == spare:
                    begun.set()
                    await asyncio.Event().wait()

            nodes.append = watched
            task = asyncio.ensure_future(_put_through_two_deaths(at, LARGE))
            await begun.wait()
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
            await eventually_async(lambda: not nodes[spare].pending)

    run(main())


async def _put_through_two_deaths(
    at: Harness, size: int, slack: int = 0
) -> tuple[ObjectVersion, bytes]:
    """A PUT of several stripes, two of whose nodes die after the first stripe that they took.
    `slack`: so much less comes than there might."""
    nodes, data = nodes_of(at), some_bytes(size)
    source = StalledSource(data)
    put = at.catalog.put("bucket", "k", source, size + slack, OWNER, may_end=slack > 0)
    task = asyncio.ensure_future(put)
    await source.stalled.wait()
    await eventually_async(lambda: nodes.calls("append") >= 5)
    named = chosen_last(at)
    nodes[named[1]].down = nodes[named[3]].down = True
    source.proceed.set()
    await task
    return await at.found("k"), data


@pytest.mark.parametrize("fault", ["down", "lose", "rot"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_any_m_bad_nodes_go_unnoticed_by_readers(tmp_path: Path, fault: str, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            nodes, data = nodes_of(at), some_bytes(size)
            record = await put(at, "k", data)
            for pair in itertools.combinations(range(1, 6), 2):
                kept = {node: dict(nodes[node].shards) for node in pair}
                for node in pair:
                    if fault == "down":
                        nodes[node].down = True
                    elif fault == "lose":
                        nodes.lose(node)
                    else:
                        nodes.rot(node)
                assert await at.get("k") == data
                assert await at.get("k", 10, 500) == data[10:500]
                for node in pair:
                    nodes[node].down = False
                    nodes[node].shards.update(kept[node])
                    nodes[node].corrupt.clear()
            await at.catalog._repairs.close()
            if fault == "down":
                assert await repairs(at) == {}, "a node that is down has not lost anything"
            else:
                shards = (await repairs(at))[extent_of(record).write_id].shards
                assert set(shards) >= {0, 1, 2}, "every data shard was found bad"

    run(main())


def test_what_is_found_bad_again_and_again_is_noted_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            record = await put(at, "k", some_bytes(LARGE))
            nodes_of(at).lose(extent_of(record).nodes[1])
            commits: list[object] = []
            commit = at.state.commit

            async def counted(batch: Any) -> Any:
                commits.append(batch)
                return await commit(batch)

            at.state.commit = counted
            for _ in range(5):
                await at.get("k")
                await at.catalog._repairs.close()
            assert len(commits) == 1
            assert (await repairs(at))[extent_of(record).write_id].shards == (1,)

    run(main())


def test_blocks_rotten_on_different_nodes_are_read_around(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            data = some_bytes(LARGE)
            record = await put(at, "k", data)
            order = extent_of(record).nodes
            nodes_of(at)[order[4]].down = True
            for stripe, shard in enumerate([0, 1, 2, 3]):
                nodes_of(at).rot(order[shard], stripe)
            assert await at.get("k") == data

    run(main())


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_with_fewer_than_k_shards_reading_fails_in_bounded_time(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            record = await put(at, "k", some_bytes(size))
            for node in (1, 2, 3):
                nodes_of(at).lose(node)
            with pytest.raises(ObjectUnreadable):
                await at.catalog.open_read(record, 0, record.size)

    run(main())


@pytest.mark.parametrize("size", [4096, 5_000_000])
def test_a_read_waits_for_nodes_that_are_being_started(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            record = await put(at, "k", some_bytes(size))
            nodes = nodes_of(at)
            for node in (1, 2, 3):
                nodes[node].down = True
            back = asyncio.get_running_loop().call_later(0.3, setattr, nodes[2], "down", False)
            assert await at.read(record, 0, record.size) == some_bytes(size)
            back.cancel()

    run(main())


def test_a_slow_node_is_hedged(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            data = some_bytes(10 * STRIPE)
            record = await put(at, "k", data)
            nodes = nodes_of(at)
            slow = nodes[extent_of(record).nodes[1]]
            slow.hangs = True  # for the caller's whole deadline
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await at.get("k") == data
            assert loop.time() - began < 5
            assert slow.calls.count("read") < 8, "it is not asked for every stripe"

    run(main())


def test_a_range_touches_only_its_blocks(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            data = some_bytes(LARGE)
            await at.put("k", data)
            assert await at.get("k", STRIPE + 5, STRIPE + 10) == data[STRIPE + 5 : STRIPE + 10]
            assert nodes_of(at).calls("read") == 1

    run(main())


def test_released_shards_wait_for_the_grace_time_and_for_every_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5, grace_s=0.3) as at:
            nodes = nodes_of(at)
            await at.put("k", some_bytes(LARGE))
            nodes[3].down = True
            await at.catalog.delete("bucket", "k")
            assert nodes.shard_count == 5, "readers may have begun"
            await eventually_async(lambda: nodes.shard_count == 1)
            assert len(await at.table("objects", DELETED)) == 1
            nodes[3].down = False
            await eventually_async(lambda: nodes.shard_count == 0)
            await at.no_garbage()

    run(main())


def test_garbage_of_an_earlier_run_is_collected_at_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5, grace_s=0.5) as at:
            await at.put("k", some_bytes(LARGE))
            await at.catalog.delete("bucket", "k")
            nodes = nodes_of(at)
            assert nodes.shard_count == 5
        async with distributed(tmp_path, node_count=5, nodes=nodes) as at:
            await eventually_async(lambda: nodes.shard_count == 0)
            await at.no_garbage()

    run(main())


def test_memory_of_many_writers_is_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            budget = at.store._cluster.write_budget
            budget._bytes_max = 4 * 5 * BLOCK
            held: list[int] = []
            nodes = nodes_of(at)
            append = nodes.append

            async def watched(*arguments: Any, **more: Any) -> None:
                held.append(budget.held_bytes)
                await append(*arguments, **more)

            nodes.append = watched
            bodies = [some_bytes(6 * STRIPE, n) for n in range(12)]
            await asyncio.gather(*(at.put(f"k{n}", body) for n, body in enumerate(bodies)))
            assert max(held) <= budget._bytes_max
            assert budget.held_bytes == 0
            for n, body in enumerate(bodies):
                assert await at.get(f"k{n}") == body
            assert at.store._cluster.read_budget.held_bytes == 0

    run(main())


class BrokenSource:
    """A body that is there at once, and of which the rest is found to be wrong at once."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    async def readinto(self, buffer: memoryview) -> int:
        if not self._rest:
            raise BodyMismatch("a chunk has another signature", "chunk")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


@pytest.mark.parametrize("fault", ["body", "nodes"])
@pytest.mark.parametrize("stripes", [1, 2, 3])
def test_a_write_that_fails_holds_no_memory(tmp_path: Path, fault: str, stripes: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5, block_bytes=16 * KIB) as at:
            stripe = 3 * 16 * KIB
            body = some_bytes(stripe * stripes)
            if fault == "nodes":
                nodes_of(at)[1].down = nodes_of(at)[2].down = True
            source = BrokenSource(body if fault == "body" else body + some_bytes(6 * stripe))
            with pytest.raises(BodyMismatch if fault == "body" else NotEnoughNodes):
                await at.catalog.put("bucket", "k", source, len(body) + 6 * stripe, OWNER)
            assert at.store._cluster.write_budget.held_bytes == 0

    run(main())


def test_a_client_that_sends_nothing_holds_no_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            source = StalledSource(b"")
            task = asyncio.ensure_future(at.catalog.put("bucket", "k", source, LARGE * 9, OWNER))
            await source.stalled.wait()
            assert at.store._cluster.write_budget.held_bytes == 0
            task.cancel()
            await asyncio.wait((task,))

    run(main())


def test_a_degraded_part_is_on_the_repair_table_of_the_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            nodes_of(at)[1].down = True
            row = await at.catalog.create_upload("bucket", "k", OWNER)
            upload = await at.catalog.upload("bucket", "k", row.upload_id)
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            record = await at.found("k")
            assert (await repairs(at))[extent_of(record).write_id].extent == extent_of(record)

    run(main())

"""Lost and damaged shards come back without a command, on real nodes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from predastore.base.errors import ShardCorrupt, ShardNotFound
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.records import (
    FAILED,
    PROGRESS_KEY,
    SILENT,
    MovedRecord,
    ProgressRecord,
    moved_key,
)
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from predastore.s3db.commands import Put, batch
from predastore.storage import extents
from predastore.storage.formats import decode, encode
from support.backends import run, some_bytes
from support.healing import FAST, Cluster, cluster, healing, until


async def is_whole(at: Cluster) -> bool:
    return not await at.notes() and not await at.faults()


def test_a_wiped_directory_is_filled_again_byte_for_byte(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at) as healer:
            await at.put_many(40)
            await at.put_part("parts")
            await at.put_part("unfinished", complete=False)
            await until(at.is_checked)
            lost = (await at.stores[2].status()).live_bytes
            payload = sum(row.byte_count for row in (await at.stores[2].shards(b"", 4096)).rows)
            await at.wipe(2)
            assert (await at.stores[2].status()).shard_count == 0
            await until(lambda: is_whole(at))
            counts = healer._context.counts
            assert counts.repaired_bytes == payload, "what was lost was written, and nothing else"
            assert counts.read_bytes == 3 * payload, "k blocks were read for each one lost"
            assert (await at.stores[2].status()).live_bytes <= 1.05 * lost
            status = await healer.status()
            assert status is not None
            assert (status.shards_left, status.bytes_left) == (0, 0)

    run(main())


def test_a_node_that_is_replaced_by_one_with_another_id_is_made_up_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.put_many(30)
            await at.put_part("parts")
            await until(at.is_checked)
            await at.stop_node(3)
            await at.run_node(6)
            at.set_nodes([1, 2, 4, 5, 6])
            await until(lambda: is_whole(at))
            for extent in await at.extents():
                assert set(extent.nodes) == {1, 2, 4, 5, 6}

    run(main())


def test_a_node_that_stays_away_is_made_up_for_where_there_is_another(tmp_path: Path) -> None:
    async def main() -> None:
        pace = dataclasses.replace(FAST, lost_s=0.3)
        async with cluster(tmp_path, nodes=(1, 2, 3, 4, 5, 6)) as at, healing(at, pace) as healer:
            await at.put_many(30)
            await at.stop_node(3)
            await until(lambda: is_whole(at))
            status = await healer.status()
            assert status is not None
            assert status.lost_nodes == (3,)
            await at.run_node(3)  # what it holds is not named any more, and what it should hold is
            healer.want_full_pass()
            await until(lambda: is_whole(at))
            await until(at.lies_where_the_ring_wants)

    run(main())


def test_a_node_whose_disk_has_failed_is_made_up_for_as_if_it_were_gone(tmp_path: Path) -> None:
    """Its process runs and answers, and says so."""

    async def main() -> None:
        pace = dataclasses.replace(FAST, lost_s=0.3)
        async with cluster(tmp_path, nodes=(1, 2, 3, 4, 5, 6)) as at, healing(at, pace) as healer:
            await at.put_many(30)
            shutil.rmtree(at.path(3) / "segments")

            async def has_failed() -> bool:
                return bool((await at.stores[3].status()).failure)

            await until(has_failed)

            async def is_built_elsewhere() -> bool:
                return not any(3 in extent.nodes for extent in await at.extents())

            await until(is_built_elsewhere)
            status = await healer.status()
            assert status is not None
            assert (status.lost_nodes, status.noted_nodes) == ((3,), (3,))
            assert [one.node for one in status.seen if one.state == FAILED] == [3]
            await at.stop_node(3)  # what it holds is not named any more
            assert not await at.faults()

    run(main())


def test_what_a_lost_node_held_is_told_while_no_other_can_take_it(tmp_path: Path) -> None:
    """And by a process that heals only since then."""

    async def main() -> None:
        pace = dataclasses.replace(FAST, lost_s=2.0)
        async with cluster(tmp_path) as at:
            async with healing(at, pace, "one"):
                await at.put_many(20)

                async def has_seen() -> bool:
                    stored = await at.state.get(HEALING, PROGRESS_KEY)
                    said = decode(ProgressRecord, stored) if stored else None
                    return said is not None and [one.shards for one in said.seen] == [20] * 5

                await until(has_seen)
                await at.stop_node(3)

            async def told() -> ProgressRecord:
                status = await healer.status()
                assert status is not None
                return status

            async with healing(at, pace, "two") as healer:
                await until(lambda: is_down(told))
                (down,) = [one for one in (await told()).seen if one.state == SILENT]
                assert (down.node, down.shards) == (3, 20)
                assert 0 <= down.lost_in_s <= 2

                async def is_counted() -> bool:
                    status = await told()
                    return status.noted_nodes == (3,) and status.homeless_shards == 20

                await until(is_counted)
                await at.run_node(3)

                async def is_forgotten() -> bool:
                    status = await told()
                    return (status.lost_nodes, status.homeless_shards) == ((), 0)

                await until(is_forgotten)

    run(main())


async def is_down(told: Callable[[], Awaitable[ProgressRecord]]) -> bool:
    return bool((await told()).down_nodes)


def test_writes_without_a_spare_are_completed_when_the_node_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.stop_node(4)
            await at.put_many(20)
            await at.put_part("unfinished", complete=False)
            assert await at.notes() == 21
            await at.run_node(4)
            await until(lambda: is_whole(at))
            for extent in await at.extents():
                assert set(extent.nodes) == {1, 2, 3, 4, 5}

    run(main())


def test_nothing_is_built_on_a_node_that_has_still_to_let_go_of_it(tmp_path: Path) -> None:
    """Else what is deleted there after the readers' grace time is what a record names."""

    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put("k", some_bytes(100_000))
            (extent,) = await at.extents()
            node, ref = extent.nodes[0], ShardRef(extent.shard_hash, extent.write_id, 0)
            left = MovedRecord(extent.shard_hash, extent.write_id, 0, node, extents.now_ms())
            key = moved_key(extent.shard_hash, extent.write_id, 0, node)
            await at.state.commit(batch(Put(HEALING, key, encode(left))))
            await at.stores[node].delete([ref])
            async with healing(at) as healer:
                healer._context.grace_s = 1000
                healer.want_full_pass()
                await until(at.notes)
                assert await healer._repair.run() == 0
                with pytest.raises(ShardNotFound):
                    await at.stores[node].stat(ref)
                healer._context.grace_s = 0
                healer._repair.hurry()
                await until(lambda: is_whole(at))

    run(main())


def test_of_flipped_bits_on_two_nodes_every_one_is_mended(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.put_many(60)
            await at.put_part("parts")
            for node in (2, 5):
                assert await flip_bits(at.stores[node], at.path(node), every=9) > 10
            for key, body in at.bodies.items():
                assert await at.at.get(key) == body
            for node in (2, 5):
                await scrub(at.stores[node])
            await until(lambda: is_whole(at))
            assert [(await at.stores[node].status()).bad_shards for node in (2, 5)] == [0, 0]

    run(main())


async def scrub(store: ShardStore) -> None:
    """Reads every block, as the store's own scrubbing does in its time."""
    for row in (await store.shards(b"", 4096)).rows:
        for stripe in range(row.block_count):
            with contextlib.suppress(ShardCorrupt):
                await store.read(row.ref, stripe, 0, 1)


async def flip_bits(store: ShardStore, path: Path, every: int) -> int:
    """Flips a bit of each `every`th block, under the running store; how many."""
    count = flipped = 0
    for row in (await store.shards(b"", 4096)).rows:
        for place in (await store.locate(row.ref)).blocks:
            count += 1
            if count % every == 0:
                flipped += 1
                file = os.open(path / "segments" / f"{place.segment:08d}.seg", os.O_RDWR)
                (byte,) = os.pread(file, 1, place.offset)
                os.pwrite(file, bytes([byte ^ 4]), place.offset)
                os.close(file)
    return flipped


def test_the_most_endangered_objects_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.jobs.healing.repair.HEALING_BATCH_JOBS", 10)

    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put_many(40)
            healer = Healing(at.state, at.store, "not started", pace=FAST)
            await healer._context.watch.look()
            for number in range(40):
                layout = (await at.at.found(f"k{number}")).row.layout
                extent = await at.extent_of(f"k{number}")
                shards = (0, 3) if number % 7 == 0 else (1,)
                await at.note(f"k{number}", layout, extent, shards)
            jobs = await healer._repair._survey()
            assert len(jobs) == 10
            assert {job.note.key for job in jobs[:6]} == {f"k{n}" for n in range(0, 40, 7)}
            assert [job.margin for job in jobs] == [0] * 6 + [1] * 4
            # Of another code: four shards are left, as of others, and all four are needed.
            wide = msgspec.structs.replace(extent, write_id=b"w" * 16, k=4, m=1)
            await at.note("wide", layout, wide, (2,))
            assert "wide" in {job.note.key for job in (await healer._repair._survey())[:7]}
            assert healer._context.counts.endangered_extents == 7
            await healer.close()

    run(main())

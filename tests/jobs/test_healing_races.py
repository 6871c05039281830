"""Kinds of healing at the same time, the lease lost in the middle: no shard that is named goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predastore.base.errors import NoLeader
from predastore.catalog.keys import HEALING, OBJECTS, PARTS
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.procedures.uploads import layout_of
from predastore.jobs.healing import healer as healer_module
from predastore.jobs.healing import moved, reconcile
from predastore.jobs.healing.context import HealingContext
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.holders import Holder, find, walk
from predastore.jobs.healing.rebalance import _Move
from predastore.jobs.healing.records import (
    LEASE_KEY,
    PROGRESS_KEY,
    LeaseRecord,
    MovedRecord,
    moved_key,
)
from predastore.s3db.commands import Put, batch
from predastore.storage.extents import HASH_BYTES, ShardExtent, new_id
from predastore.storage.formats import encode
from support.backends import BytesSource, run, some_bytes
from support.healing import FAST, Cluster, cluster, healing, until

ALL = (1, 2, 3, 4, 5, 6)
PATIENT = replace(FAST, lost_s=0, expiry_s=60)


class Gates:
    """Tasks of the given names wait in `relocate` until their gate is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self._come = {name: asyncio.Event() for name in names}
        self._open = {name: asyncio.Event() for name in names}
        real = HealingContext.relocate

        async def relocate(context: HealingContext, *arguments: Any) -> bool:
            task = asyncio.current_task()
            assert task is not None
            if task.get_name() in self._come:
                self._come[task.get_name()].set()
                await self._open[task.get_name()].wait()
            return await real(context, *arguments)

        monkeypatch.setattr(HealingContext, "relocate", relocate)

    async def come(self, name: str) -> None:
        await self._come[name].wait()

    def open(self, name: str) -> None:
        self._open[name].set()


async def loses(at: Cluster, node: int) -> Healing:
    """A healer with the lease, which does nothing by itself and has given up the node."""
    await at.stop_node(node)
    at.set_nodes([each for each in ALL if each != node], draining=(node,))
    healer = Healing(at.state, at.store, "one", pace=PATIENT)
    assert await healer._context.lease.beat()
    await healer._context.watch.look()
    await until(lambda: _is(node in healer._context.watch.nodes_lost))
    return healer


async def _is(value: bool) -> bool:
    return value


async def faults(at: Cluster) -> list[str]:
    return [fault for fault in await at.faults() if "orphan" not in fault]


def test_what_a_move_drops_is_not_what_a_repair_is_about_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gates = Gates(monkeypatch, "move", "second")
        async with cluster(tmp_path, ALL) as at:
            upload, parts = await at.at.begin("k"), []
            for number in (1, 2):
                body = some_bytes(5 << 20 if number == 1 else 1000, number)
                part = await at.catalog.put_part(upload, number, BytesSource(body), len(body))
                parts.append(CompletedPart(number, part.etag))
            await at.catalog.complete(upload, parts)
            extents = await at.extents()
            gone = next(n for n in ALL if all(n in each.nodes for each in extents))
            healer = await loses(at, gone)
            layout = (await at.at.found("k")).row.layout
            (holder,) = await find(at.state, layout, b"")
            for each in extents:
                await at.note("k", layout, each, (each.nodes.index(gone),))
            work = _Move(healer._context, at.store.cluster.ring, holder).run()
            move = asyncio.create_task(work, name="move")
            await gates.come("move")
            jobs = {job.key[HASH_BYTES:]: job for job in await healer._repair._survey()}
            first, second = (jobs[each.write_id] for each in extents)
            await healer._repair._attempt(first)  # the record is another one now
            repair = asyncio.create_task(healer._repair._attempt(second), name="second")
            await gates.come("second")
            gates.open("move")
            await move
            gates.open("second")
            await repair
            assert await at.notes() == 0
            assert await faults(at) == []
            await healer.close()

    run(main())


async def the_part(at: Cluster) -> tuple[Any, CompletedPart, Holder, ShardExtent]:
    upload, body = await at.at.begin("k"), some_bytes(100_000)
    part = await at.catalog.put_part(upload, 1, BytesSource(body), len(body))
    async for holders, _ in walk(at.state, PARTS):
        (holder,) = holders
    (extent,) = holder.extents
    assert isinstance(extent, ShardExtent)
    return upload, CompletedPart(1, part.etag), holder, extent


def test_what_a_move_drops_is_not_what_the_object_of_a_part_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gates = Gates(monkeypatch, "move")
        async with cluster(tmp_path, ALL) as at:
            upload, part, holder, extent = await the_part(at)
            healer = await loses(at, extent.nodes[2])
            layout = layout_of("bucket", "k", upload.row.upload_id)
            await at.note("k", layout, extent, (2,), holder.key)
            work = _Move(healer._context, at.store.cluster.ring, holder).run()
            move = asyncio.create_task(work, name="move")
            await gates.come("move")
            await at.catalog.complete(upload, [part])
            (job,) = await healer._repair._survey()
            await healer._repair._attempt(job)
            gates.open("move")
            await move
            assert await faults(at) == []
            await healer.close()

    run(main())


def test_a_note_of_a_part_that_is_an_objects_by_now_leads_to_another_walk(tmp_path: Path) -> None:
    """A pass knows a part by its hash alone, and notes what was lost of it under that."""

    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            upload, part, _, extent = await the_part(at)
            lost = extent.nodes[2]
            async with healing(at, replace(FAST, lost_s=0.1)) as healer:
                await until(at.is_checked)
                healer._repair.run = _nothing  # its turn comes later
                await at.stop_node(lost)
                await until(at.notes)
                await at.catalog.complete(upload, [part])
                del healer._repair.run
                await until(lambda: _lies_elsewhere(at, lost))
                await until(lambda: _no_notes(at))
            assert await at.faults() == []

    run(main())


async def _nothing() -> int:
    return 0


async def _lies_elsewhere(at: Cluster, node: int) -> bool:
    return all(node not in extent.nodes for extent in await at.extents())


async def _no_notes(at: Cluster) -> bool:
    return not await at.notes()


@pytest.mark.parametrize("leaves", [False, True])
def test_a_node_that_is_gone_before_its_pass_does_not_lead_to_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at, healing(at) as healer:
            await at.put_many(5)
            await until(at.is_checked)
            walks, looks = 0, 0
            real, look = reconcile.Pass.run, healer._context.watch.look

            async def counted(one: reconcile.Pass) -> bool:
                nonlocal walks
                walks += 1
                if walks == 1:  # for the node, which is gone again
                    await at.stop_node(6)
                    if leaves:
                        at.set_nodes((1, 2, 3, 4, 5))
                return await real(one)

            async def looked() -> set[int]:
                nonlocal looks
                looks += bool(walks)
                return await look()

            monkeypatch.setattr(reconcile.Pass, "run", counted)
            monkeypatch.setattr(healer._context.watch, "look", looked)
            await at.wipe(6)
            await until(lambda: _is(looks > 20))
            assert walks <= 2

    run(main())


def test_who_takes_the_lease_again_knows_nothing_of_before(tmp_path: Path) -> None:
    """A node that was down then may have been well for weeks."""

    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            healer = await loses(at, 6)
            watch = healer._context.watch
            await healer._watch_nodes()
            await healer._rebalance.step()
            healer._recalled = True
            assert healer._lost == healer.given_up == {6}
            await at.run_node(6)
            await healer._recall()
            assert watch.nodes_down == watch.nodes_lost == ()
            assert healer._lost == healer.given_up == frozenset()
            await healer.close()

    run(main())


def test_a_walk_that_is_begun_anew_is_not_ended_by_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.jobs.healing.holders.HEALING_PAGE_RECORDS", 4)

    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            await at.put_many(30)
            healer = Healing(at.state, at.store, "one", pace=PATIENT)
            context, moves = healer._context, healer._rebalance
            assert await context.lease.beat()
            for node in (6, 5):  # what is to go to 5 can not be moved
                await at.stop_node(node)
            at.set_nodes((1, 2, 3, 4, 5), draining=(6,))
            await context.watch.look()
            await until(lambda: _is({5, 6} <= set(context.watch.nodes_lost)))
            page, pages = moves._page, 0

            async def restarting(*arguments: Any) -> None:
                nonlocal pages
                await page(*arguments)
                pages += 1
                if pages == 6:
                    await at.run_node(5)
                    await context.watch.look()
                    await moves.restart()

            monkeypatch.setattr(moves, "_page", restarting)
            await moves.step()
            assert pages == 6
            assert not moves.is_settled
            moves.hurry()
            await moves.step()
            assert moves.is_settled
            assert await _lies_elsewhere(at, 6)
            await healer.close()

    run(main())


def test_strands_are_ended_though_one_swallows_its_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(healer_module, "HEALING_END_S", 0.01)

    async def main() -> None:
        ended = []

        async def strand(name: str, tries: int) -> None:
            pause: Callable[[], Any] = asyncio.Event().wait
            for _ in range(tries):
                with suppress(asyncio.CancelledError):
                    await pause()
            ended.append(name)

        strands = asyncio.gather(strand("quick", 1), strand("slow", 3), return_exceptions=True)
        await asyncio.sleep(0)
        await healer_module._ended(strands)
        assert sorted(ended) == ["quick", "slow"]

    run(main())


def test_a_pass_that_ends_early_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a lost node held would not be noted before the daily one."""

    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            await at.put_many(5)
            async with healing(at, replace(FAST, lost_s=0.1)) as healer:
                await until(at.is_checked)
                real, tries = reconcile.Pass.run, 0

                async def fails(one: reconcile.Pass) -> bool:
                    nonlocal tries
                    tries += 1
                    if tries < 3:
                        raise NoLeader("no leader is known")
                    return await real(one)

                monkeypatch.setattr(reconcile.Pass, "run", fails)
                await at.stop_node(6)
                await until(lambda: _is(healer._passes.noted == {6}))
                await until(lambda: _lies_elsewhere(at, 6))

    run(main())


def test_a_node_stays_given_up_when_the_lease_is_taken_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            healer = await loses(at, 6)
            progress = encode(healer._progress())
            await at.state.commit(batch(Put(HEALING, PROGRESS_KEY, progress)))
            await healer._recall()
            await healer._watch_nodes()
            assert healer._context.watch.nodes_lost == (6,)
            await at.run_node(6)
            await healer._recall()
            await healer._watch_nodes()
            assert healer._context.watch.nodes_down == (), "it answers"
            await healer.close()

    run(main())


def test_who_is_no_more_the_one_who_heals_has_nothing_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            await at.put("k", some_bytes(100_000))
            (extent,) = await at.extents()
            healer = Healing(at.state, at.store, "one", pace=PATIENT)
            context = healer._context
            assert await context.lease.beat()
            for shard, node in enumerate(extent.nodes):  # marked, by a try that failed
                key = moved_key(extent.shard_hash, extent.write_id, shard, node)
                entry = MovedRecord(extent.shard_hash, extent.write_id, shard, node, 0)
                await at.state.commit(batch(Put(HEALING, key, encode(entry))))
            lease = LeaseRecord(new_id(), "another", 0)
            await at.state.commit(batch(Put(HEALING, LEASE_KEY, encode(lease))))
            assert await moved.release(context) == 5
            context.lease._held_until = 0.0
            assert await moved.release(context) == 0
            assert await faults(at) == []
            await healer.close()

    run(main())


def test_a_walk_that_begins_while_another_is_being_begun_is_that_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, ALL) as at:
            await at.put_many(10)
            healer = Healing(at.state, at.store, "one", pace=PATIENT)
            context, moves = healer._context, healer._rebalance
            assert await context.lease.beat()
            await context.watch.look()
            await moves._is_due()
            assert moves.progress is not None
            behind = msgspec.structs.replace(moves.progress, table=OBJECTS, after=b"\xff")
            await moves._store(behind, moves._walk_number)
            anew = asyncio.create_task(moves.restart())
            await asyncio.sleep(0)  # its commit is under way
            assert await moves._is_due()
            assert moves.progress.after == b"", "from the beginning"
            await anew
            await healer.close()

    run(main())

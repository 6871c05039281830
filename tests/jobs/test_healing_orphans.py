"""What nobody names is deleted after a while; what anybody may still need is not."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from predastore.catalog.fence import HORIZON_KEY
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.reconcile import Pass
from predastore.jobs.healing.records import BEAT_KEY, PROGRESS_KEY, ProgressRecord
from predastore.jobs.healing.sieve import Sieve
from predastore.storage import extents
from predastore.storage.formats import decode
from support.backends import OWNER, StalledSource, run, some_bytes
from support.healing import FAST, Cluster, cluster, healing, until

AT_ONCE = dataclasses.replace(FAST, orphan_age_ms=0)


async def one_pass(at: Cluster, healer: Healing) -> None:
    before = await at.state.get(HEALING, HORIZON_KEY)
    healer.want_full_pass()

    async def is_over() -> bool:
        return await at.state.get(HEALING, HORIZON_KEY) != before and not healer.is_passing

    await until(is_over)


async def shard_count(at: Cluster) -> int:
    return sum([(await store.status()).shard_count for store in at.stores.values()])


def test_shards_of_writes_that_died_are_deleted_and_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put_many(25)
            await at.put_part("parts")
            await at.put_part("unfinished", complete=False)
            kept = await shard_count(at)
            for number in range(10):
                await at.put(f"dead{number}", some_bytes(20_000, number))
                await at.forget(f"dead{number}")
            assert await shard_count(at) == kept + 50
            async with healing(at, AT_ONCE) as healer:

                async def are_gone() -> bool:
                    await one_pass(at, healer)
                    return await shard_count(at) == kept

                await until(are_gone)
                assert await at.faults() == []
                status = await healer.status()
                assert status is not None
                assert status.orphans_shards == 50
                assert status.orphans_bytes > 10 * 20_000

    run(main())


def test_nothing_is_an_orphan_by_a_clock_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose clock is hours ahead takes what was just written for old."""

    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put("k", some_bytes(20_000))
            await at.forget("k")
            now_ms = extents.now_ms
            with monkeypatch.context() as patch:
                patch.setattr(extents, "now_ms", lambda: now_ms() + 10 * 3_600_000)
                async with healing(at) as healer:
                    await one_pass(at, healer)
            assert await shard_count(at) == 5
            async with healing(at, AT_ONCE) as healer:

                async def are_gone() -> bool:
                    await one_pass(at, healer)
                    return await shard_count(at) == 0

                await until(are_gone)

    run(main())


def test_a_copy_that_a_record_names_again_meanwhile_is_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that has left the cluster with its shards comes back during a pass."""
    walked, proceed = asyncio.Event(), asyncio.Event()
    collect = Pass._collect

    async def held(self: Pass, before_ms: int) -> bool:
        walked.set()
        await proceed.wait()
        return await collect(self, before_ms)

    async def main() -> None:
        async with cluster(tmp_path, (1, 2, 3, 4, 5, 6)) as at:
            await at.put_many(20)
            at.set_nodes((1, 2, 3, 4, 5))
            async with healing(at):
                await until(at.lies_where_the_ring_wants)
            strays = (await at.stores[6].status()).shard_count
            assert strays > 0
            monkeypatch.setattr(Pass, "_collect", held)
            later = dataclasses.replace(AT_ONCE, orphan_age_ms=-60_000)  # all of them are old
            async with healing(at, later) as healer:
                healer.want_full_pass()
                await walked.wait()
                at.set_nodes((1, 2, 3, 4, 5, 6))
                healer.config_changed()
                await until(at.lies_where_the_ring_wants)
                proceed.set()

                async def is_over() -> bool:
                    return not healer.is_passing

                await until(is_over)
                wrong = await at.faults()
                assert not [each for each in wrong if not each.startswith("orphan")]

    run(main())


def test_who_takes_over_does_not_look_over_everything_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put_many(3)
            async with healing(at) as first:

                async def said() -> int:
                    stored = await at.state.get(HEALING, PROGRESS_KEY)
                    return decode(ProgressRecord, stored).last_pass_ms if stored else 0

                await until(said)
                last_pass_ms = await said()
                assert (status := await first.status()) is not None
                assert status.last_pass_ms == last_pass_ms
            async with healing(at, name="second") as second:
                seen: set[bytes | None] = set()

                async def has_beaten_often() -> bool:
                    seen.add(await at.state.get(HEALING, BEAT_KEY))
                    return second.is_working and len(seen) > 8

                await until(has_beaten_often)
                assert await said() == last_pass_ms

    run(main())


def test_shards_that_are_young_or_wait_to_be_released_are_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at) as healer:
            await at.put("young", some_bytes(20_000))
            await at.forget("young")
            await at.put("read", some_bytes(20_000))
            version = await at.at.found("read")
            with at.readers.holding(version.row.layout):
                await at.catalog.delete("bucket", "read")
                del at.bodies["read"]
                await one_pass(at, healer)
                assert await shard_count(at) == 10

    run(main())


def test_what_is_deleted_and_still_read_is_no_orphan(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put("read", some_bytes(20_000))
            version = await at.at.found("read")
            with at.readers.holding(version.row.layout):
                await at.catalog.delete("bucket", "read")
                del at.bodies["read"]
                await old_enough()
                async with healing(at, AT_ONCE) as healer:
                    await one_pass(at, healer)
                    assert await shard_count(at) == 5
            await until(lambda: is_empty(at))

    run(main())


async def is_empty(at: Cluster) -> bool:
    return await shard_count(at) == 0


async def old_enough() -> None:
    """When a shard was written is known to the second."""
    since = extents.now_ms()

    async def passed() -> bool:
        return extents.now_ms() > since + 2_100

    await until(passed)


@pytest.mark.parametrize("what", ["object", "part"])
def test_a_write_under_way_keeps_its_shards(tmp_path: Path, what: str) -> None:
    """Its last bytes come long after the pass: no shard of it is committed before that."""

    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at, AT_ONCE) as healer:
            body = some_bytes(60_000)
            source = StalledSource(body)
            upload = await at.at.begin("up")
            write = (
                at.catalog.put("bucket", "slow", source, len(body), OWNER)
                if what == "object"
                else at.catalog.put_part(upload, 1, source, len(body))
            )
            task = asyncio.ensure_future(write)
            await source.stalled.wait()
            await old_enough()
            await one_pass(at, healer)
            source.proceed.set()
            await task
            if what == "object":
                at.bodies["slow"] = body
            assert await at.faults() == []

    run(main())


def test_two_that_heal_at_once_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is stopped in its tracks, and goes on when the second has done its work."""

    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.put_many(30)
            async with healing(at):
                await until(at.is_checked)
            await at.wipe(3)
            await at.run_node(6)
            at.set_nodes((1, 2, 3, 4, 5, 6))
            first = Healing(at.state, at.store, "first", pace=FAST)
            first.start()

            async def has_begun() -> bool:
                return first.is_working and first._context.counts.repaired_shards > 0

            await until(has_begun)
            first._context.lease._held_until = 1e9  # it does not notice that its time is over

            async def silent(*_: object) -> bool:
                return True

            monkeypatch.setattr(first._context.lease, "beat", silent)
            async with healing(at, name="second") as second:

                async def all_done() -> bool:
                    return (
                        second.is_working
                        and await at.lies_where_the_ring_wants()
                        and not await at.notes()
                        and not await at.faults()
                    )

                await until(all_done)
            await first.close()
            assert await at.faults() == []

    run(main())


def test_the_sieve_forgets_nothing_and_errs_seldom() -> None:
    chosen = random.Random(5)
    members = {chosen.randbytes(22) for _ in range(20_000)}
    others = {chosen.randbytes(22) for _ in range(20_000)} - members
    sieve = Sieve(len(members))
    for member in members:
        sieve.add(member)
    assert all(member in sieve for member in members)
    assert sum(other in sieve for other in others) < 0.02 * len(others)

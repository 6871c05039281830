"""Scrub: everything is read back, what is bad is noted, and a restart goes on where it was."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from node_support import (
    block_of,
    damage,
    damage_block,
    fill,
    opened,
    put,
    read_back,
    records_of,
    ref_of,
    run,
    segments,
    some_shards,
)

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.limits import KIB
from predastore.node.messages import ScrubStatus
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from support.waiting import eventually_async


def overwrite(file: Path, at: int, content: bytes) -> None:
    with open(file, "r+b") as out:
        out.seek(at)
        out.write(content)


async def scrubbed(store: ShardStore) -> ScrubStatus:
    """What a whole round found."""
    store.scrub(start=True)
    await store.scrub_round()
    return store.scrub(start=False)


def listed(store: ShardStore) -> dict[ShardRef, set[int]]:
    found = store.bad(b"", 1000)
    assert not found.more
    return {row.ref: set(row.stripes) for row in found.rows}


def test_nothing_is_found_where_nothing_is_bad(tmp_path: Path) -> None:
    async def main() -> None:
        shards = some_shards(100)
        async with opened(tmp_path) as store:
            await fill(store, shards)
            await store.delete(list(shards)[::5])
            found = await scrubbed(store)
            assert (found.running, found.share, found.bad_blocks) == (False, 1.0, 0)
            assert found.damaged_segments == 0
            assert found.finished_ms >= found.started_ms > 0
            assert not await store.scrub_round(), "the next one is due in two weeks"

    run(main())


def test_the_next_round_is_due_after_the_period_that_was_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        for days, due in ((14.0, False), (1e-9, True)):
            async with opened(tmp_path, scrub_days=days) as store:
                await scrubbed(store)
                await eventually_async(lambda: _ms_later(store), what="another millisecond")
                assert await store.scrub_round() is due

    run(main())


def _ms_later(store: ShardStore) -> bool:
    return time.time() * 1000 > store.scrub(start=False).started_ms + 1


def test_every_flipped_bit_of_live_blocks_is_found_and_mending_leaves_none(tmp_path: Path) -> None:
    source = random.Random(3)

    async def main() -> None:
        shards = some_shards(150)
        async with opened(tmp_path) as store:
            await fill(store, shards)
            for ref in list(shards)[::6]:
                await damage_block(store, tmp_path, ref, 0)
                await store.delete([ref])
                del shards[ref]
            hit: dict[ShardRef, set[int]] = {}
            for ref in source.sample(list(shards), 30):
                stripe = source.randrange(len(shards[ref]))
                await damage_block(store, tmp_path, ref, stripe)
                hit[ref] = {stripe}
            found = await scrubbed(store)
            assert listed(store) == hit, "what is deleted may be damaged"
            assert found.bad_blocks == 30
            assert (await store.status()).bad_shards == 30
            assert (await scrubbed(store)).bad_blocks == 0, "they are known"
            for ref, stripes in hit.items():
                for stripe in stripes:
                    block = shards[ref][stripe]
                    await store.append(ref, stripe, block, crc32c(block))
                await store.commit(ref, len(shards[ref]), sum(map(len, shards[ref])))
            await scrubbed(store)
            assert listed(store) == {}
            for ref, blocks in shards.items():
                assert await read_back(store, ref, blocks)

    run(main())


@pytest.mark.parametrize("at", [0, 3, 20, 70, 79])
def test_damaged_headers_and_commits_are_found_and_their_segment_is_rewritten(
    tmp_path: Path, at: int
) -> None:
    """The blocks are good, so nothing is bad; but a rebuild of the index would miss something."""
    shards = some_shards(60)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
        first, second = segments(tmp_path)[:2]
        records = records_of(first)
        damage(first, next(one for one in records if one.kind == frame.BLOCK).offset + at)
        damage(
            second, next(one for one in records_of(second) if one.kind == frame.COMMIT).offset + at
        )
        async with opened(tmp_path) as store:
            found = await scrubbed(store)
            assert (found.bad_blocks, found.damaged_segments) == (0, 2)
            while await store.compact():
                pass
            await eventually_async(lambda: not first.exists() and not second.exists())
            await eventually_async(
                lambda: not store._index.scrub.damaged, what="no damaged segment"
            )
            assert (await store.status()).damaged_segments == 0
            assert (await scrubbed(store)).damaged_segments == 0
            for ref, blocks in shards.items():
                assert await read_back(store, ref, blocks)
        for file in (tmp_path / "index").iterdir():
            file.unlink()
        async with opened(tmp_path) as store:
            assert store.recovery.damaged == 0
            for ref, blocks in shards.items():
                assert await read_back(store, ref, blocks)

    run(main())


@pytest.mark.parametrize("what", ["segment header", "footer", "seal"])
def test_what_a_rebuild_would_need_is_checked(tmp_path: Path, what: str) -> None:
    shards = some_shards(60)

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
        first = segments(tmp_path)[0]
        kinds = {"footer": frame.FOOTER, "seal": frame.SEAL}
        place = 5
        if what in kinds:
            place = next(one.offset for one in records_of(first) if one.kind == kinds[what]) + 85
        damage(first, place)
        async with opened(tmp_path) as store:
            assert (await scrubbed(store)).damaged_segments == 1
            assert await store.compact()
            await eventually_async(lambda: not first.exists())

    run(main())


def test_a_region_of_garbage_costs_the_blocks_in_it_and_no_other(tmp_path: Path) -> None:
    shards = {ref_of(n): [block_of(n, 5000)] for n in range(100)}

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
            inside = set()
            for ref in shards:
                (place,) = (await store.locate(ref)).blocks
                if place.segment == 2 and place.offset < 60_000 and place.offset + 5000 > 20_000:
                    inside.add(ref)
            overwrite(segments(tmp_path)[1], 20_000, random.Random(1).randbytes(40_000))
            await scrubbed(store)
            assert set(listed(store)) == inside
            assert len(inside) >= 8

    run(main())


def test_a_lost_segment_is_noticed(tmp_path: Path) -> None:
    shards = {ref_of(n): [block_of(n, 5000)] for n in range(100)}

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
            inside = {ref for ref in shards if (await store.locate(ref)).blocks[0].segment == 1}
            segments(tmp_path)[0].unlink()
            await scrubbed(store)
            assert set(listed(store)) == inside

    run(main())


def test_a_restart_goes_on_where_the_scrub_was_and_remembers_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.scrub.NODE_SCRUB_STEP_BYTES", 16 * KIB)
    shards = {ref_of(n): [block_of(n, 9000)] for n in range(200)}

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
            at = {ref: (await store.locate(ref)).blocks[0].segment for ref in shards}
            first = next(ref for ref in shards if at[ref] == 1)
            last = next(ref for ref in reversed(shards) if at[ref] > 6)
            for ref in (first, last):
                await damage_block(store, tmp_path, ref, 0)
            store.scrub(start=True)
            scrubbing = asyncio.ensure_future(store.scrub_round())
            await eventually_async(lambda: store.scrub(start=False).share > 0.4)
            scrubbing.cancel()
            assert listed(store) == {first: {0}}
            before = store.scrub(start=False)
            assert before.running
        reads: list[int] = []
        real = frame.scan

        def counting(buffer: bytes, *rest: object, **more: object) -> object:
            reads.append(len(buffer))
            return real(buffer, *rest, **more)

        async with opened(tmp_path) as store:
            assert listed(store) == {first: {0}}
            now = store.scrub(start=False)
            assert (now.running, now.started_ms) == (True, before.started_ms)
            with monkeypatch.context() as patch:
                patch.setattr("predastore.node.scanning.frame.scan", counting)
                assert await store.scrub_round()
                rest, reads[:] = sum(reads), []
                assert listed(store) == {first: {0}, last: {0}}
                assert store.scrub(start=False).bad_blocks == 2
                await scrubbed(store)
                assert rest < 0.75 * sum(reads), "what was read was read again"

    run(main())


def test_the_scrub_waits_while_no_more_bad_blocks_can_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.badblocks.NODE_BAD_BLOCKS_MAX", 6)
    monkeypatch.setattr("predastore.node.badblocks.NODE_BAD_BLOCKS_SPARE", 3)
    monkeypatch.setattr("predastore.node.scrub.NODE_SCRUB_STEP_BYTES", 16 * KIB)
    monkeypatch.setattr("predastore.node.pace.NODE_REST_S_MAX", 0.01)
    shards = {ref_of(n): [block_of(n, 5000)] for n in range(10)}

    async def main() -> None:
        async with opened(tmp_path) as store:
            await fill(store, shards)
            for ref in shards:
                await damage_block(store, tmp_path, ref, 0)
            store.scrub(start=True)
            scrubbing = asyncio.ensure_future(store.scrub_round())
            mended = 0
            while not scrubbing.done():
                await eventually_async(lambda: len(listed(store)) >= 3 or scrubbing.done())
                for ref in listed(store):
                    await put(store, ref, shards[ref][0])
                    mended += 1
            await scrubbing
            assert mended == 10
            assert listed(store) == {}

    run(main())


def test_with_upkeep_a_round_that_is_asked_for_runs_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, upkeep=True) as store:
            await put(store, ref_of(1), b"data")
            await damage_block(store, tmp_path, ref_of(1), 0)
            store.scrub(start=True)
            await eventually_async(lambda: not store.scrub(start=False).running)
            assert listed(store) == {ref_of(1): {0}}

    run(main())

"""The collector: what can not be let go of holds up nothing else, and memory is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from predastore.catalog.collector import Collector
from predastore.storage.records import OBJECTS, PARTS, FileExtent, GarbageRecord, PartRecord

from predastore.base.errors import CorruptData, NoLeader, PredastoreError
from predastore.base.limits import COLLECTOR_ALONE_MAX, COLLECTOR_ENTRY_BYTES, COLLECTOR_SMALL_BYTES
from predastore.catalog import collector
from predastore.catalog.readers import Readers
from predastore.s3db import apply
from predastore.s3db.commands import Applied, Batch, Delete, Page, Put, batch
from predastore.s3db.global_state import LocalState
from predastore.storage import records
from support.backends import run
from support.waiting import eventually_async


class FakeStore:
    """A store that lets go of everything at once, but for what `refuse` holds."""

    grace_s = 0.0

    def __init__(self) -> None:
        self.released: list[int] = []  # extents of each call
        self.refuse: dict[bytes, Exception] = {}  # write id -> what is raised

    async def release(self, extents: Sequence[FileExtent]) -> list[bool]:
        for extent in extents:
            if extent.write_id in self.refuse:
                raise self.refuse[extent.write_id]
        self.released.append(len(extents))
        return [True] * len(extents)


def extent() -> FileExtent:
    return FileExtent("x", records.new_id(), 1, 1 << 20, b"1234", 1)


async def add_garbage(state: LocalState, garbage: GarbageRecord, name: bytes = b"some") -> bytes:
    """Its key, as a commit would have left it."""
    where = records.deleted_key(name, records.new_id())
    await state.commit(batch(Put(PARTS, where, records.encode(garbage))))
    return where


async def add_aborted(state: LocalState, part_count: int) -> str:
    """The id of an upload that was aborted with so many parts."""
    upload_id = records.new_id().hex()
    parts = [PartRecord(n, extent(), 1, "0" * 32, 0) for n in range(1, part_count + 1)]
    puts = [Put(PARTS, records.part_key(upload_id, p.number), records.encode(p)) for p in parts]
    await state.commit(batch(*puts))
    await add_garbage(state, GarbageRecord((), upload_id), upload_id.encode())
    return upload_id


@asynccontextmanager
async def collecting(
    state: LocalState, store: FakeStore, scan_s: float = 600.0
) -> AsyncIterator[Collector]:
    made = Collector(state, store, Readers(), scan_s=scan_s)
    made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[LocalState]:
    state = LocalState(path)
    try:
        yield state
    finally:
        await state.close()


async def left(state: LocalState) -> list[bytes]:
    return await state.list_keys(PARTS, b"", 10_000)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "COLLECTOR_RETRY_S_MIN", 0.001)


def test_aborted_uploads_of_more_parts_than_one_commit_may_remove_all_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "DELETE_PREFIX_KEYS_MAX", 25)

    async def main() -> None:
        store = FakeStore()
        async with opened(tmp_path) as state:
            for _ in range(11):
                await add_aborted(state, 10)
            await add_garbage(state, GarbageRecord((extent(),)))
            async with collecting(state, store) as made:
                await eventually_async(lambda: sum(store.released) >= 111)
                await eventually_async(lambda: not made.waiting_count)
                assert await left(state) == []

    run(main())


@pytest.mark.parametrize("error", [CorruptData("of another backend"), RuntimeError("a bug")])
def test_an_entry_that_can_not_be_released_holds_up_no_other(
    tmp_path: Path, error: Exception
) -> None:
    async def main() -> None:
        store = FakeStore()
        bad = extent()
        store.refuse[bad.write_id] = error
        async with opened(tmp_path) as state:
            stuck = await add_garbage(state, GarbageRecord((bad,)), b"stuck")
            for _ in range(5):
                await add_garbage(state, GarbageRecord((extent(),)))
            async with collecting(state, store) as made:
                await eventually_async(lambda: made.waiting_count == 1 and any(store.released))
                assert await left(state) == [stuck]
                store.refuse.clear()
                await eventually_async(lambda: not made.waiting_count)

    run(main())


def test_an_entry_that_can_not_be_committed_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as state:
            stuck = await add_garbage(state, GarbageRecord((extent(),)), b"stuck")
            await add_aborted(state, 3)
            await add_garbage(state, GarbageRecord((extent(),)))
            commit = state.commit

            async def fails(command: Batch) -> Applied:
                if any(isinstance(op, Delete) and op.key == stuck for op in command.ops):
                    raise PredastoreError("not this one")
                return await commit(command)

            monkeypatch.setattr(state, "commit", fails)
            async with collecting(state, FakeStore()) as made:
                await eventually_async(lambda: made.waiting_count == 1)
                assert await left(state) == [stuck]

    run(main())


def test_the_extents_of_one_batch_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "COLLECTOR_EXTENTS_MAX", 10)

    async def main() -> None:
        store = FakeStore()
        async with opened(tmp_path) as state:
            for _ in range(12):
                await add_garbage(state, GarbageRecord(tuple(extent() for _ in range(4))))
            async with collecting(state, store) as made:
                await eventually_async(lambda: sum(store.released) == 48)
                await eventually_async(lambda: not made.waiting_count)
        assert max(store.released) == 12

    run(main())


def test_what_there_was_no_room_for_is_found_as_soon_as_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the next scan is far away; and no table keeps the other out."""

    async def main() -> None:
        store = FakeStore()
        bad = extent()
        store.refuse[bad.write_id] = CorruptData("not now")
        async with opened(tmp_path) as state:
            for table in (OBJECTS, PARTS):
                for number in range(8):
                    where = records.deleted_key(b"%d" % number, records.new_id())
                    garbage = GarbageRecord((bad, extent()))
                    await state.commit(batch(Put(table, where, records.encode(garbage))))
            monkeypatch.setattr(
                collector, "COLLECTOR_BYTES_MAX", 3 * (COLLECTOR_ENTRY_BYTES + len(where))
            )
            async with collecting(state, store) as made:
                await eventually_async(lambda: made.waiting_count == 3)
                where = records.deleted_key(b"more", records.new_id())
                stored = records.encode(GarbageRecord((extent(),)))
                await state.commit(batch(Put(OBJECTS, where, stored)))
                await made.retire(OBJECTS, [(where, stored)])
                assert made.waiting_count == 3
                store.refuse.clear()
                await eventually_async(lambda: sum(store.released) >= 2 * 16 + 1)
                await eventually_async(lambda: not made.waiting_count)
                assert await left(state) == []
                assert await state.list_keys(OBJECTS, b"", 10) == []

    run(main())


def test_records_are_read_when_they_are_due_and_not_kept(tmp_path: Path) -> None:
    """What another process has collected meanwhile is no matter."""

    async def main() -> None:
        store = FakeStore()
        store.grace_s = 3600.0
        async with opened(tmp_path) as state:
            kept = []
            for count in (1, 200, 1, 200):
                garbage = GarbageRecord(tuple(extent() for _ in range(count)))
                stored = records.encode(garbage)
                assert (len(stored) > COLLECTOR_SMALL_BYTES) is (count == 200)
                kept.append((await add_garbage(state, garbage), stored))
            async with collecting(state, store) as made:
                await made.retire(PARTS, kept)
                await state.commit(batch(*(Delete(PARTS, key) for key, _ in kept[2:])))
                for entry in made._waiting:
                    entry.due = 0.0
                made._wake.set()
                await eventually_async(lambda: not made.waiting_count)
                assert sum(store.released) == 201
                assert await left(state) == []

    run(main())


def test_uploads_wait_for_no_one_and_no_one_for_them(tmp_path: Path) -> None:
    async def main() -> None:
        store = FakeStore()
        async with opened(tmp_path) as state:
            for _ in range(3 * COLLECTOR_ALONE_MAX):
                await add_aborted(state, 2)
            await add_garbage(state, GarbageRecord(tuple(extent() for _ in range(7))), b"z")
            async with collecting(state, store) as made:
                await eventually_async(lambda: store.released and not made.waiting_count)
            assert await left(state) == []
            assert store.released.index(7) == 0
            assert store.released[1:] == [2] * (3 * COLLECTOR_ALONE_MAX)

    run(main())


def test_a_scan_that_fails_is_made_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as state:
            await add_garbage(state, GarbageRecord((extent(),)))
            listed, tries = state.list, 0

            async def fails(*where: Any) -> Page:
                nonlocal tries
                tries += 1
                if tries == 1:
                    raise NoLeader("no leader is known")
                return await listed(*where)

            monkeypatch.setattr(state, "list", fails)
            store = FakeStore()
            async with collecting(state, store):
                await eventually_async(lambda: store.released == [1])

    run(main())

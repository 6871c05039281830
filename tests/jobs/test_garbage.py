"""What is due is let go of in order of time; what can not be holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predastore.base.errors import CorruptData, NoLeader, PredastoreError
from predastore.catalog import keys
from predastore.catalog.keys import COMPLETED, DUE, OBJECTS, PARTS, UPLOADS
from predastore.catalog.readers import Readers
from predastore.catalog.rows import CompletedRow, GarbageRow, PartRow, PlacementRow, Waste
from predastore.jobs import due, ended_uploads
from predastore.jobs.garbage import Garbage
from predastore.s3db.commands import Applied, Batch, Delete, Op, Page, Put, batch
from predastore.s3db.global_state import LocalState
from predastore.storage.extents import FileExtent, new_id, now_ms
from predastore.storage.formats import decode, encode, pack
from support.backends import run
from support.waiting import eventually_async, until

BUCKET = b"\x80" + bytes(15)
HOUR_MS = 3_600_000
AT_ONCE = 1  # in ms since 1970


class FakeStore:
    """A store that lets go of everything at once, but for what `refuse` holds, and what `raises`
    does."""

    grace_s = 300.0

    def __init__(self) -> None:
        self.released: list[int] = []  # extents of each call
        self.names: list[bytes] = []  # write ids
        self.refuse: set[bytes] = set()
        self.raises: dict[bytes, Exception] = {}

    async def release(self, extents: Sequence[FileExtent]) -> list[bool]:
        for extent in extents:
            if extent.write_id in self.raises:
                raise self.raises[extent.write_id]
        self.released.append(len(extents))
        self.names += [extent.write_id for extent in extents]
        return [extent.write_id not in self.refuse for extent in extents]


def extent() -> FileExtent:
    return FileExtent("x", new_id(), 1, 1 << 20, b"1234", 1)


def layout() -> bytes:
    return new_id() + new_id()


async def add_layout(
    state: LocalState, *pages: Sequence[FileExtent], due_ms: int = AT_ONCE, key: str = "k"
) -> bytes:
    """Its name, let go of as a procedure would."""
    name = layout()
    row = GarbageRow(Waste.LAYOUT, name, len(pages))
    ops: list[Op] = [Put(DUE, keys.due(due_ms, row.waste, name), encode(row))]
    starts = tuple((n, n) for n in range(len(pages))) if len(pages) > 1 else ()
    for number, extents in enumerate(pages):
        page = PlacementRow("bucket", key, tuple(extents), pages=starts if not number else ())
        ops.append(Put(OBJECTS, keys.deleted(name, number), encode(page)))
    await state.commit(batch(*ops))
    return name


async def add_upload(state: LocalState, part_count: int, *, ended: bool = True) -> bytes:
    """The name of an upload with so many parts, that was aborted."""
    upload_id = new_id().hex()
    name = keys.upload_name(BUCKET, upload_id)
    ops: list[Op] = []
    for number in range(1, part_count + 1):
        row = PartRow(number, extent(), 1, "0" * 32, 0)
        ops.append(Put(PARTS, keys.part(BUCKET, upload_id, number), encode(row)))
    if ended:
        garbage = GarbageRow(Waste.UPLOAD, name)
        ops.append(Put(DUE, keys.due(AT_ONCE, garbage.waste, name), encode(garbage)))
    else:
        ops.append(Put(UPLOADS, keys.upload(BUCKET, "k", upload_id), b"a row"))
    await state.commit(batch(*ops))
    return name


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[LocalState]:
    state = LocalState(path)
    try:
        yield state
    finally:
        await state.close()


@asynccontextmanager
async def collecting(
    state: LocalState,
    store: FakeStore,
    readers: Readers | None = None,
    is_mine: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Garbage]:
    made = Garbage(state, store, readers or Readers(), is_mine)  # type: ignore[arg-type]
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def waiting(state: LocalState) -> list[GarbageRow]:
    return [decode(GarbageRow, stored) for _, stored in await state.scan(DUE, b"", b"", 10_000)]


async def names(state: LocalState) -> set[bytes]:
    return {row.name for row in await waiting(state)}


async def are_left(state: LocalState, *wanted: bytes) -> bool:
    return await names(state) == {*wanted}


async def is_empty(state: LocalState) -> bool:
    tables = (DUE, OBJECTS, PARTS, UPLOADS, COMPLETED)
    return not any([await state.list_keys(table, b"", 10) for table in tables])


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "GARBAGE_RETRY_S_MIN", 0.001)
    monkeypatch.setattr("predastore.jobs.garbage.GARBAGE_RETRY_S_MIN", 0.001)
    monkeypatch.setattr("predastore.jobs.garbage.GARBAGE_WAIT_S_MAX", 0.02)


def test_all_kinds_of_waste_go_and_nothing_of_them_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_uploads, "BACKEND_PARTS_PAGE_MAX", 4)
    monkeypatch.setattr(ended_uploads, "BACKEND_UPLOADS_PAGE_MAX", 3)
    monkeypatch.setattr("predastore.jobs.due.GARBAGE_BATCH_MAX", 3)

    async def main() -> None:
        store = FakeStore()
        async with opened(tmp_path) as state:
            for _ in range(5):
                await add_layout(state, [extent()])
            await add_layout(state, [extent()] * 2, [extent()] * 2, [extent()])
            for _ in range(3):
                await add_upload(state, 10)
            for _ in range(7):
                await add_upload(state, 2, ended=False)
            row = GarbageRow(Waste.BUCKET, BUCKET)
            ops: list[Op] = [Put(DUE, keys.due(AT_ONCE, row.waste, BUCKET), encode(row))]
            part = PlacementRow("bucket", "k", (extent(),))
            row = GarbageRow(Waste.EXTENT, part.extents[0].write_id, 1)
            ops.append(Put(OBJECTS, keys.deleted(row.name), encode(part)))
            ops.append(Put(DUE, keys.due(AT_ONCE, row.waste, row.name), encode(row)))
            name = keys.upload_name(BUCKET, new_id().hex())
            ops.append(Put(COMPLETED, name, encode(CompletedRow("k", b""))))
            row = GarbageRow(Waste.COMPLETED, name)
            ops.append(Put(DUE, keys.due(AT_ONCE, row.waste, name), encode(row)))
            await state.commit(batch(*ops))
            async with collecting(state, store):
                await until(lambda: is_empty(state))
            assert len(store.names) == 5 + 5 + 30 + 14 + 1

    run(main())


def test_nothing_goes_before_its_time_and_nothing_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store, listed, reads = FakeStore(), set(), 0
        async with opened(tmp_path) as state:
            later = [
                await add_layout(state, [extent()], due_ms=now_ms() + HOUR_MS) for _ in range(5)
            ]
            await add_layout(state, [extent()])
            lists, read = state.list, state.read

            async def told(table: str, *where: Any) -> Page:
                listed.add(table)
                return await lists(table, *where)

            async def counted(wanted: Sequence[tuple[str, bytes]]) -> Any:
                nonlocal reads
                reads += len(wanted)
                return await read(wanted)

            monkeypatch.setattr(state, "list", told)
            monkeypatch.setattr(state, "read", counted)
            async with collecting(state, store) as made:
                await made.retire(later)
                await until(lambda: are_left(state, *later))
            assert (store.released, listed, reads) == ([1], {DUE}, 1)

    run(main())


class PatientStore(FakeStore):
    """Its first call waits for a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.second = asyncio.Event()
        self.running = self.running_max = 0

    async def release(self, extents: Sequence[FileExtent]) -> list[bool]:
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        if self.running > 1:
            self.second.set()
        try:
            await self.second.wait()
            return await super().release(extents)
        finally:
            self.running -= 1


def test_while_nodes_let_go_of_some_the_next_are_read_and_given_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "GARBAGE_BATCH_MAX", 3)

    async def main() -> None:
        store = PatientStore()
        async with opened(tmp_path) as state:
            for _ in range(20):
                await add_layout(state, [extent()])
            async with collecting(state, store):
                await until(lambda: is_empty(state), within_s=10)
            assert store.running_max == 2
            assert sorted(store.released, reverse=True) == [3] * 6 + [2]

    run(main())


def test_pages_of_one_row_are_let_go_of_one_behind_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row stays until the first of them has gone, however late that is."""
    monkeypatch.setattr(due, "GARBAGE_EXTENTS_MAX", 2)

    async def main() -> None:
        store, bad = FakeStore(), extent()
        store.refuse.add(bad.write_id)
        async with opened(tmp_path) as state:
            name = await add_layout(state, [bad, extent()], [extent()] * 2, [extent()] * 2)
            async with collecting(state, store):
                await until(lambda: is_released(store, 6))
                assert await names(state) == {name}
                store.refuse.clear()
                await until(lambda: is_empty(state))

    run(main())


async def is_released(store: FakeStore, count: int) -> bool:
    return len(store.names) >= count


@pytest.mark.parametrize("error", [CorruptData("of another backend"), RuntimeError("a bug")])
def test_what_can_not_be_released_holds_up_no_other(tmp_path: Path, error: Exception) -> None:
    async def main() -> None:
        store, bad = FakeStore(), extent()
        store.raises[bad.write_id] = error
        async with opened(tmp_path) as state:
            stuck = await add_layout(state, [bad])
            for _ in range(5):
                await add_layout(state, [extent()])
                await add_upload(state, 2)
            async with collecting(state, store):
                await until(lambda: are_left(state, stuck))
                store.raises.clear()
                await until(lambda: is_empty(state))

    run(main())


def test_what_can_not_be_committed_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as state:
            stuck = await add_layout(state, [extent()])
            await add_upload(state, 3)
            await add_layout(state, [extent()])
            commit = state.commit

            async def fails(command: Batch) -> Applied:
                where = keys.deleted(stuck)
                if any(isinstance(op, Delete) and op.key == where for op in command.ops):
                    raise PredastoreError("not this one")
                return await commit(command)

            monkeypatch.setattr(state, "commit", fails)
            async with collecting(state, FakeStore()):
                await until(lambda: are_left(state, stuck))

    run(main())


def test_what_can_not_be_read_stays_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a row that a newer program wrote: it may know what to do with it."""
    monkeypatch.setattr("predastore.jobs.due.GARBAGE_BATCH_MAX", 2)

    async def main() -> None:
        async with opened(tmp_path) as state:
            unread = [keys.due(AT_ONCE, 77, b"%d" % number) for number in range(5)]
            await state.commit(batch(*(Put(DUE, key, b"\x09what?") for key in unread)))
            page = await add_layout(state, [extent()])
            await state.set(OBJECTS, keys.deleted(page), b"\x09what?")
            late = await add_layout(state, [extent()], due_ms=AT_ONCE + 1)
            async with collecting(state, FakeStore()):

                async def is_done() -> bool:
                    return not await state.exists(OBJECTS, keys.deleted(late))

                await until(is_done)
            stored = dict(await state.scan(DUE, b"", b"", 100))
            assert {key[8:] for key in unread} | {b"\1" + page} == {key[8:] for key in stored}
            assert list(stored.values()).count(b"\x09what?") == 5

    run(main())


def test_the_extents_of_one_batch_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "GARBAGE_EXTENTS_MAX", 10)

    async def main() -> None:
        store = FakeStore()
        async with opened(tmp_path) as state:
            for _ in range(6):
                await add_layout(state, [extent() for _ in range(4)])
            await add_layout(state, *([extent() for _ in range(4)] for _ in range(6)))
            async with collecting(state, store):
                await until(lambda: is_empty(state))
        assert sum(store.released) == 48
        assert max(store.released) == 12

    run(main())


def test_a_page_that_can_not_go_keeps_its_row_and_no_other_page(tmp_path: Path) -> None:
    async def main() -> None:
        store, stuck = FakeStore(), extent()
        store.refuse.add(stuck.write_id)
        async with opened(tmp_path) as state:
            name = await add_layout(state, [extent()], [extent(), stuck], [extent()])

            async def is_left() -> bool:
                return await state.list_keys(OBJECTS, b"", 10) == [keys.deleted(name, 1)]

            async with collecting(state, store):
                await until(is_left)
                assert await are_left(state, name)
                store.refuse.clear()
                await until(lambda: is_empty(state))

    run(main())


def test_what_stays_is_tried_again_soon_though_all_else_is_far_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.jobs.garbage.GARBAGE_WAIT_S_MAX", 3600.0)

    async def main() -> None:
        store, stuck = FakeStore(), extent()
        store.refuse.add(stuck.write_id)
        async with opened(tmp_path) as state:
            await add_layout(state, [stuck])
            later = await add_layout(state, [extent()], due_ms=now_ms() + HOUR_MS)
            async with collecting(state, store):
                await eventually_async(lambda: store.names)
                store.refuse.clear()
                await until(lambda: are_left(state, later))

    run(main())


def test_what_stays_is_tried_later_and_later_and_keeps_what_a_newer_program_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "GARBAGE_RETRY_S_MIN", 1000.0)
    monkeypatch.setattr(due, "GARBAGE_RETRY_S_MAX", 7000.0)

    async def main() -> None:
        store, stuck = FakeStore(), extent()
        store.refuse.add(stuck.write_id)
        async with opened(tmp_path) as state:
            name = await add_layout(state, [stuck])
            fields = [*msgspec.structs.astuple(GarbageRow(Waste.LAYOUT, name, 1)), "more"]
            pauses = []
            for tries in range(5):
                ((key, _),) = await state.scan(DUE, b"", b"", 10)
                fields[3] = tries
                again, row = keys.due_again(key, AT_ONCE), b"\2" + pack(fields)
                await state.commit(batch(Delete(DUE, key), Put(DUE, again, row)))
                began_ms = now_ms()
                async with collecting(state, store):

                    async def is_tried(tries: int = tries) -> bool:
                        return [row.tries for row in await waiting(state)] == [tries + 1]

                    await until(is_tried)
                ((key, stored),) = await state.scan(DUE, b"", b"", 10)
                assert msgspec.msgpack.decode(stored[1:])[4] == "more"
                pauses.append((keys.due_ms_of(key) - began_ms) // 100_000 * 100)
            assert pauses == [1000, 2000, 4000, 7000, 7000]

    run(main())


def test_only_who_heals_collects_and_two_do_no_harm(tmp_path: Path) -> None:
    async def main() -> None:
        store, stuck = FakeStore(), extent()
        store.refuse.add(stuck.write_id)
        async with opened(tmp_path) as state:
            kept = await add_layout(state, [stuck])
            for _ in range(20):
                await add_layout(state, [extent()], [extent()])
                await add_upload(state, 3)
            asked, mine = 0, False

            def is_mine() -> bool:
                nonlocal asked
                asked += 1
                return mine

            async with collecting(state, store, is_mine=is_mine):
                await eventually_async(lambda: asked > 3)
                assert not store.released
                mine = True
                async with collecting(state, store):
                    await until(lambda: are_left(state, kept))
                    store.refuse.clear()
                    await until(lambda: is_empty(state))

    run(main())


def test_what_a_reader_holds_stays_until_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        readers = Readers()
        async with opened(tmp_path) as state:
            name = await add_layout(state, [extent()])
            with readers.holding(name):
                other = await add_layout(state, [extent()])
                async with collecting(state, FakeStore(), readers):
                    await until(lambda: are_left(state, name))
                assert other not in await names(state)
            async with collecting(state, FakeStore(), readers):
                await until(lambda: is_empty(state))

    run(main())


def test_who_looked_before_keeps_it_and_who_looks_later_does_not(tmp_path: Path) -> None:
    """Without a grace time; a key that is always looked at is let go of all the same."""

    async def main() -> None:
        readers, store = Readers(), FakeStore()
        store.grace_s = 0.0
        async with opened(tmp_path) as state:
            name = await add_layout(state, [extent()], key="hot")
            with readers.looking("bucket/hot") as first, readers.looking("bucket/hot"):
                async with collecting(state, store, readers):
                    await until(lambda: _was_tried(state))
                    assert not store.released
                    with readers.looking("bucket/hot") as third:
                        for look in [*readers._looks["bucket/hot"].values()]:
                            if look is not third:
                                look.end()
                        await until(lambda: is_empty(state))
                first.end()
            assert name

    run(main())


async def _was_tried(state: LocalState) -> bool:
    return any(row.tries for row in await waiting(state))


def test_with_no_grace_time_bytes_are_gone_on_return_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "GARBAGE_READ_ROWS", 16)
    monkeypatch.setattr(due, "GARBAGE_EXTENTS_MAX", 10)

    async def main() -> None:
        store, read_max = FakeStore(), 0
        store.grace_s = 0.0
        async with opened(tmp_path) as state:
            many = [await add_layout(state, [extent()]) for _ in range(100)]
            many.append(await add_layout(state, *([extent() for _ in range(4)] for _ in range(9))))
            read = state.read

            async def told(wanted: Sequence[tuple[str, bytes]]) -> Any:
                nonlocal read_max
                read_max = max(read_max, len(wanted))
                return await read(wanted)

            monkeypatch.setattr(state, "read", told)
            made = Garbage(state, store, Readers())  # type: ignore[arg-type]
            await made.retire(many)
            assert (sum(store.released), max(store.released), read_max) == (136, 12, 16)
            assert len(await names(state)) == 101, "the rows are left to the background"
            monkeypatch.undo()
            made.start()
            await until(lambda: is_empty(state))
            await made.close()

    run(main())


def test_with_no_grace_time_the_parts_of_an_upload_are_gone_on_return(tmp_path: Path) -> None:
    async def main() -> None:
        store = FakeStore()
        store.grace_s = 0.0
        async with opened(tmp_path) as state:
            name = await add_upload(state, 5)
            made = Garbage(state, store, Readers())  # type: ignore[arg-type]
            await made.retire([name])
            assert store.released == [5]
            assert await state.list_keys(PARTS, b"", 10) == []

    run(main())


def test_a_pass_that_fails_is_made_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as state:
            await add_layout(state, [extent()])
            listed, tries = state.list, 0

            async def fails(*where: Any) -> Page:
                nonlocal tries
                tries += 1
                if tries == 1:
                    raise NoLeader("no leader is known")
                return await listed(*where)

            monkeypatch.setattr(state, "list", fails)
            async with collecting(state, FakeStore()):
                await until(lambda: is_empty(state))

    run(main())


def test_a_part_that_healing_has_moved_meanwhile_is_let_go_of_where_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        store, moved = FakeStore(), extent()
        async with opened(tmp_path) as state:
            await add_upload(state, 3)
            (_, second, _) = await state.list_keys(PARTS, b"", 10)
            release = store.release

            async def races(extents: Sequence[FileExtent]) -> list[bool]:
                store.release = release  # type: ignore[method-assign]
                await state.set(PARTS, second, encode(PartRow(2, moved, 1, "0" * 32, 0)))
                return await release(extents)

            store.release = races  # type: ignore[method-assign]
            async with collecting(state, store):
                await until(lambda: is_empty(state))
            assert moved.write_id in store.names

    run(main())

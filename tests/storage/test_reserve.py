"""Plain files on a small file system of its own: what fills it up is refused in time, so that it
can be emptied again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from predastore.base.errors import NodeFull
from predastore.base.limits import FILE_RESERVE_BYTES_MAX, FILE_RESERVE_BYTES_MIN, GIB, MIB
from predastore.catalog.keys import OBJECTS, PARTS, UPLOADS
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Versioning
from predastore.catalog.values import Attributes, Deleted, Wanted
from predastore.s3db.commands import Delete, Put, batch
from predastore.s3db.global_state import LocalState
from predastore.storage import room
from predastore.storage.room import OBSTACLE, Room
from support.backends import OWNER, BytesSource, Harness, filesystem, run, some_bytes

VERBOSE = Attributes("1", "text/plain", user={"about": "x" * 1500})  # records are most of it


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 40 MiB, or of as many as the test says."""
    mount = tmp_path / "small"
    mount.mkdir()
    size = f"size={getattr(request, 'param', 40)}m"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


async def until_full(put: Callable[[int], Awaitable[Any]], at_once: int = 16) -> int:
    """Calls it with 0, 1, ... until there is no room: how many of these were done."""
    done, is_full = 0, False
    numbers = iter(range(1_000_000))

    async def fill() -> None:
        nonlocal done, is_full
        while not is_full:
            try:
                await put(next(numbers))
            except NodeFull:
                is_full = True
            else:
                done += 1

    await asyncio.gather(*(fill() for _ in range(at_once)))
    return done


async def refuses_more(at: Harness, upload: Any) -> None:
    """Whatever adds something."""
    catalog = at.catalog
    for adding in (
        at.put("more", b""),
        at.put("more", b"more"),
        catalog.create_upload("bucket", "more", OWNER),
        catalog.put_part(upload, 2, BytesSource(b""), 0),
        catalog.create_bucket("more", OWNER.owner, "us-east-1"),
    ):
        with pytest.raises(NodeFull):
            await adding
    assert await catalog.write_obstacle() == OBSTACLE


def test_a_disk_that_puts_have_filled_is_emptied_by_deletes(disk: Path) -> None:
    async def main() -> None:
        async with filesystem(disk) as at:
            upload = await at.begin("upload")
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            large = await until_full(lambda n: at.put(f"large-{n}", some_bytes(MIB, n)))
            small = await until_full(lambda n: at.put(f"small-{n}", some_bytes(5000, n)))
            await until_full(lambda n: at.put(f"empty-{n}", b""))
            assert large > 15
            assert small > 10
            assert free_bytes(disk) > FILE_RESERVE_BYTES_MIN - MIB
            await refuses_more(at, upload)
        async with filesystem(disk) as at:  # it starts on a full disk, too
            await refuses_more(at, upload)
            assert not await at.catalog.create_bucket("bucket", OWNER.owner, "us-east-1")
            await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            keys = await at.keys(limit=100_000)
            for key in keys:
                if key.startswith("large"):
                    assert await at.get(key) == some_bytes(MIB, int(key.partition("-")[2]))
                await at.catalog.delete("bucket", key)
            assert await at.keys() == []
            assert free_bytes(disk) > FILE_RESERVE_BYTES_MIN + 15 * MIB
            assert await at.catalog.write_obstacle() == ""
            for number in range(large // 2):
                await at.put(f"again-{number}", some_bytes(MIB, number))

    run(main())


def test_a_disk_that_versions_have_filled_is_emptied_by_deleting_them(disk: Path) -> None:
    async def main() -> None:
        async with filesystem(disk) as at:
            await at.version(Versioning.ENABLED)
            kept = (await at.put("kept", b"kept")).version_id
            puts = await until_full(lambda n: at.put("k", some_bytes(MIB, n)))
            assert puts > 15
            await until_full(lambda n: at.put("k", b""))
            await until_full(lambda n: at.catalog.delete("bucket", "k"))
            permit = await at.permit()
            for adding in (
                at.catalog.amend("bucket", "kept", tags=(("name", "value"),)),
                at.catalog.change_bucket(permit, document=("tags", b"x")),
            ):
                with pytest.raises(NodeFull):
                    await adding
            await at.catalog.amend("bucket", "kept", tags=())
            await at.catalog.change_bucket(permit, document=("tags", None))
            listed = (await at.catalog.list_versions(await at.permit(), limit=100_000)).versions
            wanted = [Wanted(each.key, each.version_id) for each in listed if each.key == "k"]
            assert len(wanted) >= puts
            for start in range(0, len(wanted), 1000):
                deleted = await at.catalog.delete_many("bucket", wanted[start : start + 1000])
                assert all(isinstance(each, Deleted) for each in deleted), deleted
            for number in range(puts // 2):
                await at.put("k", some_bytes(MIB, number))
            await at.catalog.delete("bucket", "k")
            assert await at.get("kept") == b"kept"
            assert (await at.found("kept")).version_id == kept

    run(main())


@pytest.mark.parametrize("disk", [21], indirect=True)
def test_a_disk_that_records_have_filled_is_emptied_and_filled_again(disk: Path) -> None:
    """The state's file does not become shorter: what it can spare is room for records, and for what
    deletes write."""

    async def main() -> None:
        async with filesystem(disk) as at:
            counts = []
            for _ in range(3):
                counts.append(
                    await until_full(lambda n: at.put(f"k{n:05d}", b"", attributes=VERBOSE), 64)
                )
                keys = await at.keys(limit=100_000)
                for start in range(0, len(keys), 1000):
                    wanted = [Wanted(key) for key in keys[start : start + 1000]]
                    deleted = await at.catalog.delete_many("bucket", wanted)
                    assert all(isinstance(each, Deleted) for each in deleted), deleted
                await at.no_garbage()
            assert min(counts) > 500
            assert counts[2] > counts[1] // 2

    run(main())


@pytest.mark.parametrize("disk", [21], indirect=True)
@pytest.mark.parametrize("end", ["abort", "delete bucket"])
def test_a_disk_that_uploads_have_filled_is_emptied(disk: Path, end: str) -> None:
    async def main() -> None:
        async with filesystem(disk) as at:
            begun: list[Any] = []

            async def begin(number: int) -> None:
                begun.append(await at.begin(f"k{number}", VERBOSE))

            assert await until_full(begin, 64) > 500
            if end == "abort":
                for upload in begun:
                    await at.catalog.abort(upload)
            else:
                await at.catalog.delete_bucket("bucket")
            await at.no_garbage()
            assert not await at.table(UPLOADS)
            assert not await at.table(PARTS)
            await at.catalog.create_bucket("bucket", OWNER.owner, "us-east-1")
            await at.put("again", b"x" * 1000)

    run(main())


@pytest.mark.parametrize("disk", [8], indirect=True)
def test_commits_that_have_no_room_are_not_the_last_ones(disk: Path) -> None:
    """Even where the reserve did not help, as others have filled the disk: each commit by itself
    succeeds or is NodeFull, and all do once there is room."""

    async def main() -> None:
        state = LocalState(disk / "state")
        await state.commit(batch(*(Put(OBJECTS, b"%d" % n, b"x" * 100) for n in range(100))))
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(free_bytes(disk) - 400_000))
        large = batch(*(Put(OBJECTS, b"large%d" % n, bytes(500_000)) for n in range(5)))
        results = await asyncio.gather(
            *(state.commit(one) for one in (large, batch(Delete(OBJECTS, b"1")), large)),
            return_exceptions=True,
        )
        assert [isinstance(one, NodeFull) for one in results] == [True, False, True], results
        assert await state.get(OBJECTS, b"1") is None
        assert await state.get(OBJECTS, b"large0") is None
        ballast.unlink()
        await state.commit(large)
        await state.close()
        state = LocalState(disk / "state")
        assert await state.get(OBJECTS, b"large4") == bytes(500_000)
        assert await state.get(OBJECTS, b"1") is None
        await state.close()

    run(main())


def statvfs(total_bytes: int, free_bytes: int) -> Any:
    return SimpleNamespace(f_frsize=4096, f_blocks=total_bytes // 4096, f_bavail=free_bytes // 4096)


def test_the_reserve_follows_from_the_size_and_from_what_the_state_can_spare() -> None:
    for total, reserve in (
        (64 * MIB, FILE_RESERVE_BYTES_MIN),
        (GIB, 64 * MIB),
        (100 * GIB, FILE_RESERVE_BYTES_MAX),
    ):
        for spare, kept in ((0, reserve), (reserve // 2, reserve // 2), (reserve, reserve // 4)):
            asked = Room(partial(int, spare))
            assert asked.left_bytes(statvfs(total, kept)) == 0
            asked.check(statvfs(total, kept + 8192), 8192)
            with pytest.raises(NodeFull):
                asked.check(statvfs(total, kept + 4096), 8192)


def test_writes_under_way_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for_two = statvfs(64 * MIB, FILE_RESERVE_BYTES_MIN + 2 * MIB)
    monkeypatch.setattr(room.os, "fstatvfs", lambda _: room_for_two)
    asked = Room(lambda: 0)
    with asked.taken(0, MIB):
        with asked.taken(0, MIB), pytest.raises(NodeFull), asked.taken(0, 4096):
            raise AssertionError("there is no room for it")
        with asked.taken(0, MIB):
            pass

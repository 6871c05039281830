"""Plain files in buckets that have versions, or were made anew: one key has one path at most."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.catalog.procedures import completion
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Versioning
from support.backends import (
    OWNER,
    BytesSource,
    Harness,
    SlowPublication,
    StalledSource,
    filesystem,
    run,
)
from support.files import (
    CRASHES,
    Crash,
    crash_at,
    dies,
    files_below,
    path_of,
    paths,
    put_at,
)
from support.waiting import eventually_async

ENABLED, SUSPENDED = Versioning.ENABLED, Versioning.SUSPENDED
BOTH = pytest.mark.parametrize("versioning", [ENABLED, SUSPENDED])


async def delete(at: Harness, key: str, version_id: str = "") -> None:
    await at.catalog.delete("bucket", key, version_id)


async def get(at: Harness, key: str, version_id: str) -> bytes:
    version = await at.found(key, version_id=version_id)
    return await at.read(version, 0, version.size)


async def remade(at: Harness, versioning: Versioning = Versioning.NEVER) -> None:
    """The bucket, which is empty, is deleted and made anew."""
    await at.catalog.delete_bucket("bucket")
    await at.catalog.create_bucket("bucket", "another", "us-east-1")
    await at.version(versioning)


def test_a_new_version_leaves_the_old_one_at_its_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("dir/k", b"old")
            await at.version(ENABLED)
            assert (await put_at(at, "dir/k", b"new")).startswith(".predastore/objects/")
            newest = await at.found("dir/k")
            assert await at.get("dir/k") == b"new"
            assert await get(at, "dir/k", "null") == b"old"
            assert (tmp_path / "bucket/dir/k").read_bytes() == b"old"
            await delete(at, "dir/k", newest.version_id)
            assert await at.get("dir/k") == b"old"
            assert files_below(tmp_path) == {"bucket/dir/k"}
            await delete(at, "dir/k", "null")
            assert files_below(tmp_path) == set()
            assert not (tmp_path / "bucket/dir").exists()

    run(main())


def test_a_version_goes_with_its_own_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"0")
            await at.version(ENABLED)
            ids = [(await at.put("k", b"%d" % number)).version_id for number in (1, 2, 3)]
            await delete(at, "k")
            assert files_below(tmp_path) == await paths(at)
            await delete(at, "k", "null")
            assert not (tmp_path / "bucket/k").exists()
            for left in (ids[2], ids[0], ids[1]):
                assert await get(at, "k", left) == b"%d" % (ids.index(left) + 1)
                await delete(at, "k", left)
                assert files_below(tmp_path) == await paths(at)
            assert files_below(tmp_path) == set()

    run(main())


def test_in_a_suspended_bucket_the_null_version_has_no_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"plain")
            await at.version(ENABLED)
            kept = await put_at(at, "k", b"kept")
            await at.version(SUSPENDED)
            first = await put_at(at, "k", b"null")
            assert files_below(tmp_path) == {kept, first}
            second = await put_at(at, "k", b"another null")
            assert files_below(tmp_path) == {kept, second}
            assert await get(at, "k", "null") == b"another null"
            await delete(at, "k")
            assert files_below(tmp_path) == {kept}

    run(main())


def test_an_upload_makes_a_version_of_its_parts(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"plain")
            await at.version(ENABLED)
            upload = await at.begin("k")
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            again = await at.catalog.put_part(upload, 1, BytesSource(b"again"), 5)
            assert part.extent.path not in files_below(tmp_path)
            made = await at.catalog.complete(upload, [CompletedPart(1, again.etag)])
            assert files_below(tmp_path) == {"bucket/k", again.extent.path}
            await delete(at, "k", made.version_id)
            assert files_below(tmp_path) == {"bucket/k"}

    run(main())


# --- at the same time ---------------------------------------------------------------------------


def test_a_put_that_finds_its_bucket_with_versions_goes_to_another_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"old")
            body = StalledSource(b"new")
            permit = await at.permit()
            put = at.catalog.put("bucket", "k", body, 3, OWNER, permit=permit)
            late = asyncio.ensure_future(put)
            await body.stalled.wait()
            await at.version(ENABLED)
            body.proceed.set()
            stored = await late
            version = await at.found("k")
            (extent,) = version.placement.extents
            assert files_below(tmp_path) == {"bucket/k", extent.path}
            assert (tmp_path / extent.path).read_bytes() == b"new"
            assert await get(at, "k", stored.version_id) == b"new"
            assert await get(at, "k", "null") == b"old"
            await delete(at, "k", stored.version_id)
            assert files_below(tmp_path) == {"bucket/k"}

    run(main())


def test_a_plain_path_that_a_put_gave_up_is_free(tmp_path: Path) -> None:
    """While it was reserved, nothing could lie below it."""

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            body = StalledSource(b"new")
            permit = await at.permit()
            put = at.catalog.put("bucket", "k", body, 3, OWNER, permit=permit)
            late = asyncio.ensure_future(put)
            await body.stalled.wait()
            await at.version(ENABLED)
            body.proceed.set()
            await delete(at, "k", (await late).version_id)
            await at.catalog.delete_bucket("bucket")
            await at.catalog.create_bucket("bucket", OWNER.owner, "eu")
            await at.put("k/below", b"plain")
            assert files_below(tmp_path) == {"bucket/k/below"}

    run(main())


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_version_is_moved_to_its_path_though_there_are_newer_ones(
    tmp_path: Path, *, is_deleted: bool
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            slow = SlowPublication(at)
            early = asyncio.ensure_future(at.put("k", b"old"))
            await slow.reached.wait()
            await at.version(ENABLED)
            newer = await put_at(at, "k", b"new")
            assert await get(at, "k", "null") == b"old"
            if is_deleted:
                await delete(at, "k", "null")
            slow.proceed.set()
            await early
            assert files_below(tmp_path) == {newer} if is_deleted else {newer, "bucket/k"}
            assert await at.get("k") == b"new"

    run(main())


def test_what_is_replaced_goes_though_the_new_file_is_not_at_the_path_yet(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"old")
            old = (await at.found("k")).placement
            assert old is not None
            slow = SlowPublication(at)
            late = asyncio.ensure_future(at.put("k", b"new"))
            await slow.reached.wait()
            assert await at.store.release(old.extents) == [True]
            assert not (tmp_path / "bucket/k").exists()
            assert await at.get("k") == b"new"
            await delete(at, "k")
            slow.proceed.set()
            await late
            assert files_below(tmp_path) == set()

    run(main())


@BOTH
def test_an_object_of_a_bucket_that_has_gone_does_not_take_the_path(
    tmp_path: Path, versioning: Versioning
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            slow = SlowPublication(at)
            early = asyncio.ensure_future(at.put("k", b"old"))
            await slow.reached.wait()
            await delete(at, "k")
            await remade(at)
            await at.put("k", b"new")
            await at.version(versioning)
            slow.proceed.set()
            await early
            assert await at.get("k") == b"new"
            assert files_below(tmp_path) == {"bucket/k"}

    run(main())


@pytest.mark.parametrize("versioning", list(Versioning))
@pytest.mark.parametrize("data", [b"old", b"new"])
def test_what_a_bucket_that_has_gone_left_goes_and_nothing_else(
    tmp_path: Path, versioning: Versioning, data: bytes
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.garbage.close()
            await at.put("k", b"old")
            await at.put("other", b"old")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(at.garbage, "retire", not_now)
                await delete(at, "k")
                await delete(at, "other")
                await remade(at, versioning)
                await at.put("k", data)
            assert "bucket/other" in files_below(tmp_path)
        async with filesystem(tmp_path) as at:
            lies = await path_of(at, "k")
            assert (lies == "bucket/k") is (versioning is Versioning.NEVER)
            await eventually_async(lambda: files_below(tmp_path) == {lies})
            assert await at.get("k") == data

    run(main())


async def not_now(*_: object) -> None:
    """A collector that has other things to do."""


# --- crashes ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("before", [None, b"old", b"new bytes!"])
def test_after_a_crash_in_a_put_each_version_has_its_file(
    tmp_path: Path, where: str, before: bytes | None, versioning: Versioning
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            if before is not None:
                await at.put("dir/k", before)
            await at.version(versioning)
        await crash_at(tmp_path, where, lambda at: at.put("dir/k", b"new bytes."))
        async with filesystem(tmp_path) as at:
            named = await paths(at)
            await eventually_async(lambda: files_below(tmp_path) == named)
            if where != "before the commit":
                assert await at.get("dir/k") == b"new bytes."
                assert (await path_of(at, "dir/k")).startswith(".predastore/objects/")
                if before is not None and versioning is ENABLED:
                    assert await get(at, "dir/k", "null") == before
            elif before is not None:
                assert await at.get("dir/k") == before
            else:
                assert await at.find("dir/k") is None

    run(main())


@pytest.mark.parametrize("is_plain", [False, True])
def test_after_a_crash_in_a_delete_of_a_version_its_file_is_removed(
    tmp_path: Path, *, is_plain: bool
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("dir/k", b"plain")
            await at.version(ENABLED)
            newer = await at.put("dir/k", b"newer")
            gone = "null" if is_plain else newer.version_id
        await crash_at(tmp_path, "before the release", lambda at: delete(at, "dir/k", gone))
        assert len(files_below(tmp_path)) == 2
        async with filesystem(tmp_path) as at:
            named = await paths(at)
            await eventually_async(lambda: files_below(tmp_path) == named)
            assert await at.get("dir/k") == (b"newer" if is_plain else b"plain")

    run(main())


@BOTH
def test_after_a_crash_a_version_gets_its_path_though_its_bucket_has_versions(
    tmp_path: Path, versioning: Versioning
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.garbage.close()
            at.store.publication.publish = dies
            with pytest.raises(Crash):
                await at.put("k", b"old")
            await at.version(versioning)
            with pytest.raises(Crash):
                await at.put("l", b"new")
            at.catalog._tasks.clear()
        assert all(name.startswith(".predastore/tmp/") for name in files_below(tmp_path))
        async with filesystem(tmp_path) as at:
            assert await path_of(at, "k") == "bucket/k"
            assert (tmp_path / "bucket/k").read_bytes() == await at.get("k") == b"old"
            assert await at.get("l") == b"new"
            assert files_below(tmp_path) == await paths(at)

    run(main())


def test_a_part_left_in_tmp_is_found_on_any_page_of_its_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "PLACEMENT_PAGE_EXTENTS", 2)
    monkeypatch.setattr(completion, "S3_PART_BYTES_MIN", 1)

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.garbage.close()
            upload = await at.begin("k")
            at.store.publication.publish = dies
            for number in range(1, 7):
                with pytest.raises(Crash):
                    await at.catalog.put_part(upload, number, BytesSource(b"%d" % number), 1)
            rows = (await at.catalog.list_parts(upload)).parts
            named = [CompletedPart(row.number, row.etag) for row in rows if row.number != 4]
            await at.catalog.complete(upload, named)
            at.catalog._tasks.clear()
        assert all(name.startswith(".predastore/tmp/") for name in files_below(tmp_path))
        async with filesystem(tmp_path) as at:
            assert await at.get("k") == b"12356"
            named_paths = await paths(at)
            assert len(named_paths) == 5
            await eventually_async(lambda: files_below(tmp_path) == named_paths)

    run(main())


@pytest.mark.parametrize("end", ["replace", "abort", "delete bucket"])
def test_parts_left_in_tmp_by_what_has_ended_go(tmp_path: Path, end: str) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.garbage.close()
            upload = await at.begin("k")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(at.garbage, "retire", not_now)
                patch.setattr(at.store.publication, "publish", dies)
                with pytest.raises(Crash):
                    await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
                if end == "replace":
                    with pytest.raises(Crash):
                        await at.catalog.put_part(upload, 1, BytesSource(b"again"), 5)
                elif end == "abort":
                    await at.catalog.abort(upload)
                else:
                    await at.catalog.delete_bucket("bucket")
            at.catalog._tasks.clear()
        assert files_below(tmp_path)
        async with filesystem(tmp_path) as at:
            left = {row.extent.path for row in (await at.catalog.list_parts(upload)).parts}
            if end == "replace":
                assert len(left) == 1
                await eventually_async(lambda: files_below(tmp_path) == left)
            else:
                await eventually_async(lambda: files_below(tmp_path) == set())

    run(main())

"""Versions of objects, over both byte stores."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from predastore.catalog.errors import (
    BucketNotEmpty,
    NoSuchKey,
    NoSuchVersion,
    ObjectLocked,
)
from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.rows import Versioning
from predastore.catalog.values import Attributes, Deleted, VersionEntry, Wanted
from support.backends import (
    BACKENDS,
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
    failing,
    run,
    some_bytes,
)

ENABLED, SUSPENDED = Versioning.ENABLED, Versioning.SUSPENDED
LARGE = 3 << 20


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: BACKENDS[request.param](tmp_path)


async def listed(at: Harness, **more: Any) -> list[VersionEntry]:
    return (await at.catalog.list_versions(await at.permit(), **more)).versions


async def ids(at: Harness) -> list[str]:
    """Of all versions and delete markers, by key, the newest first."""
    return [each.version_id for each in await listed(at)]


async def put(at: Harness, data: bytes, key: str = "k") -> str:
    return (await at.put(key, data)).version_id


def test_a_bucket_with_versions_keeps_them_all(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            names = [await put(at, b"version %d" % number) for number in range(4)]
            assert len(set(names)) == 4
            assert await at.get("k") == b"version 3"
            for number, name in enumerate(names):
                assert await at.get("k", version_id=name) == b"version %d" % number
                assert (await at.found("k", version_id=name)).is_newest is (number == 3)
            assert (await at.found("k")).version_id == names[3]
            entries = await listed(at)
            assert [each.version_id for each in entries] == names[::-1]
            assert [each.is_newest for each in entries] == [True, False, False, False]
            assert await at.keys() == ["k"]
            await at.no_garbage()
            await at.holds_extents(4)

    run(main())


def test_what_was_put_before_is_the_null_version(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            assert await put(at, b"before") == ""
            await at.version(ENABLED)
            assert (await at.found("k")).version_id == "null"
            name = await put(at, b"after")
            assert await ids(at) == [name, "null"]
            assert await at.get("k", version_id="null") == b"before"
            done = await at.catalog.delete("bucket", "k", "null")
            assert done == Deleted(existed=True, version_id="null")
            assert await ids(at) == [name]
            await at.no_garbage()
            await at.holds_extents(1)

    run(main())


def test_a_suspended_bucket_has_one_null_version_and_keeps_the_others(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await put(at, b"before")
            await at.version(ENABLED)
            kept = await put(at, b"kept")
            await at.version(SUSPENDED)
            for data in (b"one", b"two"):
                assert await put(at, data) == "null"
                assert await ids(at) == ["null", kept]
                assert await at.get("k") == await at.get("k", version_id="null") == data
            assert await at.get("k", version_id=kept) == b"kept"
            await at.no_garbage()
            await at.holds_extents(2)
            await at.version(ENABLED)
            newest = await put(at, b"newest")
            assert await ids(at) == [newest, "null", kept]
            await at.version(SUSPENDED)
            assert await put(at, b"three") == "null"
            assert await ids(at) == ["null", newest, kept]

    run(main())


def test_a_delete_marker_hides_a_key_until_it_is_removed(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            name = await put(at, b"data")
            marker = await at.catalog.delete("bucket", "k")
            assert marker == Deleted(is_marker=True, version_id=marker.version_id)
            finding = await at.finding("k")
            assert finding.version is None
            assert finding.marker is not None
            assert (finding.marker.version_id, finding.marker.is_newest) == (
                marker.version_id,
                True,
            )
            assert (await at.finding("k", marker.version_id)).marker == finding.marker
            assert await at.keys() == []
            assert await at.get("k", version_id=name) == b"data"
            assert [each.is_marker for each in await listed(at)] == [True, False]
            await failing(NoSuchKey, at.put("k", b"x", condition=Condition(if_match="*")))
            done = await at.catalog.delete("bucket", "k", marker.version_id)
            assert done == Deleted(existed=True, is_marker=True, version_id=marker.version_id)
            assert await at.keys() == ["k"]
            assert await at.get("k") == b"data"
            assert (await at.found("k")).version_id == name

    run(main())


def test_a_marker_of_a_suspended_bucket_is_the_null_version(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            kept = await put(at, b"kept")
            await at.version(SUSPENDED)
            await put(at, b"null")
            done = await at.catalog.delete("bucket", "k")
            assert done == Deleted(existed=True, is_marker=True, version_id="null")
            assert await ids(at) == ["null", kept]
            assert (await at.finding("k", "null")).marker is not None
            assert await put(at, b"again") == "null"
            assert await at.get("k") == b"again"
            await at.no_garbage()
            await at.holds_extents(2)

    run(main())


def test_when_the_newest_goes_the_one_before_is_current(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            names = [await put(at, b"first"), await put(at, b"second")]
            marker = (await at.catalog.delete("bucket", "k")).version_id
            names.append(await put(at, b"third"))
            assert (await at.catalog.delete("bucket", "k", names[2])).existed
            assert await at.keys() == []  # a marker is the newest again
            assert (await at.finding("k")).marker is not None
            assert (await at.catalog.delete("bucket", "k", marker)).is_marker
            assert await at.get("k") == b"second"
            ((key, summary),) = (await at.catalog.list("bucket")).entries
            assert (key, summary.size) == ("k", 6)
            assert (await at.catalog.delete("bucket", "k", names[0])).existed
            assert await at.get("k") == b"second"
            assert (await at.catalog.delete("bucket", "k", names[1])).existed
            assert await ids(at) == []
            assert await at.keys() == []
            await at.no_garbage()
            await at.holds_extents(0)

    run(main())


def test_an_id_that_no_version_has_deletes_nothing(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            name = await put(at, b"data")
            other = name[:16] + "0" * 16  # of the same order
            for absent in (other, "f" * 32, "null"):
                assert await at.catalog.delete("bucket", "k", absent) == Deleted()
                assert await at.find("k", version_id=absent) is None
            await failing(NoSuchVersion, at.catalog.delete("bucket", "k", "no id"))
            assert await ids(at) == [name]

    run(main())


def test_many_versions_are_deleted_each_for_itself(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.catalog.create_bucket("locked", OWNER.owner, "us-east-1", is_locked=True)
            held = Attributes(OWNER.owner, legal_hold=True)
            kept = (await at.put("kept", b"1", "locked", attributes=held)).version_id
            first = (await at.put("k", b"2", "locked")).version_id
            second = (await at.put("k", b"3", "locked")).version_id
            wanted = [
                Wanted("kept", kept),
                Wanted("k", second),
                Wanted("k", "no id"),
                Wanted("k", if_match="0"),
                Wanted("k"),
                Wanted("k", second),
                Wanted("k", first),
            ]
            done = await at.catalog.delete_many("locked", wanted)
            assert isinstance(done[0], ObjectLocked)
            assert done[1] == Deleted(existed=True, version_id=second)
            assert isinstance(done[2], NoSuchVersion)
            assert type(done[3]).__name__ == "ConditionFailed"
            assert isinstance(done[4], Deleted)
            assert done[4].is_marker
            assert not done[4].existed
            assert done[5] == Deleted()
            assert done[6] == Deleted(existed=True, version_id=first)
            permit = await at.permit("locked")
            left = (await at.catalog.list_versions(permit)).versions
            assert [(each.key, each.version_id) for each in left] == [
                ("k", done[4].version_id),
                ("kept", kept),
            ]

    run(main())


def test_versions_are_listed_page_by_page(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await put(at, b"", "a")
            await at.version(ENABLED)
            for key in ("a", "b/1", "b/2", "b/2", "c", "c/x", "d"):
                await put(at, key.encode(), key)
            await at.catalog.delete("bucket", "c")
            permit = await at.permit()
            whole = await at.catalog.list_versions(permit)
            assert [each.key for each in whole.versions] == [
                "a", "a", "b/1", "b/2", "b/2", "c", "c", "c/x", "d",
            ]  # fmt: skip
            assert not whole.truncated
            for delimiter, prefixes in (("", []), ("/", ["b/", "c/"])):
                expected = [
                    each for each in whole.versions if not delimiter or delimiter not in each.key
                ]
                for limit in (1, 2, 3, 100):
                    seen, common = [], []
                    key, name, truncated = "", "", True
                    while truncated:
                        page = await at.catalog.list_versions(
                            permit, "", delimiter, key, name, limit
                        )
                        assert len(page.versions) + len(page.prefixes) <= limit
                        seen += page.versions
                        common += page.prefixes
                        truncated, key, name = page.truncated, page.next_key, page.next_version_id
                    assert seen == expected
                    assert common == prefixes
            assert (await listed(at, prefix="c"))[0].is_marker
            assert await listed(at, limit=0) == []
            await failing(NoSuchVersion, listed(at, key_marker="a", version_id_marker="no id"))

    run(main())


def test_the_next_page_after_a_version_that_went_says_which_is_the_newest(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            names = [await put(at, b"1"), await put(at, b"2"), await put(at, b"3")]
            await at.catalog.delete("bucket", "k", names[2])
            page = await listed(at, key_marker="k", version_id_marker=names[2])
            assert [(each.version_id, each.is_newest) for each in page] == [
                (names[1], True),
                (names[0], False),
            ]
            page = await listed(at, key_marker="k", version_id_marker=names[1])
            assert [(each.version_id, each.is_newest) for each in page] == [(names[0], False)]

    run(main())


def test_a_bucket_with_a_version_or_a_marker_is_not_deleted(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            name = await put(at, b"data")
            marker = (await at.catalog.delete("bucket", "k")).version_id
            assert await at.keys() == []
            await failing(BucketNotEmpty, at.catalog.delete_bucket("bucket"))
            await at.catalog.delete("bucket", "k", name)
            await failing(BucketNotEmpty, at.catalog.delete_bucket("bucket"))
            await at.catalog.delete("bucket", "k", marker)
            await at.catalog.delete_bucket("bucket")

    run(main())


def test_a_reader_finishes_a_version_that_is_deleted(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            data = some_bytes(LARGE)
            name = await put(at, data)
            await put(at, b"newer")
            version = await at.found("k", version_id=name)
            async with aclosing(await at.catalog.open_read(version, 0, LARGE)) as stream:
                got = bytes(await anext(stream))
                await at.catalog.delete("bucket", "k", name)
                async for buffer in stream:
                    got += buffer
            assert got == data
            await at.no_garbage()
            await failing(NoSuchVersion, at.catalog.open_read(version, 0, LARGE))
            await at.holds_extents(1)

    run(main())


def test_what_is_made_of_parts_is_a_version(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            old = await put(at, b"old")
            upload = await at.begin("k")
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            made = await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            assert await ids(at) == [made.version_id, old]
            assert await at.get("k", version_id=made.version_id) == b"part"
            await at.catalog.delete("bucket", "k", made.version_id)
            assert await at.get("k") == b"old"
            await at.no_garbage()
            await at.holds_extents(1)

    run(main())


@pytest.mark.parametrize("versioning", [ENABLED, SUSPENDED])
def test_a_bucket_that_gets_versions_under_a_put_takes_it(
    backend: Any, versioning: Versioning
) -> None:
    """A plain file was to lie where those of such a bucket do not."""

    async def main() -> None:
        async with backend() as at:
            await put(at, b"before")
            source = StalledSource(bytes(LARGE))
            putting = asyncio.ensure_future(at.catalog.put("bucket", "k", source, LARGE, OWNER))
            await source.stalled.wait()
            await at.version(versioning)
            source.proceed.set()
            stored = await putting
            assert (await ids(at))[0] == stored.version_id
            assert (stored.version_id == "null") is (versioning is SUSPENDED)
            assert await at.get("k") == bytes(LARGE)

    run(main())


@pytest.mark.parametrize("size", [0, 10])
def test_versions_of_any_size_are_objects(backend: Any, size: int) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.version(ENABLED)
            name = await put(at, bytes(size))
            await put(at, b"newer")
            assert await at.get("k", version_id=name) == bytes(size)
            await at.catalog.delete("bucket", "k", name)
            assert await at.find("k", version_id=name) is None
            await at.no_garbage()
            await at.holds_extents(1)

    run(main())


def test_what_changes_a_version_names_it(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            amend = at.catalog.amend
            await put(at, b"first")
            assert await amend("bucket", "k", tags=(("a", "b"),)) == ""
            early = await at.permit()
            await at.version(ENABLED)
            assert await amend("bucket", "k", tags=(), permit=early) == "null"
            second = await put(at, b"second")
            assert await amend("bucket", "k", tags=()) == second
            assert await amend("bucket", "k", "null", tags=()) == "null"

    run(main())


def test_a_deletion_under_an_old_permit_tells_the_id_of_now(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await put(at, b"first")
            early = await at.permit()
            await at.version(ENABLED)
            deleted = await at.catalog.delete("bucket", "k", "null", permit=early)
            assert deleted == Deleted(existed=True, version_id="null")

    run(main())


def test_an_object_that_a_condition_misses_is_told_by_its_key(backend: Any) -> None:
    """Also where only the commit finds out: it was there when the body began."""

    async def main() -> None:
        async with backend() as at:
            await put(at, b"first")
            wanted = Condition(if_match="*")
            source = StalledSource(b"second")
            put_if = at.catalog.put("bucket", "k", source, 6, OWNER, condition=wanted)
            putting = asyncio.ensure_future(put_if)
            await source.stalled.wait()
            await at.catalog.delete("bucket", "k")
            source.proceed.set()
            for call in (putting, at.catalog.delete("bucket", "k", condition=wanted)):
                with pytest.raises(NoSuchKey) as caught:
                    await call
                assert caught.value.details == {"Key": "k"}

    run(main())

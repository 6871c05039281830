"""Buckets whose files lie in a directory of their own: where, and that nothing is lost sight of."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Coroutine, Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from predastore.base.errors import OtherVersion, StartupError
from predastore.base.limits import S3_PART_BYTES_MIN
from predastore.catalog.adoption import Adopted
from predastore.catalog.errors import NoSuchBucket
from predastore.catalog.keys import OBJECTS, VERSIONS
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Versioning
from predastore.storage.pathnames import FILE
from predastore.storage.room import Room
from support.backends import OWNER, BytesSource, Harness, filesystem, run, some_bytes
from support.files import Crash, dies
from support.waiting import eventually_async

MIB = 1 << 20


@pytest.fixture(params=["beside", "another file system"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory for a bucket; where the machine has memory for files, on another file system."""
    memory = Path("/dev/shm")
    if request.param == "beside" or not os.access(memory, os.W_OK):
        yield tmp_path / "there"
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "there"


def files(top: Path) -> set[str]:
    return {str(one.relative_to(top)) for one in top.rglob("*") if one.is_file()}


def base_files(base: Path) -> set[str]:
    return {name for name in files(base) if not name.startswith(".predastore/state")}


async def upload(at: Harness, key: str) -> bytes:
    """An object of two parts."""
    made = await at.begin(key)
    data = some_bytes(S3_PART_BYTES_MIN + 5)
    parts = []
    for number, piece in enumerate((data[:S3_PART_BYTES_MIN], data[S3_PART_BYTES_MIN:]), 1):
        part = await at.catalog.put_part(made, number, BytesSource(piece), len(piece))
        parts.append(CompletedPart(number, part.etag))
    await at.catalog.complete(made, parts)
    return data


def test_all_bytes_of_a_bucket_lie_in_its_directory(tmp_path: Path, there: Path) -> None:
    base, pathnames = tmp_path / "base", {"bucket": there}
    plain, odd = some_bytes(2 * MIB + 3), b"odd"

    async def main() -> None:
        async with filesystem(base, pathnames) as at:
            await at.put("dir/plain", plain)
            await at.put("odd//key", odd)
            both = await upload(at, "both")
            await at.catalog.create_bucket("other", "1", "r")
            await at.put("k", b"elsewhere", bucket="other")
        assert (there / "dir/plain").read_bytes() == plain
        assert {name.partition("/")[0] for name in files(there)} == {"dir", ".predastore"}
        assert base_files(base) == {"other/k", f".predastore/{FILE}"}
        async with filesystem(base, pathnames) as at:
            assert await at.get("dir/plain") == plain
            assert await at.get("odd//key") == odd
            assert await at.get("both") == both
            for key in ("dir/plain", "odd//key", "both"):
                await at.catalog.delete("bucket", key)
            await eventually_async(lambda: files(there) == set())
            assert sorted(os.listdir(there)) == [".predastore"]  # dir went with its last file

    run(main())


def test_what_a_crash_left_half_done_is_finished_there(tmp_path: Path, there: Path) -> None:
    base, pathnames = tmp_path / "base", {"bucket": there}

    async def main() -> None:
        async with filesystem(base, pathnames) as at:
            at.store.publication.publish = dies
            at.store.publication.forget = dies
            with pytest.raises(Crash):
                await at.put("k", b"committed")
            at.catalog._tasks.clear()
        [left] = files(there)
        assert left.startswith(".predastore/tmp/")
        (there / ".predastore/tmp/00-o-00").write_bytes(b"of no record")
        async with filesystem(base, pathnames) as at:
            assert files(there) == {"k"}
            assert await at.get("k") == b"committed"

    run(main())


# --- changes of the configuration -------------------------------------------------------------


def test_a_bucket_whose_row_went_lies_where_it_did(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": tmp_path / "there"}) as at:
            await at.put("k", b"data")
        async with filesystem(tmp_path / "base") as at:
            assert await at.get("k") == b"data"
            await at.put("l", b"more")
        assert files(tmp_path / "there") == {"k", "l"}

    run(main())


def test_a_directory_that_was_moved_is_found_and_one_that_was_not_is_missed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": old}) as at:
            await at.put("k", b"data")
        new.mkdir()
        with pytest.raises(StartupError, match=f'or write pathname = "{old}"'):
            async with filesystem(tmp_path / "base", {"bucket": new}):
                pass
        assert files(new) == set()
        new.rmdir()
        old.rename(new)
        with pytest.raises(StartupError, match="mount the disk"):  # as where it is not mounted
            async with filesystem(tmp_path / "base"):
                pass
        assert not old.exists()
        async with filesystem(tmp_path / "base", {"bucket": new}) as at:
            assert await at.get("k") == b"data"
        async with filesystem(tmp_path / "base") as at:  # from now on without a word
            assert await at.get("k") == b"data"

    run(main())


def test_a_bucket_with_no_more_than_an_upload_in_progress_is_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": tmp_path / "old"}) as at:
            await at.catalog.create_upload("bucket", "k", OWNER)
        with pytest.raises(StartupError, match="move the directory"):
            async with filesystem(tmp_path / "base", {"bucket": tmp_path / "new"}):
                pass

    run(main())


def test_a_bucket_that_lies_in_the_base_path_is_moved_by_hand_first(tmp_path: Path) -> None:
    base, there = tmp_path / "base", tmp_path / "there"

    async def main() -> None:
        async with filesystem(base) as at:
            await at.put("dir/k", b"plain")
            await at.put("odd//k", b"odd")
        with pytest.raises(StartupError, match="move what is in there to"):
            async with filesystem(base, {"bucket": there}):
                pass
        shutil.copytree(base / "bucket", there)
        shutil.rmtree(base / "bucket")
        async with filesystem(base, {"bucket": there}) as at:
            assert await at.get("dir/k") == b"plain"
            assert await at.get("odd//k") == b"odd"

    run(main())


def test_an_empty_bucket_may_lie_anywhere(tmp_path: Path) -> None:
    async def main() -> None:
        for name in ("one", "two"):
            async with filesystem(tmp_path / "base", {"bucket": tmp_path / name}) as at:
                await at.put("k", b"data")
                assert files(tmp_path / name) == {"k"}
                await at.catalog.delete("bucket", "k")
                await at.no_garbage()

    run(main())


def test_the_place_that_it_would_have_anyway_is_none_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"data")
        async with filesystem(tmp_path, {"bucket": tmp_path / "bucket"}) as at:
            assert await at.get("k") == b"data"
        assert base_files(tmp_path) == {"bucket/k"}

    run(main())


@pytest.mark.parametrize(
    ("pathnames", "problem"),
    [
        ({"bucket": "."}, "holds the base path"),
        ({"bucket": ".."}, "holds the base path"),
        ({"bucket": ".predastore/parts"}, "where other files are"),
        ({"bucket": "tls"}, "where other files are"),
        ({"bucket": "taken/deep"}, "where other files are"),
        ({"bucket": "a", "second": "a/b"}, "lie within each other"),
        ({"bucket": "a/b", "second": "a"}, "lie within each other"),
        ({"bucket": "a", "second": "link"}, "lie within each other"),
    ],
)
def test_a_directory_with_files_of_others_is_refused(
    tmp_path: Path, pathnames: dict[str, str], problem: str
) -> None:
    async def main() -> None:
        base = tmp_path / "base"
        async with filesystem(base) as at:
            await at.catalog.create_bucket("taken", "1", "r")
            await at.put("deep/k", b"of the other bucket", bucket="taken")
        (base / "a").mkdir()
        (base / "link").symlink_to(base / "a")
        before = base_files(base)
        with pytest.raises(StartupError, match=problem):
            async with filesystem(base, {name: base / path for name, path in pathnames.items()}):
                pass
        assert base_files(base) == before

    run(main())


def test_a_bucket_named_like_such_a_directory_has_no_plain_files(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path, {"bucket": tmp_path / "shared/deep"}) as at:
            await at.catalog.create_bucket("shared", "1", "r")
            await at.put("k", b"one")
            await at.put("deep/k", b"two", bucket="shared")
            assert await at.get("k") == b"one"
            assert await at.get("deep/k", bucket="shared") == b"two"

    run(main())


# --- files that lie there already -------------------------------------------------------------


def test_files_that_lie_there_become_objects_and_stay_where_they_are(
    tmp_path: Path, there: Path
) -> None:
    bodies = {"a.txt": b"text", "dir/sub/b": some_bytes(2 * MIB + 9), "empty": b""}
    for key, body in bodies.items():
        (there / key).parent.mkdir(parents=True, exist_ok=True)
        (there / key).write_bytes(body)
    os.utime(there / "a.txt", (1_000_000_000, 1_000_000_000))

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            assert await at.keys() == []
            assert await at.adopt("bucket", "1") == Adopted(3, 0)
            assert await at.keys() == sorted(bodies)
            for key, body in bodies.items():
                assert await at.get(key) == body
            found = await at.found("a.txt")
            assert (found.owner, found.detail.content_type) == ("1", "text/plain")
            assert found.etag == hashlib.md5(b"text").hexdigest()
            assert found.modified_ms == 1_000_000_000_000
            assert await at.adopt("bucket", "1") == Adopted(0, 0)
            await at.put("a.txt", b"new")
            await at.catalog.delete("bucket", "dir/sub/b")
            await eventually_async(lambda: files(there) == {"a.txt", "empty"})
            assert (there / "a.txt").read_bytes() == b"new"
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            assert await at.adopt("bucket", "1") == Adopted(0, 0)
            assert await at.get("a.txt") == b"new"

    run(main())


def test_more_files_than_one_commit_takes(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    names = [f"k{number:03}" for number in range(150)]
    for name in names:
        (there / name).write_bytes(name.encode())

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            assert await at.adopt("bucket", "1") == Adopted(150, 0)
            assert await at.keys() == names
            assert await at.get("k149") == b"k149"

    run(main())


def test_what_can_be_no_object_is_passed_over(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / ".predastore").mkdir(parents=True)
    (there / ".predastore/foreign").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    (there / "good").write_bytes(b"good")
    (there / "link").symlink_to(tmp_path / "secret")
    (there / "folder").symlink_to(tmp_path)
    os.mkfifo(there / "pipe")
    (there / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    (there / "/".join("d" * 70)).mkdir(parents=True)
    (there / "/".join("d" * 70) / "deep").write_bytes(b"")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            assert await at.adopt("bucket", "1") == Adopted(1, 2)
            assert await at.keys() == ["good"]

    run(main())


def test_files_for_whose_records_there_is_no_room_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "k").write_bytes(b"data")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            with monkeypatch.context() as patch:
                patch.setattr(Room, "left_bytes", lambda *_: 0)
                assert await at.adopt("bucket", "1") == Adopted(0, 1)
            assert await at.adopt("bucket", "1") == Adopted(1, 0)

    run(main())


def late(at: Harness, work: Coroutine[Any, Any, object]) -> None:
    """Does `work` once all of a bucket's files are read, and before any of them is an object."""
    call, is_work = at.state.call, ContextVar("is_work", default=False)
    context = copy_context()
    context.run(is_work.set, True)
    task: asyncio.Task[object] | None = None

    async def after(*arguments: Any) -> Any:
        nonlocal task
        if not is_work.get():
            task = task or asyncio.create_task(work, context=context)
            await task
        return await call(*arguments)

    at.state.call = after


def test_a_key_that_is_written_meanwhile_keeps_what_was_written(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for name in ("a", "b"):
        (there / name).write_bytes(b"old")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            late(at, at.put("a", b"new"))
            assert await at.adopt("bucket", "1") == Adopted(1, 0)
            assert await at.get("a") == b"new"
            assert await at.get("b") == b"old"

    run(main())


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "k").write_bytes(b"old")
    read = os.pread

    def changing(descriptor: int, count: int, offset: int) -> bytes:
        with (there / "k").open("ab") as file:
            file.write(b"+")
        return read(descriptor, count, offset)

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pread", changing)
                assert await at.adopt("bucket", "1") == Adopted(0, 1)
            assert await at.adopt("bucket", "1") == Adopted(1, 0)
            assert (await at.get("k")).startswith(b"old+")

    run(main())


def test_a_bucket_that_is_changed_meanwhile_gets_its_files(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "k").write_bytes(b"data")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            permit = await at.permit()
            late(at, at.catalog.change_bucket(permit, document=("tags", b"new")))
            assert await at.adopt("bucket", "1") == Adopted(1, 0)
            assert await at.get("k") == b"data"

    run(main())


@pytest.mark.parametrize("is_late", [False, True])
def test_a_bucket_that_has_versions_takes_no_files(tmp_path: Path, *, is_late: bool) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "k").write_bytes(b"data")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            change = at.version(Versioning.ENABLED)
            if is_late:
                late(at, change)
            else:
                await change
            assert await at.adopt("bucket", "1") == Adopted(0, 0)
            assert await at.keys() == []
            await at.put("k", b"new")
            await at.catalog.delete("bucket", "k", (await at.found("k")).version_id)
            assert files(there) == {"k"}
            assert (there / "k").read_bytes() == b"data"

    run(main())


def test_a_bucket_whose_objects_are_all_deleted_by_markers_is_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": tmp_path / "old"}) as at:
            await at.version(Versioning.ENABLED)
            await at.put("k", b"data")
            await at.catalog.delete("bucket", "k")
        with pytest.raises(StartupError, match="move the directory"):
            async with filesystem(tmp_path / "base", {"bucket": tmp_path / "new"}):
                pass

    run(main())


def test_files_of_a_bucket_that_has_gone_are_nobodys(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "k").write_bytes(b"data")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:
            await at.catalog.delete_bucket("bucket")
            assert await at.adopt("bucket", "1") == Adopted(0, 0)
            assert await at.table(OBJECTS) == await at.table(VERSIONS) == {}
            with pytest.raises(NoSuchBucket):
                await at.put("k", b"x")

    run(main())


def test_a_bucket_that_is_made_anew_meanwhile_gets_no_files_of_the_one_before(
    tmp_path: Path,
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for name in ("a", "b"):
        (there / name).write_bytes(b"data")

    async def main() -> None:
        async with filesystem(tmp_path / "base", {"bucket": there}) as at:

            async def anew() -> None:
                await at.catalog.delete_bucket("bucket")
                await at.catalog.create_bucket("bucket", "another", "us-east-1")

            late(at, anew())
            assert await at.adopt("bucket", OWNER.owner) == Adopted(0, 0)
            assert await at.keys() == []

    run(main())


@pytest.mark.parametrize(
    ("content", "kind"),
    [("{", StartupError), ("[]", StartupError), ('{"format": 9, "buckets": {}}', OtherVersion)],
)
def test_where_buckets_lie_is_not_guessed(
    tmp_path: Path, content: str, kind: type[StartupError]
) -> None:
    (tmp_path / ".predastore").mkdir()
    (tmp_path / ".predastore" / FILE).write_text(content)

    async def main() -> None:
        with pytest.raises(kind, match=r"pathnames\.json"):
            async with filesystem(tmp_path):
                pass

    run(main())

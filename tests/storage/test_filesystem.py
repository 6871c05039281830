"""Plain files: where they lie, what can not lead out of the base path, and crashes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import ObjectUnreadable
from predastore.catalog import keys
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.jobs import garbage
from predastore.storage import file_reader, plain_names
from predastore.storage.beneath import Beneath
from predastore.storage.file_io import FileWriter
from predastore.storage.plain_names import plain_path
from support.backends import (
    BytesSource,
    Harness,
    SlowPublication,
    filesystem,
    run,
    some_bytes,
)
from support.files import CRASHES, crash_at, files_below, path_of, put_at
from support.waiting import eventually_async

MIB = 1 << 20


class Gate:
    """Holds up a call in its thread, before or after it has done its work; `which`: of those to
    come."""

    def __init__(
        self, patch: pytest.MonkeyPatch, owner: object, name: str, *, after: bool, which: int = 0
    ) -> None:
        calls = itertools.count()
        self.reached, self.passed = threading.Event(), threading.Event()
        self._open = threading.Event()
        method = getattr(owner, name)

        def held(*arguments: Any) -> Any:
            if next(calls) != which:
                return method(*arguments)
            result = method(*arguments) if after else None
            self.reached.set()
            self._open.wait(10)
            try:
                return result if after else method(*arguments)
            finally:
                self.passed.set()

        patch.setattr(owner, name, held)

    async def leave(self, task: asyncio.Future[Any]) -> None:
        """Cancels who stands at the gate, twice, as one that is impatient does."""
        await eventually_async(self.reached.is_set)
        for _ in range(2):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)

    def open(self) -> None:
        self._open.set()


def ignored(*_: object) -> None:
    """What a store tells its caller."""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_a_write_that_was_cut_still_writes_comes_into_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            gate = Gate(monkeypatch, FileWriter, "append", after=False)
            cut = asyncio.ensure_future(at.put("cut", b"A" * 1000))
            await gate.leave(cut)
            other = Gate(monkeypatch, FileWriter, "sync", after=False)
            whole = asyncio.ensure_future(at.put("whole", b"B" * 1000))
            await eventually_async(other.reached.is_set)
            gate.open()
            await eventually_async(gate.passed.is_set)
            other.open()
            await asyncio.wait((cut, whole))
            assert cut.cancelled()
            assert await at.get("whole") == b"B" * 1000

    run(main())


@pytest.mark.parametrize("call", ["create", "open"])
def test_what_is_opened_for_a_client_that_has_gone_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"1234")
            await at.get("k")
            before, files = descriptors(), files_below(tmp_path)
            gate = Gate(monkeypatch, Beneath, call, after=True)
            work = at.put("other", b"abcd") if call == "create" else at.get("k")
            task = asyncio.ensure_future(work)
            await gate.leave(task)
            gate.open()
            await asyncio.wait((task,))
            assert task.cancelled()
            await eventually_async(lambda: files_below(tmp_path) == files)
            assert descriptors() == before

    run(main())


def test_a_file_is_closed_when_nobody_reads_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", some_bytes(3 * MIB))
            await at.get("k")
            placement = (await at.found("k")).placement
            assert placement is not None
            before = descriptors()
            gate = Gate(monkeypatch, file_reader, "read_block", after=False, which=1)
            stream = at.store.read(placement.extents[0], 0, 3 * MIB, ignored, ignored, certain=True)
            await anext(stream)
            closing = asyncio.ensure_future(stream.aclose())
            await gate.leave(closing)
            assert descriptors() == before + 1, "a block is being read"
            gate.open()
            await asyncio.wait((closing,))
            await eventually_async(lambda: descriptors() == before)
            assert at.store._read_budget.held_bytes == 0

    run(main())


def test_an_object_is_readable_though_its_move_was_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Beneath.move

    def half(files: Beneath, source: str, target: str) -> None:
        move(files, source, target)
        raise OSError(errno.EIO, "the directory was not synced")

    monkeypatch.setattr(Beneath, "move", half)

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"1234")
            assert await at.get("k") == b"1234"

    run(main())


def test_an_object_is_a_plain_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            data = some_bytes(2 * MIB + 5)
            await at.put("photos/2026/a b.jpg", data)
            assert (tmp_path / "bucket" / "photos" / "2026" / "a b.jpg").read_bytes() == data
            await at.put("empty", b"")
            assert (tmp_path / "bucket" / "empty").read_bytes() == b""
            await at.catalog.delete("bucket", "photos/2026/a b.jpg")
            assert files_below(tmp_path) == {"bucket/empty"}
            assert not (tmp_path / "bucket" / "photos").exists(), "empty directories go"

    run(main())


@pytest.mark.parametrize(
    "key",
    ["", "/", "a/", "/a", "a//b", ".", "..", "../x", "a/./b", "a/../b", ".predastore/x", "a\0b",
     ".Predastore", "x" * 256, "\u00e4" * 128, "a/" * 64 + "b"],
)  # fmt: skip
def test_a_key_that_no_path_can_hold_has_none(key: str) -> None:
    assert plain_path("bucket", key, ignores_case=False) is None


@pytest.mark.parametrize(
    "key",
    ["a", "a/b", ".hidden", "a/.predastore", "x" * 255, "A", "...", "~", "a/" * 63 + "b"],
)
def test_a_key_that_a_path_can_hold_has_its_own(key: str) -> None:
    assert plain_path("bucket", key, ignores_case=False) == f"bucket/{key}"


def test_where_case_is_ignored_only_one_spelling_is_a_path() -> None:
    assert plain_path("bucket", "readme", ignores_case=True) == "bucket/readme"
    for key in ("README", "Readme", "\u00e9", "e\u0301"):
        assert plain_path("bucket", key, ignores_case=True) is None


def test_a_bucket_named_like_something_of_ours_has_no_plain_files(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "tls").mkdir()
        (tmp_path / "tls" / "key.pem").write_bytes(b"private")
        async with filesystem(tmp_path) as at:
            await at.catalog.create_bucket("tls", "me", "eu")
            await at.put("key.pem", b"mine", bucket="tls")
            assert await at.get("key.pem", bucket="tls") == b"mine"
            await at.catalog.delete("tls", "key.pem")
            assert (tmp_path / "tls" / "key.pem").read_bytes() == b"private"

    run(main())


def test_a_deep_key_makes_no_directories_and_one_that_did_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, key = "old/" * 100 + "k", "new/" * 100 + "k"

    async def main() -> None:
        with monkeypatch.context() as before:
            before.setattr(plain_names, "FILE_SEGMENTS_MAX", 1000)
            async with filesystem(tmp_path) as at:
                for name in (old, f"{old}2"):
                    assert await put_at(at, name, b"old") == f"bucket/{name}"
        async with filesystem(tmp_path) as at:
            assert await at.get(old) == b"old"
            assert (await put_at(at, key, b"1")).startswith(".predastore/objects/")
            assert await at.get(key) == b"1"
            assert (await put_at(at, old, b"2")).startswith(".predastore/objects/")
            assert await at.get(old) == b"2"
            assert not (tmp_path / "bucket" / old).exists()
            for name in (old, f"{old}2", key):
                await at.catalog.delete("bucket", name)
            assert files_below(tmp_path) == set()
            assert not (tmp_path / "bucket" / "old").exists()

    run(main())


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_of_two_keys_that_can_not_both_be_files_the_first_is(
    tmp_path: Path, first: str, second: str
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            assert await put_at(at, first, b"1") == f"bucket/{first}"
            assert (await put_at(at, second, b"2")).startswith(".predastore/objects/")
            assert (await at.get(first), await at.get(second)) == (b"1", b"2")
            await at.catalog.delete("bucket", first)
            assert await at.get(second) == b"2"
            assert await put_at(at, second, b"3") == f"bucket/{second}"
            assert files_below(tmp_path) == {f"bucket/{second}"}

    run(main())


def test_of_two_such_keys_written_at_once_both_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            keys = ["a", "a/b", "a/b/c", "a/b/c/d"] * 4
            await asyncio.gather(*(at.put(key, key.encode()) for key in keys))
            for key in keys:
                assert await at.get(key) == key.encode()
            await asyncio.gather(*(at.catalog.delete("bucket", key) for key in keys))
            assert files_below(tmp_path) == set()

    run(main())


def test_a_version_that_is_published_late_does_not_take_the_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            slow = SlowPublication(at)
            first = asyncio.ensure_future(at.put("k", b"first"))
            await slow.reached.wait()
            version = await at.found("k")
            reader = await at.catalog.open_read(version, 0, 5)  # it is committed, and still in tmp
            await at.put("k", b"newer")
            slow.proceed.set()
            await first
            assert await at.get("k") == b"newer"
            assert b"".join([bytes(buffer) async for buffer in reader]) == b"first"
            await eventually_async(lambda: files_below(tmp_path) == {"bucket/k"})

    run(main())


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_a_path_is_taken_from_the_moment_that_a_version_names_it(
    tmp_path: Path, first: str, second: str
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            slow = SlowPublication(at)
            early = asyncio.ensure_future(at.put(first, b"1"))
            await slow.reached.wait()
            assert (await put_at(at, second, b"2")).startswith(".predastore/objects/")
            slow.proceed.set()
            await early
            assert await path_of(at, first) == f"bucket/{first}"
            assert (await at.get(first), await at.get(second)) == (b"1", b"2")
            assert (tmp_path / "bucket" / first).read_bytes() == b"1"

    run(main())


def test_symbolic_links_are_never_followed(tmp_path: Path) -> None:
    async def main() -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        base = tmp_path / "base"
        async with filesystem(base) as at:
            await at.put("x/seed", b"seed")
            (base / "bucket" / "link").symlink_to(outside)
            (base / "bucket" / "file").symlink_to(outside / "secret")
            for key in ("link/secret", "link/new", "file"):
                assert (await put_at(at, key, b"mine")).startswith(".predastore/objects/")
                assert await at.get(key) == b"mine"
            # a link that is put in the place of a stored object's directory, or file
            await at.put("dir/secret", b"stored")
            version = await at.found("dir/secret")
            (base / "bucket" / "dir" / "secret").unlink()
            (base / "bucket" / "dir").rmdir()
            (base / "bucket" / "dir").symlink_to(outside)
            with pytest.raises(ObjectUnreadable):
                await at.catalog.open_read(version, 0, 6)
            await at.catalog.delete("bucket", "dir/secret")
            assert (outside / "secret").read_bytes() == b"secret"
            assert [*outside.iterdir()] == [outside / "secret"]

    run(main())


@pytest.mark.parametrize("change", ["first", "middle", "shorter", "longer", "fifo", "gone"])
def test_a_file_that_was_tampered_with_is_never_served(tmp_path: Path, change: str) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            data = some_bytes(3 * MIB)
            await at.put("k", data)
            path = tmp_path / "bucket" / "k"
            changed = bytearray(data)
            changed[{"first": 9}.get(change, MIB + 9)] ^= 1
            if change in ("first", "middle"):
                path.write_bytes(changed)
            elif change == "shorter":
                path.write_bytes(data[:-1])
            elif change == "longer":
                path.write_bytes(data + b"x")
            else:
                path.unlink()
                if change == "fifo":
                    os.mkfifo(path)
            got: list[bytes] = []

            async def read() -> None:
                version = await at.found("k")
                async for buffer in await at.catalog.open_read(version, 0, len(data)):
                    got.append(bytes(buffer))

            with pytest.raises(ObjectUnreadable):
                await read()
            assert data.startswith(b"".join(got))

    run(main())


def test_a_base_path_restored_from_a_copy_serves_its_objects(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"data")
        path = tmp_path / "bucket" / "k"
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").rename(path)
        async with filesystem(tmp_path) as at:
            assert await at.get("k") == b"data"
            await at.catalog.delete("bucket", "k")
            assert files_below(tmp_path) == set()

    run(main())


def test_deleting_leaves_a_foreign_file_in_its_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"data")
            (tmp_path / "bucket" / "k").unlink()
            (tmp_path / "bucket" / "k").write_bytes(b"not ours")
            await at.catalog.delete("bucket", "k")
            assert (tmp_path / "bucket" / "k").read_bytes() == b"not ours"

    run(main())


def test_the_parts_of_its_uploads_go_with_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "GARBAGE_WAIT_S_MAX", 3600.0)  # it is told of, not found

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            upload = await at.begin("k")
            await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            await at.catalog.delete_bucket("bucket")
            await eventually_async(lambda: files_below(tmp_path) == set())

    run(main())


# --- crashes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("before", [None, b"old", b"new bytes!"])
@pytest.mark.parametrize("key", ["dir/k", "odd//k"])
def test_after_a_crash_in_a_put_the_committed_version_is_there(
    tmp_path: Path, where: str, before: bytes | None, key: str
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            if before is not None:
                await at.put(key, before)
        await crash_at(tmp_path, where, lambda at: at.put(key, b"new bytes."))
        async with filesystem(tmp_path) as at:
            expected = before if where == "before the commit" else b"new bytes."
            await at.no_garbage()
            if expected is None:
                assert await at.find(key) is None
                assert files_below(tmp_path) == set()
            else:
                assert await at.get(key) == expected
                path = await path_of(at, key)
                await eventually_async(lambda: files_below(tmp_path) == {path})

    run(main())


def test_after_a_crash_in_a_delete_the_file_is_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("dir/k", b"data")
        await crash_at(
            tmp_path, "before the release", lambda at: at.catalog.delete("bucket", "dir/k")
        )
        assert files_below(tmp_path) == {"bucket/dir/k"}
        async with filesystem(tmp_path):
            await eventually_async(lambda: files_below(tmp_path) == set())

    run(main())


@pytest.mark.parametrize("completed", [False, True])
def test_a_part_left_in_tmp_is_found_by_its_upload_or_object(
    tmp_path: Path, completed: bool
) -> None:
    async def main() -> None:
        data = b"part"
        made: list[Any] = []

        async def work(at: Harness) -> None:
            upload = await at.begin("k")
            made.append(upload)
            await at.catalog.put_part(upload, 1, BytesSource(data), 4)

        await crash_at(tmp_path, "before the move", work)
        if completed:  # by a client that asked for the list of parts: only the state changes
            async with filesystem(tmp_path) as at:
                (part,) = (await at.catalog.list_parts(made[0])).parts
                stored = tmp_path / part.extent.path
                bucket, upload = made[0].permit.row, made[0].row
                layout = keys.layout("bucket", "k", bytes.fromhex(upload.upload_id))
                name = f"{part.extent.write_id.hex()}-p-{layout.hex()}-"
                name += keys.part(bucket.id, upload.upload_id, 1).hex()
                await at.catalog.complete(made[0], [CompletedPart(1, part.etag)])
            stored.rename(tmp_path / ".predastore" / "tmp" / name)
        async with filesystem(tmp_path) as at:
            if not completed:
                (part,) = (await at.catalog.list_parts(made[0])).parts
                await at.catalog.complete(made[0], [CompletedPart(1, part.etag)])
            assert await at.get("k") == data

    run(main())


def test_foreign_files_in_tmp_are_removed_at_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path):
            pass
        whole = f"{'0' * 32}-p-{'0' * 64}-{'0' * 110}"
        for name in ("x", "00-o-zz", "00-o-00", whole, f"{whole}-0"):
            (tmp_path / ".predastore" / "tmp" / name).write_bytes(b"?")
        async with filesystem(tmp_path):
            assert files_below(tmp_path) == set()

    run(main())


def test_an_object_that_can_not_be_moved_is_served_from_tmp(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:

            def fails(*_: object) -> None:
                raise OSError(5, "Input/output error")

            at.store.files.move = fails
            await at.put("k", b"data")
            assert await at.get("k") == b"data"
        async with filesystem(tmp_path) as at:
            assert await at.get("k") == b"data"
            assert files_below(tmp_path) == {"bucket/k"}

    run(main())


def test_a_full_disk_is_node_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from predastore.base.errors import NodeFull
    from predastore.storage import file_io

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            monkeypatch.setattr(file_io.os, "pwrite", full)
            with pytest.raises(NodeFull):
                await at.put("k", b"data")
            monkeypatch.undo()
            assert files_below(tmp_path) == set()
            await at.put("k", b"data")

    run(main())

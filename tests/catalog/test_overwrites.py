"""A read while its key is overwritten or deleted is of one version, whole, always."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from predastore.base.limits import MIB
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Versioning
from predastore.catalog.values import ObjectVersion, Stored
from predastore.storage.beneath import Beneath
from support.backends import (
    BACKENDS,
    BytesSource,
    Harness,
    SlowPublication,
    filesystem,
    run,
    some_bytes,
)
from support.waiting import eventually_async, until

KEY = "k"
PART_BYTES = 5000


@pytest.fixture(params=sorted(BACKENDS))
def store(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[Versioning.NEVER, Versioning.SUSPENDED])
def backend(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> Any:
    """A bucket that keeps one version of what is put, in either way."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Harness]:
        async with BACKENDS[store](tmp_path) as at:
            if request.param:
                await at.version(request.param)
            yield at

    return opened


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts may be, and what was still read when it was to go is looked at again soon."""
    monkeypatch.setattr("predastore.catalog.procedures.completion.S3_PART_BYTES_MIN", 1)
    monkeypatch.setattr("predastore.jobs.due.GARBAGE_RETRY_S_MIN", 0.01)


async def put_whole(at: Harness, seed: int) -> Stored:
    return await at.put(KEY, some_bytes(MIB + seed % 1000, seed))


async def put_parts(at: Harness, seed: int) -> Stored:
    upload = await at.begin(KEY)
    parts = []
    for number in (1, 2, 3):
        data = some_bytes(PART_BYTES, seed + number)
        part = await at.catalog.put_part(upload, number, BytesSource(data), PART_BYTES)
        parts.append(CompletedPart(number, part.etag))
    return await at.catalog.complete(upload, parts)


async def delete(at: Harness, _: int) -> None:
    await at.catalog.delete("bucket", KEY)


KINDS: dict[str, Callable[[Harness, int], Awaitable[Any]]] = {
    "whole": put_whole,
    "parts": put_parts,
}
ENDS = {**KINDS, "delete": delete}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_what_was_looked_up_is_read_though_it_is_replaced_before_it_is_opened(
    backend: Any, kind: str, end: str
) -> None:
    async def main() -> None:
        async with backend() as at:
            await KINDS[kind](at, 10)
            expected = await at.get(KEY)
            with at.catalog.looking("bucket", KEY) as look:
                old = await at.found(KEY)
                ending = asyncio.ensure_future(ENDS[end](at, 20))
                await replaced(at, old)
                for _ in range(200):  # as far as it comes
                    await at.find(KEY)
                stream = await at.catalog.open_read(old, 0, old.size, look)
            await ending
            async with aclosing(stream):
                assert b"".join([bytes(buffer) async for buffer in stream]) == expected
            if end != "delete":
                assert await at.get(KEY) != expected
                await at.catalog.delete("bucket", KEY)
            await nothing_left(at)

    run(main())


async def replaced(at: Harness, old: ObjectVersion | None) -> None:
    """The key has another version."""

    async def is_another() -> bool:
        now = await at.find(KEY)
        return (now and now.row.random) != (old and old.row.random)

    await until(is_another)


async def nothing_left(at: Harness) -> None:
    """No byte of an object lies anywhere, once nobody reads one."""
    await at.no_garbage()
    await at.holds_extents(0)


class Held:
    """A file's move, which has been made and does not return before `proceed` is set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached, self.proceed = threading.Event(), threading.Event()
        move = Beneath.move

        def held(files: Beneath, source: str, target: str) -> None:
            move(files, source, target)
            self.reached.set()
            assert self.proceed.wait(10)

        patch.setattr(Beneath, "move", held)


def test_a_file_that_is_on_its_way_to_its_path_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory is being synced: it has left tmp, and nobody has heard of it."""

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            for seed in (1, 2):
                with monkeypatch.context() as patch:
                    held = Held(patch)
                    putting = asyncio.ensure_future(put_whole(at, seed))
                    await eventually_async(held.reached.is_set)
                    for _ in range(5):
                        assert await at.get(KEY) == some_bytes(MIB + seed, seed)
                    held.proceed.set()
                    await putting

    run(main())


def test_what_was_deleted_before_it_has_its_path_was_stored_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            for seed in (1, 2):
                with at.catalog.looking("bucket", KEY):  # holds up the move, and not the delete
                    putting = asyncio.ensure_future(put_whole(at, seed))
                    await replaced(at, None)
                    await at.catalog.delete("bucket", KEY)
                await putting
                await nothing_left(at)

    run(main())


def test_what_was_replaced_before_it_had_its_path_stays_for_who_looked_it_up(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            slow = SlowPublication(at)
            first = asyncio.ensure_future(put_whole(at, 1))
            await slow.reached.wait()
            with at.catalog.looking("bucket", KEY) as look:
                version = await at.found(KEY)
                second = asyncio.ensure_future(put_whole(at, 2))
                await replaced(at, version)
                slow.proceed.set()
                await first
                stream = await at.catalog.open_read(version, 0, version.size, look)
            async with aclosing(stream):
                got = [bytes(buffer) async for buffer in stream]
            assert b"".join(got) == some_bytes(MIB + 1, 1)
            await second
            assert await at.get(KEY) == some_bytes(MIB + 2, 2)

    run(main())


def test_what_is_let_go_of_while_it_waits_for_its_path_was_stored_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            held = Held(monkeypatch)
            first = asyncio.ensure_future(put_whole(at, 1))
            await eventually_async(held.reached.is_set)
            slow = SlowPublication(at)
            second = asyncio.ensure_future(put_whole(at, 2))
            await slow.reached.wait()
            deleting = asyncio.ensure_future(delete(at, 0))
            for proceed in (slow.proceed, held.proceed):
                for _ in range(50):  # as far as it comes: to its turn behind the first
                    await at.find(KEY)
                proceed.set()
            await asyncio.gather(first, second, deleting)
            await nothing_left(at)

    run(main())


def test_a_file_that_could_not_be_moved_leaves_none_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it lay at the path."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "not now")

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await put_whole(at, 1)
            with monkeypatch.context() as patch:
                patch.setattr(Beneath, "move", fails)
                await put_whole(at, 2)
            assert await at.get(KEY) == some_bytes(MIB + 2, 2)
            await at.catalog.delete("bucket", KEY)
            await nothing_left(at)

    run(main())


class Stress:
    """Writers and readers of one key, until so much was written and read."""

    def __init__(self, at: Harness, writes: int, reads: int) -> None:
        self._at = at
        self._writes_left, self._reads_left = writes, reads
        self._random = random.Random(writes)
        self.sizes: set[int] = set()

    @property
    def _is_over(self) -> bool:
        return self._writes_left <= 0 and self._reads_left <= 0

    async def write(self) -> None:
        while not self._is_over:
            self._writes_left -= 1
            seed = self._random.randrange(1000)
            kind = self._random.choice((put_whole, put_whole, put_parts, delete))
            await kind(self._at, seed)

    async def read(self) -> None:
        catalog = self._at.catalog
        while not self._is_over:
            with catalog.looking("bucket", KEY) as look:
                version = await self._at.find(KEY)
                if version is None:
                    continue
                stream = await catalog.open_read(version, 0, version.size, look)
            got = []
            async with aclosing(stream):
                async for buffer in stream:
                    got.append(bytes(buffer))
                    await asyncio.sleep(0)
            self._check(version, b"".join(got))
            self._reads_left -= 1

    def _check(self, version: ObjectVersion, data: bytes) -> None:
        assert len(data) == version.size
        self.sizes.add(version.size)
        if not version.part_count:
            assert hashlib.md5(data).hexdigest() == version.etag
            return
        cuts = range(0, version.size, PART_BYTES)
        parts = [data[cut : cut + PART_BYTES] for cut in cuts]
        joined = b"".join(hashlib.md5(part).digest() for part in parts)
        assert version.etag == f"{hashlib.md5(joined).hexdigest()}-{version.part_count}"


def test_readers_among_writers_read_whole_versions(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            stress = Stress(at, writes=100, reads=400)
            await asyncio.gather(
                *(stress.write() for _ in range(4)), *(stress.read() for _ in range(8))
            )
            assert len(stress.sizes) > 10
            await at.catalog.delete("bucket", KEY)
            await nothing_left(at)

    run(main())

"""Writes of a journal beside the loop: in order, durable, through new segments and old ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.journal_writer import JournalWriter
from predastore.s3db.raft.messages import COMMAND, Configuration, Entry, HardState, Marker, Record
from predastore.s3db.raft.state import Recovered
from support.disks import fill_the_disk_under

BASE = Marker(0, 0, Configuration((1,)))
LARGE = 40_000  # bytes: no zeros ahead of it


class Written:
    """A journal in `folder`, and a way to wait for each write."""

    def __init__(self, folder: Path, segment_bytes_max: int) -> None:
        self.journal = Journal(OsDisk(folder), 1, segment_bytes_max=segment_bytes_max)
        if self.journal.load() is None:
            self.journal.create(BASE)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer = JournalWriter(
            self.journal,
            "journal",
            written=lambda: self._done.set_result(None),
            failed=self._fail,
        )
        self.close = self._writer.close

    def _fail(self, error: BaseException) -> None:
        self._done.set_exception(error)

    async def write(self, *records: Record) -> None:
        self._done = asyncio.get_running_loop().create_future()
        self._writer.write(records)
        await self._done


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(limited())


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def entry(index: int, size: int = 100) -> Entry:
    return Entry(index, 1, COMMAND, bytes([index % 256]) * size)


def loaded(folder: Path) -> Recovered:
    recovered = Journal(OsDisk(folder), 1).load()
    assert recovered is not None
    return recovered


def test_what_is_written_is_read_back_across_segments_and_restarts(tmp_path: Path) -> None:
    async def test() -> None:
        index = 0
        for _ in range(3):
            written = Written(tmp_path, 2_000)
            for size in (100, 0, 700, LARGE, 50, 900, 1200):
                index += 1
                await written.write(entry(index, size))
            await written.close()
        assert [found.index for found in loaded(tmp_path).entries] == list(range(1, index + 1))
        assert len(files(tmp_path)) > 5

    run(test)


def test_old_segments_go_once_the_marker_is_written(tmp_path: Path) -> None:
    async def test() -> None:
        written = Written(tmp_path, 500)
        for index in range(1, 31):
            await written.write(entry(index))
        before = written.journal.segment_count
        await written.write(HardState(1, 1), Marker(28, 1, BASE.configuration))
        assert written.journal.segment_count < before
        await written.close()
        assert [found.index for found in loaded(tmp_path).entries] == [29, 30]

    run(test)


def test_small_writes_go_into_zeros_that_are_there_already(tmp_path: Path) -> None:
    async def test() -> None:
        written = Written(tmp_path, 1 << 20)
        await written.write(entry(1))
        (file,) = files(tmp_path)
        length = file.stat().st_size
        for index in range(2, 50):
            await written.write(entry(index))
        assert file.stat().st_size == length
        os.truncate(file, length - 1000)  # a length that is odd is none the worse
        await written.close()
        assert len(loaded(tmp_path).entries) == 49
        assert file.stat().st_size < 49 * 200  # the start has cut the zeros off

    run(test)


def test_a_torn_frame_within_the_zeros_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        written = Written(tmp_path, 1 << 20)
        await written.write(entry(1))
        end = written.journal.size_bytes
        await written.write(entry(2))
        await written.close()
        (file,) = files(tmp_path)
        with file.open("r+b") as stream:
            stream.seek(end + 60)
            stream.write(bytes(20))  # a sector that did not get there
        assert loaded(tmp_path).entries == (entry(1),)
        assert "torn last frame" in caplog.text
        caplog.clear()
        assert loaded(tmp_path).entries == (entry(1),)
        assert caplog.text == ""

    run(test)


def test_a_write_that_fails_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        written = Written(tmp_path, 1 << 20)
        await written.write(entry(1))
        fill_the_disk_under(tmp_path, ".journal")
        with pytest.raises(OSError, match="No space left"):
            await written.write(entry(2))
        await written.close()

    run(test)

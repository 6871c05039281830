"""The syncer writes what its plain twin writes, tells of errors, and does one thing at a time."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast.syncer import Syncer
from reference.syncer import Syncer as PlainSyncer

PATIENCE_S = 30.0

Writes = list[tuple[int, bytes]]


def wait(syncer: Syncer | PlainSyncer) -> float:
    readable, _, _ = select.select([syncer.fileno()], [], [], PATIENCE_S)
    assert readable
    return syncer.finish()


@pytest.fixture
def syncer() -> Iterator[Syncer]:
    syncer = Syncer()
    yield syncer
    syncer.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3000)), max_size=8))
def test_it_writes_what_its_twin_writes(
    tmp_path_factory: pytest.TempPathFactory, writes: Writes
) -> None:
    folder = tmp_path_factory.mktemp("syncer")
    found = []
    for kind in (Syncer, PlainSyncer):
        path = folder / kind.__module__
        syncer, fd = kind(), os.open(path, os.O_RDWR | os.O_CREAT)
        for offset, data in writes:
            syncer.begin(fd, data, offset)
            assert wait(syncer) >= 0
        syncer.close()
        os.close(fd)
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_errors_of_the_system_are_told_and_the_next_write_is_done(
    tmp_path: Path, syncer: Syncer
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for bad, code in ((full, errno.ENOSPC), (-1, errno.EBADF)):
        syncer.begin(bad, b"x", 0)
        with pytest.raises(OSError, match=os.strerror(code)):
            wait(syncer)
    syncer.begin(fd, b"good", 3)
    wait(syncer)
    assert os.pread(fd, 10, 0) == bytes(3) + b"good"
    os.close(full)
    os.close(fd)


def test_a_sync_that_fails_is_an_error(syncer: Syncer) -> None:
    reading, writing = os.pipe()  # can be written to (not at an offset), but not synced
    syncer.begin(writing, b"", 0)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        wait(syncer)
    os.close(reading)
    os.close(writing)


def test_one_write_is_under_way_at_a_time(tmp_path: Path, syncer: Syncer) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with pytest.raises(ValueError, match="no write"):
        syncer.finish()
    syncer.begin(fd, b"one", 0)
    with pytest.raises(ValueError, match="under way"):
        syncer.begin(fd, b"two", 0)
    wait(syncer)
    syncer.begin(fd, b"two", 0)
    wait(syncer)
    os.close(fd)


def test_closing_waits_for_the_write_under_way(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    data = bytes(range(256)) * 40_000
    syncer = Syncer()
    syncer.begin(fd, data, 0)
    syncer.close()
    assert os.pread(fd, len(data) + 1, 0) == data
    os.close(fd)
    with pytest.raises(ValueError, match="closed"):
        syncer.begin(fd, b"x", 0)
    syncer.close()

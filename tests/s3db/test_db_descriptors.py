"""A member without a descriptor, or memory, left: it waits, and goes on later."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import pytest

from predastore.base import fs
from predastore.base.errors import NodeFull, StoreFailed
from predastore.s3db import backup, commands, environment
from predastore.s3db.commands import Put
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import COMMAND, Configuration, Entry, Marker
from predastore.s3db.store import Store
from support.descriptors import no_descriptors, patience


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    with patience():
        yield


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        made.submit(threading.get_ident).result()
        yield made


def _store(path: Path) -> Store:
    return Store(path, durable=False, map_bytes_initial=1 << 24, map_bytes_max=1 << 24)


def _put(store: Store, value: bytes) -> None:
    batch = commands.batch(Put("t", b"k", value), request_id=value.rjust(16))
    store.apply([(store.applied_index + 1, commands.encode(batch))])


def _waits(thread: ThreadPoolExecutor, work: Callable[[], Any]) -> Future[Any]:
    waiting = thread.submit(work)
    with pytest.raises(TimeoutError):
        waiting.result(0.3)
    return waiting


def test_commits_go_on_while_a_checkpoint_waits_for_a_descriptor(
    tmp_path: Path, thread: ThreadPoolExecutor
) -> None:
    store = _store(tmp_path)
    _put(store, b"one")
    with no_descriptors():
        syncing = _waits(thread, store.sync)
        _put(store, b"two")
        assert store.get("t", b"k") == b"two"
        assert store.durable_index == 0
    syncing.result(20)
    assert store.durable_index == 1
    store.sync()
    assert store.durable_index == 2
    store.close()


def test_a_snapshot_is_not_made_without_a_descriptor_and_is_later(
    tmp_path: Path, thread: ThreadPoolExecutor
) -> None:
    store = _store(tmp_path / "store")
    _put(store, b"one")
    with no_descriptors(), pytest.raises(NodeFull):
        store.snapshot_to(tmp_path / "snapshot")
    store.snapshot_to(tmp_path / "snapshot")
    with no_descriptors():
        installing = _waits(thread, lambda: store.replace_from(tmp_path / "snapshot"))
    installing.result(20)
    assert store.get("t", b"k") == b"one"
    _put(store, b"two")
    store.close()


def test_a_backup_waits_for_its_descriptor(tmp_path: Path, thread: ThreadPoolExecutor) -> None:
    class Copied:
        def snapshot_to(self, _: Path) -> int:
            return 7

    copied: Any = Copied()
    (tmp_path / backup.TEMPORARY).write_bytes(b"x")
    with no_descriptors():
        waiting = _waits(thread, lambda: backup.begin(copied, tmp_path, bytes(16)))
    made = waiting.result(20)
    assert made.header.store_bytes == 1
    made.close()


def test_a_journal_waits_for_the_descriptor_of_its_next_segment(
    tmp_path: Path, thread: ThreadPoolExecutor
) -> None:
    journal = Journal(OsDisk(tmp_path), 1, segment_bytes_max=1_000)
    assert journal.load() is None
    journal.create(Marker(0, 0, Configuration((1,))))

    def write(index: int) -> None:
        journal.append([Entry(index, 1, COMMAND, bytes(2_000))])
        journal.sync()

    write(1)
    with no_descriptors():
        waiting = _waits(thread, lambda: write(2))
    waiting.result(20)
    write(3)
    assert journal.segment_count == 3
    journal.close()
    again = Journal(OsDisk(tmp_path), 1).load()
    assert again is not None
    assert [entry.index for entry in again.entries] == [1, 2, 3]


def test_a_store_that_can_not_be_opened_for_want_of_one_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)
    store.close()

    def short(*_: Any, **__: Any) -> Any:
        error = lmdb.Error("no more")
        error.code = errno.EMFILE
        raise error

    fs.wait_for_descriptors(0.0)  # as at a start
    with monkeypatch.context() as patch:
        patch.setattr(environment.lmdb, "open", short)
        with pytest.raises(StoreFailed, match="can not be opened now"):
            _store(tmp_path)
    _store(tmp_path).close()


def test_a_commit_that_lacks_memory_is_refused_and_the_next_one_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)
    with monkeypatch.context() as patch:

        def short(*_: Any) -> Any:
            raise lmdb.MemoryError("no more")

        patch.setattr(store, "_apply_once", short)
        with pytest.raises(NodeFull):
            _put(store, b"one")
        assert store.try_apply([]) is None
    _put(store, b"two")
    assert store.get("t", b"k") == b"two"
    store.close()

"""A store that syncs nothing on its own, on a disk that loses, tears or mixes unsynced pages."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from predastore._fast.crc import crc32c
from predastore.base import fs
from predastore.base.errors import CorruptData, NodeFull, StoreFailed, UnsupportedFormat
from predastore.s3db import checkpoint, commands
from predastore.s3db.checkpoint import Checkpoints, PendingCheckpoint
from predastore.s3db.commands import Delete, DeletePrefix, Put
from predastore.s3db.store import FILE_NAME, Store
from support.powercut import PAGE_BYTES, PowerCut, crash

MIB = 1 << 20
CHECKPOINT = checkpoint.FILE_NAME


def open_store(path: Path, *, map_bytes: int = 64 * MIB) -> Store:
    return Store(path, durable=False, map_bytes_initial=map_bytes, map_bytes_max=64 * MIB)


class Log:
    """Commands by index, as a journal keeps them; applying them again gives the same state."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.commands: list[bytes] = []

    def extend(self) -> None:
        rng, ops = self.rng, []
        for _ in range(rng.randint(1, 8)):
            key = b"%04d" % rng.randrange(600)
            if rng.random() < 0.75:
                ops.append(Put("t", key, rng.randbytes(rng.choice((10, 200, 3000, 20_000)))))
            else:
                ops.append(rng.choice((Delete("t", key), DeletePrefix("t", key[:3]))))
        self.commands.append(commands.encode(commands.batch(*ops)))

    def bring(self, store: Store, index: int) -> None:
        """Apply up to `index`, some at once."""
        while store.applied_index < index:
            while len(self.commands) < index:
                self.extend()
            first = store.applied_index
            last = min(index, first + self.rng.randint(1, 3))
            store.apply([(i + 1, self.commands[i]) for i in range(first, last)])


@pytest.mark.parametrize("seed", range(12))
def test_after_a_power_cut_the_checkpoint_is_back_and_the_rest_applies_again(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, log = random.Random(seed), Log(seed)
    power = PowerCut(seed, monkeypatch)
    store = open_store(tmp_path, map_bytes=MIB)  # it grows on the way
    hits = 0
    for _ in range(4):
        for _ in range(rng.randint(1, 4)):
            log.bring(store, store.applied_index + rng.randint(1, 60))
            if rng.random() < 0.5:
                store.sync()
        log.bring(store, store.applied_index + rng.randint(0, 3))
        applied, durable, digest = store.applied_index, store.durable_index, store.digest()
        crash(store)
        hits += power.strike(tmp_path / FILE_NAME)
        store = open_store(tmp_path, map_bytes=MIB)
        assert store.applied_index == store.durable_index == durable <= applied
        log.bring(store, applied)
        assert store.digest() == digest
    assert hits > 0
    store.close()


def test_a_closed_store_needs_no_checkpoint(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    Log(0).bring(store, 50)
    digest = store.digest()
    store.close()
    assert not (tmp_path / CHECKPOINT).exists()
    store = open_store(tmp_path)
    assert (store.applied_index, store.durable_index, store.digest()) == (50, 50, digest)
    store.close()


def test_a_crash_before_the_first_sync_leaves_an_empty_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    empty = store.digest()
    Log(0).bring(store, 50)
    crash(store)
    store = open_store(tmp_path)
    assert (store.applied_index, store.digest()) == (0, empty)
    store.close()


def test_going_back_survives_another_crash(tmp_path: Path) -> None:
    store, log = open_store(tmp_path), Log(0)
    log.bring(store, 50)
    store.sync()
    for _ in range(3):
        digest = store.digest()
        log.bring(store, 80)
        crash(store)
        store = open_store(tmp_path)
        assert (store.applied_index, store.digest()) == (50, digest)
    store.close()


def test_a_durable_store_goes_back_too_and_then_syncs_each_write(tmp_path: Path) -> None:
    store, log = open_store(tmp_path), Log(0)
    log.bring(store, 20)
    store.sync()
    log.bring(store, 30)
    crash(store)
    store = Store(tmp_path, durable=True)
    assert store.applied_index == 20
    log.bring(store, 25)
    assert store.durable_index == 25
    assert not (tmp_path / CHECKPOINT).exists()
    crash(store)
    store = open_store(tmp_path)
    assert store.applied_index == 25
    store.close()


def test_writes_go_on_while_a_checkpoint_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, log = open_store(tmp_path), Log(0)
    log.bring(store, 10)
    finish = Checkpoints.finish
    reached, go_on = threading.Event(), threading.Event()

    def slowly(checkpoints: Checkpoints, pending: PendingCheckpoint) -> None:
        reached.set()
        assert go_on.wait(10)
        finish(checkpoints, pending)

    monkeypatch.setattr(Checkpoints, "finish", slowly)
    syncing = threading.Thread(target=store.sync)
    syncing.start()
    assert reached.wait(10)
    log.bring(store, 200)
    assert store.durable_index == 0
    go_on.set()
    syncing.join()
    assert store.durable_index == 10
    monkeypatch.undo()
    crash(store)
    store = open_store(tmp_path)
    assert store.applied_index == 10
    log.bring(store, 200)
    store.close()


def test_a_torn_checkpoint_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, log = open_store(tmp_path), Log(0)
    log.bring(store, 10)
    store.sync()
    log.bring(store, 20)

    def torn(checkpoints: Checkpoints, pending: PendingCheckpoint) -> None:
        data = bytearray((tmp_path / CHECKPOINT).read_bytes())
        offset = pending.checkpoint.sequence % 2 * (len(data) // 2)
        data[offset : offset + 5000] = b"x" * 5000
        (tmp_path / CHECKPOINT).write_bytes(data)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Checkpoints, "finish", torn)
    with pytest.raises(StoreFailed, match="Input/output"):
        store.sync()
    with pytest.raises(StoreFailed, match="Input/output"):
        log.bring(store, 30)
    monkeypatch.undo()
    crash(store)
    store = open_store(tmp_path)
    assert store.applied_index == 10
    store.close()


def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    Log(0).bring(store, 10)
    crash(store)
    file = tmp_path / CHECKPOINT
    whole = file.read_bytes()
    for damaged in (b"", bytes(len(whole)), whole[:100], b"x" * len(whole), whole[:-PAGE_BYTES]):
        file.write_bytes(damaged)
        with pytest.raises(CorruptData, match="join again empty"):
            open_store(tmp_path)


def test_a_checkpoint_of_a_newer_format_or_another_file_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    crash(store)
    file = tmp_path / CHECKPOINT
    found = checkpoint.load(tmp_path / FILE_NAME)
    assert found is not None
    foreign = checkpoint.Checkpoint(1, 4711, found.pages)
    file.write_bytes(checkpoint.pack(foreign) + bytes(3 * PAGE_BYTES))
    with pytest.raises(CorruptData, match="another file"):
        open_store(tmp_path)
    body = (3).to_bytes(4, "little") + bytes(3 * PAGE_BYTES - 8)
    file.write_bytes(crc32c(body).to_bytes(4, "little") + body + bytes(3 * PAGE_BYTES))
    with pytest.raises(UnsupportedFormat, match="format 3"):
        open_store(tmp_path)


def test_the_layout_of_a_slot_is_what_it_was() -> None:
    slot = checkpoint.pack(checkpoint.Checkpoint(7, 9, b"a" * PAGE_BYTES + b"b" * PAGE_BYTES))
    assert slot[4:24].hex() == "0200000007000000000000000900000000000000"
    assert slot[24:] == bytes(PAGE_BYTES - 24) + b"a" * PAGE_BYTES + b"b" * PAGE_BYTES
    assert slot[:4] == crc32c(slot[4:]).to_bytes(4, "little")


def test_a_checkpoint_whose_file_is_gone_counts_no_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    Log(0).bring(store, 10)
    store.sync()
    crash(store)
    (tmp_path / FILE_NAME).unlink()
    store = open_store(tmp_path)
    assert store.applied_index == 0
    store.close()


def test_a_snapshot_takes_the_place_of_file_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stops in between, a whole state is there: the old, or the new."""
    log = Log(0)
    (tmp_path / "x").mkdir()
    source = open_store(tmp_path / "x")
    log.bring(source, 90)
    store = open_store(tmp_path)
    log.bring(store, 40)
    states = {40: store.digest(), 90: source.digest()}
    sync = fs.sync
    for stop_at in range(3):
        snapshot = tmp_path / "snapshot"
        source.snapshot_to(snapshot)
        countdown = itertools.count(stop_at, -1)

        def stopping(path: Path, left: Iterator[int] = countdown) -> None:
            if path.is_dir() and next(left) == 0:
                raise OSError(5, "stopped here")
            sync(path)

        with monkeypatch.context() as patch:
            patch.setattr(fs, "sync", stopping)
            with pytest.raises((OSError, StoreFailed), match="stopped here"):
                store.replace_from(snapshot)
        store = open_store(tmp_path)
        assert store.digest() == states[store.applied_index]
    assert store.applied_index == 90
    log.bring(store, 120)
    store.close()
    source.close()


def test_a_store_that_is_rewritten_does_not_grow_without_end(tmp_path: Path) -> None:
    """A checkpoint sets pages free: at the latest when the file may not grow any more."""
    store = Store(tmp_path, durable=False, map_bytes_initial=MIB, map_bytes_max=4 * MIB)

    def put(number: int, key: int) -> None:
        batch = commands.batch(Put("t", b"%d" % key, bytes(200_000)))
        store.apply([(number, commands.encode(batch))])

    def fill() -> None:
        for number in range(200, 300):
            put(number, number)

    for number in range(1, 200):
        put(number, number % 5)
    assert 0 < store.durable_index < 199
    with pytest.raises(NodeFull):
        fill()
    store.close()

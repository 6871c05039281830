"""Tables that are damaged: made again from the journal where that has everything, else refused."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from predastore.base.errors import CorruptData, OtherVersion, StartupError
from predastore.s3db import commands
from predastore.s3db.commands import Delete, Put
from predastore.s3db.opening import open_tables
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import COMMAND, Configuration, Entry, Marker
from predastore.s3db.store import FILE_NAME, Store

PAGE = 4096
COUNT = 40


def filled(directory: Path, *, from_the_beginning: bool = True) -> Path:
    """A member's directory, and the file of its tables."""
    journal = Journal(OsDisk(directory / "raft" / "journal"), 1)
    marker = Marker(0 if from_the_beginning else 7, 1, Configuration((1,)))
    journal.create(marker)
    entries = [
        Entry(
            marker.index + 1 + n,
            1,
            COMMAND,
            commands.encode(commands.batch(Put("t", b"%d" % n, b"v"))),
        )
        for n in range(COUNT)
    ]
    journal.append(entries)
    journal.sync()
    journal.close()
    store = Store(directory / "store", durable=False)
    store.apply([(entry.index, entry.data) for entry in entries])
    store.close()
    return directory / "store" / FILE_NAME


def cut(to: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, to(file.stat().st_size))


def zeros(page: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        file.write_bytes(content)

    return damage


def noise(file: Path) -> None:
    file.write_bytes(random.Random(1).randbytes(file.stat().st_size))


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def checkpoint(file: Path) -> None:
    file.with_name("store.checkpoint").write_bytes(b"torn")


DAMAGE = [
    *(cut(lambda size: size // 2), cut(lambda size: 2 * PAGE), cut(lambda size: 0)),
    *(zeros(0), zeros(1), zeros(5), noise, directory, checkpoint),
]


def is_damaged(file: Path) -> bool:
    try:
        Store(file.parent, durable=True).close()
    except CorruptData:
        return True
    return False


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_tables_are_made_again_from_a_journal_that_has_everything(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = filled(tmp_path)
    damage(file)
    store = open_tables(tmp_path, 1)
    assert store.applied_index == 0, "the entries are applied again by whoever runs the member"
    store.close()
    assert file.with_name(FILE_NAME + ".damaged").exists()
    assert not is_damaged(file)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_tables_are_refused_where_the_journal_was_cut(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = filled(tmp_path, from_the_beginning=False)
    damage(file)
    for _ in range(2):
        with pytest.raises(StartupError, match="let it join again empty; else restore") as refused:
            open_tables(tmp_path, 1)
        assert str(file.parent) in str(refused.value)
    assert file.exists()
    assert not file.with_name(FILE_NAME + ".damaged").exists()


@pytest.mark.parametrize("journal", ["none", "damaged", "another member's"])
def test_tables_are_not_thrown_away_for_a_journal_that_can_not_be_read(
    tmp_path: Path, journal: str
) -> None:
    file = filled(tmp_path)
    os.truncate(file, PAGE)
    folder = tmp_path / "raft" / "journal"
    if journal == "none":
        shutil.rmtree(folder)
    elif journal == "damaged":
        (segment,) = folder.iterdir()
        segment.write_bytes(b"x" * 1000)
    with pytest.raises(StartupError, match="cut short"):
        open_tables(tmp_path, 2 if journal == "another member's" else 1)
    assert file.exists()


def test_tables_of_a_newer_version_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = filled(tmp_path)
    with monkeypatch.context() as newer:
        newer.setattr("predastore.s3db.environment.FORMAT", 3)
        shutil.rmtree(file.parent)
        Store(file.parent, durable=False).close()
    with pytest.raises(OtherVersion, match="format 3; this program reads 2: use a newer one"):
        open_tables(tmp_path, 1)
    assert file.exists()


def test_whole_tables_are_opened_though_their_last_pages_were_never_written(
    tmp_path: Path,
) -> None:
    """What is put and deleted in one transaction may be counted by lmdb and never written."""
    store = Store(tmp_path, durable=True)
    big = b"v" * 200_000
    index = 0
    for ops in (
        [Put("t", b"big", big)],
        [Delete("t", b"big")],
        [Put("t", b"big", big[:20_000]), Delete("t", b"big")],
    ):
        store.apply([(index := index + 1, commands.encode(commands.batch(*ops)))])
    counted_bytes = store.status()["file_bytes"]
    store.close()
    assert counted_bytes > (tmp_path / FILE_NAME).stat().st_size
    store = Store(tmp_path, durable=True)
    assert store.applied_index == index
    store.close()

"""Backups tell whether they are whole; a check finds damage, says where, and changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from predastore.base.errors import CorruptData, StartupError, UnsupportedFormat
from predastore.s3db import LEVEL, backup, commands, identity, inspection
from predastore.s3db.commands import Put
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import COMMAND, Address, Configuration, Entry, Marker
from predastore.s3db.store import FILE_NAME, Store
from support.procedures import NEXT

CLUSTER = b"c" * 16
ENTRIES = 30


def entry(index: int) -> Entry:
    batch = commands.batch(Put("t", b"%03d" % index, bytes(500)))
    return Entry(index, 1, COMMAND, commands.encode(batch))


@pytest.fixture
def member(tmp_path: Path) -> Path:
    """The directory of a member that was stopped in order."""
    folder = tmp_path / "member"
    identity.establish(folder / "raft", 1, CLUSTER)
    journal = Journal(OsDisk(folder / "raft" / "journal"), 1, segment_bytes_max=4_000)
    assert journal.load() is None
    journal.create(Marker(0, 0, Configuration((1,))))
    store = Store(folder / "store", durable=False)
    for index in range(1, ENTRIES + 1):
        journal.append([entry(index)])
        journal.sync()
        store.apply([(index, entry(index).data)])
    journal.close()
    store.close()
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith("-lock")
    }


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 0x10
    file.write_bytes(data)


def inspect(folder: Path) -> inspection.InspectionReport:
    """And nothing was touched."""
    before = contents(folder)
    report = inspection.inspect(1, folder, CLUSTER)
    assert contents(folder) == before
    return report


def test_a_healthy_member_is_found_so(member: Path, tmp_path: Path) -> None:
    report = inspect(member)
    assert report.damage == []
    text = "\n".join(report.found)
    assert f"table t: {ENTRIES} entries" in text
    assert f"entries 1 to {ENTRIES}" in text
    assert "voters [1]" in text
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    assert "no data" in inspect(nothing).found[0]


def test_a_member_that_was_killed_is_looked_at_as_its_next_start_will_see_it(
    member: Path, tmp_path: Path
) -> None:
    store = Store(member / "store", durable=False)
    journal = Journal(OsDisk(member / "raft" / "journal"), 1)
    journal.load()
    for index in (ENTRIES + 1, ENTRIES + 2):
        journal.append([entry(index)])
        journal.sync()
        store.apply([(index, entry(index).data)])
    journal.close()
    killed = tmp_path / "killed"
    for name in ("store/" + FILE_NAME, "store/store.checkpoint"):
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        (killed / name).write_bytes((member / name).read_bytes())
    store.close()
    (member / "raft").rename(killed / "raft")
    last = sorted((killed / "raft" / "journal").iterdir())[-1]
    with last.open("ab") as file:
        file.write(b"FRM1 torn")
    report = inspect(killed)
    assert report.damage == []
    text = "\n".join(report.found)
    assert f"goes back to entry {ENTRIES}" in text
    assert "a torn last frame of 9 bytes" in text


def _flip_in_journal(folder: Path) -> str:
    file = sorted((folder / "raft" / "journal").iterdir())[0]
    flip(file, 600)
    return f"{file}, byte "


def _flip_in_header(folder: Path) -> str:
    file = sorted((folder / "raft" / "journal").iterdir())[1]
    flip(file, 10)
    return f"{file}, byte 0"


def _lose_a_segment(folder: Path) -> str:
    second, third = sorted((folder / "raft" / "journal").iterdir())[1:3]
    second.unlink()
    return f"{third}, byte 16"


def _lose_the_journal(folder: Path) -> str:
    for file in (folder / "raft" / "journal").iterdir():
        file.unlink()
    return "there is no journal"


def _lose_the_newest_entries(folder: Path) -> str:
    for file in sorted((folder / "raft" / "journal").iterdir())[1:]:
        file.unlink()
    return "the journal ends at entry"


def _cut_the_store(folder: Path) -> str:
    file = folder / "store" / FILE_NAME
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    return str(file)


def _another_cluster(folder: Path) -> str:
    (folder / "raft" / identity.FILE_NAME).unlink()
    identity.establish(folder / "raft", 1, b"d" * 16)
    return "the data of cluster 6464"


@pytest.mark.parametrize(
    "harm",
    [
        _flip_in_journal,
        _flip_in_header,
        _lose_a_segment,
        _lose_the_journal,
        _lose_the_newest_entries,
        _cut_the_store,
        _another_cluster,
    ],
)
def test_damage_is_found_and_its_place_is_named(member: Path, harm: Callable[[Path], str]) -> None:
    place = harm(member)
    report = inspect(member)
    assert any(place in line for line in report.damage), report


# --- backups ----------------------------------------------------------------------------------


@pytest.fixture
def whole(member: Path, tmp_path: Path) -> Path:
    """A backup of the member's state."""
    store = Store(member / "store", durable=False)
    made = backup.begin(store, tmp_path, CLUSTER)
    path = tmp_path / "whole.s3db"
    backup.receive(pieces_of(made), path)
    store.close()
    return path


def pieces_of(made: backup.Backup) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [piece async for piece in made.stream()]

    return asyncio.run(collect())


def test_a_restored_member_starts_a_history_of_its_own(whole: Path, tmp_path: Path) -> None:
    here = Address(1, "h", 1, 2)
    folders = {1: tmp_path / "one", 2: tmp_path / "two"}
    header = backup.restore(whole, directories=folders, addresses=[here], cluster_id=CLUSTER)
    assert header.applied_index == ENTRIES
    for member_id, folder in folders.items():
        journal = Journal(OsDisk(folder / "raft" / "journal"), member_id)
        found = journal.load()
        journal.close()
        assert found is not None
        assert found.marker == Marker(ENTRIES, 1, Configuration((1, 2), (), (here,)))
    assert inspect(folders[1]).damage == []
    store = Store(folders[2] / "store", durable=False)
    assert store.get("t", b"007") == bytes(500)
    store.close()


def test_a_state_of_a_newer_program_is_not_restored_by_this_one(
    member: Path, tmp_path: Path
) -> None:
    store = Store(member / "store", durable=False, procedures=NEXT)
    store.apply([(ENTRIES + 1, commands.encode(commands.call("test.count-by-ten", b"a")))])
    made = backup.begin(store, tmp_path, CLUSTER)
    path = tmp_path / "newer.s3db"
    backup.receive(pieces_of(made), path)
    store.close()
    with pytest.raises(
        UnsupportedFormat, match=rf"level {LEVEL + 1} were done.*has level {LEVEL}: install"
    ):
        backup.restore(path, directories={1: tmp_path / "x"}, addresses=[], cluster_id=CLUSTER)
    assert list((tmp_path / "x").rglob("*")) == []
    assert f"level {LEVEL + 1}" in "\n".join(inspection.inspect(1, member, CLUSTER).found)


def test_what_is_restored_is_for_its_owner_alone(whole: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        backup.restore(whole, directories={1: tmp_path / "x"}, addresses=[], cluster_id=CLUSTER)
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "x").rglob("*") if file.is_file()]
    assert tmp_path / "x" / "store" / FILE_NAME in files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_nothing_is_held_or_made_before_all_is_known_to_be_good(
    whole: Path, member: Path, tmp_path: Path
) -> None:
    held: list[Path] = []

    @contextmanager
    def hold(directory: Path) -> Iterator[None]:
        held.append(directory)
        directory.mkdir(exist_ok=True)
        yield

    def restore(path: Path, *directories: Path) -> None:
        held.clear()
        by_id = dict(enumerate(directories))
        backup.restore(path, directories=by_id, addresses=[], cluster_id=CLUSTER, held=hold)

    fresh = tmp_path / "fresh"
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "none", fresh)
    with pytest.raises(StartupError, match="overwrites nothing"):
        restore(whole, fresh, member)
    assert held == [member]  # it may be of a process that runs: that is to be said first
    assert not fresh.exists()
    restore(whole, fresh)
    assert held == [fresh]


def test_a_restore_overwrites_nothing(whole: Path, member: Path, tmp_path: Path) -> None:
    before = contents(member)
    fresh = tmp_path / "fresh"
    with pytest.raises(StartupError, match="overwrites nothing"):
        backup.restore(whole, directories={2: fresh, 1: member}, addresses=[], cluster_id=CLUSTER)
    assert contents(member) == before
    assert not fresh.exists()


def test_a_restore_overwrites_nothing_that_came_before_it_held_the_directory(
    whole: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"

    @contextmanager
    def hold(directory: Path) -> Iterator[None]:
        """A server ran there, and ended, since it was looked for first."""
        if directory == two:
            identity.establish(two / "raft", 2, CLUSTER)
        yield

    with pytest.raises(StartupError, match=f"{two}/raft is there: a restore overwrites nothing"):
        backup.restore(
            whole, directories={1: one, 2: two}, addresses=[], cluster_id=CLUSTER, held=hold
        )
    assert not one.exists()


def test_a_store_that_comes_while_it_is_restored_is_kept(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "x" / "store"
    real = backup._restore_store

    def late(path: Path, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / FILE_NAME).write_bytes(b"another's")
        real(path, directory)

    monkeypatch.setattr(backup, "_restore_store", late)
    with pytest.raises(FileExistsError):
        backup.restore(whole, directories={1: tmp_path / "x"}, addresses=[], cluster_id=CLUSTER)
    assert contents(store) == {FILE_NAME: hashlib.sha256(b"another's").hexdigest()}


def test_a_backup_of_another_cluster_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="a backup of cluster 6363"):
        backup.restore(whole, directories={1: tmp_path / "x"}, addresses=[], cluster_id=b"d" * 16)


@pytest.mark.parametrize("place", [0, 20, 45, 62, 64, 5_000, -45, -40, -1])
def test_a_flipped_bit_anywhere_is_found(whole: Path, tmp_path: Path, place: int) -> None:
    flip(whole, place)
    with pytest.raises(CorruptData, match=r"whole\.s3db"):
        backup.verify(whole)
    with pytest.raises(CorruptData):
        backup.restore(whole, directories={1: tmp_path / "x"}, addresses=[], cluster_id=CLUSTER)
    assert not (tmp_path / "x").exists()


def test_a_backup_that_is_cut_short_or_too_long_does_not_appear(
    whole: Path, tmp_path: Path
) -> None:
    data = whole.read_bytes()
    for wrong in (data[:-1], data[:30], b"", data + b"x"):
        with pytest.raises(CorruptData):
            backup.receive([wrong], tmp_path / "copy")
        assert not list(tmp_path.glob("copy*"))
    with pytest.raises(FileExistsError):
        backup.receive([data], whole)
    assert backup.receive([data[:100], data[100:]], tmp_path / "copy").applied_index == ENTRIES
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_the_bytes_of_a_header_are_those_of_version_2() -> None:
    header = backup.Header(bytes(range(16)), 7, 1_700_000_000_000, 4096)
    assert header.pack().hex() == (
        "53334442424b55500200000000000000000102030405060708090a0b0c0d0e0f"
        "07000000000000000068e5cf8b010000001000000000000000000000d630bf2d"
    )
    assert backup.unpack_header(header.pack(), "f") == header
    newer = bytearray(header.pack())
    newer[8] = 3
    with pytest.raises(UnsupportedFormat, match="format 3"):
        backup.unpack_header(bytes(newer), "f")

"""The journal keeps what was synced, cuts what was torn, and refuses what was damaged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import StartupError
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.frames import FRAME_BYTES, HEADER_BYTES
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import (
    COMMAND,
    CONFIG,
    Configuration,
    Entry,
    HardState,
    Marker,
    Record,
    Truncate,
)
from predastore.s3db.raft.recovery import recover
from predastore.s3db.raft.state import Recovered
from s3db.simulator.disk import SimDisk

GOLDEN = Path(__file__).parents[1] / "formats" / "s3db_journal_v2.hex"

THREE = Configuration((1, 2, 3))
BASE = Marker(0, 0, THREE)


def entry(index: int, term: int = 1, data: bytes = b"x") -> Entry:
    return Entry(index, term, COMMAND, data)


def journal_on(disk: SimDisk | OsDisk, *, segment_bytes_max: int = 1 << 20) -> Journal:
    return Journal(disk, 1, segment_bytes_max=segment_bytes_max, random_bytes=bytes)


def write(journal: Journal, *records: Record) -> None:
    journal.append(records)
    journal.sync()


def created(disk: SimDisk | OsDisk, *, segment_bytes_max: int = 1 << 20) -> Journal:
    journal = journal_on(disk, segment_bytes_max=segment_bytes_max)
    assert journal.load() is None
    journal.create(BASE)
    return journal


@pytest.mark.parametrize("seed", range(40))
def test_what_a_killed_process_left_survives_the_power_once_it_was_read(seed: int) -> None:
    """It never synced it; whoever reads it speaks of it."""
    disk = SimDisk(random.Random(seed), zeros_ahead=seed % 2 == 1)
    journal = created(disk, segment_bytes_max=200)
    for index in range(1, 8):
        journal.append([HardState(index, 1), entry(index, index, bytes(40))])
        if index % 3 == 0:
            journal.sync()
    read = loaded(disk)
    disk.crash()
    assert loaded(disk) == read


def loaded(disk: SimDisk | OsDisk) -> Recovered:
    recovered = journal_on(disk).load()
    assert recovered is not None
    return recovered


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(0))


def last_file(disk: SimDisk) -> str:
    return disk.list()[-1]


def test_what_was_written_is_read_back_from_real_files(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path / "journal")
    journal = created(disk)
    write(journal, HardState(3, 2), entry(1, 3, b"a" * 1000), entry(2, 3, b""))
    write(journal, entry(3, 3, bytes(range(256))))
    journal.close()
    recovered = loaded(disk)
    assert recovered.hard_state == HardState(3, 2)
    assert recovered.marker == BASE
    assert [e.data for e in recovered.entries] == [b"a" * 1000, b"", bytes(range(256))]


def test_a_truncated_suffix_stays_gone(disk: SimDisk) -> None:
    journal = created(disk)
    write(journal, entry(1), entry(2), entry(3))
    write(journal, Truncate(2), entry(2, 2, b"y"))
    assert loaded(disk).entries == (entry(1), entry(2, 2, b"y"))


def test_a_marker_drops_what_it_covers_and_keeps_what_follows(disk: SimDisk) -> None:
    journal = created(disk)
    write(journal, entry(1), entry(2), entry(3))
    write(journal, Marker(2, 1, THREE))
    recovered = loaded(disk)
    assert recovered.marker == Marker(2, 1, THREE)
    assert recovered.entries == (entry(3),)


def test_a_marker_beyond_the_log_drops_all(disk: SimDisk) -> None:
    journal = created(disk)
    write(journal, entry(1), entry(2))
    write(journal, Truncate(1), Marker(9, 4, THREE), entry(10, 4))
    recovered = loaded(disk)
    assert (recovered.marker.index, recovered.entries) == (9, (entry(10, 4),))


def test_segments_behind_the_marker_go_and_state_survives_them(disk: SimDisk) -> None:
    journal = created(disk, segment_bytes_max=500)
    write(journal, HardState(7, 3))
    for index in range(1, 41):
        write(journal, entry(index, 7, bytes(100)))
    before = journal.segment_count
    write(journal, Marker(35, 7, THREE))
    assert journal.segment_count < before
    assert len(disk.list()) == journal.segment_count
    recovered = loaded(disk)
    assert recovered.hard_state == HardState(7, 3)
    assert recovered.entries == tuple(entry(i, 7, bytes(100)) for i in range(36, 41))


def test_an_old_marker_within_the_gap_is_passed_over(disk: SimDisk) -> None:
    journal = created(disk, segment_bytes_max=500)
    for index in range(1, 11):
        write(journal, entry(index, 1, bytes(100)))
    write(journal, Marker(2, 1, THREE))
    write(journal, entry(11, 1, bytes(100)))
    write(journal, Marker(9, 1, THREE))
    assert [e.index for e in loaded(disk).entries] == [10, 11]


def test_positions_go_on_across_restarts(disk: SimDisk) -> None:
    for index in range(1, 30):
        journal = journal_on(disk, segment_bytes_max=300)
        if journal.load() is None:
            journal.create(BASE)
        write(journal, entry(index))
    assert len(loaded(disk).entries) == 29


@pytest.mark.parametrize("kept", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 5])
def test_a_torn_last_frame_is_cut_and_writing_goes_on(disk: SimDisk, kept: int) -> None:
    journal = created(disk)
    write(journal, entry(1))
    whole = disk.read(last_file(disk))
    write(journal, entry(2))
    disk.write(last_file(disk), disk.read(last_file(disk))[: len(whole) + kept])
    journal = journal_on(disk)
    recovered = journal.load()
    assert recovered is not None
    assert recovered.entries == (entry(1),)
    write(journal, entry(2, 5))
    assert loaded(disk).entries == (entry(1), entry(2, 5))


def test_a_last_frame_of_zeros_is_torn_too(disk: SimDisk) -> None:
    journal = created(disk)
    write(journal, entry(1))
    disk.write(last_file(disk), disk.read(last_file(disk)) + bytes(5000))
    assert loaded(disk).entries == (entry(1),)


def test_every_flipped_bit_before_the_last_frame_is_refused(disk: SimDisk) -> None:
    journal = created(disk)
    write(journal, HardState(1, 1), entry(1))
    end = len(disk.read(last_file(disk)))
    write(journal, entry(2))
    good = disk.read(last_file(disk))
    for position in range(end):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        disk.write(last_file(disk), bytes(bad))
        with pytest.raises(StartupError, match=r"sim/0000000000000001\.journal|member"):
            loaded(disk)


def test_damage_names_file_byte_and_what_to_do(disk: SimDisk) -> None:
    journal = created(disk)
    start = len(disk.read(last_file(disk)))
    write(journal, entry(1))
    write(journal, entry(2))
    bad = bytearray(disk.read(last_file(disk)))
    bad[start + FRAME_BYTES + 3] ^= 0xFF
    disk.write(last_file(disk), bytes(bad))
    with pytest.raises(StartupError) as caught:
        loaded(disk)
    text = str(caught.value)
    assert f"sim/{last_file(disk)}, byte {start}" in text
    assert "good data follows" in text
    assert "join again" in text


def test_damage_at_the_end_of_an_earlier_segment_is_refused(disk: SimDisk) -> None:
    journal = created(disk, segment_bytes_max=200)
    for index in range(1, 10):
        write(journal, entry(index, 1, bytes(50)))
    name = disk.list()[1]
    disk.write(name, disk.read(name)[:-3])
    with pytest.raises(StartupError, match=name):
        loaded(disk)


def test_a_missing_segment_is_refused(disk: SimDisk) -> None:
    journal = created(disk, segment_bytes_max=200)
    for index in range(1, 10):
        write(journal, entry(index, 1, bytes(50)))
    names = disk.list()
    assert len(names) > 3
    for gone in (names[0], names[1]):
        inode = disk.read(gone)
        disk.unlink(gone)
        with pytest.raises(StartupError):
            loaded(disk)
        disk.create(gone)
        disk.write(gone, inode)
    assert len(loaded(disk).entries) == 9


def test_an_empty_segment_is_no_new_journal(disk: SimDisk) -> None:
    created(disk)
    disk.write(last_file(disk), b"")
    with pytest.raises(StartupError, match="cut short"):
        loaded(disk)


def test_the_journal_of_another_member_is_refused(disk: SimDisk) -> None:
    created(disk)
    with pytest.raises(StartupError, match="member 1, not of member 2"):
        Journal(disk, 2).load()


def test_a_value_that_looks_like_a_frame_is_not_taken_for_one(disk: SimDisk) -> None:
    """A torn frame whose value holds a copy of another frame is still a torn tail."""
    journal = created(disk)
    start = len(disk.read(last_file(disk)))
    write(journal, entry(1))
    copy = disk.read(last_file(disk))[start:]
    write(journal, entry(2, 1, copy * 3))
    disk.write(last_file(disk), disk.read(last_file(disk))[:-1])
    assert loaded(disk).entries == (entry(1),)


Step = Sequence[tuple[int, int]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 400), min_size=1, max_size=30))
def test_after_power_loss_all_that_was_synced_is_there(seed: int, sizes: list[int]) -> None:
    """And of what was not, a whole step or nothing."""
    rng = random.Random(seed)
    disk = SimDisk(rng, zeros_ahead=seed % 2 == 0)
    journal = created(disk, segment_bytes_max=1000)
    index = 0
    for position, size in enumerate(sizes):
        records = [entry(index + 1, 1, rng.randbytes(size)), entry(index + 2, 1, b"")]
        journal.append(records)
        if position == len(sizes) - 1 and rng.random() < 0.7:
            break
        journal.sync()
        index += 2
    disk.crash()
    recovered = loaded(disk)
    assert len(recovered.entries) in (index, index + 2)
    assert len(loaded(disk).entries) == len(recovered.entries)


def test_entries_that_the_tables_hold_but_the_journal_does_not_are_fatal(disk: SimDisk) -> None:
    write(created(disk), entry(1), entry(2))
    with pytest.raises(StartupError, match="the journal ends at entry 2"):
        recover(journal_on(disk), applied=3, members=[1, 2, 3], where="here")


def test_tables_older_than_the_journal_are_fatal(disk: SimDisk) -> None:
    write(created(disk), entry(1), entry(2), Marker(2, 1, THREE))
    with pytest.raises(StartupError, match="begins after entry 2"):
        recover(journal_on(disk), applied=1, members=[1, 2, 3], where="here")


def test_an_interrupted_installation_is_completed(disk: SimDisk) -> None:
    write(created(disk), HardState(2, 1), entry(1), entry(2))
    note = Marker(50, 2, THREE)
    recovered = recover(
        journal_on(disk), applied=50, members=[1, 2, 3], where="here", installing=note
    )
    assert recovered == Recovered(HardState(2, 1), note)
    assert loaded(disk).marker == note


def test_a_note_that_is_out_of_date_is_passed_over(disk: SimDisk) -> None:
    write(created(disk), entry(1), entry(2))
    note = Marker(2, 1, THREE)
    recovered = recover(
        journal_on(disk), applied=2, members=[1, 2, 3], where="here", installing=note
    )
    assert recovered.entries == (entry(1), entry(2))


def test_the_bytes_of_a_segment_are_those_of_version_2(disk: SimDisk) -> None:
    journal = Journal(disk, 7, random_bytes=lambda n: bytes(range(n)))
    assert journal.load() is None
    journal.create(Marker(10, 2, Configuration((1, 2, 7), (9,))))
    write(
        journal,
        HardState(3, -1),
        Entry(11, 3, COMMAND, b"value"),
        Entry(12, 3, CONFIG, b"\x92\x91\x07\x90"),
    )
    write(journal, Truncate(12), HardState(4, 7))
    data = disk.read(last_file(disk))
    assert data[:8] == b"S3DBJRNL"
    assert data[HEADER_BYTES : HEADER_BYTES + 4] == b"FRM1"
    assert data.hex() == GOLDEN.read_text().strip().replace("\n", "")
    recovered = Journal(disk, 7).load()
    assert recovered == Recovered(
        HardState(4, 7),
        Marker(10, 2, Configuration((1, 2, 7), (9,))),
        (Entry(11, 3, COMMAND, b"value"),),
    )

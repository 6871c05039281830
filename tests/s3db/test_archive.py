"""Entries that the log has lost are found in the journal: those that stand, and no others."""

from __future__ import annotations

import random

import pytest

from predastore.base.limits import MIB
from predastore.s3db.raft.archive import JournalArchive
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import COMMAND, Configuration, Entry, Marker, Record, Truncate
from s3db.simulator.disk import SimDisk

MEMBERS = Configuration((1,))


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(1))


@pytest.fixture
def journal(disk: SimDisk) -> Journal:
    made = Journal(disk, 1, segment_bytes_max=2000, random_bytes=bytes)
    assert made.load() is None
    made.create(Marker(0, 0, MEMBERS))
    return made


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [Entry(index, term, COMMAND, b"%d" % index * 20) for index in range(first, last + 1)]


def write(journal: Journal, *records: Record) -> None:
    journal.append(records)
    journal.sync()


def found(archive: JournalArchive, first: int, last: int) -> list[Entry]:
    return archive.batch(first, last, bytes_max=MIB, count_max=1000)


def test_what_was_appended_is_found_across_frames_and_segments(journal: Journal) -> None:
    for first in range(1, 200, 3):
        write(journal, *entries(first, first + 2))
    assert journal.segment_count > 3
    archive = journal.archive
    assert found(archive, 1, 198) == entries(1, 198)
    assert found(archive, 50, 52) == entries(50, 52)
    assert archive.term_at(77) == 1
    assert archive.frame_count == 67
    assert archive.term_at(0) is None
    assert archive.term_at(202) is None
    assert archive.batch(5, 198, bytes_max=MIB, count_max=7) == entries(5, 11)
    assert archive.batch(5, 198, bytes_max=100, count_max=99) == entries(5, 9)
    assert archive.batch(5, 198, bytes_max=1, count_max=99) == entries(5, 5)


def test_a_truncated_entry_is_not_found_whether_another_came_in_its_place_or_not(
    journal: Journal,
) -> None:
    archive = journal.archive
    write(journal, *entries(1, 9))
    assert archive.term_at(8) == 1
    write(journal, Truncate(7))
    assert found(archive, 1, 9) == entries(1, 6)
    assert archive.term_at(8) is None
    write(journal, Marker(20, 2, MEMBERS), *entries(21, 22, term=2))  # a snapshot was installed
    assert archive.term_at(8) is None
    assert found(archive, 21, 22) == entries(21, 22, term=2)


def test_truncations_within_a_frame_and_behind_a_segment_count(journal: Journal) -> None:
    archive = journal.archive
    write(journal, *entries(1, 5))
    write(journal, *entries(6, 9), Truncate(8), *entries(8, 10, term=2))
    assert found(archive, 1, 10) == [*entries(1, 7), *entries(8, 10, term=2)]
    for first in range(11, 100):
        write(journal, *entries(first, first, term=2))
    write(journal, Truncate(9), *entries(9, 9, term=3))
    assert journal.segment_count > 1
    assert found(archive, 7, 99) == [
        *entries(7, 7),
        *entries(8, 8, term=2),
        *entries(9, 9, term=3),
    ]


def test_segments_stay_while_somebody_needs_them(disk: SimDisk, journal: Journal) -> None:
    archive = journal.archive
    for first in range(1, 100):
        write(journal, *entries(first, first))
    before = disk.list()
    journal.kept_index = 30
    write(journal, Marker(90, 1, MEMBERS))
    assert found(archive, 31, 99) == entries(31, 99)
    assert archive.term_at(30) == 1
    assert disk.list()[0] > before[0]
    assert archive.term_at(1) is None

    again = Journal(disk, 1, segment_bytes_max=2000, random_bytes=bytes)
    recovered = again.load()
    assert recovered is not None
    assert list(recovered.entries) == entries(91, 99)  # what is behind the marker is not read back
    assert again.archive.term_at(95) is None

    journal.kept_index = 1 << 60
    write(journal, Marker(95, 1, MEMBERS))
    assert archive.term_at(31) is None
    assert found(archive, 31, 99) == []
    assert archive.frame_count < 30


def test_a_segment_that_went_or_is_bad_has_nothing(disk: SimDisk, journal: Journal) -> None:
    for first in range(1, 60):
        write(journal, *entries(first, first))
    first_name, *_ = disk.list()
    data = bytearray(disk.read(first_name))
    data[200] ^= 1
    disk.write(first_name, bytes(data))
    terms = [journal.archive.term_at(index) for index in range(1, 60)]
    assert terms.count(None) == 1  # of one frame, and of no more
    disk.unlink(first_name)
    assert JournalArchive.term_at(journal.archive, 59) == 1
    fresh = JournalArchive(disk)
    assert fresh.term_at(1) is None

"""Directories of a program from before the first release are refused, in one line, and not read.

`tests/formats/before_release.tar.xz` has what such a program wrote: the directory of a database
member that was killed, and the state of the filesystem backend, each with a bucket and an object.
"""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from predastore.base.errors import OtherVersion, PredastoreError, UnsupportedFormat
from predastore.s3db import backup
from predastore.s3db.global_state import LocalState
from predastore.s3db.inspection import inspect
from predastore.s3db.member import Member
from predastore.s3db.opening import open_tables
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.store import Store

FIXTURE = Path(__file__).parents[1] / "formats" / "before_release.tar.xz"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def member_of(earlier: Path) -> Path:
    return earlier / "distributed" / "data" / "db" / "db-1"


def content(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files if not file.name.endswith("-lock")}


def refused(kind: type[PredastoreError], start: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        start()
    said = str(caught.value)
    assert "\n" not in said
    assert "format 1, which an earlier program wrote, before 0.1.0 was released;" in said
    assert "give it an empty base_path, and copy the objects to it over S3" in said
    return said


@pytest.mark.parametrize("was_killed", [True, False])
def test_a_member_is_refused_and_stays_as_it_is(earlier: Path, was_killed: bool) -> None:
    directory = member_of(earlier)
    if not was_killed:
        (directory / "store" / "store.checkpoint").unlink()
    before = content(directory)
    for _ in range(2):
        said = refused(OtherVersion, lambda: open_tables(directory, 1))
        assert said.startswith(f"{directory / 'store'}/store.")
    assert content(directory) == before


def test_no_tables_are_made_of_its_journal(earlier: Path) -> None:
    directory = member_of(earlier)
    shutil.rmtree(directory / "store")
    journal = directory / "raft" / "journal"
    before = content(journal)
    said = refused(OtherVersion, Journal(OsDisk(journal), 1).load)
    assert said.startswith(f"{journal}/0000000000000001.journal: ")
    (file,) = (directory / "raft").glob("member.id")
    cluster_id = bytes.fromhex(file.read_text().split('"')[-2])

    async def start() -> None:
        store = Store(directory / "store", durable=False)
        try:
            await Member.open(
                path=directory / "raft",
                member_id=1,
                members=[1],
                store=store,
                endpoint=None,  # type: ignore[arg-type]
                cluster_id=cluster_id,
            )
        finally:
            assert store.applied_index == 0
            store.close()

    refused(OtherVersion, lambda: asyncio.run(start()))
    assert content(journal) == before


def test_the_state_of_the_filesystem_backend_is_refused(earlier: Path) -> None:
    state = earlier / "filesystem" / "data" / ".predastore" / "state"
    before = content(state)
    refused(UnsupportedFormat, lambda: LocalState(state))
    assert content(state) == before


def test_a_look_at_its_files_says_so(earlier: Path) -> None:
    directory = member_of(earlier)
    report = inspect(1, directory, bytes(16))
    said = [line for line in report.damage if "before 0.1.0 was released" in line]
    assert len(said) == 2  # of the tables, and of the journal


def test_a_backup_of_it_is_refused() -> None:
    header = bytearray(backup.Header(bytes(16), 7, 1_700_000_000_000, 4096).pack())
    header[8] = 1
    refused(UnsupportedFormat, lambda: backup.unpack_header(bytes(header), "f"))

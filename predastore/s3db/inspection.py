"""Looks at a stopped member's files without changing any: journal, store, and both together.

Every frame of the journal, every entry of every table, and whether the tables stand where the
journal can go on from: what a start would check, and what it takes for granted. lmdb has no
checksums: what is found damaged of its pages is what is not whole or not in order (lmdbfile.py).
The store of a member that was not stopped in order is looked at as its next start would see it, in
a temporary copy beside it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from predastore.base.errors import PredastoreError
from predastore.s3db import checkpoint, environment, identity, keys
from predastore.s3db.raft.disk import AppendFile, OsDisk
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import Marker
from predastore.s3db.raft.recovery import recover
from predastore.s3db.raft.snapshots import peek_note
from predastore.s3db.store import FILE_NAME


@dataclass
class InspectionReport:
    """Lines of what was found, and of what is wrong."""

    found: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


class _NoFile:
    def append(self, data: bytes) -> None:
        pass

    def sync(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class _LookOnly(OsDisk):
    """A journal's directory, in which nothing that a start would write or mend is done."""

    def __init__(self, path: Path, found: list[str]) -> None:
        self.path = path  # and, unlike OsDisk, it is not made
        self._found = found

    def list(self) -> list[str]:
        return super().list() if self.path.is_dir() else []

    def create(self, name: str) -> AppendFile:
        return _NoFile()

    def open(self, name: str) -> AppendFile:
        return _NoFile()

    def cut(self, name: str, size_bytes: int) -> None:
        torn = self.read(name)[size_bytes:].rstrip(b"\0")
        if not torn:
            return  # zeros ahead of what comes next
        self._found.append(
            f"{self.describe(name)}, byte {size_bytes}: a torn last frame of {len(torn)} bytes, "
            "never acknowledged, which the next start cuts off"
        )

    def rename(self, old: str, new: str) -> None:
        pass

    def unlink(self, name: str) -> None:
        pass

    def sync_directory(self) -> None:
        pass


def inspect(member: int, directory: Path, cluster_id: bytes) -> InspectionReport:
    """`directory`: the member's, with `raft` and `store` in it; nobody runs there."""
    report = InspectionReport()
    raft, file = directory / "raft", directory / "store" / FILE_NAME
    if not (raft / "journal").is_dir() and not file.exists():
        report.found.append(f"{directory}: no data; a member that starts here joins a cluster")
        return report
    applied: list[int] = []

    def store() -> None:
        if file.exists():
            applied.append(_look_at_store(report, file))
        else:
            applied.append(0)

    def together() -> None:
        if applied:
            journal = Journal(_LookOnly(raft / "journal", []), member)
            note = peek_note(raft)
            recover(journal, applied=applied[0], members=(), where=str(raft), installing=note)

    steps: list[Callable[[], None]] = [
        lambda: _look_at_identity(report, raft, member, cluster_id),
        store,
        lambda: _look_at_journal(report, raft, member),
    ]
    for step in steps:
        _noting(report, step)
    if not report.damage:
        _noting(report, together)
    return report


def journal_marker(path: Path, member: int) -> Marker | None:
    """After which entry the journal in a directory begins; None if there is none. StartupError
    where it is damaged or another member's; nothing is changed."""
    loaded = Journal(_LookOnly(path, []), member).load()
    return None if loaded is None else loaded.marker


def _noting(report: InspectionReport, step: Callable[[], None]) -> None:
    try:
        step()
    except (PredastoreError, lmdb.Error, OSError) as error:
        report.damage.append(str(error))


def _look_at_identity(report: InspectionReport, raft: Path, member: int, cluster_id: bytes) -> None:
    if identity.read(raft) is None:
        report.found.append(f"{raft}: no {identity.FILE_NAME}; the next start writes it")
    else:
        identity.establish(raft, member, cluster_id)


def _look_at_journal(report: InspectionReport, raft: Path, member: int) -> None:
    disk = _LookOnly(raft / "journal", report.found)
    journal = Journal(disk, member)
    loaded = journal.load()
    if loaded is None:
        report.found.append(f"{disk.path}: no journal")
        return
    first, last = loaded.marker.index + 1, loaded.marker.index + len(loaded.entries)
    configuration = loaded.marker.configuration
    report.found.append(
        f"{disk.path}: {journal.segment_count} segments, {journal.size_bytes} bytes, term "
        f"{loaded.hard_state.term}, entries {first} to {last}; before them voters "
        f"{list(configuration.voters)}, learners {list(configuration.learners)}"
    )


def _look_at_store(report: InspectionReport, file: Path) -> int:
    """The applied index, after every entry has been read."""
    with ExitStack() as stack:
        looked_at = file
        found = checkpoint.load(file)
        if found is not None:
            report.found.append(
                f"{file}: not closed in order; the next start goes back to entry "
                f"{found.applied_index}"
            )
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=file.parent))
            looked_at = Path(folder) / FILE_NAME
            shutil.copyfile(file, looked_at)
            checkpoint.restore(looked_at, found)
        opened, txn = stack.enter_context(environment.reading(looked_at))
        applied = opened.applied_index(txn)
        report.found.append(
            f"{file}: {len(opened.tables)} tables, applied index {applied}, level {opened.level}"
        )
        for name, table in sorted(opened.tables.items()):
            count, size_bytes = _read_all(keys.Walk(txn, table))
            report.found.append(f"{file}: table {name}: {count} entries, {size_bytes} bytes")
        return applied


def _read_all(walk: keys.Walk) -> tuple[int, int]:
    count = size_bytes = 0
    more = walk.seek(b"")
    while more:
        count += 1
        size_bytes += len(walk.key) + len(walk.value())
        more = walk.next()
    return count, size_bytes

"""Start-up of a member: its journal, against what its state machine holds.

A snapshot from a leader is installed in three steps, each durable before the next: a note of
what is being installed; the state machine's tables; the marker in the journal. A member that
stops in between finds the note, and tables that are as new as it says, and writes the marker.
"""

from __future__ import annotations

from collections.abc import Sequence

from predastore.base.errors import StartupError
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.log import RaftLog
from predastore.s3db.raft.messages import Configuration, Marker, Truncate
from predastore.s3db.raft.state import Recovered


def recover(
    journal: Journal,
    *,
    applied: int,
    members: Sequence[int],
    where: str,
    installing: Marker | None = None,
) -> Recovered:
    """What the journal holds; a new one, whose voters are `members`, if there is none.

    StartupError: journal and state machine do not belong together. Entries between `applied`
    and the journal's end are applied again once they are known to be committed. `installing`: the
    note, if there is one.
    """
    recovered = journal.load()
    if recovered is None:
        if applied > 0:
            raise StartupError(
                f"{where}: the tables hold entry {applied}, but there is no journal. Without it "
                "this member could vote twice in a term. Restore the journal directory, or move "
                "this member's whole directory away and let it join again empty"
            )
        return journal.create(Marker(0, 0, Configuration(tuple(sorted(members)))))
    if installing is not None and applied == installing.index:
        recovered = _installed(journal, recovered, installing)
    last = recovered.entries[-1].index if recovered.entries else recovered.marker.index
    if applied > last:
        raise StartupError(
            f"{where}: the tables hold entry {applied}, but the journal ends at entry {last}: "
            "journal entries that were synced are gone, or the two are from different times. "
            "Restore both from the same moment, or move this member's whole directory away and "
            "let it join again empty"
        )
    if applied < recovered.marker.index:
        raise StartupError(
            f"{where}: the tables hold entry {applied}, but the journal begins after entry "
            f"{recovered.marker.index}: the tables are older than the journal. Restore both from "
            "the same moment, or move this member's whole directory away and let it join again "
            "empty"
        )
    return recovered


def _installed(journal: Journal, recovered: Recovered, note: Marker) -> Recovered:
    """Complete an installation, unless the journal has, or needs, no marker of it."""
    log = RaftLog(recovered.marker.index, recovered.marker.term, recovered.entries)
    if note.index <= log.base_index or log.term_at(note.index) == note.term:
        return recovered
    journal.append([Truncate(log.first_index), note])
    journal.sync()
    return Recovered(recovered.hard_state, note)

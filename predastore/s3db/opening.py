"""The tables of a member that starts: opened, or made again where they are damaged.

Tables are what the journal's entries came to. Where the journal still has all of them, from the
first on, damaged tables are put aside and an empty store takes their place: the entries are applied
again, as they are after a crash. A journal that was cut needs the tables: then the member does not
start, and says what to do. A store of a newer version is no damage.
"""

from __future__ import annotations

import logging
from pathlib import Path

from predastore.base import fs
from predastore.base.errors import (
    CorruptData,
    OtherVersion,
    PredastoreError,
    StartupError,
    UnsupportedFormat,
)
from predastore.s3db.inspection import journal_marker
from predastore.s3db.procedures import NO_PROCEDURES, Procedures
from predastore.s3db.store import FILE_NAME, Store

_log = logging.getLogger(__name__)

_MEND = (
    "If a majority of the other members is healthy, move this member's whole directory away and "
    "let it join again empty; else restore a backup (s3d db restore FILE)"
)


def open_tables(directory: Path, member: int, procedures: Procedures = NO_PROCEDURES) -> Store:
    """The store of the member whose `store` and `raft` lie in `directory`, which it holds.
    StartupError: it is damaged, and can not be made again here; OtherVersion."""
    file = directory / "store" / FILE_NAME
    try:
        return Store(file.parent, durable=False, procedures=procedures)
    except UnsupportedFormat as error:
        raise OtherVersion(str(error)) from error
    except CorruptData as error:
        if not _can_be_made_again(directory, member):
            raise StartupError(
                f"{error}; and the journal does not have everything from its beginning on, to make "
                f"the tables again. {_MEND}"
            ) from error
        aside = file.with_name(FILE_NAME + ".damaged")
        _log.error(
            "the tables of this member are damaged; they are made again from its journal",
            extra={"reason": str(error), "kept": str(aside)},
        )
    if file.exists() or file.is_symlink():
        file.rename(aside)
        fs.sync(file.parent)
    return Store(file.parent, durable=False, procedures=procedures)


def _can_be_made_again(directory: Path, member: int) -> bool:
    try:
        marker = journal_marker(directory / "raft" / "journal", member)
    except (PredastoreError, OSError):
        return False  # a start says what is wrong with it, once the tables are mended
    return marker is not None and marker.index == 0

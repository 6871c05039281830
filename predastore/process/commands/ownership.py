"""For whom a command writes: what root makes for the server of another user, that server can not
open. Commands that write to the directories of a stopped process ask here first.

Who the server is, is told by the files that it made. A directory may well be of another user: that
of a container's host, where the server runs as root.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from predastore.base.errors import NotPermitted
from predastore.node import identity as node_identity
from predastore.process import credentials
from predastore.s3db import identity as member_identity

_LOCK: Final = ".lock"  # of daemon.held
_IN_DIRECTORY: Final = (node_identity.FILE_NAME, f"raft/{member_identity.FILE_NAME}", _LOCK)
_IN_BASE_PATH: Final = (_LOCK, credentials.FILE_NAME)


def check(command: str, base_path: Path, directories: Iterable[Path]) -> None:
    """NotPermitted where root would write for somebody else; OSError. Where the server has made
    nothing yet, a directory is taken to be for its owner; one that is not there, for the owner of
    what is above it, and of the base path."""
    if os.geteuid() != 0:
        return
    for place in (place for directory in directories for place in _judged(directory, base_path)):
        owner = place.stat().st_uid
        if owner != 0:
            name, way = _named(owner)
            raise NotPermitted(
                f"{place} belongs to {name}, whose server could not open what root writes; run "
                f"it as its owner: {way} -- s3d {command} ..."
            )


def _judged(directory: Path, base_path: Path) -> Iterator[Path]:
    """What tells by its owner for whom `directory` is."""
    files = [directory / name for name in _IN_DIRECTORY]
    files += [base_path / name for name in _IN_BASE_PATH]
    made = next((file for file in files if file.exists()), None)
    if made is not None:
        yield made
        return
    yield next(each for each in (directory, *directory.absolute().parents) if each.exists())
    if not directory.exists() and base_path.exists():
        yield base_path


def _named(uid: int) -> tuple[str, str]:
    """A user for people, and how root runs something as that user."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}", f"setpriv --reuid={uid} --clear-groups"
    return name, f"runuser -u {name}"

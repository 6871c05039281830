"""For whom a command writes: what root makes in the directory of another user, that user's server
can not open. Commands that write to the directories of a stopped process ask here first.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path

from predastore.errors import NotPermitted


def check(command: str, base_path: Path, directories: Iterable[Path]) -> None:
    """NotPermitted where root would write for somebody else; OSError. A directory that is not
    there yet is taken to be for the owner of what is above it, and of the base path."""
    if os.geteuid() != 0:
        return
    for place in (place for directory in directories for place in _judged(directory, base_path)):
        owner = place.stat().st_uid
        if owner != 0:
            name, way = _named(owner)
            raise NotPermitted(
                f"{place} belongs to {name}, who could not open what root writes there; run it as "
                f"its owner: {way} -- s3d {command} ..."
            )


def _judged(directory: Path, base_path: Path) -> Iterator[Path]:
    """What tells by its owner for whom `directory` is."""
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

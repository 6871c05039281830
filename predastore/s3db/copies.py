"""Whole files: copies of an open store, which appear under their name when they are whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from predastore.base import fs
from predastore.base.errors import NodeFull
from predastore.s3db import environment

if TYPE_CHECKING:
    from predastore.s3db.environment import Environment


def part_of(target: Path) -> Path:
    """What a copy is called until it is whole."""
    return target.with_name(target.name + ".part")


def begin(opened: Environment, target: Path) -> None:
    """Write the state of one moment, compacted, beside `target`; NodeFull."""
    part = part_of(target)
    part.unlink(missing_ok=True)
    environment.check_room(opened, target.parent)
    try:
        opened.env.copy(os.fspath(part), compact=True)
    except lmdb.Error as error:
        raise _no_room(part, error) from error


def finish(target: Path) -> int:
    """Give it its name, durably; its applied index."""
    part = part_of(target)
    try:
        index = environment.verify(part)
    except lmdb.Error as error:
        raise _no_room(part, error) from error
    fs.put_in_place(part, target)
    return index


def _no_room(part: Path, error: lmdb.Error) -> NodeFull:
    part.unlink(missing_ok=True)
    return NodeFull(f"{part}: the snapshot could not be written: {error}")

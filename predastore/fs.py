"""Files and folders that are there after a power cut: a file once its bytes are synced, and its
name once the folder that it is in is (fsync(2)). All of these raise OSError."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """On return the bytes of a file, or the names in a folder, are durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(part: Path, path: Path) -> None:
    """Renames a finished file, so that there is all of it under its new name, or what was there."""
    sync(part)
    part.replace(path)
    sync(path.absolute().parent)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Puts `content` where the file is, all of it or nothing. `mode`: whatever the umask."""
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(content)
    put_in_place(part, path)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Makes a folder if it is not there, and what lacks above it. `mode`: of the folder itself."""
    missing = []
    for each in (path.absolute(), *path.absolute().parents):
        if each.is_dir():
            break
        missing.append(each)
    for each in reversed(missing):
        each.mkdir(mode if each is missing[0] else 0o777, exist_ok=True)
        sync(each.parent)

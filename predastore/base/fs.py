"""Files and folders that are there after a power cut: a file once its bytes are synced, and its
name once the folder that it is in is (fsync(2)). All of these raise OSError.

Where the process, or the system, has no descriptor or no memory left, most can do nothing better
than wait: `patiently`. A process waits once it serves; one that starts, or a command, fails at
once, and says so.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from predastore.base.errors import is_exhausted
from predastore.base.limits import EXHAUSTED_PAUSE_S

T = TypeVar("T")

logger = logging.getLogger(__name__)

_wait_s = 0.0


def wait_for_descriptors(seconds: float) -> None:
    """How long `patiently` tries from now on, in this process; 0: once."""
    global _wait_s
    _wait_s = seconds


def patiently(work: Callable[..., T], *arguments: object) -> T:
    """What `work` returns or raises, tried again while nothing but a descriptor, or memory, lacks.
    For a thread whose work nobody needs to get one."""
    began_s = time.monotonic()
    is_told = False
    while True:
        try:
            return work(*arguments)
        except Exception as error:
            if not is_exhausted(error) or time.monotonic() - began_s >= _wait_s:
                raise
            if not is_told:
                logger.warning("waiting, as the system can not give what is needed: %s", error)
                is_told = True
        time.sleep(EXHAUSTED_PAUSE_S)


def opened(path: Path, flags: int, mode: int = 0o777) -> int:
    """A descriptor, had patiently; no other process gets it."""
    return patiently(os.open, path, flags | os.O_CLOEXEC, mode)


def sync(path: Path) -> None:
    """On return the bytes of a file, or the names in a folder, are durable."""
    descriptor = opened(path, os.O_RDONLY)
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
    descriptor = opened(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
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

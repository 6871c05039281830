"""Disks that fail. `Disk`: a file system in a sparse file, pulled out while it is in use.

Pulling out is ext4's shutdown: from then on every read and write, through descriptors that were
open before, too, is an I/O error, as with a drive that is gone.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2  # nothing that was not synced is kept


class Disk:
    def __init__(self, image: Path, place: Path, size_bytes: int) -> None:
        self._image = image
        self._size_bytes = size_bytes
        self.place = place

    def insert(self) -> None:
        """A new, empty one."""
        self.place.mkdir(parents=True, exist_ok=True)
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as file:
            file.truncate(self._size_bytes)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", "-m", "0", str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def pull(self) -> None:
        number = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(number, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(number)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], capture_output=True, check=False)
        self._image.unlink(missing_ok=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def why_not(folder: Path) -> str:
    """Why this process can have no such disks; "" if it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    disk = Disk(folder / "probe.img", folder / "probe", 16 << 20)
    try:
        disk.insert()
        disk.pull()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        return f"no disks of their own here: {said.decode().strip()}"
    finally:
        disk.remove()
    return ""


def fill_the_disk_under(folder: Path, suffix: str) -> None:
    """From now on writes to the files of that suffix that are open below `folder` fail."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith(f"{folder}/") and name.endswith(suffix):
                full = os.open("/dev/full", os.O_WRONLY)
                os.dup2(full, int(number), inheritable=False)
                os.close(full)

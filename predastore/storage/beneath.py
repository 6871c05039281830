"""Files below one directory, and never outside of it.

Every component of a path is opened relative to the one before, with O_NOFOLLOW: a symbolic link
anywhere on the way is refused (OSError ELOOP or ENOTDIR), whoever put it there and when. Paths are
relative, "/"-separated, without empty, "." or ".." components; ValueError otherwise. All calls
block, and are meant for a thread. Changes to names exclude each other, so that a directory is not
pruned while a file is being moved into it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from predastore.base import fs
from predastore.base.errors import is_exhausted

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Beneath:
    """`path` itself may be, or lie behind, a symbolic link; it is created if absent. `roots`: for
    some first components, the directory that stands for <path>/<component>, likewise."""

    def __init__(self, path: Path, roots: Mapping[str, Path] | None = None) -> None:
        self._names = threading.Lock()
        self._roots: dict[str, int] = {}
        self._root = _opened(path)
        try:
            for name, root in (roots or {}).items():
                self._roots[name] = _opened(root)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for root in (self._root, *self._roots.values()):
            os.close(root)

    def create(self, path: str) -> int:
        """The descriptor of a new file, for reading and writing."""
        with self._parent(path) as (parent, name):
            return os.open(name, _CREATE, 0o666, dir_fd=parent)

    def open(self, path: str) -> int:
        """The descriptor of a regular file, for reading; FileNotFoundError for anything else."""
        with self._parent(path) as (parent, name):
            descriptor = os.open(name, _READ, dir_fd=parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(f"{path}: not a regular file")
        return descriptor

    def make_directory(self, path: str) -> None:
        """Creates a directory, and those above it, durably, where they are absent."""
        with self._names, self._parent(f"{path}/x", create=True):
            return

    def disks(self) -> list[os.statvfs_result]:
        """What the file systems of `path` and of `roots` say of themselves."""
        return [os.fstatvfs(root) for root in (self._root, *self._roots.values())]

    def disk_of(self, path: str) -> os.statvfs_result:
        """The same, of the one on which a path is whose directory is there."""
        with self._parent(path) as (parent, _):
            return os.fstatvfs(parent)

    def names(self, path: str) -> list[str]:
        """What is in a directory."""
        with self._parent(f"{path}/x") as (parent, _):
            return os.listdir(parent)

    def walk(self, root: str, passing: str) -> Iterator[str]:
        """The paths of all regular files below one of `roots`; nothing of `passing` in it."""
        with self._parent(f"{root}/x") as (top, _):
            for folder, below, names, descriptor in os.fwalk(".", dir_fd=top):
                within = folder.removeprefix(".").removeprefix("/")
                if not within:
                    below[:] = [name for name in below if name != passing]
                for name in names:
                    with suppress(FileNotFoundError):
                        if stat.S_ISREG(os.lstat(name, dir_fd=descriptor).st_mode):
                            yield "/".join(filter(None, [root, within, name]))

    def exists(self, path: str) -> bool:
        with suppress(FileNotFoundError), self._parent(path) as (parent, name):
            os.lstat(name, dir_fd=parent)
            return True
        return False

    def is_free(self, path: str) -> bool:
        """Whether a file can be put at `path`: what is there, if anything, is a regular file, and
        what is above it are directories."""
        try:
            with self._parent(path) as (parent, name):
                return stat.S_ISREG(os.lstat(name, dir_fd=parent).st_mode)
        except FileNotFoundError:
            return True
        except OSError as error:
            if is_exhausted(error):
                raise
            return False

    def move(self, source: str, target: str) -> None:
        """Renames a file, durably, over whatever file is at `target`; makes directories for it."""
        with (
            self._names,
            self._parent(source) as (source_parent, source_name),
            self._parent(target, create=True) as (parent, name),
        ):
            os.rename(source_name, name, src_dir_fd=source_parent, dst_dir_fd=parent)
            os.fsync(parent)

    def remove(self, path: str, *, prune: bool = False) -> None:
        """Unlinks a file, if it is there; with `prune`, also directories that are empty then."""
        with self._names:
            with suppress(FileNotFoundError), self._parent(path) as (parent, name):
                os.unlink(name, dir_fd=parent)
            if prune:
                self._prune(path)

    def sync_directory(self, path: str) -> None:
        with self._parent(f"{path}/x") as (parent, _):
            os.fsync(parent)

    def _prune(self, path: str) -> None:
        while "/" in path:
            path = path.rpartition("/")[0]
            if path in self._roots:
                return
            try:
                with self._parent(path) as (parent, name):
                    os.rmdir(name, dir_fd=parent)
            except FileNotFoundError:
                continue
            except OSError:
                return

    @contextmanager
    def _parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The directory that `path` is in, open, and its last component."""
        *above, name = components(path)
        root = self._root
        if above and above[0] in self._roots:
            root = self._roots[above.pop(0)]
        parent = os.dup(root)
        try:
            for component in above:
                below = _enter(parent, component, create=create)
                os.close(parent)
                parent = below
            yield parent, name
        finally:
            os.close(parent)


def _opened(path: Path) -> int:
    fs.make_folder(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def components(path: str) -> list[str]:
    """The components of a path; ValueError for one that could lead out of the directory."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"not a path below the directory: {path!r}")
    return parts


def _enter(parent: int, component: str, *, create: bool) -> int:
    try:
        return os.open(component, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    os.mkdir(component, 0o777, dir_fd=parent)
    os.fsync(parent)
    return os.open(component, _DIRECTORY, dir_fd=parent)

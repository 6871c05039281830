"""What a Unix daemon owes its surroundings: locks on data, files that appear whole, clear errors
for taken addresses, and word to the service manager (sd_notify(3))."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from predastore.errors import StartupError


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Holds `directory` for this process; StartupError where another process has it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise StartupError(
            f"{directory} can not be used ({error.strerror}); mend its permissions, or name "
            "another with -base-path"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                f"{directory} is in use by another s3d; stop that one, or name another directory "
                "with -base-path"
            ) from None
        yield


def write_file(file: Path, content: bytes, mode: int) -> None:
    """Puts `content` where `file` is, whole and durable or not at all."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def listening(host: str, port: int, place: str) -> Iterator[None]:
    """Turns the failure to listen on host:port into a StartupError that says what to change."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"{host} port {port} is in use by another process; stop that one, or write "
                f"another port ({place})"
            ) from None
        raise StartupError(
            f"{host} port {port} can not be listened on ({error.strerror or error}); write an "
            f"address of this host ({place})"
        ) from None


def notify(state: str) -> None:
    """Tells the service manager, where there is one: "READY=1", "STOPPING=1"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), target)

"""What a Unix daemon owes its surroundings: locks on data, files that appear whole, clear errors
for taken addresses, and word to the service manager (sd_notify(3))."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from predastore.base import fs
from predastore.base.errors import InUse, StartupError


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Holds `directory` for this process; StartupError where another process has it."""
    try:
        fs.make_folder(directory)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise StartupError.because(
            error,
            f"{directory} can not be used ({error.strerror}); mend that, or name another with "
            "-base-path",
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"{directory} is in use by another s3d; stop that one, or name another directory "
                "with -base-path"
            ) from None
        yield


@contextlib.contextmanager
def listening(host: str, port: int, place: str) -> Iterator[None]:
    """Turns the failure to listen on host:port into a StartupError that says what to change."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InUse(
                f"{host} port {port} is in use by another process; stop that one, or write "
                f"another port ({place})"
            ) from None
        raise StartupError.because(
            error,
            f"{host} port {port} can not be listened on ({error.strerror or error}); write an "
            f"address of this host ({place})",
        ) from None


def notify(state: str) -> None:
    """Tells the service manager, where there is one: "READY=1", "STOPPING=1"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), target)


def notify_reloading() -> None:
    """The configuration is being read again; to be followed by READY=1."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START


def inherited(environment: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The listening socket that the service manager made for S3 (sd_listen_fds(3)), if any.

    It is the one named "s3" where there are several. StartupError where none can be used.
    """
    count, pid = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_PID", "")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or int(count) == 0 or pid != str(os.getpid()):
        return None
    for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environment.pop(variable, None)  # they are meant for this process alone
    if int(count) > 1 and "s3" not in names:
        raise StartupError(
            f"the service manager passed {count} sockets; name that of S3 with "
            "FileDescriptorName=s3, or pass it alone"
        )
    place = names.index("s3") if int(count) > 1 else 0
    try:
        found = socket.socket(fileno=_FIRST_INHERITED + place)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartupError(
            f"the socket that the service manager passed can not be used ({error.strerror})"
        ) from None
    if not listens or found.type != socket.SOCK_STREAM or found.family == socket.AF_UNIX:
        raise StartupError(
            "the socket that the service manager passed does not listen for TCP; write "
            "ListenStream= with an address and a port"
        )
    return found

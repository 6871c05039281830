"""An HTTP server that answers what a test says, byte for byte: for clients that must notice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader

Answer = Callable[["Asked"], bytes]

SILENCE = b""  # no answer, and the connection stays


class Gone(Exception):
    """What an Answer raises to end the connection, after these bytes."""

    def __init__(self, said: bytes = b"") -> None:
        self.said = said


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Puppet:
    port: int
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[Puppet]:
    """The server, on 127.0.0.1, with a thread for each connection."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    puppet = Puppet(listening.getsockname()[1])
    threads: list[threading.Thread] = []
    open_sockets: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_sockets.append(connection)
                threads.append(threading.Thread(target=_serve, args=(connection, answer, puppet)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield puppet
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listening.close()
        for each in open_sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _serve(connection: socket.socket, answer: Answer, puppet: Puppet) -> None:
    with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
        while asked := _read(stream):
            puppet.asked.append(asked)
            try:
                said = answer(asked)
            except Gone as gone:
                connection.sendall(gone.said)
                return
            connection.sendall(said)


def _read(stream: BufferedReader) -> Asked | None:
    first = stream.readline().decode()
    if not first:
        return None
    method, target, _ = first.split(" ")
    headers = {}
    while (line := stream.readline().decode().rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body)

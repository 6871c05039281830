"""Connections that break, TLS or not, in a handshake or a body: what they held goes at once, with
the collector off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Request, Response
from predastore.process import certificates
from support.garbage import Garbage
from support.waiting import eventually_async

_PIECE = bytes(1 << 20)
_GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
_PUT = b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n"


async def endless(request: Request) -> Response:
    """Takes the body, then sends one that no client takes to its end."""
    await request.body.read(1 << 30)

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield _PIECE

    return Response(200, [], pieces())


class Breaking:
    """A client of one server, and each way in which it breaks a connection."""

    def __init__(self, port: int, trusting: ssl.SSLContext | None) -> None:
        self._port = port
        self._trusting = trusting

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=20)

    def exchange(self, data: bytes, answer_bytes: int, *, reset: bool) -> None:
        client = self._connected()
        if self._trusting is not None:
            client = self._trusting.wrap_socket(client, server_hostname="127.0.0.1")
        with client, contextlib.suppress(ConnectionError):
            client.sendall(data)
            while answer_bytes > 0 and (piece := client.recv(1 << 16)):
                answer_bytes -= len(piece)
            _end(client, reset=reset)

    def handshake(self, hello_bytes: int, *, answered: bool, reset: bool) -> None:
        assert self._trusting is not None
        written = ssl.MemoryBIO()
        ours = self._trusting.wrap_bio(ssl.MemoryBIO(), written, server_hostname="127.0.0.1")
        with contextlib.suppress(ssl.SSLWantReadError):
            ours.do_handshake()
        with self._connected() as client, contextlib.suppress(ConnectionError):
            client.sendall(written.read()[:hello_bytes])
            if answered:
                client.recv(100)
                client.sendall(b"\x17\x03\x03\x00\x04abcd")
            _end(client, reset=reset)

    def all(self) -> None:
        for reset in (False, True):
            self.exchange(b"", 0, reset=reset)
            self.exchange(_GET[:20], 0, reset=reset)
            self.exchange(_GET, 0, reset=reset)
            self.exchange(_GET, 3 << 20, reset=reset)
            self.exchange(_PUT + _PIECE, 0, reset=reset)
            self.exchange(b"no HTTP\r\n\r\n", 100, reset=reset)
            if self._trusting is not None:
                for hello_bytes in (0, 50, 10_000):
                    self.handshake(hello_bytes, answered=False, reset=reset)
                self.handshake(10_000, answered=True, reset=reset)


def _end(client: socket.socket, *, reset: bool) -> None:
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_breaks_leaves_nothing_for_a_collection(
    http: Any, tmp_path: Path, tls: bool
) -> None:
    served = trusting = None
    if tls:
        files = certificates.ensure(tmp_path, ["127.0.0.1"])
        served = certificates.Served(files).context
        trusting = ssl.create_default_context(cafile=str(files.ca))

    async def scenario() -> None:
        breaking: Callable[[], None] = Breaking(http.server.port, trusting).all

        async def work() -> None:
            await asyncio.to_thread(breaking)
            await eventually_async(lambda: http.server.connection_count == 0)

        await work()
        with Garbage() as garbage:
            await work()
            assert not garbage.left()

    http.run(scenario, endless, ssl_context=served, bounds=Bounds(linger_s=0.05, tick_s=0.02))

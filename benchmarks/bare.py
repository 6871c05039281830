"""The yardstick of an HTTP server: httptools on uvloop and nothing else, in a process of its own.

It answers GET with the object's body from memory, HEAD likewise without, and takes PUT bodies
without looking at them.
The generator sends it the same requests as it sends `s3d`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import httptools
import uvloop

from benchmarks import payload
from benchmarks.load import ROOT

_CREATED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Bare:
    """It listens on 127.0.0.1."""

    port: int
    pid: int


@contextlib.contextmanager
def running(size_bytes: int, tls: tuple[str, str] | None = None) -> Iterator[Bare]:
    """The server, for objects of one size; `tls`: (certificate file, key file)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare", str(size_bytes), *(tls or ())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Bare(int(process.stdout.readline()), process.pid)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.terminate()
        process.wait(10)


class _Connection(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self, size_bytes: int) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._head = f"HTTP/1.1 200 OK\r\nContent-Length: {size_bytes}\r\n\r\n".encode()
        self._size_bytes = size_bytes
        self._url = b""
        self._pieces: Iterator[memoryview] = iter(())
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=payload.PIECE_BYTES)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"PUT":
            self._transport.write(_CREATED)
            return
        number = payload.number_of(self._url.decode())
        if self._parser.get_method() == b"HEAD":
            self._transport.write(self._head)
            return
        self._pieces = payload.pieces(number, self._size_bytes)
        self._transport.writelines([self._head, next(self._pieces)])
        self._pump()

    def _pump(self) -> None:
        while not self._paused and (piece := next(self._pieces, None)) is not None:
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()


async def _serve(size_bytes: int, context: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(size_bytes), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), context))


if __name__ == "__main__":
    main()

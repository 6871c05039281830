"""The HTTP layer: signatures, aws-chunked, and the server against the least there can be.

    sigv4.signature, sigv4.verify    a GET with ten header fields, against the plain-Python twin
    chunked.*                        bytes decoded, against memory copy or SHA-256 by OpenSSL
    http.small                       requests a second with an answer of 100 bytes
    http.small.cpu                   CPU time of the server for one of them
    http.put, http.get               MB/s of bodies of 8 MiB, 4 connections

The servers run in processes of their own, take turns under the same client, and answer from
memory: `python -m benchmarks.http NAME` is one of them. The yardstick is httptools on uvloop
with no error handling, no limits and no handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final, cast

import httptools
import uvloop

from benchmarks.measure import Row, paired, row, throughput_row, timing
from benchmarks.served import cpu_s
from predastore._fast import sigv4 as kernel
from predastore._fast.chunked import Decoder
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential, Verifier
from predastore.httpd.message import BytesBody, Headers, Request, Response
from predastore.httpd.server import Server
from tests.reference import chunked as chunked_twin
from tests.reference import sigv4 as sigv4_twin

BARE: Final = "httptools on uvloop, nothing else"
TWIN: Final = "plain Python twin"
COPY: Final = "memory copy"
ROUNDS: Final = 5
SAMPLE_S: Final = 0.7
SMALL_CONNECTIONS: Final = 32
LARGE_CONNECTIONS: Final = 4
LARGE_BYTES: Final = 8 << 20
ANSWER: Final = b"x" * 100
_ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ALICE: Final = Credential("AKBENCH", "secret", "1")


def rows() -> list[Row]:
    return [*_sigv4_rows(), *_chunked_rows(), *_server_rows()]


# --- kernels


def _signed_request() -> Request:
    headers = sign_request(
        ALICE,
        method="GET",
        raw_path=b"/bucket/some/key%20with%20blanks.bin",
        raw_query=b"",
        headers=[
            ("host", "127.0.0.1:8443"),
            ("accept-encoding", "identity"),
            ("user-agent", "Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux lang/python#3.11"),
            ("amz-sdk-invocation-id", "5f0c2c2e-8b1b-4b65-9d2c-2f6a7d1d9a41"),
            ("amz-sdk-request", "attempt=1"),
            ("range", "bytes=0-4095"),
            ("x-amz-checksum-mode", "ENABLED"),
        ],
        payload=b"",
        region="us-east-1",
        service="s3",
    )
    return Request(
        "GET", b"/bucket/some/key%20with%20blanks.bin", b"", Headers.of(headers), BytesBody()
    )


def _sigv4_rows() -> list[Row]:
    request = _signed_request()
    verifier = Verifier({ALICE.access_key_id: ALICE}.get, region="us-east-1")
    fields = dict(request.headers.items())
    stamp = fields["x-amz-date"].encode()
    arguments = (
        kernel.signing_key(b"secret", stamp[:8], b"us-east-1", b"s3"),
        stamp,
        stamp[:8] + b"/us-east-1/s3/aws4_request",
        b"GET",
        request.raw_path,
        b"",
        request.headers.raw,
        fields["authorization"].split("SignedHeaders=")[1].split(",")[0].encode(),
        fields["x-amz-content-sha256"].encode(),
    )

    def twin() -> bytes:
        return sigv4_twin.request_signature(*arguments)

    def verify() -> object:
        request.headers = Headers(request.headers.raw)  # as fresh as from the socket
        return verifier.verify(request)

    found = []
    functions: tuple[tuple[str, Callable[[], object]], ...] = (
        ("sigv4.signature", lambda: kernel.request_signature(*arguments)),
        ("sigv4.verify", verify),
    )
    for name, function in functions:
        mine, other = paired(function, twin)
        found.append(
            row(
                name,
                mine.per_second(1),
                "/s",
                spread=mine.spread,
                yardstick=TWIN,
                yardstick_value=other.per_second(1),
            )
        )
    return found


def _chunked_rows() -> list[Row]:
    data = os.urandom(4 << 20)
    target = memoryview(bytearray(len(data)))
    signing = chunked_twin.Signing(b"k" * 32, b"20250101T000000Z", b"20250101/r/s3/x", b"0" * 64)

    def copy() -> None:
        target[:] = data

    def decode(coded: bytes, signed: bool) -> None:
        decoder = Decoder(1 << 30, 0)
        if signed:
            decoder = Decoder(1 << 30, 0, signing.key, signing.prefix, signing.seed)
        used, written = decoder.feed(coded, target)
        rest, _ = decoder.feed(memoryview(coded)[used:], target[:0])
        assert (used + rest, written, decoder.done) == (len(coded), len(data), True)

    found = []
    for size, name in ((16 << 10, "16KiB"), (1 << 20, "1MiB")):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        plain, signed = chunked_twin.encode(pieces), chunked_twin.encode(pieces, signing)
        found.append(
            throughput_row(
                f"chunked.unsigned.{name}",
                len(data),
                partial(decode, plain, False),
                COPY,
                copy,
            )
        )
        found.append(
            throughput_row(
                f"chunked.signed.{name}",
                len(data),
                partial(decode, signed, True),
                "SHA-256 by OpenSSL",
                lambda: hashlib.sha256(data).digest(),
            )
        )
    return found


# --- the two servers


async def _handler(request: Request) -> Response:
    if request.method == "PUT":
        buffer = memoryview(bytearray(1 << 20))
        while await request.body.readinto(buffer):
            pass
        return Response(200, [("ETag", '"x"')])
    if request.raw_path == b"/large":
        return Response(200, [], _large(), length=LARGE_BYTES)
    return Response(200, [("ETag", '"x"'), ("x-amz-request-id", request.id)], ANSWER)


async def _large() -> AsyncIterator[bytes]:
    piece = b"x" * (1 << 20)
    for _ in range(LARGE_BYTES >> 20):
        yield piece


class _Bare(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._left = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 20)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        pass

    def on_message_complete(self) -> None:
        size = LARGE_BYTES if self._url == b"/large" else len(ANSWER)
        if self._parser.get_method() == b"PUT":
            size = 0
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        if size > len(ANSWER):
            self._transport.write(head)
            self._left = size
            self._pump()
        else:
            self._transport.write(head + ANSWER[:size])

    def _pump(self) -> None:
        while self._left and not self._paused:
            self._transport.write(b"x" * min(1 << 20, self._left))
            self._left -= min(1 << 20, self._left)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()


async def _serve(name: str) -> None:
    if name == "bare":
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(_Bare, "127.0.0.1", 0)
        print(listener.sockets[0].getsockname()[1], flush=True)
    else:
        server = Server(_handler, host="127.0.0.1", port=0)
        await server.start()
        print(server.port, flush=True)
    await asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def _running(name: str) -> Iterator[tuple[int, int]]:
    """(port, process id) of a server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http", name], stdout=subprocess.PIPE, cwd=_ROOT
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


# --- the client


class _Load:
    """Connections that repeat one request; a reply ends with its `answer_bytes`-byte body."""

    def __init__(self, port: int, connections: int, request: bytes, answer_bytes: int) -> None:
        self._request = request
        self._answer_bytes = answer_bytes
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        self._buffer = bytearray(1 << 20)

    def run(self, seconds: float) -> float:
        """Requests a second."""
        done = 0
        left: dict[int, int] = {}
        unsent: dict[int, memoryview] = {}
        with select.epoll() as poll:
            by_fd = {link.fileno(): link for link in self._sockets}
            begun = time.perf_counter()
            for fd, link in by_fd.items():
                link.setblocking(False)
                poll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
                self._begin(fd, link, left, unsent)
            while (passed := time.perf_counter() - begun) < seconds:
                for fd, event in poll.poll(0.1):
                    link = by_fd[fd]
                    if event & select.EPOLLOUT and unsent[fd]:
                        self._send(fd, link, unsent)
                    if event & select.EPOLLIN and self._receive(fd, link, left):
                        done += 1
                        self._begin(fd, link, left, unsent)
        for link in self._sockets:
            link.close()
        return done / passed

    def _begin(
        self, fd: int, link: socket.socket, left: dict[int, int], unsent: dict[int, memoryview]
    ) -> None:
        left[fd] = -1
        unsent[fd] = memoryview(self._request)
        self._send(fd, link, unsent)

    @staticmethod
    def _send(fd: int, link: socket.socket, unsent: dict[int, memoryview]) -> None:
        with contextlib.suppress(BlockingIOError):
            while unsent[fd]:
                unsent[fd] = unsent[fd][link.send(unsent[fd]) :]

    def _receive(self, fd: int, link: socket.socket, left: dict[int, int]) -> bool:
        """Reads what is there; True when a response is whole."""
        while True:
            try:
                count = link.recv_into(self._buffer)
            except BlockingIOError:
                return False
            if count == 0:
                raise ConnectionError("the server closed the connection")
            if left[fd] < 0:
                head = self._buffer.index(b"\r\n\r\n", 0, count) + 4
                left[fd] = self._answer_bytes + head
            left[fd] -= count
            if left[fd] == 0:
                return True


def _server_rows() -> list[Row]:
    lines = "".join(f"{n}: {v}\r\n" for n, v in _signed_request().headers.items())
    small = f"GET /bucket/key HTTP/1.1\r\n{lines}\r\n".encode()
    put = f"PUT /bucket/key HTTP/1.1\r\n{lines}Content-Length: {LARGE_BYTES}\r\n\r\n".encode()
    large = f"GET /large HTTP/1.1\r\n{lines}\r\n".encode()
    found = _compare("http.small", SMALL_CONNECTIONS, small, len(ANSWER), None)
    megabytes = LARGE_BYTES / 1e6
    body = put + b"x" * LARGE_BYTES
    found += _compare("http.put", LARGE_CONNECTIONS, body, 0, megabytes)
    found += _compare("http.get", LARGE_CONNECTIONS, large, LARGE_BYTES, megabytes)
    return found


def _compare(
    name: str, connections: int, request: bytes, answer_bytes: int, megabytes: float | None
) -> list[Row]:
    """A row of throughput, and where requests are counted one of the server's CPU time."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    costs: dict[str, list[float]] = {"ours": [], "bare": []}
    with _running("ours") as ours, _running("bare") as bare:
        for _ in range(ROUNDS):
            for which, (port, pid) in (("ours", ours), ("bare", bare)):
                load = _Load(port, connections, request, answer_bytes)
                before_s = cpu_s(pid)
                rate = load.run(SAMPLE_S)
                rates[which].append(rate * (megabytes or 1))
                costs[which].append((cpu_s(pid) - before_s) / (rate * SAMPLE_S) * 1e6)
    found = [_row(name, rates, "MB/s" if megabytes else "/s")]
    if megabytes is None:
        found.append(_row(f"{name}.cpu", costs, "us"))
    return found


def _row(name: str, samples: dict[str, list[float]], unit: str) -> Row:
    mine, other = timing(samples["ours"]), timing(samples["bare"])
    return row(
        name,
        mine.median_s,
        unit,
        spread=mine.spread,
        yardstick=BARE,
        yardstick_value=other.median_s,
    )


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))

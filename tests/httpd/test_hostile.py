"""What the server does to clients that lie, smuggle, stall or flood: a clear error, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from predastore.base.errors import HttpError
from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Request, Response
from support.waiting import eventually_async

HOST = b"Host: h\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
QUICK = Bounds(
    head_timeout_s=0.15,
    idle_timeout_s=0.3,
    progress_timeout_s=0.2,
    linger_s=0.1,
    tick_s=0.02,
)

MALFORMED = {
    "content-length and chunked": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
        400,
    ),
    "chunked and content-length": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
        b"0\r\n\r\n",
        400,
    ),
    "two equal lengths": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        400,
    ),
    "two lengths": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 37\r\n\r\n",
        400,
    ),
    "length list": (b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 0, 0\r\n\r\n", 400),
    "signed length": (b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: +0\r\n\r\n", 400),
    "negative length": (b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "hexadecimal length": (b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x0\r\n\r\n", 400),
    "empty length": (b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n", 400),
    "huge length": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
        400,
    ),
    "other coding": (b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "two codings": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    "coding twice": (
        b"PUT / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "coding with vertical tab": (
        b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "coding in HTTP/1.0": (
        b"PUT / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    "one bare line feed": (b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
    "bare carriage return": (b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", 400),
    "folded line": (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
    "blank before colon": (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    "blank before name": (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", 400),
    "nul in a value": (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", 400),
    "nul in the path": (b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "blank in the path": (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "version 3": (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 400),
    "unknown method": (b"STEAL / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "expectation": (b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: gold\r\n\r\n", 417),
    "tls to a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "long head": (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "endless head": (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000, 431),
    "many fields": (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
    "long target": (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_head_is_refused_and_ends_the_connection(http: Any, name: str) -> None:
    data, status = MALFORMED[name]

    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(data + SMUGGLED)
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert await client.closed() == b""
        assert http.seen == []

    http.run(scenario, bounds=Bounds(linger_s=0.05, tick_s=0.02))


def test_a_request_hidden_in_a_body_is_not_served(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
        assert (await client.exchange(head + SMUGGLED)).body == SMUGGLED
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await client.exchange(head + chunk)).body == SMUGGLED
        assert [request.raw_path for request, _ in http.seen] == [b"/", b"/"]

    http.run(scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"5\r\nabcde0\r\n\r\n",
        b"5\nabcde\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"-5\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\na: b\r\na: c\r\n\r\n",
        b"0\r\n" + b"a: " + b"x" * 9000 + b"\r\n\r\n",
    ],
)
def test_a_malformed_chunked_body_is_refused_and_ends_the_connection(
    http: Any, body: bytes
) -> None:
    async def scenario() -> None:
        client = await http.connect()
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await client.exchange(head + body + SMUGGLED)
        assert reply.status == 400
        assert await client.closed() == b""
        assert http.seen == []

    http.run(scenario, bounds=Bounds(linger_s=0.05, tick_s=0.02))


def test_an_unread_chunked_body_is_never_taken_for_a_request(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await client.exchange(head + SMUGGLED)
        assert (reply.body, reply.headers["connection"]) == (b"ignored", "close")
        assert await client.closed() == b""
        assert len(http.seen) == 1

    http.run(scenario, http.ignore, bounds=Bounds(linger_s=0.05, tick_s=0.02))


def test_a_head_that_trickles_in_is_cut_off(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        client.send(b"GET / HTTP/1.1\r\n")

        async def trickle() -> None:
            loop = asyncio.get_running_loop()
            while True:
                client.send(b"X: y\r\n")
                pause = loop.create_future()
                loop.call_later(0.01, pause.set_result, None)
                await pause

        trickling = asyncio.ensure_future(trickle())
        assert (await client.reply()).status == 408
        trickling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trickling
        await eventually_async(lambda: http.server.connection_count == 0)

    http.run(scenario, bounds=QUICK)


def test_an_idle_connection_is_closed_without_a_word(http: Any) -> None:
    async def scenario() -> None:
        fresh = await http.connect()
        used = await http.connect()
        await used.exchange(SMUGGLED)
        assert await fresh.closed() == b""
        assert await used.closed() == b""

    http.run(scenario, bounds=QUICK)


@pytest.mark.parametrize("coding", [b"Content-Length: 99", b"Transfer-Encoding: chunked"])
def test_a_body_that_stalls_is_an_error_for_its_reader(http: Any, coding: bytes) -> None:
    errors: list[int] = []

    async def handler(request: Request) -> Response:
        try:
            await request.body.read(1000)
        except HttpError as error:
            errors.append(error.status)
            raise
        return Response(200)

    async def scenario() -> None:
        client = await http.connect()
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\n" + coding + b"\r\n\r\n5\r\nab")
        assert (await client.reply()).status == 408
        assert await client.closed() == b""
        assert errors == [408]

    http.run(scenario, handler, bounds=QUICK)


def test_a_reader_that_stalls_is_cut_off(http: Any) -> None:
    closed: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.append("closed")

    async def handler(request: Request) -> Response:
        return Response(200, [], endless(), length=1 << 40)

    async def scenario() -> None:
        client = await http.connect(limit=1000)
        client.send(SMUGGLED)
        await eventually_async(lambda: closed)
        await eventually_async(lambda: http.server.connection_count == 0)

    http.run(scenario, handler, bounds=QUICK)


def test_a_slow_but_steady_transfer_is_not_cut_off(http: Any) -> None:
    """Ten times the progress timeout, with a little progress in each part of it."""

    async def scenario() -> None:
        client = await http.connect()
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n")
        loop = asyncio.get_running_loop()
        for _ in range(20):
            client.send(b"x" * 10_000)
            pause = loop.create_future()
            loop.call_later(0.05, pause.set_result, None)
            await pause
        assert len((await client.reply()).body) == 200_000

    http.run(scenario, bounds=Bounds(progress_timeout_s=0.5, tick_s=0.02))


def test_connections_over_the_bound_are_told_so(http: Any) -> None:
    async def scenario() -> None:
        kept = [await http.connect() for _ in range(3)]
        for client in kept:
            await client.exchange(SMUGGLED)
        refused = await http.connect()
        reply = await refused.reply()
        assert (reply.status, reply.headers["connection"]) == (503, "close")
        assert await refused.closed() == b""
        await kept.pop().close()
        await eventually_async(lambda: http.server.connection_count == 2)
        assert (await (await http.connect()).exchange(SMUGGLED)).status == 200
        assert (await kept[0].exchange(SMUGGLED)).status == 200

    http.run(scenario, bounds=Bounds(connections_max=3, linger_s=0.05, tick_s=0.02))


def test_a_flood_of_connections_is_cut_without_answers(http: Any) -> None:
    async def scenario() -> None:
        clients = [await http.connect() for _ in range(40)]
        answers = [await client.closed() for client in clients[2:]]
        assert answers.count(b"") >= 30
        assert (await clients[0].exchange(SMUGGLED)).status == 200

    http.run(scenario, bounds=Bounds(connections_max=2, linger_s=5.0, tick_s=0.02))


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def test_a_thousand_idle_connections_cost_little_and_slow_nobody(http: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    idle: list[socket.socket] = []

    async def scenario() -> None:
        busy = await http.connect()
        await busy.exchange(SMUGGLED)
        before = resident_bytes()
        for i in range(1000):
            client = socket.create_connection(("127.0.0.1", http.server.port))
            idle.append(client)
            if i % 2:
                client.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-Half: a head that never ends")
            if i % 50 == 0:  # no more than the backlog holds
                await eventually_async(lambda: http.server.connection_count > len(idle) - 50)
        await eventually_async(lambda: http.server.connection_count == 1001)
        assert resident_bytes() - before < 32 << 20
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for _ in range(50):
            assert (await busy.exchange(SMUGGLED)).status == 200
        assert loop.time() - begun_s < 2.0

    try:
        http.run(scenario)
    finally:
        for client in idle:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_a_connection_holds_is_bounded_when_nobody_reads(http: Any) -> None:
    async def handler(request: Request) -> Response:
        http.seen.append((request, b""))
        await asyncio.get_running_loop().create_future()
        return Response(200)

    async def scenario() -> None:
        before = resident_bytes()
        senders = []
        for _ in range(20):
            client = await http.connect()
            client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n")
            senders.append(client)
        await eventually_async(lambda: len(http.seen) == 20)
        block = b"x" * (1 << 20)
        stuck = 0
        while stuck < 20:  # until nobody takes any more
            stuck += 1
            for client in senders:
                if client.writer.transport.get_write_buffer_size() == 0:
                    client.send(block)
                    stuck = 0
            pause = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.005, pause.set_result, None)
            await pause
        assert resident_bytes() - before < 80 << 20  # of which the clients hold 20 MiB
        for client in senders:
            client.writer.transport.abort()

    http.run(scenario, handler)

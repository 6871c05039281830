"""Connections count from accept on, TLS or not; a handshake has a short time; who comes while no
descriptor is left waits, and is served later."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from predastore.httpd import listener as listener_module
from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Request, Response
from predastore.process import certificates
from support.waiting import eventually_async

_GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and one that trusts it."""
    files = certificates.ensure(tmp_path_factory.mktemp("tls"), ["127.0.0.1"])
    return certificates.context(files), ssl.create_default_context(cafile=str(files.ca))


def hello(trusting: ssl.SSLContext) -> bytes:
    """The first message of a handshake."""
    written = ssl.MemoryBIO()
    client = trusting.wrap_bio(ssl.MemoryBIO(), written, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return written.read()


@pytest.mark.parametrize("sent_bytes", [0, 100])
def test_a_handshake_that_is_not_done_in_time_is_cut(
    http: Any, contexts: tuple[ssl.SSLContext, ssl.SSLContext], sent_bytes: int
) -> None:
    served, trusting = contexts

    async def scenario() -> None:
        client = await http.connect()
        client.send(hello(trusting)[:sent_bytes])
        await eventually_async(lambda: http.server.connection_count == 1)
        assert await client.closed() == b""
        await eventually_async(lambda: http.server.connection_count == 0)
        assert (await (await http.connect(ssl=trusting)).exchange(_GET)).status == 200

    http.run(scenario, ssl_context=served, bounds=Bounds(handshake_timeout_s=0.3))


def test_a_handshake_that_trickles_has_no_more_time(
    http: Any, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    served, trusting = contexts

    async def scenario() -> None:
        client = await http.connect()
        cut = asyncio.ensure_future(client.closed())
        for byte in hello(trusting):
            client.send(bytes([byte]))
            await asyncio.wait((cut,), timeout=0.02)
            if cut.done():
                break
        else:
            raise AssertionError("it was never cut")

    http.run(scenario, ssl_context=served, bounds=Bounds(handshake_timeout_s=0.3))


def test_handshakes_under_way_count_and_who_is_too_many_is_told(
    http: Any, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    served, trusting = contexts

    async def scenario() -> None:
        silent = [await http.connect() for _ in range(10)]
        await eventually_async(lambda: http.server.connection_count == 10)
        told = await http.connect(ssl=trusting)
        assert (await told.reply()).status == 503
        await told.closed()
        await eventually_async(lambda: http.server.connection_count == 10)
        more = [await http.connect() for _ in range(3)]
        await eventually_async(lambda: http.server.connection_count == 12)
        assert await more[-1].closed() == b"", "a tenth more are taken, and no others"
        for each in (*silent, *more):
            await each.close()
        await eventually_async(lambda: http.server.connection_count == 0)
        assert (await (await http.connect(ssl=trusting)).exchange(_GET)).status == 200

    http.run(scenario, ssl_context=served, bounds=Bounds(connections_max=10, linger_s=0.05))


def test_draining_does_not_wait_for_handshakes(
    http: Any, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def scenario() -> None:
        client = await http.connect()
        await eventually_async(lambda: http.server.connection_count == 1)
        await asyncio.wait_for(http.server.drain(20.0), 5.0)
        assert await client.closed() == b""

    http.run(scenario, ssl_context=contexts[0])


class Short(socket.socket):
    """It listens, and can accept only while `left` says so."""

    left: Callable[[], int]
    tries = 0

    def accept(self) -> Any:
        self.tries += 1
        if code := self.left():
            raise OSError(code, "no more")
        return super().accept()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_who_comes_while_no_descriptor_is_left_is_served_when_there_is_one(
    http: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(listener_module, "HTTP_ACCEPT_PAUSE_S", 0.02)
    short = Short()
    short.bind(("127.0.0.1", 0))
    short.listen()
    lacks = [code]
    short.left = lambda: lacks[0]

    async def scenario() -> None:
        client = await http.connect()
        client.send(_GET)
        await eventually_async(lambda: short.tries > 3)
        assert short.tries < 100, "it rests between two tries"
        lacks[0] = 0
        assert (await client.reply()).status == 200
        assert (await (await http.connect()).exchange(_GET)).status == 200

    http.run(scenario, listener=short)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_handler_that_lacks_a_descriptor_is_answered_for_with_503(http: Any, code: int) -> None:
    async def short(request: Request) -> Response:
        raise OSError(code, "no more")

    async def scenario() -> None:
        client = await http.connect()
        assert (await client.exchange(_GET)).status == 503
        assert (await client.exchange(_GET)).status == 503, "the connection goes on"

    http.run(scenario, short)


def test_draining_does_not_wait_for_who_is_accepted_in_the_same_turn(
    http: Any, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    short = Short()
    short.bind(("127.0.0.1", 0))
    short.listen()
    draining: list[asyncio.Task[None]] = []

    def drain() -> int:
        if not draining:
            draining.append(asyncio.ensure_future(http.server.drain(20.0)))
        return 0

    short.left = drain

    async def scenario() -> None:
        client = await http.connect()
        await eventually_async(lambda: draining)
        await asyncio.wait_for(draining[0], 5.0)
        assert await client.closed() == b""

    http.run(scenario, listener=short, ssl_context=contexts[0])

"""What the server does for well-behaved clients, over real sockets."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import BodyMismatch, HttpError, StartupError
from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Body, Buffer, Request, Response
from predastore.httpd.server import Server
from support.waiting import eventually_async

GET = b"GET /a%20b//c?x=1&y HTTP/1.1\r\nHost: h\r\n\r\n"


def put(body: bytes, *more: bytes) -> bytes:
    lines = [b"PUT /k HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes) -> bytes:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*pieces, b""))
    return b"PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + coded


def test_a_request_arrives_as_it_was_sent(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(
            b"POST /a%20b//c?x=1&y HTTP/1.1\r\nHost: h\r\nX-A:  one \r\nx-a: two\r\n"
            b"X-B: caf\xc3\xa9\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert (reply.status, reply.body) == (200, b"abc")
        assert reply.headers["server"]
        assert reply.headers["date"].endswith(" GMT")
        request, body = http.seen[0]
        assert (request.method, request.raw_path, request.raw_query) == (
            "POST",
            b"/a%20b//c",
            b"x=1&y",
        )
        assert request.headers.get("x-a") == "one"
        assert request.headers.get_all("x-a") == ["one", "two"]
        assert request.headers.get("x-b", "").encode("latin-1") == b"caf\xc3\xa9"
        assert "x-c" not in request.headers
        assert (body, request.remote, request.secure) == (b"abc", "127.0.0.1", False)
        assert len(request.id) == 16

    http.run(scenario)


def test_a_connection_is_kept_for_the_next_request(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        for i in range(5):
            reply = await client.exchange(put(b"x" * i))
            assert reply.body == b"x" * i
            assert "connection" not in reply.headers
        assert http.server.connection_count == 1

    http.run(scenario)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_pipelined_requests_are_answered_in_order(http: Any, step: int) -> None:
    async def scenario() -> None:
        client = await http.connect()
        data = b""
        for i in range(30):
            data += put(b"%d" % i) + GET + b"\r\n" + chunked(b"a", b"b%d" % i)
        for at in range(0, len(data), step):
            client.send(data[at : at + step])
        for i in range(30):
            assert (await client.reply()).body == b"%d" % i
            assert (await client.reply()).headers["x-path"] == "/a%20b//c"
            assert (await client.reply()).body == b"ab%d" % i

    http.run(scenario)


@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000, 5_000_000])
def test_bodies_of_any_size_arrive_whole(http: Any, size: int) -> None:
    async def scenario() -> None:
        client = await http.connect()
        body = bytes(range(251)) * (size // 251 + 1)
        body = body[:size]
        assert (await client.exchange(put(body))).body == body
        pieces = [body[at : at + 70_000] for at in range(0, size, 70_000)]
        assert (await client.exchange(chunked(*pieces))).body == body
        assert [request.has_length for request, _ in http.seen] == [True, True]
        assert http.seen[0][0].body.length == size
        assert http.seen[1][0].body.length is None

    http.run(scenario)


def test_a_missing_length_is_told_from_an_empty_body(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        await client.exchange(b"PUT /k HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.exchange(put(b""))
        assert [request.has_length for request, _ in http.seen] == [False, True]

    http.run(scenario)


def test_trailers_of_a_chunked_body_are_given_at_its_end(http: Any) -> None:
    async def handler(request: Request) -> Response:
        assert dict(request.body.trailers) == {}
        await request.body.read(100)
        return Response(200, [], repr(dict(request.body.trailers)).encode())

    async def scenario() -> None:
        client = await http.connect()
        request = chunked(b"abc")[:-2] + b"X-Sum: 1 \r\ny:\r\n\r\n"
        assert (await client.exchange(request)).body == b"{'x-sum': '1', 'y': ''}"

    http.run(scenario, handler)


def test_http_1_0_closes_unless_asked_to_stay(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert reply.headers["connection"] == "keep-alive"
        reply = await client.exchange(b"GET / HTTP/1.0\r\n\r\n")
        assert "connection" not in reply.headers
        assert await client.closed() == b""

    http.run(scenario)


def test_an_idle_connection_holds_nothing_of_its_last_request(http: Any) -> None:
    seen: list[weakref.ref[Body]] = []

    async def handler(request: Request) -> Response:
        seen.append(weakref.ref(request.body))
        await request.body.read(100)
        return Response(200, [], b"done")

    async def scenario() -> None:
        client = await http.connect()
        for _ in range(2):
            await client.exchange(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
            await eventually_async(lambda: seen[-1]() is None)

    http.run(scenario, handler)


def test_a_trailer_line_that_ends_in_lf_alone_is_refused(http: Any) -> None:
    """For a proxy that takes it for the end, what follows is another request."""

    async def scenario() -> None:
        client = await http.connect()
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await client.exchange(head + b"0\r\na: b\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert reply.status == 400
        assert await client.closed() == b""

    http.run(scenario)


def test_connection_close_is_honoured(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert reply.headers["connection"] == "close"
        assert await client.closed() == b""

    http.run(scenario)


async def stream(*pieces: Buffer) -> AsyncIterator[Buffer]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("response", "length"),
    [
        (Response(200, [], b"abc"), "3"),
        (Response(200, [], b"", length=77), "77"),
        (Response(200, [], stream(b"abc"), length=3), "3"),
        (Response(204, [], b""), None),
        (Response(304, [("ETag", '"x"')], b""), None),
    ],
)
def test_head_and_bodiless_statuses_send_no_body(
    http: Any, response: Response, length: str | None
) -> None:
    async def handler(request: Request) -> Response:
        return response if request.raw_path == b"/" else Response(200, [], b"next")

    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", to_head=True)
        assert reply.status == response.status
        assert reply.headers.get("content-length") == length
        assert (await client.exchange(GET)).body == b"next"

    http.run(scenario, handler)


@pytest.mark.parametrize("length", [None, 900_006])
def test_a_streamed_response_arrives_whole(http: Any, length: int | None) -> None:
    pieces: list[Buffer] = [b"abc", b"", memoryview(b"x" * 900_000), bytearray(b"def")]

    async def handler(request: Request) -> Response:
        return Response(200, [], stream(*pieces), length=length)

    async def scenario() -> None:
        client = await http.connect()
        whole = b"abc" + b"x" * 900_000 + b"def"
        for _ in range(2):
            reply = await client.exchange(GET)
            assert reply.body == whole
            assert ("content-length" in reply.headers) == (length is not None)
        reply = await client.exchange(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert reply.body == whole
        assert "transfer-encoding" not in reply.headers

    http.run(scenario, handler)


def test_100_continue_is_sent_when_the_handler_reads(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        client.send(b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n")
        client.send(b"Expect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        reply = await client.exchange(b"abc")
        assert (reply.status, reply.body) == (200, b"abc")
        reply = await client.exchange(put(b"abc", b"Expect: 100-continue"))
        assert (reply.body, reply.informational) == (b"abc", [])

    http.run(scenario)


def test_no_100_continue_when_the_handler_answers_at_once(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        client.send(b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n")
        reply = await client.exchange(b"Expect: 100-continue\r\n\r\n")
        assert (reply.body, reply.informational) == (b"ignored", [])
        assert reply.headers["connection"] == "close"
        assert await client.closed() == b""

    http.run(scenario, http.ignore)


def test_a_small_body_nobody_read_is_dropped_and_the_connection_kept(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        for _ in range(3):
            reply = await client.exchange(put(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 100))
            assert reply.body == b"ignored"
        assert len(http.seen) == 3

    http.run(scenario, http.ignore)


@pytest.mark.parametrize("request_bytes", [put(b"z" * 3_000_000), chunked(b"z" * 3_000_000)])
def test_the_answer_to_a_large_unread_body_arrives_and_ends_the_connection(
    http: Any, request_bytes: bytes
) -> None:
    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(request_bytes)
        assert reply.body == b"ignored"
        assert reply.headers["connection"] == "close"
        assert await client.closed() == b""
        assert len(http.seen) == 1

    http.run(scenario, http.ignore)


def test_errors_of_a_handler_become_responses(http: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        if request.raw_path == b"/http":
            raise HttpError(413, "too much", close=False)
        if request.raw_path == b"/body":
            raise BodyMismatch("md5 differs", "md5")
        if request.raw_path == b"/split":
            return Response(200, [("X-A", "a\r\nX-Evil: b")], b"")
        raise KeyError("secret detail")

    async def scenario() -> None:
        client = await http.connect()
        reply = await client.exchange(b"GET /http HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (reply.status, reply.body) == (413, b"too much\n")
        reply = await client.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (reply.status, b"secret" in reply.body) == (500, False)
        reply = await client.exchange(b"GET /body HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        client = await http.connect()
        client.send(b"GET /split HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"Evil" not in await client.closed()

    http.run(scenario, handler)
    assert "secret detail" in caplog.text


def test_the_error_hook_shapes_every_error(http: Any) -> None:
    def hook(request: Request | None, error: HttpError) -> Response:
        return Response(error.status, [("X-Hook", "1")], b"" if request is None else b"r")

    async def handler(request: Request) -> Response:
        raise HttpError(418, "no")

    async def scenario() -> None:
        reply = await (await http.connect()).exchange(GET)
        assert (reply.status, reply.headers["x-hook"], reply.body) == (418, "1", b"r")
        reply = await (await http.connect()).exchange(b"junk\r\n\r\n")
        assert (reply.status, reply.headers["x-hook"], reply.body) == (400, "1", b"")

    http.run(scenario, handler, on_error=hook)


async def failing() -> AsyncIterator[bytes]:
    yield b"x" * 10
    raise RuntimeError("the disk died")


@pytest.mark.parametrize(
    ("body", "length"),
    [(failing(), 20), (failing(), None), (stream(b"x" * 10), 20), (stream(b"x" * 30), 20)],
)
def test_a_response_that_can_not_be_finished_is_cut_off(
    http: Any, body: AsyncIterator[bytes], length: int | None
) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], body, length=length)

    async def scenario() -> None:
        client = await http.connect()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.exchange(GET)

    http.run(scenario, handler)


def test_a_client_that_goes_away_cancels_the_handler(http: Any) -> None:
    events: list[str] = []

    async def handler(request: Request) -> Response:
        events.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        return Response(200)

    async def scenario() -> None:
        client = await http.connect()
        client.send(GET)
        await eventually_async(lambda: "begun" in events)
        client.writer.transport.abort()
        await eventually_async(lambda: "cancelled" in events)
        await eventually_async(lambda: http.server.connection_count == 0)

    http.run(scenario, handler, bounds=Bounds(linger_s=0.05, tick_s=0.02))


def test_a_body_that_ends_early_fails_its_reader_and_is_answered(http: Any) -> None:
    failures: list[BodyMismatch] = []

    async def handler(request: Request) -> Response:
        try:
            await request.body.read(1000)
        except BodyMismatch as error:
            failures.append(error)
            return Response(400, [], b"short")
        return Response(200)

    async def scenario() -> None:
        for head in (put(b"x" * 100)[:-50], chunked(b"x" * 100)[:-50]):
            client = await http.connect()
            client.send(head)
            client.writer.write_eof()
            reply = await client.reply()
            assert (reply.status, reply.body) == (400, b"short")
            assert await client.closed() == b""
        assert [error.what for error in failures] == ["length", "length"]

    http.run(scenario, handler)


def test_a_client_may_shut_down_its_sending_half_after_its_requests(http: Any) -> None:
    async def scenario() -> None:
        client = await http.connect()
        client.send(GET + put(b"abc"))
        client.writer.write_eof()
        assert (await client.reply()).status == 200
        assert (await client.reply()).body == b"abc"
        assert await client.closed() == b""

    http.run(scenario)


def test_drain_finishes_what_is_open_and_takes_nothing_new(http: Any) -> None:
    go = asyncio.Event()

    async def handler(request: Request) -> Response:
        http.seen.append((request, b""))
        await go.wait()
        return Response(200, [], b"done")

    async def scenario() -> None:
        idle = await http.connect()
        busy = await http.connect()
        busy.send(GET + GET)
        await eventually_async(lambda: len(http.seen) == 1)
        draining = asyncio.ensure_future(http.server.drain(20.0))
        assert await idle.closed() == b""
        with pytest.raises(OSError, match=r"refused|Connect"):
            await http.connect()
        go.set()
        reply = await busy.reply()
        assert (reply.body, reply.headers["connection"]) == (b"done", "close")
        await draining
        assert http.server.connection_count == 0
        assert len(http.seen) == 1

    http.run(scenario, handler, bounds=Bounds(linger_s=0.05, tick_s=0.02))


def test_drain_is_bounded(http: Any) -> None:
    async def handler(request: Request) -> Response:
        http.seen.append((request, b""))
        await asyncio.get_running_loop().create_future()
        return Response(200)

    async def scenario() -> None:
        client = await http.connect()
        client.send(GET)
        await eventually_async(lambda: http.seen)
        await http.server.drain(0.05)
        assert http.server.connection_count == 0

    http.run(scenario, handler)


def test_a_port_in_use_is_a_clear_startup_error(http: Any) -> None:
    async def scenario() -> None:
        second = Server(http.echo, host="127.0.0.1", port=http.server.port)
        with pytest.raises(StartupError, match=f"127.0.0.1:{http.server.port}"):
            await second.start()

    http.run(scenario)


def test_a_response_is_produced_no_faster_than_it_is_read(http: Any) -> None:
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        while True:
            produced += 1
            yield b"x" * 100_000

    async def handler(request: Request) -> Response:
        return Response(200, [], endless(), length=1 << 40)

    async def scenario() -> None:
        client = await http.connect(limit=1000)
        client.send(GET)
        await eventually_async(lambda: produced > 3)
        before = -1
        while before != produced:  # until the buffers between us are full
            before = produced
            waiting = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.2, waiting.set_result, None)
            await waiting
        assert produced < 200
        await client.reader.readexactly(10_000_000)
        await eventually_async(lambda: produced > before)

    http.run(scenario, handler, bounds=Bounds(write_buffer_bytes_max=200_000))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "h")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "h.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_tls_serves_the_same(http: Any, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False

    async def scenario() -> None:
        client = await http.connect(ssl=trusting)
        body = b"0123456789" * 100_000
        for _ in range(2):
            assert (await client.exchange(put(body))).body == body
        assert (await client.exchange(chunked(body))).body == body
        assert http.seen[0][0].secure
        client.send(b"bad\r\n\r\n")
        assert (await client.reply()).status == 400
        assert await client.closed() == b""

    http.run(scenario, ssl_context=context, bounds=Bounds(linger_s=0.05, tick_s=0.02))

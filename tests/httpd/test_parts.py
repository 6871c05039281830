"""The pieces of the server on their own: messages, targets, queue, pace, response heads."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import HttpError
from predastore.httpd.bounds import Bounds
from predastore.httpd.head import split_target
from predastore.httpd.inbound import Inbound
from predastore.httpd.message import BytesBody, Headers
from predastore.httpd.progress import Progress
from predastore.httpd.render import render_head


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


def inbound(bytes_max: int = 100) -> tuple[Inbound, FakeTransport]:
    transport = FakeTransport()
    return Inbound(transport, memoryview(bytearray(64)), bytes_max), transport


def arrive(queue: Inbound, data: bytes) -> None:
    while data:
        room = queue.buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        data = data[count:]
        queue.updated(count)


def test_a_body_is_read_up_to_its_limit() -> None:
    async def run() -> None:
        assert await BytesBody(b"abc").read(3) == b"abc"
        assert await BytesBody(b"").read(0) == b""
        with pytest.raises(HttpError) as caught:
            await BytesBody(b"abc").read(2)
        assert caught.value.status == 413
        pieces = [bytes(piece) async for piece in BytesBody(b"x" * 1_000_000)]
        assert b"".join(pieces) == b"x" * 1_000_000

    asyncio.run(run())


def test_header_values_do_not_show_in_logs() -> None:
    assert "hidden" not in repr(Headers.of([("authorization", "hidden")]))


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/", (b"/", b"")),
        (b"/a?b?c", (b"/a", b"b?c")),
        (b"//a/../b/", (b"//a/../b/", b"")),
        (b"*", (b"*", b"")),
        (b"http://h:1/a?b", (b"/a", b"b")),
        (b"HTTPS://h?b=/x", (b"/", b"b=/x")),
        (b"http://h", (b"/", b"")),
    ],
)
def test_a_target_is_parted_without_normalising_it(
    target: bytes, parts: tuple[bytes, bytes]
) -> None:
    assert split_target(target, 100) == parts


@pytest.mark.parametrize("target", [b"a", b"ftp://h/", b"", b"/a#b", b"://h/"])
def test_other_targets_are_refused(target: bytes) -> None:
    with pytest.raises(HttpError):
        split_target(target, 100)


def test_the_queue_stops_the_socket_when_full_and_starts_it_when_read() -> None:
    async def run() -> None:
        queue, transport = inbound(100)
        arrive(queue, b"a" * 99)
        assert transport.reading
        arrive(queue, b"b")
        assert (transport.reading, queue.size, queue.received) == (False, 100, 100)
        out = memoryview(bytearray(60))
        assert await queue.receive_into(out) == 60
        assert transport.reading
        queue.fail(HttpError(400, "gone"))
        with pytest.raises(HttpError, match="gone"):
            await queue.receive_into(out)

    asyncio.run(run())


def test_a_waiting_reader_gets_the_socket_s_bytes_in_its_own_buffer() -> None:
    async def run() -> None:
        queue, _ = inbound()
        out = memoryview(bytearray(30))
        reading = asyncio.ensure_future(queue.receive_into(out))
        await asyncio.sleep(0)
        assert queue.waiting
        assert queue.buffer() is out
        arrive(queue, b"direct")
        arrive(queue, b"queued")
        assert await reading == 6
        assert bytes(out[:6]) == b"direct"
        assert await queue.receive_into(out) == 6
        assert bytes(out[:6]) == b"queued"

    asyncio.run(run())


def test_a_reader_that_gives_up_leaves_its_buffer_alone() -> None:
    async def run() -> None:
        queue, _ = inbound()
        out = memoryview(bytearray(30))
        reading = asyncio.ensure_future(queue.receive_into(out))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        arrive(queue, b"later")
        assert bytes(out) == bytes(30)
        assert await queue.receive_into(out) == 5
        reading = asyncio.ensure_future(queue.receive_into(out))
        await asyncio.sleep(0)
        arrive(queue, b"lost")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        with pytest.raises(HttpError, match="given up"):
            await queue.receive_into(out)  # rather than go on with a hole in the body

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 3))
def test_heads_are_found_however_they_arrive(cuts: list[int], blank_lines: int) -> None:
    heads = [b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(4)]
    data = (b"\r\n" * blank_lines).join([b"", *heads])
    queue, _ = inbound(10_000)
    found = []
    for cut in [*cuts, len(data)]:
        arrive(queue, data[:cut])
        data = data[cut:]
        while (head := queue.take_head(1000)) is not None:
            found.append(head)
    assert found == heads
    assert queue.size == 0


def test_pace_counts_only_the_time_we_waited() -> None:
    pace = Progress(Bounds(progress_timeout_s=10.0, progress_bytes_min=100, tick_s=1.0))
    now_s = 1000.0
    pace.stalled(False, 0, now_s)
    for _ in range(100):  # we are the slow ones
        now_s += 1
        assert not pace.stalled(False, 0, now_s)
    for second in range(1, 50):  # slow, but not too slow
        now_s += 1
        assert not pace.stalled(True, second * 20, now_s)
    for _ in range(6):
        now_s += 1
        pace.stalled(True, 1000, now_s)
    assert not pace.stalled(True, 1000, now_s)
    for _ in range(6):
        now_s += 1
        stalled = pace.stalled(True, 1000, now_s)
    assert stalled


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nb", "a\0b", "\n"])
def test_a_response_header_can_not_break_out_of_its_line(value: str) -> None:
    for headers in ([("X", value)], [(value, "x")], [("A", "b"), ("X", value), ("Y", "z")]):
        with pytest.raises(ValueError, match="control character"):
            render_head(200, headers, "")


def test_response_headers_keep_their_bytes() -> None:
    head = render_head(299, [("X", "caf\xc3\xa9")], "Content-Length: 0\r\n")
    assert head.startswith(b"HTTP/1.1 299 Unknown\r\nX: caf\xc3\xa9\r\nDate: ")
    assert head.endswith(b"\r\nContent-Length: 0\r\n\r\n")
    assert "\u20ac".encode() in render_head(200, [("X", "\u20ac")], "")

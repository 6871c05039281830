"""httpd.outbound: what is written at once, and what is never held back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from predastore.httpd.message import Buffer, Response
from predastore.httpd.outbound import Outbound

KIB = 1024


class FakeTransport(asyncio.Transport):
    """Takes everything; `writes`: each as it was handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: Buffer) -> None:
        self.writes.append(bytes(data))


async def stream(pieces: Sequence[Buffer]) -> AsyncIterator[Buffer]:
    for piece in pieces:
        yield piece


async def sent(pieces: Sequence[Buffer], length: int | None) -> list[bytes]:
    transport = FakeTransport()
    outbound = Outbound(transport, KIB)
    response = Response(200, [], stream(pieces), length=length)
    await outbound.send(response, head_only=False, http_1_0=False, end="")
    assert outbound.sent == sum(map(len, transport.writes))
    return transport.writes


@pytest.mark.parametrize("length", [4 * KIB, None])
def test_the_head_and_small_pieces_are_one_write(length: int | None) -> None:
    pieces: list[Buffer] = [memoryview(b"a" * 1366), bytearray(b"b" * 1366), b"c" * 1364]
    (whole,) = asyncio.run(sent(pieces, length))
    assert whole.startswith(b"HTTP/1.1 200 ")
    body = whole.partition(b"\r\n\r\n")[2]
    if length is None:
        assert body.endswith(b"554\r\n" + pieces[2] + b"\r\n0\r\n\r\n")
    else:
        assert body == b"".join(pieces)


def test_a_large_piece_is_handed_over_as_it_is_and_in_its_turn() -> None:
    large = b"x" * (1024 * KIB)
    writes = asyncio.run(sent([b"before", large, b"be", b"hind"], 12 + len(large)))
    assert [len(write) for write in writes[1:]] == [len(large), 6]
    assert writes[0].endswith(b"\r\n\r\nbefore")
    assert writes[2] == b"behind"


def test_many_small_pieces_are_written_in_parts() -> None:
    writes = asyncio.run(sent([b"x" * (10 * KIB)] * 30, 300 * KIB))
    assert max(map(len, writes)) <= 64 * KIB
    assert len(writes) == 5
    assert b"".join(writes).partition(b"\r\n\r\n")[2] == b"x" * (300 * KIB)


def test_what_is_there_is_sent_before_the_rest_is_waited_for() -> None:
    transport = FakeTransport()

    async def run() -> None:
        outbound = Outbound(transport, KIB)
        resumed = asyncio.Event()

        async def slow() -> AsyncIterator[Buffer]:
            yield b"first"
            await resumed.wait()
            assert transport.writes[0].endswith(b"first")
            yield b"second"

        sending = asyncio.ensure_future(
            outbound.send(
                Response(200, [], slow(), length=11), head_only=False, http_1_0=False, end=""
            )
        )
        loop = asyncio.get_running_loop()
        # When the loop comes round again, what was written in the turn before is out.
        loop.call_soon(loop.call_soon, loop.call_soon, resumed.set)
        await sending

    asyncio.run(run())
    assert len(transport.writes) == 2
    assert transport.writes[1] == b"second"


def test_what_came_before_a_failure_is_sent() -> None:
    transport = FakeTransport()

    async def failing() -> AsyncIterator[Buffer]:
        yield b"something"
        raise ArithmeticError

    async def run() -> None:
        outbound = Outbound(transport, KIB)
        response = Response(200, [], failing(), length=100)
        with pytest.raises(ArithmeticError):
            await outbound.send(response, head_only=False, http_1_0=False, end="")

    asyncio.run(run())
    assert transport.writes[-1].endswith(b"something")


def test_a_lost_connection_is_not_written_to() -> None:
    transport = FakeTransport()

    async def run() -> None:
        outbound = Outbound(transport, KIB)
        outbound.write(b"late")
        outbound.lost()
        outbound.flush()

    asyncio.run(run())
    assert transport.writes == []

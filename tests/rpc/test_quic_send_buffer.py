"""What a connection holds of messages not yet acknowledged follows the congestion window."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from rpc_world import run

from predastore.base.limits import (
    RPC_SEND_BUFFER_BYTES_MAX,
    RPC_SEND_BUFFER_BYTES_MIN,
    RPC_SEND_SLICE_BYTES,
)
from predastore.rpc.quic import RpcConnection
from predastore.rpc.quic_socket import DatagramSocket
from support.quic_pair import engines

MIB = 1 << 20


class Plane:
    """In place of a core and its plane: takes what is written, and acknowledges nothing."""

    more_to_send = False

    def __init__(self, window_bytes: int) -> None:
        self.window = window_bytes
        self.written: dict[int, int] = {}

    def window_bytes(self) -> int:
        return self.window

    def can_write(self, stream_id: int) -> bool:
        return True

    def unacked_bytes(self, stream_id: int) -> int:
        return self.written.get(stream_id, 0)

    def write(self, stream_id: int, data: bytes, end: bool, urgent: bool) -> None:
        self.written[stream_id] = self.written.get(stream_id, 0) + len(data)

    def transmit(self, now: float, outlet: object) -> None:
        pass

    def get_timer(self) -> None:
        return None

    def blocked(self, resume: object) -> bool:
        return False


def _never(*_: object) -> Any:
    raise AssertionError("nothing happens here")


def _held(window_bytes: int, writers: int, message_bytes: int = 9 * MIB) -> Plane:
    """What is written at once of the messages of so many streams."""
    plane = Plane(window_bytes)

    async def test() -> None:
        anything: Any = plane
        connection = RpcConnection(anything, anything, opened=_never, ready=_never, lost=_never)
        payload = [bytes(message_bytes)]
        sends = [
            asyncio.ensure_future(connection.send(4 * number, b"prefix", payload))
            for number in range(writers)
        ]
        for _ in range(10):
            await asyncio.sleep(0)
        for send in sends:
            send.cancel()
        await asyncio.gather(*sends, return_exceptions=True)

    run(test())
    return plane


@pytest.mark.parametrize(
    ("window_bytes", "buffer_bytes"),
    [
        (14_000, RPC_SEND_BUFFER_BYTES_MIN),
        (MIB, 2 * MIB),
        (3 * MIB, 6 * MIB),
        (32 * MIB, RPC_SEND_BUFFER_BYTES_MAX),
    ],
)
def test_one_message_gets_twice_the_window_within_bounds(
    window_bytes: int, buffer_bytes: int
) -> None:
    held = sum(_held(window_bytes, 1).written.values())
    assert buffer_bytes - RPC_SEND_SLICE_BYTES <= held <= buffer_bytes


def test_a_message_that_joins_others_gets_its_share() -> None:
    written = _held(4 * MIB, 8).written
    held = written[4 * 7]
    assert MIB - RPC_SEND_SLICE_BYTES <= held <= MIB


def test_a_message_of_many_does_not_wait_until_its_prefix_is_acknowledged() -> None:
    written = _held(14_000, 128, message_bytes=RPC_SEND_SLICE_BYTES).written
    assert set(written.values()) == {len(b"prefix") + RPC_SEND_SLICE_BYTES}


def test_what_finds_the_socket_full_is_sent_when_it_is_not() -> None:
    """Also where it was another of the connection's datagrams that filled it."""

    async def test() -> None:
        datagrams = DatagramSocket(socket.AF_INET, _never, _never)
        datagrams._waiting = (b"the other", 0, ("127.0.0.1", 9))
        engine, _ = engines()
        assert datagrams.carry(engine, 1.0, ("127.0.0.1", 9)), "the owner comes back"
        resumed: list[int] = []
        assert datagrams.blocked(lambda: resumed.append(1))
        datagrams._writable()
        assert resumed
        datagrams.close()
        assert not datagrams.carry(engine, 1.0, ("127.0.0.1", 9))

    run(test())

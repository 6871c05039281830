"""rpc over QUIC against those who do not follow the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aioquic.asyncio import serve
from aioquic.quic import events
from rpc_world import (
    CERTIFICATE,
    Answer,
    Ask,
    Handlers,
    Stranger,
    World,
    endpoint,
    expect,
    quic_world,
    request,
    run,
    stranger,
    succeeds,
)

from predastore.base.errors import PeerRefused
from predastore.base.limits import RPC_CONNECTION_WINDOW_BYTES, RPC_STREAMS_MAX
from predastore.rpc import quic_calls, quic_gate, self_signed
from predastore.rpc.framing import decode_response
from predastore.rpc.quic import CANCELLED, REFUSED
from predastore.rpc.quic_core import server_configuration
from support.waiting import eventually_async

pytestmark = pytest.mark.usefixtures("carrier")


async def refused(peer: Stranger) -> None:
    await peer.until(lambda: peer.terminated)
    assert peer.terminated is not None
    assert peer.terminated.error_code == REFUSED


def test_a_proven_stranger_may_call() -> None:
    """The baseline of all tests below: stock aioquic at the other end, nothing wrong."""

    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            stream_id = peer.open()
            peer.write(stream_id, request("test.echo", Ask(1)), end=True)
            answer = decode_response(Answer, await peer.message(stream_id))
            assert answer == Answer(2, "host/stranger")

    run(test())


def test_without_a_proof_a_call_ends_the_connection() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            peer.write(peer.open(), request("test.echo"), end=True)
            await refused(peer)
            assert world.handlers.calls == 0

    run(test())


def test_without_a_proof_there_is_one_stream_and_a_small_window() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            assert peer._quic._remote_max_streams_bidi == 1
            assert peer._quic._remote_max_streams_uni == 0
            assert peer._quic._remote_max_data == 16 * 1024
            await peer.prove()
            await peer.until(lambda: peer._quic._remote_max_streams_bidi == RPC_STREAMS_MAX + 1)
            assert peer._quic._remote_max_data <= RPC_CONNECTION_WINDOW_BYTES + 16 * 1024

    run(test())


def test_who_does_not_prove_in_time_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_gate, "RPC_HANDSHAKE_TIMEOUT_MS", 150)

    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await refused(peer)
            listener = world.server._listeners[0]
            await eventually_async(lambda: listener.unproven_count == 0)
            assert not listener.sessions
            assert not listener._routes

    run(test())


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<II", 2**32 - 1, 2**32 - 1),
        struct.pack("<II", 0, 5),
        struct.pack("<II", 2000, 0),
        struct.pack("<II", 4, 0) + b"\xff\xff\xff\xff",
        os.urandom(500),
    ],
    ids=["huge", "empty header", "long", "not msgpack", "noise"],
)
@pytest.mark.parametrize("proven", [False, True])
def test_garbage_ends_the_connection(data: bytes, proven: bool) -> None:
    if proven and data[:4] == struct.pack("<I", 2000):
        data = data[:4] + struct.pack("<I", 2**24)  # a long header is fine here, this is not

    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await world.ask("test.echo")
            if proven:
                await peer.prove()
            peer.write(peer.open() if proven else 0, data)
            await refused(peer)
            await world.ask("test.echo")

    run(test())


def test_more_or_less_than_a_message_ends_the_connection() -> None:
    async def test() -> None:
        whole = request("test.echo", payload=10) + bytes(10)
        for data in (whole + b"x", whole[:-1], whole[:3], b""):
            async with quic_world() as world, stranger(world.port) as peer:
                await peer.prove()
                peer.write(peer.open(), data, end=True)
                await refused(peer)
                assert world.handlers.calls == 0

    run(test())


def test_a_payload_that_is_too_large_is_refused_before_it_is_read() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            stream_id = peer.open()
            peer.write(stream_id, request("test.small", payload=1001))
            with pytest.raises(PeerRefused, match="1001"):
                decode_response(Answer, await peer.message(stream_id))
            await peer.until(lambda: peer.stopped.get(stream_id) == REFUSED)
            assert world.handlers.calls == 0

    run(test())


def test_a_request_that_drips_in_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_calls, "RPC_REQUEST_TIMEOUT_MS", 150)

    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            drips = [request("test.echo", payload=100) + bytes(50), b"\x01"]
            ids = []
            for data in drips:
                ids.append(peer.open())
                peer.write(ids[-1], data)
            for stream_id in ids:
                await peer.until(lambda stream_id=stream_id: stream_id in peer.reset)
                assert peer.reset[stream_id] == CANCELLED
            connection = next(iter(world.server._listeners[0].sessions)).connection
            assert not connection._held_bytes

    run(test())


def test_a_caller_that_stops_reading_cancels_its_handler() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            stream_id = peer.open()
            peer.write(stream_id, request("test.wait"), end=True)
            await eventually_async(lambda: world.handlers.waiting == 1)
            peer._quic.stop_stream(stream_id, CANCELLED)
            peer.transmit()
            await eventually_async(lambda: world.handlers.cancelled == 1)

    run(test())


def test_a_flood_of_calls_has_a_bound_and_others_are_served() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            await peer.until(lambda: peer._quic._remote_max_streams_bidi > 1)
            for _ in range(2 * RPC_STREAMS_MAX):
                peer._quic.send_stream_data(peer.open(), request("test.wait"), end_stream=True)
            peer.transmit()
            await eventually_async(lambda: world.handlers.waiting == RPC_STREAMS_MAX)
            await world.ask("test.echo")
            assert world.handlers.waiting == RPC_STREAMS_MAX
        await eventually_async(lambda: world.handlers.cancelled == RPC_STREAMS_MAX)

    run(test())


def test_who_ignores_flow_control_is_cut() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            await world.ask("test.echo")
            peer._quic._remote_max_streams_bidi = 10_000
            peer.write(4 * (RPC_STREAMS_MAX + 2), b"x")
            await peer.until(lambda: peer.terminated)
            await world.ask("test.echo")

    run(test())


def test_garbage_datagrams_change_nothing() -> None:
    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            listener = world.server._listeners[0]
            known = next(iter(listener._routes))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
                noise.connect(("127.0.0.1", world.port))
                for number in range(200):
                    noise.send(os.urandom(1 + number * 7))
                    noise.send(b"\x40" + known + os.urandom(number + 20))
                    noise.send(b"\xc0\x00\x00\x00\x01\x08" + os.urandom(number * 7))
                    version = os.urandom(4)
                    noise.send(b"\xc0" + version + b"\x08" + bytes(8) + b"\x08" + bytes(1300))
                for _ in range(3):
                    initial = b"\xc0\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
                    noise.send(initial + b"\x00\x44\xd0" + os.urandom(1232))
                noise.send(b"")
            await world.ask("test.echo", Ask(), [bytes(100_000)])
            assert len(listener.sessions) <= 4

    run(test())


def test_a_flood_of_handshakes_must_show_its_address_and_has_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quic_gate, "RPC_CONNECTIONS_UNPROVEN_MAX", 8)

    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            listener = world.server._listeners[0]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
                flood.connect(("127.0.0.1", world.port))
                for _ in range(40):
                    initial = b"\xc0\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
                    flood.send(initial + b"\x00\x44\xd0" + os.urandom(1232))
            await eventually_async(lambda: listener.unproven_count == 2)
            await world.ask("test.echo")
            # A caller that answers the Retry gets in.
            async with stranger(world.port) as peer:
                await peer.prove()
            assert listener.unproven_count == 2

    run(test())


class _Relay(Stranger):
    """The inner half of a man in the middle: what comes goes on to the other side."""

    other: Stranger

    def quic_event_received(self, event: events.QuicEvent) -> None:
        super().quic_event_received(event)
        if isinstance(event, events.StreamDataReceived):
            self.other.write(event.stream_id, event.data)


@contextlib.asynccontextmanager
async def relay(onward: Stranger) -> AsyncIterator[tuple[int, list[_Relay]]]:
    """The port of a listener, with a certificate of its own, that passes all on to `onward`."""
    relays: list[_Relay] = []

    def made(*args: Any, **kwargs: Any) -> _Relay:
        relays.append(_Relay(*args, **kwargs))
        relays[-1].other = onward
        return relays[-1]

    hear = onward.quic_event_received

    def back(event: events.QuicEvent) -> None:
        hear(event)
        if isinstance(event, events.StreamDataReceived):
            relays[0].write(event.stream_id, event.data)
        elif isinstance(event, events.ConnectionTerminated) and relays:
            relays[0].close(REFUSED, event.reason_phrase)

    onward.quic_event_received = back
    middle = await serve(
        "127.0.0.1",
        0,
        configuration=server_configuration(self_signed()),
        create_protocol=made,
    )
    assert middle._transport is not None
    try:
        yield middle._transport.get_extra_info("sockname")[1], relays
    finally:
        middle.close()


def test_a_man_in_the_middle_with_his_own_certificate_is_found_out() -> None:
    async def test() -> None:
        async with (
            quic_world() as world,
            stranger(world.port) as onward,
            relay(onward) as (port, relays),
        ):
            victim = endpoint("host/a")
            victim.add_peer("node/1", "127.0.0.1", port)
            await expect(PeerRefused, World(victim, victim, Handlers()).ask("test.echo"))
            await refused(onward)
            # It was the proof that failed: Hello and Proof both went through.
            assert len(relays[0].received[0]) == 57 + 43
            assert len(onward.received[0]) == 43
            assert world.handlers.calls == 0
            await victim.close()

    run(test())


def test_the_caller_cuts_a_listener_whose_response_is_garbage() -> None:
    async def test() -> None:
        async with quic_world() as world:
            for garbage in (struct.pack("<II", 2**31, 0), struct.pack("<II", 1, 0) + b"\xc0\xc0"):
                await succeeds(world)
                call = asyncio.create_task(world.ask("test.wait"))
                waiting = world.handlers.waiting
                await eventually_async(lambda waiting=waiting: world.handlers.waiting > waiting)
                session = next(iter(world.server._listeners[0].sessions))
                stream_id = max(session.connection._streams)
                session.connection.send_now(stream_id, garbage, end=True)
                await expect(PeerRefused, call)

    run(test())


def test_certificates_keep_their_key_out_of_sight() -> None:
    assert b"PRIVATE" in CERTIFICATE.key_pem
    assert "PRIVATE" not in repr(CERTIFICATE)

"""The engine under aioquic's handshake, with stock aioquic at the other end."""

from __future__ import annotations

import asyncio
import os

import pytest
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet import QuicPacketType
from aioquic.tls import CipherSuite
from rpc_world import (
    CERTIFICATE,
    Answer,
    Ask,
    Stranger,
    expect,
    quic_world,
    request,
    run,
    send_with,
    stranger,
)

from predastore._fast import quic
from predastore.base.errors import PeerUnreachable
from predastore.rpc import quic_socket, quic_takeover
from predastore.rpc.framing import decode_response
from predastore.rpc.quic_core import (
    QuicCore,
    client_configuration,
    long_header,
    server_configuration,
)
from predastore.rpc.quic_takeover import EngineCore
from rpc.simulator.core_end import Outlet
from rpc.simulator.ends import ADDRESS, first_id
from support.quic_pair import engines

SUITES = {
    quic.AES_128_GCM: CipherSuite.AES_128_GCM_SHA256,
    quic.AES_256_GCM: CipherSuite.AES_256_GCM_SHA384,
    quic.CHACHA20_POLY1305: CipherSuite.CHACHA20_POLY1305_SHA256,
}


async def echoed(peer: Stranger, number: int) -> None:
    stream_id = peer.open()
    payload = os.urandom(20_000)
    peer.write(
        stream_id, request("test.echo", Ask(number), payload=len(payload)) + payload, end=True
    )
    answer = decode_response(Answer, await peer.message(stream_id))
    assert answer.number == number + 1


of_the_engine = pytest.mark.skipif(
    os.environ.get("PREDASTORE_QUIC") == "aioquic", reason="all is left to aioquic"
)


@pytest.mark.parametrize("cipher", SUITES)
@pytest.mark.parametrize("version", [1, 2])
def test_packets_are_those_of_aioquic(cipher: int, version: int) -> None:
    client, _ = engines(cipher, version=version)
    secret = bytes([1]) * (48 if cipher == quic.AES_256_GCM else 32)
    reader = CryptoContext()
    reader.setup(
        cipher_suite=SUITES[cipher],
        secret=secret,
        version=1 if version == 1 else 0x6B3343CF,
    )
    stream_id = client.open_stream()
    client.write(stream_id, b"x" * 5000, True, True)
    texts = []
    for number, datagram in enumerate(client.datagrams(1.0), 3):
        header, text, found, updated = reader.decrypt_packet(datagram, 9, number)
        assert (header[1:9], found, updated) == (b"server-0", number, False)
        texts.append(text)
    assert sum(len(text) for text in texts) > 5000
    assert b"".join(texts).count(b"x") >= 5000
    sealed = client.seal(b"\x41server-0" + (9).to_bytes(2, "big"), b"\x01" + bytes(20), 9)
    assert reader.decrypt_packet(sealed, 9, 9)[1] == b"\x01" + bytes(20)


def _sent(core: EngineCore, now: float) -> list[bytes]:
    outlet = Outlet()
    core.transmit(now, outlet)
    return outlet.datagrams


def _handshake() -> tuple[EngineCore, EngineCore, list[bytes]]:
    """A caller and a listener after it, and the caller's datagrams."""
    client = EngineCore(client_configuration())
    client.connect(ADDRESS, now=1.0)
    found = _sent(client, 1.0)
    listener = EngineCore(
        server_configuration(CERTIFICATE), original_destination_connection_id=first_id(found[0])
    )
    going = found
    for turn in range(8):
        to = client if turn % 2 else listener
        for datagram in going:
            to.receive(memoryview(bytearray(datagram)), 0, ADDRESS, 1.0)
            to.take_events()
        going = _sent(to, 1.0)
        found += going if to is client else []
    return client, listener, found


def _handshake_packet(datagrams: list[bytes]) -> bytes:
    """One of those that aioquic encrypted with the handshake's keys."""
    for datagram in datagrams:
        rest = datagram
        while rest and (header := long_header(rest)) is not None and rest[0] & 0x80:
            packet, rest = rest[: header.packet_length], rest[header.packet_length :]
            if header.packet_type == QuicPacketType.HANDSHAKE:
                return packet
    raise AssertionError("there is none")


def test_what_comes_in_a_datagram_with_the_handshake_is_told_at_once() -> None:
    """As where the handshake's last packet is sent again, with a request behind it."""
    client, listener, datagrams = _handshake()
    client.plane.write(client.plane.open_stream(), b"a request", True, True)
    (request,) = _sent(client, 1.1)
    both = bytearray(_handshake_packet(datagrams) + request)
    listener.receive(memoryview(both), 0, ADDRESS, 1.1)
    assert (quic.DATA, 0, b"a request", 1) in listener.take_events()


def test_frames_behind_the_end_of_a_connection_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, listener, _ = _handshake()
    frame, handled = EngineCore._frame, []

    def counted(core: EngineCore, number: int, data: bytes) -> None:
        handled.append(data)
        frame(core, number, data)

    monkeypatch.setattr(EngineCore, "_frame", counted)
    engine = client._engine
    assert engine is not None
    number = engine.next_packet_number
    header = b"\x43" + client._peer_cid.cid + number.to_bytes(4, "big")
    done = bytearray(engine.seal(header, b"\x1e" * 20, number))  # no listener takes that
    listener.receive(memoryview(done), 0, ADDRESS, 1.1)
    listener.take_events()
    assert listener.termination is not None
    assert len(handled) == 1


@of_the_engine
def test_keys_and_connection_ids_change_under_calls() -> None:
    async def test() -> None:
        async with quic_world() as world, stranger(world.port) as peer:
            await peer.prove()
            for number in range(4):
                peer._quic.change_connection_id()
                peer._quic.request_key_update()
                await echoed(peer, number)
            sessions = world.server._listeners[0].sessions
            core = next(s for s in sessions if s.calls.peer == "host/stranger").connection.core
            assert isinstance(core, quic_takeover.EngineCore)
            assert core._engine is not None
            assert core._engine.stats()["key_updates"] >= 3
            core.request_key_update()  # and the other way round
            await echoed(peer, 10)
            await echoed(peer, 11)
            assert core._engine.stats()["key_updates"] >= 4

    run(test())


@of_the_engine
def test_the_datagrams_grow_to_what_the_way_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_socket, "RPC_DATAGRAM_LOOPBACK_BYTES", 1_400)

    async def test() -> None:
        async with quic_world() as world:
            for _ in range(5):
                await world.ask("test.echo", Ask(), [bytes(200_000)])
            channel = world.caller._remote["node/1"]._channel
            assert channel is not None
            core = channel._connection.core
            assert isinstance(core, quic_takeover.EngineCore)
            assert core._engine is not None
            assert core._engine.datagram_bytes == quic.DATAGRAM_BYTES_MAX

    run(test())


@pytest.mark.usefixtures("carrier")
def test_who_vanishes_is_noticed_while_calls_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            loop_time = asyncio.get_running_loop().time
            call = world.ask("test.wait", timeout_ms=30_000)
            send_with(monkeypatch, lambda *_: None)
            began = loop_time()
            await expect(PeerUnreachable, call)
            assert loop_time() - began < 9  # 3 s, and then what a busy machine takes
            monkeypatch.undo()

    run(test())


def test_the_way_out_leaves_all_to_aioquic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDASTORE_QUIC", "aioquic")

    async def test() -> None:
        async with quic_world() as world:
            _, payload = await world.ask("test.echo", Ask(), [bytes(100_000)])
            assert payload == bytes(100_000)
            channel = world.caller._remote["node/1"]._channel
            assert channel is not None
            assert type(channel._connection.core) is QuicCore

    run(test())

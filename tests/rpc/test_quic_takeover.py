"""The engine under aioquic's handshake, with stock aioquic at the other end."""

from __future__ import annotations

import asyncio
import os

import pytest
from aioquic.quic.crypto import CryptoContext
from aioquic.tls import CipherSuite
from rpc_world import Answer, Ask, Stranger, expect, quic_world, request, run, send_with, stranger

from predastore._fast import quic
from predastore.errors import PeerUnreachable
from predastore.rpc import quic_socket, quic_takeover
from predastore.rpc.framing import decode_response
from predastore.rpc.quic_core import Core
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


@of_the_engine
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
            assert type(channel._connection.core) is Core

    run(test())

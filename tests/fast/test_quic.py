"""Two engines with a simulated network between them: every byte arrives once, whatever happens."""

from __future__ import annotations

import os
import random

import pytest

from predastore._fast import quic
from support.quic_pair import MIB, Network, engines

CIPHERS = [quic.AES_128_GCM, quic.AES_256_GCM, quic.CHACHA20_POLY1305]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_request_and_its_answer(cipher: int) -> None:
    client, server = engines(cipher)
    net = Network(client, server)
    stream_id = client.open_stream()
    client.write(stream_id, b"ask", True, True)
    net.run(lambda: stream_id in net.readers[1].ended)
    server.write(stream_id, b"answer", True, True)
    net.run(lambda: stream_id in net.readers[0].ended)
    assert net.readers[1].streams[stream_id] == b"ask"
    assert net.readers[0].streams[stream_id] == b"answer"
    net.run(lambda: client.stats()["streams"] == server.stats()["streams"] == 0)
    assert client.stats()["memory_bytes"] == server.stats()["memory_bytes"] == 0
    net.run(lambda: not net.flying)
    assert client.timeout() == server.timeout() == float("inf")


@pytest.mark.parametrize("seed", range(12))
def test_every_byte_arrives_once_whatever_the_network_does(seed: int) -> None:
    chance = random.Random(seed)
    client, server = engines(chance.choice(CIPHERS))
    net = Network(
        client,
        server,
        seed=seed,
        delay_s=chance.choice([0.0001, 0.005, 0.05]),
        loss=chance.choice([0, 0.01, 0.1, 0.3]),
        duplicate=chance.choice([0, 0.1]),
        reorder=chance.choice([0, 0.05, 0.3]),
        corrupt=chance.choice([0, 0.05]),
    )
    sent: dict[int, bytes] = {}
    answers: dict[int, bytes] = {}
    for _ in range(20):
        stream_id = client.open_stream()
        data = sent[stream_id] = os.urandom(chance.choice([0, 1, 100, 5_000, 200_000]))
        half = chance.randint(0, len(data))
        client.write(stream_id, data[:half], False, chance.random() < 0.5)
        client.write(stream_id, data[half:], True, False)

    def answer(stream_id: int) -> None:
        answers[stream_id] = os.urandom(chance.choice([0, 1, 100, 50_000]))
        server.write(stream_id, answers[stream_id], True, True)
        if chance.random() < 0.2:
            chance.choice([client, server]).update_keys()

    net.readers[1].on_end = answer
    net.run(lambda: len(net.readers[0].ended) == len(sent))
    assert {key: bytes(value) for key, value in net.readers[1].streams.items()} == sent
    assert {key: bytes(value) for key, value in net.readers[0].streams.items()} == answers
    net.run(lambda: client.stats()["streams"] == server.stats()["streams"] == 0)
    assert client.stats()["memory_bytes"] == server.stats()["memory_bytes"] == 0
    assert not [event for event in net.readers[0].other if event[0] == quic.ERROR]


def test_flow_control_follows_the_reader() -> None:
    client, server = engines(window_bytes=100_000, peer_bytes_max=100_000)
    net = Network(client, server)
    net.readers[1].consume = False
    data = os.urandom(400_000)
    stream_id = client.open_stream()
    client.write(stream_id, data, True, False)
    for _ in range(5):
        received = net.readers[1].streams.setdefault(stream_id, bytearray())
        before = len(received)
        wanted = min(before + 100_000, len(data))
        net.run(lambda received=received, wanted=wanted: len(received) >= wanted)
        net.run(lambda: client.stats()["bytes_in_flight"] == 0)
        assert len(received) == wanted
        server.consume(len(received) - before)
    assert received == data


def test_a_transfer_fills_a_path_with_loss() -> None:
    client, server = engines(
        own_stream_bytes_max=64 * MIB,
        peer_stream_bytes_max_remote=64 * MIB,
        window_bytes=16 * MIB,
        peer_bytes_max=16 * MIB,
    )
    net = Network(
        client, server, delay_s=0.01, bytes_per_s=12.5e6, queue_bytes=250_000, loss=0.0001
    )
    data = os.urandom(12 * MIB)
    stream_id = client.open_stream()
    client.write(stream_id, data, True, False)
    began = net.now
    net.run(lambda: stream_id in net.readers[1].ended)
    assert net.readers[1].streams[stream_id] == data
    assert len(data) / (net.now - began) > 0.7 * 12.5e6

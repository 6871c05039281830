"""Two engines with a simulated network between them: every byte arrives once, whatever happens."""

from __future__ import annotations

import os
import random
import sys

import pytest

from predastore._fast import quic
from support.quic_pair import MIB, Network, Reader, engines

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


class Gatherer(Reader):
    """Gathers what comes after the first bytes of each stream."""

    def __init__(self, engine: quic.Engine, chance: random.Random) -> None:
        super().__init__(engine)
        self._chance = chance
        self.pieces: dict[int, list[bytes]] = {}
        self.wanted: dict[int, int] = {}

    def take(self) -> None:
        for kind, number, data, end in self.engine.events():
            assert kind in (quic.DATA, quic.FOREIGN)
            if kind == quic.FOREIGN:  # so late that its number can not be told any more
                continue
            self.pieces.setdefault(number, []).append(data)
            if number not in self.wanted and self._gathers(number, data, bool(end)):
                self.pieces[number] = []
            else:
                self.engine.consume(len(data))

    def _gathers(self, number: int, data: bytes, end: bool) -> bool:
        size = self._chance.choice([len(data), len(data) + 1, 10_000, 100_000, 200_000])
        gathers = self.engine.gather(number, len(data), data, size)
        assert gathers == (not end and len(data) < size)
        assert not self.engine.gather(number, len(data), data, size)
        self.wanted[number] = size if gathers else len(data)
        return gathers


@pytest.mark.parametrize("seed", range(6))
def test_what_is_gathered_comes_in_one_piece(seed: int) -> None:
    chance = random.Random(seed)
    client, server = engines(window_bytes=8 * MIB, peer_bytes_max=8 * MIB)
    sent: dict[int, bytes] = {}
    reader = Gatherer(server, chance)
    net = Network(
        client, server, seed=seed, loss=chance.choice([0, 0.1]), reorder=chance.choice([0, 0.3])
    )
    net.readers[1] = reader

    def forged_before(datagram: bytes) -> bool:
        """What is decrypted where it belongs, and is not authentic, spoils nothing there."""
        if datagram[1:9] == b"server-0" and seed % 2:
            wrong = bytearray(datagram)
            wrong[chance.randrange(13, len(wrong))] ^= 1
            server.receive(wrong, net.now)
        return False

    net.dropped = forged_before
    for _ in range(30):
        stream_id = client.open_stream()
        sent[stream_id] = os.urandom(chance.choice([3_000, 20_000, 150_000]))
        client.write(stream_id, sent[stream_id], True, False)
    net.run(
        lambda: all(
            sum(map(len, reader.pieces.get(number, []))) == len(data)
            for number, data in sent.items()
        )
    )
    for number, data in sent.items():
        assert b"".join(reader.pieces[number]) == data
        assert len(reader.pieces[number][0]) == min(reader.wanted[number], len(data))
        server.write(number, b"", True, True)
    net.run(lambda: client.stats()["streams"] == server.stats()["streams"] == 0)
    assert server.stats()["memory_bytes"] == 0


@pytest.mark.parametrize("cut", ["reset", "stop"])
def test_a_stream_that_is_cut_while_it_is_gathered_gives_its_window_back(cut: str) -> None:
    client, server = engines(window_bytes=100_000, peer_bytes_max=100_000)
    net = Network(client, server)
    for _ in range(8):
        stream_id = client.open_stream()
        client.write(stream_id, bytes(60_000), False, False)
        net.readers[1].consume = False
        net.run(lambda: net.readers[1].streams)
        ((_, first),) = net.readers[1].streams.items()
        assert server.gather(stream_id, len(first), bytes(first), 90_000)
        net.run(lambda: client.stats()["bytes_in_flight"] == 0)
        if cut == "reset":
            client.reset(stream_id, 1)
            net.run(lambda: net.readers[1].other)
            assert net.readers[1].other.pop() == (quic.RESET, stream_id, b"", 1)
        else:
            server.stop(stream_id, 1)
        server.write(stream_id, b"", True, True)
        net.run(lambda: client.stats()["streams"] == server.stats()["streams"] == 0)
        assert server.stats()["memory_bytes"] == 0
        net.readers[1].streams.clear()


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


def test_bytes_are_lent_until_they_are_acknowledged_or_given_up() -> None:
    client, server = engines(window_bytes=8 * MIB, peer_bytes_max=8 * MIB)
    net = Network(client, server, loss=0.05)
    data = os.urandom(300_000)
    references = sys.getrefcount(data)
    stream_id = client.open_stream()
    client.write(stream_id, memoryview(data)[:200_000], False, False)
    client.write(stream_id, data[200_000:], True, False)
    assert sys.getrefcount(data) > references
    net.run(lambda: stream_id in net.readers[1].ended)
    net.run(lambda: client.stats()["bytes_in_flight"] == 0)
    assert net.readers[1].streams[stream_id] == data
    assert sys.getrefcount(data) == references
    for give_up in (lambda number: client.reset(number, 1), lambda number: server.stop(number, 1)):
        stream_id = client.open_stream()
        client.write(stream_id, data, True, False)
        net.run(lambda stream_id=stream_id: net.readers[1].streams.get(stream_id))
        give_up(stream_id)
        net.run(lambda: client.stats()["bytes_in_flight"] == 0)
        assert sys.getrefcount(data) == references
    client.write(client.open_stream(), data, True, False)
    assert sys.getrefcount(data) > references
    net.client = net.server = client = server = engines()[0]
    net.ends, net.readers = (client, server), {}
    del give_up
    assert sys.getrefcount(data) == references


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_can_change_is_copied(kind: type) -> None:
    client, server = engines()
    net = Network(client, server)
    data = bytearray(os.urandom(100_000))
    before = bytes(data)
    stream_id = client.open_stream()
    client.write(stream_id, kind(data).toreadonly() if kind is memoryview else data, True, False)
    data[:] = bytes(len(data))
    net.run(lambda: stream_id in net.readers[1].ended)
    assert net.readers[1].streams[stream_id] == before

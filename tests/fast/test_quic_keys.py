"""Keys wear out (RFC 9001, 6.6): they are updated in time, or the connection ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from predastore._fast import quic
from support.quic_pair import Network, engines

AEAD_LIMIT_REACHED = 0xF
FAR = 1 << 60


@pytest.fixture(autouse=True, params=[True, False], ids=["multi-buffer", "libcrypto"])
def _aead(request: pytest.FixtureRequest) -> Iterator[None]:
    quic.use_multi_buffer(request.param)
    yield
    quic.use_multi_buffer(True)


def _exchanged(net: Network, count: int) -> None:
    stream_id = net.client.open_stream()
    for _ in range(count):
        net.client.write(stream_id, b"more", False, True)
        net.run(lambda: net.client.stats()["bytes_in_flight"] == 0)


@pytest.mark.parametrize("cipher", [quic.AES_128_GCM, quic.AES_256_GCM, quic.CHACHA20_POLY1305])
def test_keys_are_updated_before_they_are_worn_out(cipher: int) -> None:
    net = Network(*engines(cipher))
    net.client.bound_keys(20, 200, FAR)
    _exchanged(net, 300)
    assert net.server.stats()["key_updates"] >= 5
    assert not net.readers[0].other
    assert not net.readers[1].other


def test_without_an_update_the_connection_ends_before_the_key_is_used_too_often() -> None:
    client, _ = engines()
    client.bound_keys(FAR, 200, FAR)
    stream_id, sent, now = client.open_stream(), 0, 1.0
    while not (events := client.events()):
        client.write(stream_id, b"more", False, True)
        sent += len(client.datagrams(now))
        now += 1.0
        client.on_timeout(now)
        assert sent <= 200
    assert [(event[0], event[3]) for event in events] == [(quic.ERROR, AEAD_LIMIT_REACHED)]
    assert sent > 100
    client.ping()
    assert not client.datagrams(now)


def _forged(net: Network) -> None:
    """The server gets a packet that is not authentic, but for its header, which is protected by
    the first bytes of it."""
    net.client.write(net.client.open_stream(), bytes(100), True, True)
    (datagram,) = net.client.datagrams(net.now)
    net.server.receive(datagram[:-1] + bytes([datagram[-1] ^ 1]), net.now)
    net.server.receive(datagram, net.now)


def test_too_many_packets_that_are_not_authentic_end_the_connection() -> None:
    net = Network(*engines())
    net.server.bound_keys(FAR, FAR, 10)
    for _ in range(9):
        _forged(net)
        assert all(event[0] != quic.ERROR for event in net.server.events())
    _forged(net)
    errors = [event for event in net.server.events() if event[0] == quic.ERROR]
    assert [error[3] for error in errors] == [AEAD_LIMIT_REACHED]


def test_they_are_counted_over_all_keys() -> None:
    net = Network(*engines())
    net.server.bound_keys(FAR, FAR, 10)
    for _ in range(5):
        _forged(net)
        net.client.update_keys()
        _exchanged(net, 2)
    assert net.server.stats()["key_updates"] == 5
    assert net.server.stats()["undecryptable"] == 5

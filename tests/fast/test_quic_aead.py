"""Encryption of packets: the examples of RFC 9001, and two libraries against each other and against
the AESGCM of the cryptography package."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from predastore._fast import quic
from support.quic_pair import SECRET_BYTES, Network, engines

CIPHERS = [quic.AES_128_GCM, quic.AES_256_GCM]
KEY_BYTES = {quic.AES_128_GCM: 16, quic.AES_256_GCM: 32}
HEADER = b"\x43" + b"the peer" + bytes(4)
LIBRARIES = pytest.mark.parametrize(
    "multi_buffer", [True, False], ids=["multi-buffer", "libcrypto"]
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    quic.use_multi_buffer(True)


def _client(multi_buffer: bool, cipher: int, secret: bytes) -> quic.Engine:
    quic.use_multi_buffer(multi_buffer)
    return engines(cipher, send_secret=secret, first_send_secret=secret)[0]


@LIBRARIES
def test_the_server_s_initial_of_rfc_9001_appendix_a3(multi_buffer: bool) -> None:
    secret = "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b"
    payload = (
        "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b"
        "9a045a1200130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d53"
        "11bcf32bb9da1a002b00020304"
    )
    packet = (
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c6979"
        "7554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f"
        "3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc421"
        "58407dd074ee"
    )
    engine = _client(multi_buffer, quic.AES_128_GCM, bytes.fromhex(secret))
    header = bytes.fromhex("c1000000010008f067a5502a4262b50040750001")
    sealed = engine.seal(header, bytes.fromhex(payload), 1)
    # A short header has one bit more that is masked.
    assert bytes([sealed[0] & ~0x10]) + sealed[1:] == bytes.fromhex(packet)


def test_the_short_header_of_rfc_9001_appendix_a5() -> None:
    secret = "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b"
    engine = _client(True, quic.CHACHA20_POLY1305, bytes.fromhex(secret))
    sealed = engine.seal(bytes.fromhex("4200bff4"), b"\x01", 654360564)
    assert sealed.hex() == "4cfe4189655e5cd55c41f69080575d7999c25a5bfb"


def _expanded(cipher: int, secret: bytes, label: bytes, size: int) -> bytes:
    kind = hashes.SHA384() if cipher == quic.AES_256_GCM else hashes.SHA256()
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(kind, size, info).derive(secret)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_size_is_encrypted_alike(cipher: int) -> None:
    chance = random.Random(cipher)
    secret = chance.randbytes(SECRET_BYTES[cipher])
    makers = [_client(choice, cipher, secret) for choice in (True, False)]
    key = AESGCM(_expanded(cipher, secret, b"quic key", KEY_BYTES[cipher]))
    iv = int.from_bytes(_expanded(cipher, secret, b"quic iv", 12), "big")
    for size in [*range(1, 1400), 8900, *(chance.randrange(1400, 9000) for _ in range(50))]:
        number, payload = chance.randrange(1 << 62), chance.randbytes(size)
        one, other = (maker.seal(HEADER, payload, number) for maker in makers)
        assert one == other
        nonce = (iv ^ number).to_bytes(12, "big")
        assert one[len(HEADER) :] == key.encrypt(nonce, payload, HEADER)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("client_has_it", [True, False])
def test_they_understand_each_other(cipher: int, client_has_it: bool) -> None:
    chance = random.Random(cipher)
    quic.use_multi_buffer(client_has_it)
    client = engines(cipher)[0]
    quic.use_multi_buffer(not client_has_it)
    net = Network(client, engines(cipher)[1], loss=0.05, corrupt=0.05, seed=cipher)
    for size in (1, 100, 30_000, 500_000):
        stream_id, data = client.open_stream(), chance.randbytes(size)
        client.write(stream_id, data, True, False)
        client.update_keys()
        net.run(lambda stream_id=stream_id: stream_id in net.readers[1].ended)
        assert net.readers[1].streams[stream_id] == data
        net.server.write(stream_id, data[::-1], True, False)
        net.run(lambda stream_id=stream_id: stream_id in net.readers[0].ended)
        assert net.readers[0].streams[stream_id] == data[::-1]
    assert net.server.stats()["key_updates"]
    assert client.stats()["undecryptable"]


@LIBRARIES
@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_packet_with_one_wrong_bit_is_dropped(multi_buffer: bool, cipher: int) -> None:
    quic.use_multi_buffer(multi_buffer)
    client, server = engines(cipher)
    stream_id = client.open_stream()
    client.write(stream_id, b"bytes of a stream", True, False)
    (datagram,) = client.datagrams(1.0)
    after = 1 + len(b"server-0")  # what comes before is of no connection
    for bit in range(8 * after, 8 * len(datagram)):
        wrong = bytearray(datagram)
        wrong[bit // 8] ^= 1 << bit % 8
        server.receive(wrong, 1.0)
        assert all(event[0] == quic.FOREIGN for event in server.events())
    assert server.stats()["packets_received"] == 0
    assert server.receive(datagram, 1.0)
    assert server.events() == [(quic.DATA, stream_id, b"bytes of a stream", 1)]

"""Datagrams in batches on real sockets: with the kernel's help, without, and where it refuses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast.udp import Receiver, Sender

UDP_GRO = 104
LARGEST = 65_507  # of a datagram, over IPv4


class Ends:
    """Two UDP sockets connected to each other; `gro`: the kernel may join what comes."""

    def __init__(self, *, gro: bool) -> None:
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for end in (self.near, self.far):
            end.bind(("127.0.0.1", 0))
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.near.connect(self.far.getsockname())
        self.far.connect(self.near.getsockname())
        if gro:
            self.far.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.receiver = Receiver()

    def came(self) -> list[bytes]:
        """All datagrams that have come, one by one."""
        found: list[bytes] = []
        while messages := self.receiver.receive(self.far.fileno()):
            for data, segment, _ in messages:
                step = segment or max(1, len(data))
                found += [bytes(data[at : at + step]) for at in range(0, len(data), step)]
                if not data:
                    found.append(b"")
        return found

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture(params=[True, False], ids=["gro", "plain"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(gro=request.param)
    yield made
    made.close()


def _cut(data: bytes, segment: int) -> list[bytes]:
    return [data[at : at + segment] for at in range(0, len(data), segment)]


@given(
    segment=st.integers(1, 9_000),
    count=st.integers(1, 90),
    last=st.floats(0.0, 1.0),
    offload=st.booleans(),
    gro=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_datagrams_come_as_they_were_cut(
    segment: int, count: int, last: float, offload: bool, gro: bool
) -> None:
    ends = Ends(gro=gro)
    try:
        size = min(segment * (count - 1) + max(1, int(segment * last)), 65_000)
        data = os.urandom(size)
        sender = Sender(offload)
        assert sender.send(ends.near.fileno(), data, size, segment, None) == (size, 0)
        assert ends.came() == _cut(data, segment)
    finally:
        ends.close()


def test_a_batch_that_the_kernel_refuses_goes_one_by_one(ends: Ends) -> None:
    data = os.urandom(10 * 300)  # more datagrams than UDP_SEGMENT takes
    sender = Sender()
    assert sender.send(ends.near.fileno(), data, len(data), 10, None) == (len(data), 0)
    assert ends.came() == _cut(data, 10)
    assert sender.send(ends.near.fileno(), data, 1_000, 100, None) == (1_000, 0)
    assert ends.came() == _cut(data[:1_000], 100)


def test_only_the_first_bytes_of_the_buffer_go(ends: Ends) -> None:
    data = bytearray(os.urandom(5_000))
    assert Sender().send(ends.near.fileno(), data, 2_500, 1_000, None) == (2_500, 0)
    assert ends.came() == _cut(bytes(data[:2_500]), 1_000)
    with pytest.raises(ValueError, match="more than there is"):
        Sender().send(ends.near.fileno(), data, 5_001, 1_000, None)


def test_the_largest_datagram_comes_whole(ends: Ends) -> None:
    data = os.urandom(LARGEST)
    assert Sender().send(ends.near.fileno(), data, LARGEST, 0, None) == (LARGEST, 0)
    assert ends.came() == [data]


@pytest.mark.parametrize("offload", [True, False])
def test_a_datagram_that_is_too_large_is_told_of(ends: Ends, offload: bool) -> None:
    sender = Sender(offload)
    data = bytes(LARGEST + 1)
    assert sender.send(ends.near.fileno(), data, len(data), 0, None) == (0, errno.EMSGSIZE)
    assert sender.send(ends.near.fileno(), b"next", 4, 0, None) == (4, 0)
    assert ends.came() == [b"next"]


def test_nothing_came(ends: Ends) -> None:
    assert ends.came() == []


def test_empty_datagrams_are_datagrams(ends: Ends) -> None:
    ends.near.send(b"")
    ends.near.send(b"after")
    assert ends.came() == [b"", b"after"]


def test_the_sender_is_named(ends: Ends) -> None:
    ends.near.send(b"whose?")
    ((data, segment, name),) = ends.receiver.receive(ends.far.fileno())
    assert bytes(data) == b"whose?"
    assert segment in (0, 6)
    host, port = ends.near.getsockname()
    assert name[2:4] == port.to_bytes(2, "big")
    assert name[4:8] == socket.inet_aton(host)


def test_an_address_says_where_to() -> None:
    one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with one, other:
        for end in (one, other):
            end.bind(("127.0.0.1", 0))
            end.setblocking(False)
        one.sendto(b"name", other.getsockname())
        ((_, _, name),) = Receiver().receive(other.fileno())
        assert Sender().send(other.fileno(), b"abcdef", 6, 2, name) == (6, 0)
        assert [one.recvfrom(10) for _ in range(3)] == [
            (part, other.getsockname()) for part in (b"ab", b"cd", b"ef")
        ]


def test_a_full_socket_takes_whole_datagrams_and_says_so() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # UDP on loopback never fills
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        data = os.urandom(1_000 * 1_000)
        sender = Sender(offload=False)
        sent, error = sender.send(near.fileno(), data, len(data), 1_000, None)
        assert error == errno.EAGAIN
        assert 0 < sent < len(data)
        assert sent % 1_000 == 0
        found = b""
        receiver = Receiver()
        while messages := receiver.receive(far.fileno()):
            found += b"".join(bytes(message[0]) for message in messages)
        assert found == data[:sent]
        assert sender.send(near.fileno(), data[sent:], 1_000, 1_000, None) == (1_000, 0)


def test_a_closed_port_is_an_error() -> None:
    ends = Ends(gro=False)
    ends.far.close()
    assert Sender().send(ends.near.fileno(), b"anybody?", 8, 0, None) == (8, 0)
    _, error = Sender().send(ends.near.fileno(), b"anybody?", 8, 0, None)
    assert error == errno.ECONNREFUSED
    ends.near.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Receiver().receive(10_000)

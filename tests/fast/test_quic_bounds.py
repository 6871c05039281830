"""What a peer that has the keys may make the engine do is bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from predastore._fast import quic
from support.quic_pair import MIB, Network, Reader, engines

ROOT = Path(__file__).resolve().parents[2]
UNPROVEN = {"window_bytes": 16 * 1024, "peer_bytes_max": 16 * 1024}
ACK_OF_3 = b"\x02\x03\x00\x00\x00"
HANDSHAKE_DONE = b"\x1e"


def varint(value: int) -> bytes:
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def stream_frame(offset: int, data: bytes) -> bytes:
    return b"\x0e" + varint(0) + varint(offset) + varint(len(data)) + data


def packet(sender: quic.Engine, connection_id: bytes, frames: bytes) -> bytes:
    number = sender.next_packet_number
    sender.next_packet_number = number + 1
    return sender.seal(b"\x43" + connection_id + number.to_bytes(4, "big"), frames, number)


def error_of(engine: quic.Engine) -> int | None:
    return next((event[3] for event in engine.events() if event[0] == quic.ERROR), None)


def test_small_pieces_out_of_order_are_few() -> None:
    """Each that comes is compared with all that are there."""
    client, server = engines(**UNPROVEN)
    client.open_stream()
    for count in range(1000):
        server.receive(packet(client, b"server-0", stream_frame(2 * count + 1, b"x")), 1.0)
        if (error := error_of(server)) is not None:
            assert error == 0x1  # INTERNAL_ERROR
            break
    assert 50 < count < 100


def test_pieces_of_the_size_of_a_packet_may_be_many() -> None:
    client, server = engines(window_bytes=8 * MIB, own_stream_bytes_max=8 * MIB)
    client.open_stream()
    reader, step = Reader(server), 1000
    for start in (1, 0):  # all the odd ones, and then the even ones, from the last to the first
        for number in reversed(range(start, 4000, 2)):
            frame = stream_frame(number * step, bytes([number % 251]) * step)
            server.receive(packet(client, b"server-0", frame), 1.0)
            reader.take()
    assert not reader.other
    assert reader.streams[0] == b"".join(bytes([n % 251]) * step for n in range(4000))


@pytest.mark.parametrize("frame", [HANDSHAKE_DONE, b"\x06\x00\x00", ACK_OF_3])
def test_frames_that_cost_much_are_few_in_a_packet(frame: bytes) -> None:
    client, server = engines()
    server.ping()
    server.datagrams(1.0)
    server.receive(packet(client, b"server-0", 32 * frame), 1.0)
    assert error_of(server) is None
    server.receive(packet(client, b"server-0", 33 * frame), 1.0)
    assert error_of(server) == 0xA  # PROTOCOL_VIOLATION


@pytest.mark.parametrize("exponent", [0, 3, 14, 20])
def test_no_delay_that_an_acknowledgement_tells_of_upsets_the_clock(exponent: int) -> None:
    client, server = engines(peer_ack_delay_exponent=exponent)
    now = 1.0
    for delay in (0, 0, 1 << 30, (1 << 40) - 1, 1 << 40, (1 << 62) - 1):
        server.ping()
        server.datagrams(now)
        largest = varint(server.next_packet_number - 1)
        frame = b"\x02" + largest + varint(delay) + b"\x00\x00"
        server.receive(packet(client, b"server-0", frame), now + 0.01)
        assert error_of(server) is None
        assert 0 < server.stats()["round_trip_ns"] < 20_000_000
        now += 0.1


def test_a_failure_to_send_is_told_without_a_datagram_that_comes() -> None:
    client, _ = engines()
    client.bound_keys(1 << 60, 64, 1 << 60)
    stream_id = client.open_stream()
    while client.timeout() > 0:
        client.write(stream_id, b"x", False, True)
        client.datagrams(1.0)
    assert error_of(client) == 0xF  # AEAD_LIMIT_REACHED
    assert client.timeout() == float("inf")


def _windows_after(pause_s: float) -> list[int]:
    """Of eight round trips that follow a pause, a while after a loss."""
    wide = 1 << 40
    ends = engines(
        window_bytes=wide,
        peer_bytes_max=wide,
        own_stream_bytes_max=wide,
        peer_stream_bytes_max_remote=wide,
    )
    net, sent = Network(*ends, delay_s=0.02), 0

    def dropped(_: bytes) -> bool:
        nonlocal sent
        sent += 1
        return sent == 200

    net.dropped = dropped
    stream_id = net.client.open_stream()
    net.client.write(stream_id, bytes(MIB), False, False)
    net.run(lambda: net.client.unacked_bytes(stream_id) == 0)
    net.run(lambda: not net.flying)
    net.now += pause_s
    net.client.write(stream_id, bytes(10 * MIB), False, False)
    began, found = net.now, []
    for trip in range(8):
        net.run(lambda trip=trip: net.now >= began + 0.04 * (trip + 1))
        found.append(net.client.window_bytes())
    return found


def test_after_a_pause_the_window_grows_as_if_there_had_been_none() -> None:
    """RFC 9438, 5.8: else it would have grown, unseen, for all of that time."""
    at_once, later = _windows_after(0.0), _windows_after(60.0)
    assert max(later) <= 1.2 * max(at_once)


MEMORY_ENDS = """
import resource, sys
sys.path.insert(0, "tests")
from fast.test_quic_bounds import packet, stream_frame, varint
from support.quic_pair import engines
big = 64 << 20
client, server = engines(window_bytes=big, own_stream_bytes_max=big)
client.open_stream(), client.open_stream()
def of_second(offset, data):
    return b"\\x0e" + varint(4) + varint(offset) + varint(len(data)) + data
server.receive(packet(client, b"server-0", stream_frame(1, b"q" * 60)), 1.0)
for offset in range(1, 24 << 20, 60_000):
    server.receive(packet(client, b"server-0", of_second(offset, bytes(60_000))), 1.0)
last = bytearray(packet(client, b"server-0", stream_frame(0, b"z") + of_second(0, b"z")))
size = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line)
resource.setrlimit(resource.RLIMIT_AS, ((size << 10) + (4 << 20),) * 2)
try:
    server.receive(last, 1.0)
except MemoryError:
    del server
    print("alive")
"""


def test_where_memory_ends_it_is_an_error_and_nothing_is_freed_twice() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_ENDS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr

"""Loss, probes and pacing of the engine (RFC 9002), with the clock in the test's hands."""

from __future__ import annotations

import math

from predastore._fast import quic
from predastore.base.limits import RPC_PING_INTERVAL_MS, RPC_UNANSWERED_MS_MAX
from support.quic_pair import MIB, Network, engines

DATAGRAM_BYTES = 1400
WIDE = {
    "window_bytes": 256 * MIB,
    "peer_bytes_max": 256 * MIB,
    "own_stream_bytes_max": 256 * MIB,
    "peer_stream_bytes_max_remote": 256 * MIB,
}


def _warm(net: Network) -> int:
    """A stream on which the round trip was measured; all that was sent is acknowledged."""
    stream_id = net.client.open_stream()
    for _ in range(20):
        net.client.write(stream_id, bytes(10_000), False, False)
        net.run(lambda: net.client.stats()["bytes_in_flight"] == 0 and not net.flying)
    return stream_id


def _until(net: Network, at: float) -> None:
    """Lets the client alone act, and loses what it sends, up to a time."""
    while (due := net.client.timeout()) < at:
        net.now = max(net.now, due)
        net.client.on_timeout(net.now)
        net.client.datagrams(net.now)
    net.now = at


def _pto_s(net: Network) -> float:
    """The timeout for a probe where nothing is outstanding but what is sent now."""
    stream_id = net.client.open_stream()
    net.client.write(stream_id, b"?", True, True)
    assert net.client.datagrams(net.now)
    return net.client.timeout() - net.now


def test_probes_come_after_twice_the_time_before_and_carry_what_is_oldest() -> None:
    net = Network(*engines(), delay_s=0.01)
    _warm(net)
    pto_s = _pto_s(net)
    assert 0.02 < pto_s < 0.08
    sent_at = net.now
    for turn in range(5):
        due = net.client.timeout()
        assert math.isclose(due - sent_at, pto_s * 2**turn, rel_tol=1e-6)
        net.now = sent_at = due
        net.client.on_timeout(net.now)
        probes = net.client.datagrams(net.now)
        assert len(probes) == 2
        assert net.client.stats()["pto_count"] == turn + 1
        assert net.client.stats()["packets_lost"] == 0  # a probe is no verdict
    for datagram in probes[:1]:  # the first of them has the byte, none of the others came
        net.server.receive(datagram, net.now)
    net.readers[1].take()
    assert [bytes(data) for data in net.readers[1].streams.values()][-1] == b"?"


def test_an_answer_ends_the_backing_off() -> None:
    net = Network(*engines(), delay_s=0.01)
    _warm(net)
    pto_s = _pto_s(net)
    _until(net, net.now + 10 * pto_s)
    net.run(lambda: net.client.stats()["bytes_in_flight"] == 0)
    assert _pto_s(net) < 1.5 * pto_s


def _lost_for(ptos: float) -> tuple[int, int]:
    """The window before and after all packets of so many timeouts were lost."""
    net = Network(*engines(**WIDE), delay_s=0.01)
    stream_id = _warm(net)
    before = net.client.stats()["window"]
    pto_s = _pto_s(net)
    _until(net, net.now + ptos * pto_s)
    net.client.write(stream_id, bytes(1_000), False, False)
    for datagram in net.client.datagrams(net.now):
        net.server.receive(datagram, net.now)
    net.readers[1].take()
    for datagram in net.server.datagrams(net.now):
        net.client.receive(datagram, net.now + 0.02)
    assert net.client.stats()["packets_lost"] > 0
    return before, net.client.stats()["window"]


def test_persistent_congestion_leaves_the_smallest_window() -> None:
    _, after = _lost_for(12)  # RFC 9002, 7.6: probes at 1, 3 and 7 timeouts, all lost
    assert after == 2 * DATAGRAM_BYTES


def test_a_short_loss_is_no_persistent_congestion() -> None:
    before, after = _lost_for(2)  # a probe at 1
    assert math.isclose(after, 0.7 * before, rel_tol=0.01)


class Scale(Network):
    """Notes what the client sends, and when."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sent: list[tuple[float, int]] = []

    def _post(self, to: int, datagram: bytes) -> None:
        if to == 1:
            self.sent.append((self.now, len(datagram)))
        super()._post(to, datagram)


def test_a_window_is_spread_over_the_round_trip() -> None:
    net = Scale(*engines(**WIDE), delay_s=0.05)
    stream_id = net.client.open_stream()
    net.client.write(stream_id, bytes(64 * MIB), False, False)
    net.run(lambda: net.client.stats()["window"] > 500_000)
    net.sent.clear()
    end = net.now + 0.1
    net.run(lambda: net.now >= end)
    stats = net.client.stats()
    rate = 1.5 * stats["window"] / stats["round_trip_ns"] * 1e9  # slow start's at the end
    burst = rate * 0.002 + DATAGRAM_BYTES
    assert sum(size for _, size in net.sent) > 500_000
    for first, (began, _) in enumerate(net.sent):
        within = [size for at, size in net.sent[first:] if at < began + 0.002]
        assert sum(within) <= burst + rate * 0.002


def test_a_peer_that_vanishes_shows_however_many_probes_are_sent() -> None:
    net = Network(*engines(), delay_s=0.01)
    _warm(net)
    asked_at = net.now
    _pto_s(net)
    for _ in range(30):
        _until(net, net.now + 0.1)
        net.client.ping()
        net.client.datagrams(net.now)
        assert math.isclose(net.client.unanswered_since, asked_at)
    # A silent connection is pinged after a turn, and looked at once a turn, while calls wait.
    turn_ms = RPC_PING_INTERVAL_MS / 2
    assert turn_ms + RPC_UNANSWERED_MS_MAX + turn_ms < 3_000


def test_a_peer_that_answers_owes_nothing() -> None:
    net = Network(*engines(), delay_s=0.01)
    _warm(net)
    assert net.client.unanswered_since == math.inf
    assert net.server.unanswered_since == math.inf


def _acknowledged(frame: bytes) -> quic.Engine:
    """A client whose packet 3 was answered with this frame, and nothing but it."""
    client, server = engines()
    client.write(client.open_stream(), b"ask", True, True)
    assert len(client.datagrams(1.0)) == 1
    header = bytes([0x40 | 3]) + b"client-0" + (7).to_bytes(4, "big")
    client.receive(server.seal(header, frame, 7), 1.02)
    return client


def test_counts_of_ecn_are_read_and_change_nothing() -> None:
    plain, counted = (
        _acknowledged(b"\x02\x03\x00\x00\x00"),
        _acknowledged(b"\x03\x03\x00\x00\x00" + b"\x01\x02\x43\xe8"),
    )
    assert not plain.events()
    assert not counted.events()
    assert plain.stats() == counted.stats()
    assert counted.stats()["bytes_in_flight"] == 0


def test_counts_of_ecn_that_are_cut_short_end_the_connection() -> None:
    client = _acknowledged(b"\x03\x03\x00\x00\x00" + b"\x01\x02\x43")
    (event,) = client.events()
    assert event[0] == quic.ERROR
    assert event[3] == 0x7  # FRAME_ENCODING_ERROR


def _sent(net: Network, stream_id: int, count: int) -> list[bytes]:
    """Datagrams of the client, a packet each, none of which has arrived."""
    found: list[bytes] = []
    for _ in range(count):
        net.client.write(stream_id, bytes(1000), False, False)
        while not (some := net.client.datagrams(net.now)):
            net.now = net.client.timeout()
            net.client.on_timeout(net.now)
        found += some
    return found


def test_a_packet_is_read_though_hundreds_have_overtaken_it() -> None:
    net = Network(*engines(**WIDE), delay_s=0.01)
    stream_id = _warm(net)
    late, *others = _sent(net, stream_id, 300)
    for datagram in (*others, late):
        net.server.receive(datagram, net.now)
    stats = net.server.stats()
    assert (stats["undecryptable"], stats["duplicates"]) == (0, 0)


def test_what_came_late_is_told_though_an_earlier_acknowledgement_has_arrived() -> None:
    net = Network(*engines(), delay_s=0.01)
    stream_id = _warm(net)
    late, second, _, *others = _sent(net, stream_id, 5)
    for datagram in (second, *others):
        net.server.receive(datagram, net.now)
    net.server.write(stream_id, b"acknowledges", False, False)
    for datagram in net.server.datagrams(net.now):
        net.client.receive(datagram, net.now)
    assert net.client.stats()["packets_lost"] == 1
    again = net.client.datagrams(net.now)  # tells the server that its acknowledgement has come
    for datagram in (late, *again):
        net.server.receive(datagram, net.now)
    for datagram in net.server.datagrams(net.now):
        net.client.receive(datagram, net.now)
    assert net.client.stats()["packets_spurious"] == 1

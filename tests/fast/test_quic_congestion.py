"""The congestion window: CUBIC (RFC 9438) and HyStart++ (RFC 9406), in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable

from support.quic_pair import MIB, Network, engines

DATAGRAM_BYTES = 1400
BOUND = 1 << 40  # of flow control: none
BACKLOG_BYTES = 4 * MIB


class Flow:
    """A client that always has more to send. `bytes_per_s`, `queue_bytes`: of the bottleneck."""

    def __init__(
        self, delay_s: float, bytes_per_s: float = math.inf, queue_bytes: float = math.inf
    ) -> None:
        ends = engines(
            window_bytes=BOUND,
            peer_bytes_max=BOUND,
            own_stream_bytes_max=BOUND,
            peer_stream_bytes_max_remote=BOUND,
            round_trip=2 * delay_s,
        )
        self.net = Network(*ends, delay_s=delay_s, bytes_per_s=bytes_per_s, queue_bytes=queue_bytes)
        self.stream_id = self.net.client.open_stream()

    @property
    def stats(self) -> dict[str, int]:
        return self.net.client.stats()

    @property
    def segments(self) -> float:
        return self.stats["window"] / DATAGRAM_BYTES

    def until(self, done: Callable[[], object]) -> None:
        def fed() -> bool:
            if self.stats["queued_bytes"] < BACKLOG_BYTES:
                self.net.client.write(self.stream_id, bytes(MIB), False, False)
                self.net.flush()
            self.net.readers[1].streams.clear()
            return bool(done())

        self.net.run(fed)

    def run_for(self, seconds: float) -> None:
        end = self.net.now + seconds
        self.until(lambda: self.net.now >= end)

    def lose_one(self) -> None:
        """One packet of the client's is lost, and found to be."""
        lost, left = self.stats["packets_lost"], [1]

        def dropped(datagram: bytes) -> bool:
            drop = len(datagram) == DATAGRAM_BYTES and left[0] > 0
            left[0] -= drop
            return drop

        self.net.dropped = dropped
        self.until(lambda: self.stats["packets_lost"] > lost)


def test_slow_start_ends_where_a_queue_builds_and_before_it_overflows() -> None:
    flow = Flow(0.02, bytes_per_s=2e6, queue_bytes=1e6)  # 80 KB on the way, half a second of queue
    flow.run_for(1.5)
    assert flow.stats["packets_lost"] == 0
    assert 80_000 < flow.stats["window"] < 900_000


def test_slow_start_doubles_the_window_in_a_round_trip() -> None:
    flow = Flow(0.05)
    flow.run_for(0.25)
    before = flow.stats["window"]
    flow.run_for(0.1)
    assert 1.5 * before < flow.stats["window"] <= 2.1 * before


def test_after_a_loss_the_window_follows_the_cubic_curve() -> None:
    flow = Flow(0.05)
    flow.until(lambda: flow.segments > 300)
    flow.lose_one()
    w_max = flow.segments / 0.7
    flow.run_for(0.1)  # the recovery
    began, k = flow.net.now, (w_max * 0.3 / 0.4) ** (1 / 3)
    for _ in range(5):
        flow.run_for(2.0)
        t = flow.net.now - began
        curve = 0.4 * (t - k) ** 3 + w_max
        assert math.isclose(flow.segments, curve, rel_tol=0.08), (t, flow.segments, curve)
    assert flow.segments > w_max  # the curve's other half


def test_a_short_way_grows_as_reno_would() -> None:
    flow = Flow(0.002)
    flow.until(lambda: flow.segments > 40)
    flow.lose_one()
    w_max, least = flow.segments / 0.7, flow.segments
    flow.run_for(0.004)
    rounds = 15
    flow.run_for(rounds * 0.004)  # CUBIC's own curve would have moved by less than two segments
    alpha = 3 * (1 - 0.7) / (1 + 0.7)
    assert least + 0.6 * alpha * rounds < flow.segments < least + 1.6 * alpha * rounds
    assert flow.segments < w_max


def test_losses_of_one_round_trip_count_once() -> None:
    flow = Flow(0.02)
    flow.until(lambda: flow.segments > 200)
    before, left = flow.segments, [30]

    def dropped(datagram: bytes) -> bool:
        drop = len(datagram) == DATAGRAM_BYTES and left[0] > 0
        left[0] -= drop
        return drop

    flow.net.dropped = dropped
    flow.until(lambda: flow.stats["packets_lost"] >= 30)
    assert flow.segments > 0.69 * before


def test_packets_that_are_only_late_do_not_shrink_the_window() -> None:
    flow = Flow(0.02)
    flow.until(lambda: flow.segments > 100)
    before = flow.segments
    flow.net.reorder, flow.net.late = 0.02, 0.2
    flow.run_for(0.4)
    assert flow.stats["packets_spurious"] > 0
    assert flow.segments >= before


def test_a_window_that_pacing_spreads_grows_all_the_same() -> None:
    """Who is woken every 4 ms alone must not be taken for one that has little to send."""
    flow = Flow(0.01)
    client, server = flow.net.client, flow.net.server
    step_s, now = 0.004, 1.0
    toward: list[tuple[float, bytes]] = []
    back: list[tuple[float, bytes]] = []
    while now < 1.6:
        if client.stats()["queued_bytes"] < BACKLOG_BYTES:
            client.write(flow.stream_id, bytes(MIB), False, False)
        for lane, end in ((toward, server), (back, client)):
            while lane and lane[0][0] <= now:
                end.receive(lane.pop(0)[1], now)
        flow.net.readers[1].take()
        flow.net.readers[1].streams.clear()
        for end, lane in ((client, toward), (server, back)):
            if end.timeout() <= now:
                end.on_timeout(now)
            lane += [(now + 0.01, datagram) for datagram in end.datagrams(now)]
        now += step_s
    assert client.stats()["window"] > 500_000


def test_an_application_with_little_to_send_does_not_grow_the_window() -> None:
    net = Network(*engines(), delay_s=0.01)
    stream_id = net.client.open_stream()
    before = net.client.stats()["window"]
    for _ in range(50):
        net.client.write(stream_id, bytes(1_000), False, False)
        net.run(lambda: net.client.stats()["bytes_in_flight"] == 0)
    assert net.client.stats()["window"] == before

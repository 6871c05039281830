"""Discovery of the path's MTU (RFC 8899): found, lost again, and a hole that says nothing."""

from __future__ import annotations

import pytest

from support.quic_pair import MIB, Network, engines

WIDE = {
    "own_stream_bytes_max": 64 * MIB,
    "peer_stream_bytes_max_remote": 64 * MIB,
    "streams_max": 100_000,
    "peer_streams_max": 100_000,
}


class Way(Network):
    """Drops what is larger than `most`, without a word."""

    most = 1 << 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dropped = lambda datagram: len(datagram) > self.most


def _way(base: int, largest: int, most: int) -> Way:
    way = Way(*engines(datagram_bytes=base, datagram_bytes_max=largest, **WIDE), delay_s=0.005)
    way.most = most
    return way


def _carries(way: Way, size_bytes: int) -> None:
    stream_id = way.client.open_stream()
    data = bytes(size_bytes)
    way.client.write(stream_id, data, True, False)
    way.run(lambda: stream_id in way.readers[1].ended)
    assert way.readers[1].streams[stream_id] == data


@pytest.mark.parametrize("most", [1400, 1452, 2_000, 4_321, 8_900, 8_952])
def test_the_largest_datagram_that_the_way_carries_is_found(most: int) -> None:
    way = _way(1400, 8_952, most)
    while way.now < 6.0:
        _carries(way, 200_000)
    assert most - 16 < way.client.datagram_bytes <= most


def test_what_probes_lose_is_no_congestion() -> None:
    way = _way(1400, 8_952, 1400)
    for _ in range(30):
        _carries(way, 200_000)
    assert way.client.stats()["packets_lost"] == 0


def test_a_black_hole_is_left_by_the_size_of_the_beginning() -> None:
    way = _way(1400, 8_952, 8_952)
    for _ in range(20):
        _carries(way, 200_000)
    assert way.client.datagram_bytes == 8_952
    way.most = 1400
    began = way.now
    _carries(way, 200_000)
    assert way.client.datagram_bytes == 1400
    assert way.now - began < 2.0


def test_a_hole_below_the_first_size_is_left_by_the_smallest() -> None:
    way = _way(1400, 8_952, 8_952)
    for _ in range(20):
        _carries(way, 200_000)
    way.most = 1200
    _carries(way, 200_000)
    assert way.client.datagram_bytes == 1200


def test_after_a_minute_a_larger_size_is_tried_again() -> None:
    way = _way(1400, 8_952, 8_952)
    for _ in range(20):
        _carries(way, 200_000)
    way.most = 1400
    _carries(way, 200_000)
    way.most = 8_952
    _carries(way, 200_000)
    assert way.client.datagram_bytes == 1400
    way.now += 61
    for _ in range(20):
        _carries(way, 200_000)
    assert way.client.datagram_bytes == 8_952

"""Ends of QUIC that meet in bad weather: every byte of every stream arrives, or is never claimed
to have; and the simulation would notice if it did not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset

from rpc.simulator import network
from rpc.simulator.ends import End, StockEnd
from rpc.simulator.pairs import PAIRS
from rpc.simulator.world import Broken, simulate

SEEDS = 48  # for each pair; `make simulate-quic` does more
BITE_SEEDS = 8


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_stream_arrives_whole_whatever_the_network_does(pair: str) -> None:
    totals: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            totals.update(vars(simulate(seed, PAIRS[pair])))
        except Exception as error:
            error.add_note(f"{pair}, seed {seed}")
            raise
    assert totals["updates"] > SEEDS
    assert totals["rotations"] > SEEDS / 2
    assert totals["cut"] > SEEDS / 8


def test_the_network_does_all_that_it_is_said_to_do() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        rng = network.Random(seed)
        link = network.Link(network.of_seed(seed), rng)
        for number in range(200):
            link.arrivals(bytes(1200 if number % 4 else 1600), number / 10_000)
        counts.update(link.counts)
    assert all(count > 20 for count in counts.values()), counts


def _flipped(event: StreamDataReceived) -> QuicEvent:
    return replace(event, data=event.data[:-1] + bytes([event.data[-1] ^ 1]))


def _shortened(event: StreamDataReceived) -> QuicEvent:
    return replace(event, data=event.data[:-1])


def _repeated(event: StreamDataReceived) -> QuicEvent:
    return replace(event, data=event.data + event.data)


def _reset(event: StreamDataReceived) -> QuicEvent:
    return StreamReset(error_code=0, stream_id=event.stream_id)


def _ended(event: StreamDataReceived) -> QuicEvent:
    return replace(event, end_stream=True)


class _Wrong(StockEnd):
    """A stock end that lies about the data that it received."""

    def __init__(self, right: StockEnd, change: Callable[[StreamDataReceived], QuicEvent]) -> None:
        super().__init__(right.quic.configuration)
        self._next, self._change = self.quic.next_event, change
        self.quic.next_event = self._changed

    def _changed(self) -> QuicEvent | None:
        event = self._next()
        if isinstance(event, StreamDataReceived) and event.data:
            return self._change(event)
        return event


@pytest.mark.parametrize("change", [_flipped, _shortened, _repeated, _reset, _ended])
def test_a_wrong_end_is_noticed(change: Callable[[StreamDataReceived], QuicEvent]) -> None:
    def pair(seed: int) -> tuple[End, Callable[[bytes], End]]:
        client, accept = PAIRS["stock-stock"](seed)
        assert isinstance(client, StockEnd)
        return _Wrong(client, change), accept

    broken = 0
    for seed in range(BITE_SEEDS):
        try:
            simulate(seed, pair)
        except Broken:
            broken += 1
    assert broken > BITE_SEEDS / 2  # in a few, all streams are empty or in one piece


def test_what_is_never_let_go_is_noticed() -> None:
    class Hoarder(StockEnd):
        def leftovers(self) -> dict[str, int]:
            return {"streams": 1}

    def pair(seed: int) -> tuple[End, Callable[[bytes], End]]:
        client, accept = PAIRS["stock-stock"](seed)
        assert isinstance(client, StockEnd)
        return Hoarder(client.quic.configuration), accept

    with pytest.raises(Broken, match="what is held"):
        simulate(0, pair)

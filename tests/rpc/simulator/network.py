"""The network between two ends: what happens to a datagram follows from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Weather:
    """Shares are of datagrams, 0 to 1. Both directions have the same weather."""

    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    reordering: float = 0.0  # of these, each is held back by up to `held_back_s`
    held_back_s: float = 0.0
    delay_s: float = 0.01  # one way
    jitter_s: float = 0.0  # small: it reorders neighbours
    bytes_per_s: float = float("inf")
    queue_bytes: float = float("inf")  # at the bottleneck; what does not fit is dropped
    burst_loss: float = 0.0  # chance that a loss takes the datagrams of the next 20 ms, too
    datagram_bytes_max: float = float("inf")  # larger ones vanish


def of_seed(seed: int) -> Weather:
    """From a calm day, for one seed in sixteen, to all troubles together."""
    rng = Random(f"weather {seed}")
    if seed % 16 == 0:
        return Weather(delay_s=rng.uniform(0.0001, 0.05))
    share = rng.choice([0.0, 0.002, 0.01, 0.05, 0.12])
    return Weather(
        loss=share * rng.random(),
        duplication=rng.choice([0.0, 0.01, 0.1]) * rng.random(),
        corruption=rng.choice([0.0, 0.005, 0.05]) * rng.random(),
        reordering=rng.choice([0.0, 0.02, 0.2]) * rng.random(),
        held_back_s=rng.uniform(0.0, 0.1),
        delay_s=rng.uniform(0.0001, 0.1),
        jitter_s=rng.choice([0.0, 0.0005, 0.01]) * rng.random(),
        bytes_per_s=rng.choice([float("inf"), 20e6, 2e6, 400e3]),
        queue_bytes=rng.choice([float("inf"), 200_000, 30_000]),
        burst_loss=rng.choice([0.0, 0.0, 0.3]),
        datagram_bytes_max=rng.choice([1452, 1472, 4000, 8972, float("inf")]),
    )


class Link:
    """One direction. `arrivals` says what of a datagram arrives, and when."""

    def __init__(self, weather: Weather, rng: Random) -> None:
        self._weather = weather
        self._rng = rng
        self._free_at = 0.0  # when the bottleneck has sent what it was given
        self._down_until = 0.0
        self.counts = dict.fromkeys(
            ("sent", "too large", "lost", "dropped", "duplicated", "corrupted", "held back"), 0
        )

    def arrivals(self, datagram: bytes, now: float) -> list[tuple[float, bytes]]:
        weather, rng, counts = self._weather, self._rng, self.counts
        counts["sent"] += 1
        if len(datagram) > weather.datagram_bytes_max:
            counts["too large"] += 1
            return []
        backlog_bytes = max(0.0, self._free_at - now) * weather.bytes_per_s
        if backlog_bytes + len(datagram) > weather.queue_bytes:
            counts["dropped"] += 1
            return []
        self._free_at = max(self._free_at, now) + len(datagram) / weather.bytes_per_s
        if now < self._down_until or rng.random() < weather.loss:
            counts["lost"] += 1
            if now >= self._down_until and rng.random() < weather.burst_loss:
                self._down_until = now + 0.02
            return []
        copies = 1
        if rng.random() < weather.duplication:
            counts["duplicated"] += 1
            copies = 2
        return [(self._arrival_at(), self._damaged(datagram)) for _ in range(copies)]

    def _arrival_at(self) -> float:
        weather, rng = self._weather, self._rng
        at = self._free_at + weather.delay_s + rng.random() * weather.jitter_s
        if rng.random() < weather.reordering:
            self.counts["held back"] += 1
            at += rng.random() * weather.held_back_s
        return at

    def _damaged(self, datagram: bytes) -> bytes:
        rng = self._rng
        if rng.random() >= self._weather.corruption:
            return datagram
        self.counts["corrupted"] += 1
        damaged = bytearray(datagram)
        kind = rng.random()
        if kind < 0.6:
            for _ in range(rng.choice([1, 1, 2, 8])):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        elif kind < 0.8:
            damaged[0] ^= 1 << rng.randrange(8)  # the bits that routes and keys hang on
        elif kind < 0.9:
            del damaged[rng.randrange(1, len(damaged)) :]
        else:
            damaged += rng.randbytes(rng.randrange(1, 40))
        return bytes(damaged)

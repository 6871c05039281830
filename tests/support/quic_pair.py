"""Two engines of predastore._fast.quic and a network between them, on a clock of its own."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from predastore._fast import quic

SECRET_BYTES = {quic.AES_128_GCM: 32, quic.AES_256_GCM: 48, quic.CHACHA20_POLY1305: 32}
MIB = 1 << 20


def engines(cipher: int = quic.AES_128_GCM, **changes: Any) -> tuple[quic.Engine, quic.Engine]:
    """A client's and a server's, right after their handshake."""
    secrets = [bytes([n + 1]) * SECRET_BYTES[cipher] for n in range(2)]
    made = []
    for is_client in (True, False):
        send, receive = secrets if is_client else reversed(secrets)
        arguments: dict[str, Any] = {
            "is_client": is_client,
            "cipher": cipher,
            "version": 1,
            "send_secret": send,
            "receive_secret": receive,
            "first_send_secret": send,
            "first_receive_secret": receive,
            "key_phase": 0,
            "own_connection_ids": [(0, b"client-0" if is_client else b"server-0")],
            "peer_connection_id": b"server-0" if is_client else b"client-0",
            "next_packet_number": 3,
            "received": [(0, 3)],
            "received_floor": 0,
            "now": 0.0,
            "round_trip": 0.01,
            "datagram_bytes": 1400,
            "datagram_bytes_max": 1400,
            "window_bytes": 4 * MIB,
            "streams_max": 0 if is_client else 100,
            "own_stream_bytes_max": MIB,
            "peer_bytes_max": 4 * MIB,
            "peer_stream_bytes_max_local": MIB,
            "peer_stream_bytes_max_remote": MIB,
            "peer_streams_max": 100 if is_client else 0,
            "peer_ack_delay_exponent": 3,
            "peer_ack_delay_max": 0.025,
        }
        made.append(quic.Engine(**(arguments | changes)))
    return made[0], made[1]


class Reader:
    """Takes the events of an engine: streams whole, and what else happened."""

    def __init__(self, engine: quic.Engine, *, consume: bool = True) -> None:
        self.engine = engine
        self.consume = consume
        self.streams: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.other: list[quic.Event] = []
        self.on_end: Callable[[int], None] = lambda stream_id: None

    def take(self) -> None:
        for event in self.engine.events():
            kind, number, data, value = event
            if kind != quic.DATA:
                self.other.append(event)
                continue
            assert number not in self.ended
            self.streams.setdefault(number, bytearray()).extend(data)
            if self.consume:
                self.engine.consume(len(data))
            if value:
                self.ended.add(number)
                self.on_end(number)


@dataclass
class Network:
    """`delay_s` each way; chances of each fate for a datagram."""

    client: quic.Engine
    server: quic.Engine
    delay_s: float = 0.005
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    late: float = 3.0  # delays, by which what is reordered comes later
    corrupt: float = 0.0
    seed: int = 0
    bytes_per_s: float = math.inf
    queue_bytes: float = math.inf
    now: float = 1.0
    steps_max: int = 2_000_000
    dropped: Callable[[bytes], bool] = lambda datagram: False
    readers: dict[int, Reader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.order = itertools.count()
        self.flying: list[tuple[float, int, int, bytes]] = []
        self.free_at = [0.0, 0.0]
        self.ends = (self.client, self.server)
        self.readers = {n: Reader(end) for n, end in enumerate(self.ends)}

    def _post(self, to: int, datagram: bytes) -> None:
        start = max(self.now, self.free_at[to])
        if (start - self.now) * self.bytes_per_s > self.queue_bytes:
            return
        if self.dropped(datagram) or self.chance.random() < self.loss:
            return
        if self.chance.random() < self.corrupt:
            spoiled = bytearray(datagram)
            spoiled[self.chance.randrange(len(spoiled))] ^= 1 << self.chance.randrange(8)
            datagram = bytes(spoiled)
        self.free_at[to] = start + len(datagram) / self.bytes_per_s
        copies = 2 if self.chance.random() < self.duplicate else 1
        for _ in range(copies):
            late = self.delay_s * self.late if self.chance.random() < self.reorder else 0.0
            at = self.free_at[to] + self.delay_s + late
            heapq.heappush(self.flying, (at, next(self.order), to, datagram))

    def flush(self) -> None:
        for number, end in enumerate(self.ends):
            for datagram in end.datagrams(self.now):
                self._post(1 - number, datagram)

    def run(self, until: Callable[[], object], *, most_s: float = 600.0) -> None:
        """Lets time pass until the condition holds."""
        deadline = self.now + most_s
        for _ in range(self.steps_max):
            self.flush()
            if until():
                return
            timers = [end.timeout() for end in self.ends]
            next_at = min([*timers, self.flying[0][0] if self.flying else math.inf])
            assert next_at < deadline, f"stuck at {self.now}: {[e.stats() for e in self.ends]}"
            self.now = max(self.now, next_at)
            while self.flying and self.flying[0][0] <= self.now:
                _, _, to, datagram = heapq.heappop(self.flying)
                self.ends[to].receive(datagram, self.now)
                self.readers[to].take()
            for number, end in enumerate(self.ends):
                if end.timeout() <= self.now:
                    end.on_timeout(self.now)
                    self.readers[number].take()
        raise AssertionError("no end of it")

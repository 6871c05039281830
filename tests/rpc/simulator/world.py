"""Virtual time: the two ends, their applications, and the datagrams on the way.

`simulate(seed, pair)` runs a connection from the handshake to its last byte, with key updates and
changed connection ids in the middle, and raises `Broken` when a byte is wrong or missing, a
connection is lost, or something is still held at the end.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from . import network, streams
from .ends import End, first_id

END_S = 600.0  # of virtual time: retransmission doubles its waits, and some seeds lose one in eight
SETTLE_S = 30.0  # from the last byte until nothing may be held any more
VOLUME_BYTES = 300_000
TICK_S = 20e-6  # a timer takes so long to fire: time passes in every round
WAIT_S = 0.005  # between two looks at what an end can not do yet
TRIES_MAX = 2_000


class Broken(AssertionError):
    """A promise was not kept."""


# Of a seed: the client's end, and what makes the server's from the id that the client chose for it.
Pair = Callable[[int], tuple[End, Callable[[bytes], End]]]


@dataclass
class Report:
    updates: int = 0
    rotations: int = 0
    datagrams: int = 0
    streams: int = 0
    cut: int = 0
    took_s: float = 0.0


class _Client:
    """Opens and writes; reads the answers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.by_id: dict[int, streams.Plan] = {}

    def ready(self, now: float) -> None:
        for plan in self._world.plans:
            self._world.at(now + plan.opens_at, lambda now, plan=plan: self._open(plan, now))

    def _open(self, plan: streams.Plan, now: float) -> None:
        stream_id = self._world.client.open()
        if stream_id is None:
            self._world.at(now + WAIT_S, lambda now: self._open(plan, now))
            return
        self.by_id[stream_id] = plan
        self._world.write(self._world.client, stream_id, plan.request, now)

    def data(self, stream_id: int, data: bytes, end: bool, now: float) -> None:
        self._world.read(self._world.client, stream_id, self.by_id[stream_id].response, data, end)

    def reset(self, stream_id: int, error_code: int) -> None:
        _was_cut(self.by_id[stream_id].response, error_code)

    def stopped(self, stream_id: int, error_code: int) -> None:
        _was_cut(self.by_id[stream_id].request, error_code)

    def lost(self, reason: str) -> None:
        self._world.lost("client", reason)


class _Server:
    """Answers each stream, early or once it has come to its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._answered: set[int] = set()

    def ready(self, now: float) -> None:
        pass

    def _plan(self, stream_id: int) -> streams.Plan:
        plan = self._world.clients_application.by_id.get(stream_id)
        if plan is None:
            raise Broken(f"the server was told of stream {stream_id}, which nobody opened")
        return plan

    def data(self, stream_id: int, data: bytes, end: bool, now: float) -> None:
        plan = self._plan(stream_id)
        self._world.read(self._world.server, stream_id, plan.request, data, end)
        if plan.answers_early or plan.request.settled:
            self._answer(stream_id, plan, now)

    def _answer(self, stream_id: int, plan: streams.Plan, now: float) -> None:
        if stream_id not in self._answered:
            self._answered.add(stream_id)
            self._world.write(self._world.server, stream_id, plan.response, now)

    def reset(self, stream_id: int, error_code: int) -> None:
        plan = self._plan(stream_id)
        _was_cut(plan.request, error_code)
        self._answer(stream_id, plan, self._world.now)

    def stopped(self, stream_id: int, error_code: int) -> None:
        plan = self._plan(stream_id)
        _was_cut(plan.response, error_code)
        self._answered.add(stream_id)

    def lost(self, reason: str) -> None:
        self._world.lost("server", reason)


def _was_cut(direction: streams.Direction, error_code: int) -> None:
    # RFC 9000, 3.5: who is told to stop may answer with a reset that carries the code it was told.
    if direction.cut_at is None or error_code not in (streams.RESET_CODE, streams.STOP_CODE):
        raise Broken(f"cut with {error_code}, which nobody asked for")
    direction.cut = True


class World:
    """One run. `now` is its clock."""

    def __init__(
        self, seed: int, pair: Pair, *, weather: network.Weather, volume_bytes: int
    ) -> None:
        self._rng = Random(f"world {seed}")
        self._queue: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self.now = 0.0
        self.report = Report()
        self.plans = streams.of_seed(seed, volume_bytes)
        self.client, self._accept = pair(seed)
        self.clients_application = self.client.application = _Client(self)
        self._chosen_id: bytes | None = None
        self._server: End | None = None
        self._links = [network.Link(weather, Random(f"{side} {seed}")) for side in ("up", "down")]
        self._closing = False

    @property
    def server(self) -> End:
        assert self._server is not None
        return self._server

    def at(self, when: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), action))

    # The network

    def _flush(self, end: End) -> None:
        up = end is self.client
        for datagram in end.to_send(self.now):
            self.report.datagrams += 1
            if self._chosen_id is None:
                self._chosen_id = first_id(datagram)
            for when, arrived in self._links[not up].arrivals(datagram, self.now):
                self.at(when, lambda now, data=arrived: self._arrive(up, data))

    def _arrive(self, at_server: bool, datagram: bytes) -> None:
        if not at_server:
            self._deliver(self.client, datagram)
            return
        if self._server is None:
            # Others than the right id stand for damage here: a listener would let them time out.
            if self._chosen_id is None or first_id(datagram) != self._chosen_id:
                return
            self._server = self._accept(self._chosen_id)
            self._server.application = _Server(self)
        self._deliver(self._server, datagram)

    def _deliver(self, end: End, datagram: bytes) -> None:
        end.receive(datagram, self.now)
        self._flush(end)

    # What the applications do

    def write(self, end: End, stream_id: int, way: streams.Direction, now: float) -> None:
        if way.cut:
            return
        if way.cut_at is not None and not way.by_reader and way.written >= way.cut_at:
            way.cut = True
            end.reset(stream_id, streams.RESET_CODE)
        else:
            piece, last = way.chunk()
            end.write(stream_id, piece, last)
            if not last:
                self.at(
                    now + self._rng.random() * 0.01,
                    lambda now: self.write(end, stream_id, way, now),
                )
        self._flush(end)

    def read(
        self, end: End, stream_id: int, way: streams.Direction, data: bytes, last: bool
    ) -> None:
        if way.ended and (data or not last):
            raise Broken(f"stream {stream_id}: more after its end")
        way.received += data
        way.ended = way.ended or last
        if len(way.received) > len(way.content):
            raise Broken(f"stream {stream_id}: more than was sent")
        cuts = way.cut_at is not None and way.by_reader and not way.settled
        if cuts and len(way.received) >= (way.cut_at or 0):
            way.cut = True
            end.stop(stream_id, streams.STOP_CODE)

    def _trouble(self, step: Callable[[], bool], done: Callable[[], None]) -> None:
        """Does `step` once it can be done."""

        def tried(now: float, left: int = TRIES_MAX) -> None:
            if self._closing:
                return
            if step():
                done()
                for end in self._ends():
                    self._flush(end)
            elif left:
                self.at(now + WAIT_S, lambda now: tried(now, left - 1))

        self.at(self.now + self._rng.random() * 2.0, tried)

    def _plan_troubles(self) -> None:
        def updated() -> None:
            self.report.updates += 1

        def rotated() -> None:
            self.report.rotations += 1

        for _ in range(self._rng.choice([0, 1, 2, 5])):
            side = self._rng.randrange(2)
            self._trouble(
                lambda side=side: self._has(side) and self._end(side).update_keys(), updated
            )
        for _ in range(self._rng.choice([0, 1, 3])):
            side = self._rng.randrange(2)
            self._trouble(lambda side=side: self._has(side) and self._end(side).rotate(), rotated)

    def _has(self, side: int) -> bool:
        return side == 0 or self._server is not None

    def _end(self, side: int) -> End:
        return self.client if side == 0 else self.server

    def _ends(self) -> Sequence[End]:
        return (self.client,) if self._server is None else (self.client, self._server)

    # The run

    def run(self) -> Report:
        self._plan_troubles()
        self.client.connect(self.now)
        self._flush(self.client)
        self._until(self._all_settled, END_S, "streams")
        self.report.took_s = self.now
        for plan in self.plans:
            for name, way in (("request", plan.request), ("response", plan.response)):
                if wrong := streams.fault(way):
                    raise Broken(f"stream number {plan.number}, {name}: {wrong}")
                self.report.cut += way.cut
        self.report.streams = len(self.plans)
        self._until(self._nothing_held, self.now + SETTLE_S, "what is held")
        self._closing = True
        return self.report

    def _all_settled(self) -> bool:
        return all(plan.request.settled and plan.response.settled for plan in self.plans)

    def _nothing_held(self) -> bool:
        return not any(count for end in self._ends() for count in end.leftovers().values())

    def _until(self, condition: Callable[[], bool], end_at: float, what: str) -> None:
        while not condition():
            if not self._step(end_at):
                held = [end.leftovers() for end in self._ends()]
                left = [plan.number for plan in self.plans if not plan.response.settled]
                raise Broken(f"{what}: not done after {self.now:.1f} s; open {left}, held {held}")

    def _step(self, end_at: float) -> bool:
        """The next thing that happens; False if nothing does until `end_at`."""
        timers = [(at, end) for end in self._ends() if (at := end.timer()) is not None]
        at, end = min(timers, key=lambda timer: timer[0], default=(math.inf, None))
        if min(at, self._queue[0][0] if self._queue else math.inf) > end_at:
            return False
        if end is None or (self._queue and self._queue[0][0] <= at):
            when, _, action = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            action(self.now)
        else:
            self.now = max(self.now, at) + TICK_S
            end.fire(self.now)
            self._flush(end)
        return True

    def lost(self, side: str, reason: str) -> None:
        if not self._closing:
            raise Broken(f"the {side}'s connection was lost: {reason}")


def simulate(
    seed: int,
    pair: Pair,
    *,
    weather: network.Weather | None = None,
    volume_bytes: int = VOLUME_BYTES,
) -> Report:
    return World(
        seed, pair, weather=weather or network.of_seed(seed), volume_bytes=volume_bytes
    ).run()

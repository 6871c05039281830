"""Members in virtual time: a network that loses, delays and divides, from a seed.

A request and its reply are two messages, each of which may be lost; rpc repeats what QUIC loses,
so this network is worse than the one that the product has.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from predastore.base.limits import GOSSIP_PING_TIMEOUT_MS
from predastore.gossip.core import GossipCall, GossipCore
from predastore.gossip.messages import (
    Facts,
    GossipStatus,
    Ping,
    Pong,
    Record,
    Relay,
    Reply,
    Request,
)
from predastore.rpc.framing import encode_struct

TURN_S = 0.1


def facts(number: int, **changes: object) -> Facts:
    base = {"host": f"10.0.0.{number}", "port": 9991, "life": number}
    return Facts(**{**base, **changes})


@dataclass
class World:
    seed: int
    loss: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.02)
    now: float = 0.0
    members: dict[str, GossipCore] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    side: dict[str, int] = field(default_factory=dict)  # of a partition; 0 where it is not named
    lossy: dict[str, float] = field(default_factory=dict)  # members with a bad line of their own
    deaths: list[tuple[float, str, str]] = field(default_factory=list)  # when, who says so, of whom
    largest_bytes: int = 0
    messages: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # --- members ------------------------------------------------------------------------------

    def start(self, name: str, seeds: tuple[str, ...] = (), *, incarnation: int = 0) -> GossipCore:
        number = int(name.partition("/")[2])

        def heard(old: Record, new: Record) -> None:
            if new.status is GossipStatus.DEAD and old.status is not GossipStatus.DEAD:
                self.deaths.append((self.now, name, new.name))

        core = GossipCore(
            Record(
                name, incarnation or int(1000 * self.now) + 1, GossipStatus.ALIVE, facts(number)
            ),
            seeds,
            now=self.now,
            draw=random.Random(self.draw.random()),
            heard=heard,
        )
        self.members[name] = core
        self.at(self.draw.uniform(0, TURN_S), lambda: self._turn(name, core))
        return core

    def kill(self, name: str) -> None:
        del self.members[name]

    def leave(self, name: str) -> None:
        core = self.members[name]
        for call in core.leave():
            self._send(name, core, call)
        self.at(0.5, lambda: self.members.pop(name, None))

    def _turn(self, name: str, core: GossipCore) -> None:
        if self.members.get(name) is not core:
            return
        if name not in self.paused:
            for call in core.turn(self.now):
                self._send(name, core, call)
        self.at(TURN_S, lambda: self._turn(name, core))

    # --- messages -----------------------------------------------------------------------------

    def _arrives(self, one: str, other: str) -> bool:
        if self.side.get(one, 0) != self.side.get(other, 0):
            return False
        loss = max(self.loss, self.lossy.get(one, 0.0), self.lossy.get(other, 0.0))
        return self.draw.random() >= loss

    def _carry(self, one: str, other: str, message: object, deliver: Callable[[], None]) -> None:
        size = len(encode_struct(message))  # type as the wire has it
        self.largest_bytes = max(self.largest_bytes, size)
        self.messages += 1
        if self._arrives(one, other):
            self.at(self.draw.uniform(*self.delay_s), lambda: self._deliver(other, deliver))

    def _deliver(self, name: str, deliver: Callable[[], None]) -> None:
        if name in self.paused:  # it waits in the socket
            self.at(TURN_S, lambda: self._deliver(name, deliver))
        elif name in self.members:
            deliver()

    def _call(
        self,
        one: str,
        other: str,
        request: Request,
        timeout_ms: int,
        done: Callable[[Reply | None], None],
    ) -> None:
        """`done` is called once: with the reply, or with None at the deadline."""
        open_: list[bool] = [True]

        def finish(reply: Reply | None) -> None:
            if open_:
                open_.clear()
                done(reply)

        def answer(reply: Reply) -> None:
            self._carry(other, one, reply, lambda: finish(reply))

        def expire() -> None:
            self._deliver(one, lambda: finish(None))

        self._carry(one, other, request, lambda: self._handle(other, request, answer))
        self.at(timeout_ms / 1000, expire)

    def _handle(self, name: str, request: Request, answer: Callable[[Reply], None]) -> None:
        core = self.members[name]
        if not isinstance(request, Relay):
            answer(core.received(request, self.now))
            return
        ping = core.relay(request, self.now)
        if ping is None:
            answer(core.relayed(None, self.now))
            return

        def done(reply: Reply | None) -> None:
            assert reply is None or isinstance(reply, Pong)
            answer(core.relayed(reply, self.now))

        self._call(name, request.target, ping, GOSSIP_PING_TIMEOUT_MS, done)

    def _send(self, name: str, core: GossipCore, call: GossipCall) -> None:
        def done(reply: Reply | None) -> None:
            if self.members.get(name) is not core:
                return
            if reply is None:
                calls = core.failed(call, self.now)
            else:
                calls = core.answered(call, reply, self.now)
            for further in calls:
                self._send(name, core, further)

        assert isinstance(call.request, Ping) or call.to != name
        self._call(name, call.to, call.request, call.timeout_ms, done)

    # --- time ---------------------------------------------------------------------------------

    def at(self, in_s: float, action: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + in_s, self._count, action))

    def run(self, for_s: float, until: Callable[[], bool] = lambda: False) -> float:
        """Goes on for a time, or until a condition holds; how long it took."""
        began, end = self.now, self.now + for_s
        checked = self.now
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
            if self.now - checked >= TURN_S:
                checked = self.now
                if until():
                    return self.now - began
        self.now = end
        return for_s

    # --- looking ------------------------------------------------------------------------------

    def here(self, name: str) -> set[str]:
        """Who is here, as `name` sees it."""
        return {record.name for record in self.members[name].roster.all() if record.is_here}

    def agree(self) -> bool:
        """Whether everybody sees exactly those that run, alive, with their newest facts."""
        newest = {name: core.roster.own for name, core in self.members.items()}
        return all(
            {one.name: one for one in core.roster.all() if one.is_here} == newest
            for core in self.members.values()
        )


def cluster(count: int, seed: int, **settings: object) -> World:
    """Members that know the first one only, and have found each other."""
    world = World(seed, **settings)
    world.start("node/1")
    for number in range(2, count + 1):
        world.start(f"node/{number}", ("node/1",))
    world.run(120, world.agree)
    assert world.agree(), f"seed {seed}: they have not found each other within 120 s"
    return world

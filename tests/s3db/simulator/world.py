"""A cluster in virtual time: events in a queue, one seed, the same run each time.

Members are the real core, driver and journal, on a `SimDisk`; only threads, clock, network and
state machine are made up. `run` lets a nemesis loose on the cluster, then heals everything and
checks: what clients saw is linearizable, all members end with the same state, work goes on.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from predastore.errors import PredastoreError
from predastore.s3db.raft.core import Core
from predastore.s3db.raft.driver import Driver
from predastore.s3db.raft.messages import Entry, Message

from .checker import Operation, first_violation


class Violation(AssertionError):
    """The cluster did what no correct one does."""


@dataclass(frozen=True)
class Scenario:
    members: int = 3
    clients: int = 4
    duration_s: float = 8.0
    core: type[Core] = Core
    driver: type[Driver] = Driver


@dataclass
class Network:
    """Every message may be lost, delayed, doubled; links are cut in one direction each."""

    rng: random.Random
    loss: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    cut: set[tuple[int, int]] = field(default_factory=set)

    def delays(self, source: int, target: int) -> list[float]:
        """When copies of a message arrive, from now."""
        if (source, target) in self.cut or self.rng.random() < self.loss:
            return []
        copies = 2 if self.rng.random() < self.doubled else 1
        return [self._delay() for _ in range(copies)]

    def _delay(self) -> float:
        if self.rng.random() < self.slow:
            return self.rng.uniform(0.05, 1.5)
        return self.rng.uniform(0.0005, 0.005)


class World:
    def __init__(self, seed: int, scenario: Scenario) -> None:
        from .clients import Client
        from .member import SimMember
        from .nemesis import Nemesis

        self.seed = seed
        self.scenario = scenario
        self.rng = random.Random(seed)
        self.now = 0.0
        self.network = Network(self.rng)
        self.history: list[Operation] = []
        self.applied: dict[int, Entry] = {}  # what any member ever applied at an index
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.members = {i: SimMember(self, i) for i in range(1, scenario.members + 1)}
        for member in self.members.values():
            member.start()
        self.clients = [Client(self, i) for i in range(scenario.clients)]
        self.nemesis = Nemesis(self)

    # --- events -------------------------------------------------------------------------------

    def at(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), event))

    def run_until(self, end: float, stop: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
            if stop():
                return
        self.now = max(self.now, end)

    def send(self, message: Message) -> None:
        target = self.members[message.target]
        for delay in self.network.delays(message.source, message.target):
            self.at(delay, lambda: target.receive(message))

    # --- invariants ---------------------------------------------------------------------------

    def note_applied(self, member: int, entry: Entry) -> None:
        """State machine safety (Raft figure 3.2): one entry for an index, everywhere, for ever."""
        known = self.applied.setdefault(entry.index, entry)
        if known != entry:
            raise Violation(f"member {member} applied {entry}; another applied {known}")

    # --- a run --------------------------------------------------------------------------------

    def run(self) -> None:
        """Raises Violation."""
        try:
            for client in self.clients:
                client.begin()
            self.nemesis.begin()
            self.run_until(self.scenario.duration_s)
            self.nemesis.heal()
            self._settle()
        except PredastoreError as error:
            raise Violation(f"a member stopped: {error}") from error
        key = first_violation(self.history)
        if key is not None:
            raise Violation(f"the history of key {key!r} is not linearizable")

    def _settle(self) -> None:
        """With all faults gone, every client gets work done, and the members agree."""
        for client in self.clients:
            client.finish()
        self.run_until(self.now + 30, stop=lambda: all(c.is_finished for c in self.clients))
        if not all(client.is_finished for client in self.clients):
            raise Violation("30 s after all faults were healed, clients still wait")
        self.run_until(self.now + 3)
        states = {(m.machine.applied_index, m.machine.digest()) for m in self.members.values()}
        if len(states) != 1:
            raise Violation(f"the members end with different states: {states}")


def simulate(seed: int, scenario: Scenario) -> World:
    """One run; Violation names what went wrong."""
    world = World(seed, scenario)
    world.run()
    return world

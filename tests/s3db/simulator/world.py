"""A cluster in virtual time: events in a queue, one seed, the same run each time.

Members are the real core, driver and journal, on a `SimDisk`; only threads, clock, network and
state machine are made up. `run` lets a nemesis loose on the cluster, then heals everything and
checks: what clients saw is linearizable, all members end with the same state, work goes on.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from catalog.projection import check_invariants
from predastore.base.errors import PredastoreError
from predastore.base.limits import CLOCK_SLEW_PPM
from predastore.s3db.clock import ClusterTime, Tick
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.driver import Driver
from predastore.s3db.raft.messages import Entry, Message, VoteReply
from predastore.s3db.raft.state import RaftBounds, Timing

from .checker import Operation, Violation, first_violation

PRODUCT_TIMING = Timing()
PRODUCT_BOUNDS = RaftBounds()
SMALL = RaftBounds(append_entries=2, in_flight_count=3, apply_entries=4)


@dataclass(frozen=True)
class Scenario:
    """`delay_s`: of most messages; `sync_s`: of a slow sync; `strike_s`: between two acts of the
    nemesis, whose `weights` may be changed by name; `slow`: share of messages that come late."""

    members: int = 3
    clients: int = 4
    duration_s: float = 6.0
    delay_s: tuple[float, float] = (0.0005, 0.005)
    sync_s: float = 0.002
    strike_s: tuple[float, float] = (0.02, 0.7)
    slow: float = 0.0
    doubled: float = 0.0
    loss: float = 0.0
    blink_voters: float = 0.0  # how often a member loses power once its vote is on its way
    fell_leaders: float = 0.0  # how often a leader does once it has applied something
    promotes: bool = False  # leaders let learners vote as soon as they may
    forgetful: bool = False  # a fault: who has lost its disk comes back as the voter it was
    remembers: bool = True  # without, a fault: a request that is sent again is applied again
    keeps_answers: bool = True  # without, a fault: a procedure's answer is not remembered
    upgrades: bool = False  # members have programs of two levels, which change at their restarts
    catalogs: int = 0  # clients that call procedures of the product's catalog
    ticks: bool = False  # the leader proposes ticks of cluster time, and clocks are set
    believes_clocks: bool = False  # a fault: cluster time follows the leader's wall clock
    passes_over: bool = False  # a fault: what a program does not know is passed over
    hasty: bool = False  # a fault: what not every member can do is proposed
    careless: bool = False  # a fault: the journal is cut behind what no disk holds yet
    weights: Mapping[str, int] = field(default_factory=dict)
    timing: Timing = PRODUCT_TIMING
    bounds: RaftBounds = PRODUCT_BOUNDS
    core: type[RaftCore] = RaftCore
    driver: type[Driver] = Driver


# Elections all the time: timeouts hardly longer than the network is slow.
STORMY: Mapping[str, Any] = {
    "duration_s": 5.0,
    "delay_s": (0.001, 0.06),
    "strike_s": (0.01, 0.3),
    "timing": Timing(heartbeat_s=0.04, election_s=0.12),
    "bounds": SMALL,
}

# Slow disks that lose power, one by one and all together.
POWER_CUTS: Mapping[str, Any] = {
    "sync_s": 0.04,
    "strike_s": (0.05, 0.7),
    "timing": Timing(heartbeat_s=0.04, election_s=0.12),
    "weights": {"crash_one": 8, "crash_all": 8, "slow_disk": 0, "bad_network": 0, "pause_one": 0},
}

# Leaders come and go, and what was said long ago arrives late and twice.
ECHOES: Mapping[str, Any] = {
    "duration_s": 5.0,
    "slow": 0.25,
    "doubled": 0.5,
    "strike_s": (0.01, 0.3),
    "timing": Timing(heartbeat_s=0.04, election_s=0.1),
    "bounds": SMALL,
    "weights": {"hand_over": 8, "isolate_leader": 8, "bad_network": 0, "crash_all": 0},
}

# Disks are lost for good, one at a time; their members come back empty.
LOST_DISKS: Mapping[str, Any] = {
    "strike_s": (0.05, 0.5),
    "timing": Timing(heartbeat_s=0.04, election_s=0.12),
    "promotes": True,
    "weights": {"lose_disk": 10, "change_members": 0, "mend": 8},
}

PROFILES: tuple[Mapping[str, Any], ...] = ({}, STORMY, POWER_CUTS, ECHOES, LOST_DISKS)


def of_seed(seed: int, **options: Any) -> Scenario:
    """The profiles in turn, with three members or five, every other one with upgrades."""
    profile = PROFILES[seed % len(PROFILES)]
    drawn = {
        "members": 5 if seed % 3 == 0 else 3,
        "upgrades": seed % 2 == 1,
        "ticks": True,
        "catalogs": 2,
    }
    return Scenario(**{**drawn, **profile, **options})


@dataclass
class Network:
    """Every message may be lost, delayed, doubled; links are cut in one direction each."""

    rng: random.Random
    delay_s: tuple[float, float]
    loss: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    cut: set[tuple[int, int]] = field(default_factory=set)

    def is_open(self, one: int, other: int) -> bool:
        return (one, other) not in self.cut and (other, one) not in self.cut

    def delays(self, source: int, target: int) -> list[float]:
        """When copies of a message arrive, from now."""
        if (source, target) in self.cut or self.rng.random() < self.loss:
            return []
        copies = 2 if self.rng.random() < self.doubled else 1
        return [self._delay() for _ in range(copies)]

    def _delay(self) -> float:
        if self.rng.random() < self.slow:
            return self.rng.uniform(0.05, 2.0)
        return self.rng.uniform(*self.delay_s)


class World:
    def __init__(self, seed: int, scenario: Scenario) -> None:
        from .catalog import CatalogClient
        from .clients import Client
        from .member import SimMember
        from .nemesis import Nemesis

        self.seed = seed
        self.scenario = scenario
        self.rng = random.Random(seed)
        self.now = 0.0
        self.network = Network(
            self.rng, scenario.delay_s, scenario.loss, scenario.doubled, scenario.slow
        )
        self.history: list[Operation] = []
        self.membership_changes = 0
        self.applied: dict[int, Entry] = {}  # what any member ever applied at an index
        self.found: dict[int, int | None] = {}  # what was found then
        self.proposed_ticks: dict[Tick, float] = {}  # when a tick was first proposed
        self._epochs: dict[int, tuple[float, int]] = {}  # what began it, and with which time
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.members = {i: SimMember(self, i) for i in range(1, scenario.members + 1)}
        for member in self.members.values():
            member.start()
        self.clients: list[Client | CatalogClient] = [
            *(Client(self, i) for i in range(scenario.clients)),
            *(CatalogClient(self, scenario.clients + i) for i in range(scenario.catalogs)),
        ]
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
        if isinstance(message, VoteReply) and message.granted and self._by_chance("blink_voters"):
            self.at(0, partial(self.nemesis.blink, self.members[message.source]))
        source, target = self.members[message.source], self.members[message.target]
        disks_lost = source.disks_lost

        def arrive() -> None:
            if source.disks_lost == disks_lost:  # else its connections are gone as well
                target.receive(message)

        for delay in self.network.delays(message.source, message.target):
            self.at(delay, arrive)

    def _by_chance(self, what: str) -> bool:
        share: float = getattr(self.scenario, what)
        return share > 0 and self.nemesis.is_active and self.rng.random() < share

    # --- invariants ---------------------------------------------------------------------------

    def note_applied(self, member: int, entry: Entry) -> None:
        """State machine safety (Raft figure 3.2): one entry for an index, everywhere, for ever."""
        known = self.applied.setdefault(entry.index, entry)
        if known != entry:
            raise Violation(f"member {member} applied {entry}; another applied {known}")
        victim = self.members[member]
        if victim.core.leadership is not None and self._by_chance("fell_leaders"):
            self.at(0, partial(self.nemesis.blink, victim))

    def note_found(self, member: int, index: int, found: int | None) -> None:
        """A command has the same answer on every member."""
        known = self.found.setdefault(index, found)
        if known != found:
            raise Violation(f"member {member} found {found} at {index}; another found {known}")

    def note_tick(self, tick: Tick) -> None:
        self.proposed_ticks.setdefault(tick, self.now)

    def note_time(self, before: ClusterTime, after: ClusterTime) -> None:
        """Cluster time does not go back, nor run ahead of true time (clock.py)."""
        if before == after:
            return
        if after.epoch not in self._epochs:
            ticks = [
                at for tick, at in self.proposed_ticks.items() if tick.time_ms == after.time_ms
            ]
            self._epochs[after.epoch] = min(ticks), after.time_ms
        if before.epoch == after.epoch and after.time_ms < before.time_ms:
            raise Violation(f"cluster time went back from {before} to {after}")
        begun, first_ms = self._epochs[after.epoch]
        passed_ms = (self.now - begun) * 1000
        if after.time_ms - first_ms > passed_ms * (1 + CLOCK_SLEW_PPM / 1e6) + 1:
            raise Violation(f"cluster time ran ahead: {first_ms} at {begun}, {after} at {self.now}")

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
            raise Violation(f"the history of {key or 'all keys'!r} is not linearizable")

    def _settle(self) -> None:
        """With all faults gone, every client gets work done, and the members agree."""
        for client in self.clients:
            client.finish()
        self.run_until(self.now + 30, stop=lambda: all(c.is_finished for c in self.clients))
        if not all(client.is_finished for client in self.clients):
            raise Violation("30 s after all faults were healed, clients still wait")
        self.run_until(self.now + 3)
        leader = max(
            self.members.values(), key=lambda m: (m.core.leadership is not None, m.core.term)
        )
        members = [self.members[i] for i in leader.core.membership.current.members()]
        states = {(m.machine.applied_index, m.machine.digest()) for m in members}
        if len(states) != 1:
            raise Violation(f"the members end with different states: {states}")
        check_invariants(members[0].machine.catalog.tables)


def simulate(seed: int, scenario: Scenario) -> World:
    """One run; Violation names what went wrong."""
    world = World(seed, scenario)
    world.run()
    return world

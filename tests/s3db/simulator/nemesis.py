"""What goes wrong, and when: faults with names, from the seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from predastore.base.errors import LevelTooLow, NoLeader, Overloaded
from predastore.s3db import clock, levels
from predastore.s3db.raft.membership import MemberChange

from .procedures import NEWEST, PROGRAMS

if TYPE_CHECKING:
    from .member import SimMember
    from .world import World


class Nemesis:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.is_active = False
        acts: list[tuple[int, Callable[[], None]]] = [
            (4, self.crash_one),
            (1, self.blink),
            (1, self.crash_all),
            (3, self.partition),
            (3, self.cut_one_way),
            (3, self.isolate_leader),
            (3, self.pause_one),
            (2, self.slow_disk),
            (2, self.jump_clock),
            (2, self.bad_network),
            (4, self.cut_logs),
            (2, self.hand_over),
            (3, self.change_members),
            (4, self.mend),
            (0, self.lose_disk),
            (4 if world.scenario.upgrades else 0, self.change_program),
            (3 if world.scenario.ticks else 0, self.set_clock),
            (1 if world.scenario.ticks else 0, self.set_time),
        ]
        changed = world.scenario.weights
        self._acts = [act for _, act in acts]
        self._weights = [changed.get(act.__name__, weight) for weight, act in acts]

    def begin(self) -> None:
        self.is_active = True
        # Some runs have a network that is bad all the time.
        if not self.world.scenario.slow and self.rng.random() < 0.5:
            self.bad_network()
        self.world.at(1.2, self._strike)

    def _strike(self) -> None:
        if not self.is_active:
            return
        self.rng.choices(self._acts, self._weights)[0]()
        self.world.at(self.rng.uniform(*self.world.scenario.strike_s), self._strike)

    def heal(self) -> None:
        self.is_active = False
        self.mend()
        network = self.world.network
        network.loss = network.doubled = network.slow = 0.0
        for member in self.world.members.values():
            member.paused_until = 0.0
            member.sync_s = 0.002
            if member.level != NEWEST:
                self._install(member, NEWEST)
            member.restart()

    def change_program(self) -> None:
        """A member is started again with another program; mostly a newer one."""
        victim = self._any()
        level = self.rng.choice(list(PROGRAMS))
        if level < victim.level and self.rng.random() < 0.5:
            return
        self._install(victim, level)
        self.world.at(self.rng.choice([0.01, 0.3]) * self.rng.random(), victim.restart)

    def _install(self, victim: SimMember, level: int) -> None:
        if victim.is_up:
            victim.crash()
        victim.went_back = victim.went_back or level < victim.level
        victim.level = level

    def _any(self) -> SimMember:
        return self.rng.choice(list(self.world.members.values()))

    def leader(self) -> SimMember | None:
        led = [m for m in self.world.members.values() if m.is_up and m.core.leadership]
        return max(led, key=lambda member: member.core.term, default=None)

    def crash_one(self) -> None:
        victim = (self.leader() if self.rng.random() < 0.6 else None) or self._any()
        if victim.is_up:
            victim.crash()
            self.world.at(self.rng.choice([0.01, 0.1, 1.0]) * self.rng.random(), victim.restart)

    def blink(self, victim: SimMember | None = None) -> None:
        """Lose power, and be back at once, perhaps before the message that is on its way."""
        victim = victim or self._any()
        if victim.is_up:
            victim.crash()
            self.world.at(self.rng.uniform(0.001, 0.02), victim.restart)

    def crash_all(self) -> None:
        for victim in self.world.members.values():
            if victim.is_up:
                victim.crash()
                self.world.at(self.rng.uniform(0.01, 0.5), victim.restart)

    def lose_disk(self) -> None:
        """Of one member at a time: while all vote, and know that they do."""
        leader, ids = self.leader(), set(self.world.members)
        if leader is None or leader.core.membership.index > leader.core.commit:
            return
        if ids == set(leader.core.membership.current.voters) and all(
            member.is_formed for member in self.world.members.values()
        ):
            victim = self._any()
            victim.lose_disk()
            self.world.at(self.rng.uniform(0.0, 0.3), victim.restart)

    def partition(self) -> None:
        ids = list(self.world.members)
        self.rng.shuffle(ids)
        split = self.rng.randrange(1, len(ids))
        left, right = ids[:split], ids[split:]
        self.world.network.cut = {(a, b) for a in left for b in right}
        self.world.network.cut |= {(b, a) for a, b in self.world.network.cut}

    def cut_one_way(self) -> None:
        a, b = self.rng.sample(list(self.world.members), 2)
        self.world.network.cut.add((a, b))

    def isolate_leader(self) -> None:
        leader = self.leader()
        if leader is not None:
            others = [member for member in self.world.members if member != leader.id]
            self.world.network.cut = {(leader.id, other) for other in others}
            self.world.network.cut |= {(other, leader.id) for other in others}

    def pause_one(self) -> None:
        """SIGSTOP, and later SIGCONT."""
        victim = (self.leader() if self.rng.random() < 0.5 else None) or self._any()
        victim.paused_until = self.world.now + self.rng.uniform(0.2, 2.0)

    def slow_disk(self) -> None:
        victim = self._any()
        victim.sync_s = self.rng.choice([0.002, 0.02, 0.2])

    def jump_clock(self) -> None:
        """Forward, as that of a machine that slept; a monotonic clock knows no other way."""
        self._any().clock_ahead_s += self.rng.choice([0.05, 0.3, 1.0, 60.0])

    def set_clock(self) -> None:
        """The wall clock of one, near and far, forth and back."""
        away_ms = self.rng.choice([10, 5_000, 500_000, 10**8]) * self.rng.choice([1, 1, -1])
        self._any().wall_ahead_ms = away_ms

    def set_time(self) -> None:
        """An operator sets cluster time."""
        leader = self.leader()
        if leader is not None:
            leader.propose_tick(clock.SET)

    def bad_network(self) -> None:
        network = self.world.network
        network.loss = self.rng.choice([0.0, 0.02, 0.2])
        network.doubled = self.rng.choice([0.0, 0.1, 0.5])
        network.slow = self.rng.choice([0.0, 0.02, 0.2])

    def cut_logs(self) -> None:
        for member in self.world.members.values():
            if member.is_up and self.rng.random() < 0.5:
                member.cut_log()

    def hand_over(self) -> None:
        leader = self.leader()
        if leader is not None:
            leader.core.transfer()
            leader.later(0, leader._turn)

    def change_members(self) -> None:
        """Somebody leaves, comes back as a learner, or may vote again; or the leader refuses."""
        leader = self.leader()
        if leader is None:
            return
        member = self._any().id
        configuration = leader.core.membership.current
        if member in configuration.learners:
            change = MemberChange.PROMOTE
        elif member not in configuration.voters:
            change = MemberChange.ADD_LEARNER
        elif len(configuration.voters) > 2:
            change = MemberChange.REMOVE
        else:
            return
        joining = self.world.members[member].address if self.world.scenario.upgrades else None
        with suppress(Overloaded, NoLeader, LevelTooLow):
            if change is MemberChange.ADD_LEARNER:
                levels.check_member(member, joining, leader.level_used)
                leader.core.change_membership(change, member, joining)
            else:
                leader.core.change_membership(change, member)
            self.world.membership_changes += 1
        leader.later(0, leader._turn)

    def mend(self) -> None:
        self.world.network.cut = set()

"""Cluster time: whatever clocks, restarts and leaders do, it neither runs ahead nor goes back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from predastore.base.errors import FormatError
from predastore.base.limits import (
    CLOCK_SLEW_MS_MAX,
    CLOCK_SLEW_PPM,
    CLOCK_TICK_MS,
    CLOCK_WARN_MS_MAX,
    CLOCK_WARN_MS_MIN,
    MIB,
)
from predastore.s3db import clock, commands
from predastore.s3db.clock import (
    SET,
    TICK,
    ClusterClock,
    ClusterTime,
    Moment,
    Tick,
    TimeSet,
    Warnings,
)
from predastore.s3db.commands import Applied
from predastore.s3db.procedures import Procedure, Procedures, Question
from predastore.s3db.store import Store

GOLDEN = Path(__file__).parent.parent / "formats" / "s3db_time_v1.hex"
NOON = 1_790_000_000_000
MINUTE = 60_000
FASTEST = 1 + CLOCK_SLEW_PPM / 1e6


def at(boot_ms: int, boot: bytes = b"A") -> Moment:
    return Moment(boot, boot_ms)


def ticked(before: ClusterTime, tick: Tick) -> ClusterTime:
    return clock.called(TICK, before, clock.pack(tick))[0]


# --- what is applied --------------------------------------------------------------------------


def test_the_bytes_of_time_and_ticks_are_pinned() -> None:
    time, tick = ClusterTime(NOON, 3, at(77)), Tick(3, NOON + 5, at(82, b"boot id"))
    packed, call = (bytes.fromhex(line) for line in GOLDEN.read_text().split())
    assert time.pack() == packed
    assert clock.unpack(packed) == time
    assert clock.pack(tick) == call
    assert ticked(time, tick) == ClusterTime(NOON + 5, 3, tick.at)
    assert clock.unpack(b"") == ClusterTime()


def test_a_tick_moves_time_on_and_never_back() -> None:
    now = ticked(ClusterTime(), Tick(0, NOON, at(1)))
    assert (now.time_ms, now.epoch) == (NOON, 1)
    later = ticked(now, Tick(1, NOON + 10, at(11)))
    assert (later.time_ms, later.at) == (NOON + 10, at(11))
    for stale in (NOON + 9, NOON + 10):
        assert ticked(later, Tick(1, stale, at(99))) is later


def test_there_is_one_first_tick() -> None:
    """Two leaders may each have proposed one, of which the second has a clock that is wrong."""
    now = ticked(ClusterTime(), Tick(0, NOON, at(1)))
    assert ticked(now, Tick(0, NOON + 999 * MINUTE, at(2, b"B"))) is now


def test_setting_moves_time_either_way_and_voids_the_ticks_before() -> None:
    before = ClusterTime(NOON, 1, at(10))
    for time_ms in (NOON + MINUTE, NOON - MINUTE):
        after, answer = clock.called(SET, before, clock.pack(Tick(1, time_ms, at(20))))
        assert after == ClusterTime(time_ms, 2, at(20))
        assert clock.unpack_set(answer) == TimeSet(NOON, time_ms)
        assert ticked(after, Tick(1, NOON + 999 * MINUTE, at(30))) is after
        assert ticked(after, Tick(2, time_ms + 1, at(30))).time_ms == time_ms + 1


def test_what_is_no_tick_is_an_error() -> None:
    for junk in (b"", b"junk", clock.pack(Tick(1, NOON, at(1))) + b"\0"):
        with pytest.raises(FormatError):
            clock.called(TICK, ClusterTime(), junk)


# --- what a member counts ---------------------------------------------------------------------


def test_a_leader_goes_on_from_its_own_tick_without_a_loss() -> None:
    time = ClusterTime(NOON, 1, at(1_000))
    kept = ClusterClock(ClusterTime(), at(0))
    kept.observe(time, at(1_700))  # applied late, as a full disk may have it
    assert kept.time_ms(at(11_000)) == NOON + 10_000
    assert kept.tick(at(11_000), NOON + 10_000) == Tick(1, NOON + 10_000, at(11_000))


def test_who_did_not_make_the_tick_counts_from_its_applying() -> None:
    kept = ClusterClock(ClusterTime(), at(0, b"B"))
    kept.observe(ClusterTime(NOON, 1, at(1_000)), at(500, b"B"))
    assert kept.time_ms(at(10_501, b"B")) == NOON + 10_000
    kept.observe(ClusterTime(NOON, 1, at(1_000)), at(9_000, b"B"))  # other entries were applied
    assert kept.time_ms(at(10_501, b"B")) == NOON + 10_000
    unknown = ClusterClock(ClusterTime(NOON, 1, at(1_000, b"")), at(500, b""))
    assert unknown.time_ms(at(10_501, b"")) == NOON + 10_000


def test_a_restart_in_the_same_boot_loses_nothing_and_one_in_another_the_time_between() -> None:
    time = ClusterTime(NOON, 1, at(1_000))
    assert ClusterClock(time, at(90_000)).time_ms(at(90_000)) == NOON + 89_000
    assert ClusterClock(time, at(90_000, b"B")).time_ms(at(90_000, b"B")) == NOON
    assert ClusterClock(time, at(400)).time_ms(at(400)) == NOON  # no clock of a boot goes back


@pytest.mark.parametrize("away_ms", [1, 3, 40, MINUTE, CLOCK_SLEW_MS_MAX])
def test_a_wall_clock_that_is_near_is_approached_slowly(away_ms: int) -> None:
    kept = ClusterClock(ClusterTime(NOON, 1, at(0)), at(0))
    most = CLOCK_TICK_MS * CLOCK_SLEW_PPM // 1_000_000
    there = NOON + CLOCK_TICK_MS
    assert most == 5
    for sign in (1, -1):
        found = kept.tick(at(CLOCK_TICK_MS), there + sign * away_ms).time_ms
        assert found == there + sign * min(away_ms, most)


@pytest.mark.parametrize("away_ms", [CLOCK_SLEW_MS_MAX + 1, 30 * 24 * 60 * MINUTE])
def test_a_wall_clock_that_is_far_counts_for_nothing(away_ms: int) -> None:
    kept = ClusterClock(ClusterTime(NOON, 1, at(0)), at(0))
    for wall_ms in (NOON + CLOCK_TICK_MS + away_ms, NOON + CLOCK_TICK_MS - away_ms):
        assert kept.tick(at(CLOCK_TICK_MS), wall_ms).time_ms == NOON + CLOCK_TICK_MS
        assert not clock.is_near(kept.difference_ms(at(CLOCK_TICK_MS), wall_ms))


def test_the_next_tick_is_due_after_the_last_and_the_first_at_once() -> None:
    kept = ClusterClock(ClusterTime(), at(0))
    assert kept.due_in_ms(at(5)) == 0
    kept.observe(ClusterTime(NOON, 1, at(100)), at(100))
    assert kept.due_in_ms(at(100)) == CLOCK_TICK_MS
    assert kept.due_in_ms(at(100 + CLOCK_TICK_MS)) == 0
    assert kept.due_in_ms(at(99_999_999)) == 0


def test_warnings_come_at_once_and_then_ever_more_rarely() -> None:
    warnings, far = Warnings(), CLOCK_SLEW_MS_MAX + 1
    said = [n for n in range(0, 40 * 24 * 60) if warnings.is_due(far, at(n * MINUTE))]
    pauses = [second - first for first, second in pairwise(said)]
    assert said[0] == 0
    assert pauses[:3] == [CLOCK_WARN_MS_MIN // MINUTE * (1 << n) for n in range(3)]
    assert set(pauses[12:]) == {CLOCK_WARN_MS_MAX // MINUTE}
    assert not warnings.is_due(0, at(99 * 24 * 60 * MINUTE))
    assert warnings.is_due(-far, at(99 * 24 * 60 * MINUTE + 1))
    assert "behind" in clock.warning(-far)
    assert "set-time --confirm" in clock.warning(far)


def test_this_machine_has_a_boot_whose_clock_runs() -> None:
    clocks = clock.system()
    assert clocks.boot == clock.system().boot
    assert clocks.boot_ms() <= clocks.now().boot_ms
    assert abs(clocks.wall_ms() - NOON) < 100 * 365 * 24 * 60 * MINUTE


# --- any cluster ------------------------------------------------------------------------------


@dataclass
class Host:
    """A member's machine: its boot's clock runs truly, from where it likes, its wall clock does
    what it likes."""

    name: int
    rng: random.Random
    boots: int = 0
    offset_ms: float = 0.0
    wall_ahead_ms: float = 0.0
    applied: int = 0  # how many entries of the log
    state: ClusterTime = field(default_factory=ClusterTime)
    clock: ClusterClock | None = None

    def moment(self, true_ms: float) -> Moment:
        return Moment(b"%d/%d" % (self.name, self.boots), int(true_ms + self.offset_ms))

    def restart(self, true_ms: float, *, reboots: bool, keeps: int, log: list[Tick]) -> None:
        """`keeps`: of the entries; those after them are applied again, from the log."""
        if reboots:
            self.boots += 1
            self.offset_ms = self.rng.uniform(0, 1e9) - true_ms
        self.state, self.applied = ClusterTime(), keeps
        for tick in log[:keeps]:
            self.state = ticked(self.state, tick)
        self.clock = ClusterClock(self.state, self.moment(true_ms))

    def catch_up(self, true_ms: float, log: list[Tick], count: int) -> None:
        for tick in log[self.applied : self.applied + count]:
            self.state = ticked(self.state, tick)
            self.applied += 1
        assert self.clock is not None
        self.clock.observe(self.state, self.moment(true_ms))


class Cluster:
    """Three hosts and a log of ticks. Any host proposes at any time; ticks are lost, late, repeated
    and out of order; the log is applied as late as you like, and again after a restart."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.true_ms = self.rng.uniform(0, 1e6)
        self.hosts = [Host(n, self.rng) for n in range(3)]
        self.log: list[Tick] = []
        self.time = ClusterTime()
        self.begun: tuple[float, int] | None = None
        self._on_their_way: list[Tick] = []
        self._proposed_ms: dict[tuple[Moment, int], float] = {}
        for host in self.hosts:
            host.restart(self.true_ms, reboots=True, keeps=0, log=self.log)

    def act(self) -> None:
        rng, host = self.rng, self.rng.choice(self.hosts)
        match rng.choices(range(6), (4, 6, 3, 4, 2, 1))[0]:
            case 0:
                self.true_ms += rng.choice((1, 10, 1_000, 60_000, 1e8)) * rng.random()
            case 1:
                self.propose(host)
                if rng.random() < 0.7:
                    self.deliver(len(self._on_their_way) - 1)
            case 2:
                if self._on_their_way:
                    self.deliver(rng.randrange(len(self._on_their_way)))
            case 3:
                host.catch_up(self.true_ms, self.log, rng.choice((1, 1_000)))
            case 4:
                host.wall_ahead_ms = rng.choice((10, 5_000, 600_000, 700_000, 1e11))
                host.wall_ahead_ms *= rng.choice((1, 1, -1))
            case 5:
                keeps = rng.randrange(host.applied + 1)
                is_reboot = rng.random() < 0.5
                host.restart(self.true_ms, reboots=is_reboot, keeps=keeps, log=self.log)

    def propose(self, host: Host) -> None:
        """And compare with the tick that the proposer goes on from."""
        assert host.clock is not None
        now, wall_ms = host.moment(self.true_ms), int(NOON + self.true_ms + host.wall_ahead_ms)
        tick = host.clock.tick(now, wall_ms)
        self._on_their_way.append(tick)
        self._proposed_ms.setdefault((tick.at, tick.time_ms), self.true_ms)
        if host.state.time_ms:
            passed_ms = self.true_ms - self._proposed_ms[host.state.at, host.state.time_ms]
            rounding_ms = 1 if host.state.at.boot == now.boot else 0
            assert tick.time_ms - host.state.time_ms <= passed_ms * FASTEST + rounding_ms
            assert tick.time_ms >= host.state.time_ms

    def deliver(self, place: int) -> None:
        is_repeated = self.rng.random() < 0.3
        tick = self._on_their_way[place] if is_repeated else self._on_their_way.pop(place)
        self.log.append(tick)
        before, self.time = self.time, ticked(self.time, tick)
        assert self.time.time_ms >= before.time_ms
        if self.begun is None:
            self.begun = self._proposed_ms[tick.at, tick.time_ms], self.time.time_ms
        passed_ms = self.true_ms - self.begun[0]
        assert self.time.time_ms - self.begun[1] <= passed_ms * FASTEST + 1


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_time_never_advances_faster_than_it_truly_passes_and_never_goes_back(first: int) -> None:
    advanced_ms = 0
    for seed in range(first, first + 100):
        cluster = Cluster(seed)
        for _ in range(150):
            cluster.act()
        assert cluster.begun is not None
        advanced_ms += cluster.time.time_ms - cluster.begun[1]
    assert advanced_ms > 100 * 10 * MINUTE


def test_time_keeps_up_over_changes_of_leaders() -> None:
    """Each costs what lies between a tick and its applying elsewhere, and no more."""
    rng = random.Random(7)
    hosts = [Host(n, rng) for n in range(3)]
    log: list[Tick] = []
    true_ms = 0.0
    for host in hosts:
        host.restart(true_ms, reboots=True, keeps=0, log=log)
        host.wall_ahead_ms = -1e9  # too far away to be of help
    for turn in range(1_000):
        leader = hosts[turn // 20 % 3]
        assert leader.clock is not None
        log.append(leader.clock.tick(leader.moment(true_ms), int(NOON + true_ms)))
        true_ms += 2
        for host in hosts:
            host.catch_up(true_ms, log, 1)
        true_ms += CLOCK_TICK_MS
    lost_ms = true_ms - CLOCK_TICK_MS - 2 - (hosts[0].state.time_ms - NOON)
    assert 0 <= lost_ms <= 50 * 3 + 1


# --- in a state -------------------------------------------------------------------------------


def test_procedures_and_questions_are_told_the_time_of_the_state(tmp_path: Path) -> None:
    told = Procedures(
        [Procedure("test.time", 1, lambda view, _: b"%d" % view.time_ms)],
        [Question("test.now", 1, lambda view, _: b"%d" % view.time_ms)],
    )

    def opened(name: str) -> Store:
        return Store(tmp_path / name, durable=False, map_bytes_initial=16 * MIB, procedures=told)

    def done(store: Store, call: commands.Call) -> object:
        return store.apply([(store.applied_index + 1, commands.encode(call))])[0]

    def time_of(store: Store) -> bytes:
        outcome = done(store, commands.call("test.time", b""))
        assert isinstance(outcome, Applied)
        assert store.ask("test.now", b"") == outcome.answer
        return outcome.answer

    store = opened("a")
    assert time_of(store) == b"0"
    assert done(store, commands.call(TICK, clock.pack(Tick(0, NOON, at(5))))) == Applied()
    assert time_of(store) == b"%d" % NOON
    digest = store.digest()
    done(store, commands.call(TICK, clock.pack(Tick(1, NOON + 7, at(12)))))
    assert store.digest() != digest
    kept = store.time
    time_of(store)
    assert store.time is kept
    assert isinstance(done(store, commands.call(TICK, b"junk")), FormatError)
    store.snapshot_to(tmp_path / "snapshot")
    store.close()

    again = opened("a")
    assert again.time == kept
    assert time_of(again) == b"%d" % (NOON + 7)
    again.close()
    other = opened("b")
    other.replace_from(tmp_path / "snapshot")
    assert other.time == kept
    other.close()


def test_nobody_registers_a_procedure_of_s3dbs_own() -> None:
    with pytest.raises(ValueError, match=r"s3db\.tick"):
        Procedures([Procedure(TICK, 1, lambda view, arguments: b"")])

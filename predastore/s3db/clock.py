"""Cluster time: a clock that nobody can set forward by setting a clock. Sans-IO.

It decides what may be deleted (retention), so it must not run ahead: T, Unix milliseconds, is part
of the replicated state, and advances by ticks, which the leader proposes: T as of the last tick,
plus the time that has passed since then by CLOCK_BOOTTIME, which no wall clock moves, and which
goes on while a machine sleeps. T is as of the last tick wherever it is read, some seconds old.

- Each member notes its own CLOCK_BOOTTIME when it applies a tick, and goes on from there when it
  leads: a change of leaders costs what applying takes. A tick also carries where its proposer
  counted from. Who runs in the same boot (restarted there, or another process of that host) goes
  on from that, and nothing is lost, neither with a restart nor from tick to tick.
- A tick says what T should become, and is applied only if that is more. An old one, proposed by a
  deposed leader or repeated, changes nothing: what it says was true at the latest when it was made.
- The first tick of all, that of epoch 0, takes the leader's wall clock, and there is one.
- Where wall clock and T are at most CLOCK_SLEW_MS_MAX apart, T is slewed towards it, by at most
  CLOCK_SLEW_PPM of the time that passes: as much as a quartz is wrong anyway. So a wall clock that
  is wrong gains 43 s a day at most. Where they are further apart, nothing is slewed: somebody has
  set a clock, or the whole cluster was down, and an operator decides (SET).
- SET gives T another value, back or forth, and begins an epoch: ticks of the one before are void.

Hence: without SET, T never goes back, and never advances by more than the true time that passes and
CLOCK_SLEW_PPM of it, whatever wall clocks, restarts, lost ticks and changes of leaders do. After a
time when no member ran T lags behind by that time.

Two calls that s3db does itself, as it does those of procedures (apply.py):

    s3db.tick      Tick      -> nothing
    s3db.set-time  Tick      -> TimeSet
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from predastore.base.errors import FormatError
from predastore.base.limits import (
    BOOT_BYTES_MAX,
    CLOCK_SLEW_MS_MAX,
    CLOCK_SLEW_PPM,
    CLOCK_TICK_MS,
    CLOCK_WARN_MS_MAX,
    CLOCK_WARN_MS_MIN,
)

TICK: Final = "s3db.tick"
SET: Final = "s3db.set-time"
BUILT_IN: Final = (TICK, SET)

_FIRST_EPOCH: Final = 1


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """`boot_ms`: what CLOCK_BOOTTIME says, in `boot`: a boot of a kernel, or b"" where that is not
    known, and two are never the same."""

    boot: bytes
    boot_ms: int


class Tick(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """T is to be `time_ms`, which it should be at the moment `at` of the proposer."""

    epoch: int
    time_ms: int
    at: Moment


class TimeSet(msgspec.Struct, frozen=True, array_like=True):
    """What an operator's setting did."""

    before_ms: int
    after_ms: int


class ClusterTime(msgspec.Struct, frozen=True, array_like=True):
    """What the state holds: T, and the tick that brought it. `time_ms` and `epoch` are 0 before
    the first."""

    time_ms: int = 0
    epoch: int = 0
    at: Moment = Moment(b"", 0)

    def pack(self) -> bytes:
        return _ENCODER.encode(self)


_ENCODER: Final = msgspec.msgpack.Encoder()
_TIME: Final = msgspec.msgpack.Decoder(ClusterTime)
_TICK: Final = msgspec.msgpack.Decoder(Tick)
_SET: Final = msgspec.msgpack.Decoder(TimeSet)


def unpack(packed: bytes) -> ClusterTime:
    """Of a state; one that never had a tick has b""."""
    return _TIME.decode(packed) if packed else ClusterTime()


def pack(tick: Tick) -> bytes:
    return _ENCODER.encode(tick)


def unpack_set(answer: bytes) -> TimeSet:
    return _SET.decode(answer)


def called(name: str, before: ClusterTime, arguments: bytes) -> tuple[ClusterTime, bytes]:
    """(T then, the answer) of one of BUILT_IN; pure. FormatError: nothing is changed."""
    try:
        tick = _TICK.decode(arguments)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"not a tick: {error}") from error
    if name == SET:
        after = ClusterTime(tick.time_ms, max(_FIRST_EPOCH, before.epoch + 1), tick.at)
        return after, _ENCODER.encode(TimeSet(before.time_ms, after.time_ms))
    if tick.epoch != before.epoch or tick.time_ms <= before.time_ms:
        return before, b""
    return ClusterTime(tick.time_ms, max(_FIRST_EPOCH, tick.epoch), tick.at), b""


class ClusterClock:
    """T as a member goes on counting from what it has applied."""

    def __init__(self, applied: ClusterTime, now: Moment) -> None:
        self._applied = applied
        self._from_ms = 0  # of the own boot: when T was what was applied
        self._take(applied, now)

    def observe(self, applied: ClusterTime, now: Moment) -> None:
        """The state has this T now; to be called soon after it was applied."""
        if applied is not self._applied and applied != self._applied:
            self._take(applied, now)

    def _take(self, applied: ClusterTime, now: Moment) -> None:
        self._applied = applied
        at = applied.at
        if at.boot and at.boot == now.boot and at.boot_ms <= now.boot_ms:
            self._from_ms = at.boot_ms
        else:
            self._from_ms = now.boot_ms + 1  # `boot_ms` is rounded down: not a moment too early

    @property
    def is_started(self) -> bool:
        return self._applied.time_ms > 0

    def time_ms(self, now: Moment) -> int:
        """What T is now; 0 before the first tick."""
        if not self.is_started:
            return 0
        return self._applied.time_ms + self._elapsed_ms(now)

    def difference_ms(self, now: Moment, wall_ms: int) -> int:
        """By how much a wall clock is ahead."""
        return wall_ms - self.time_ms(now)

    def due_in_ms(self, now: Moment) -> int:
        """When the next tick is due; 0: now."""
        if not self.is_started:
            return 0
        return max(0, CLOCK_TICK_MS - (now.boot_ms - self._from_ms))

    def tick(self, now: Moment, wall_ms: int) -> Tick:
        """What a leader proposes."""
        if not self.is_started:
            return Tick(self._applied.epoch, wall_ms, now)
        time_ms, difference_ms = self.time_ms(now), self.difference_ms(now, wall_ms)
        if is_near(difference_ms):
            slew_ms = self._elapsed_ms(now) * CLOCK_SLEW_PPM // 1_000_000
            time_ms += max(-slew_ms, min(slew_ms, difference_ms))
        return Tick(self._applied.epoch, time_ms, now)

    def set(self, now: Moment, wall_ms: int) -> Tick:
        """What an operator has the leader propose."""
        return Tick(self._applied.epoch, wall_ms, now)

    def _elapsed_ms(self, now: Moment) -> int:
        return max(0, now.boot_ms - self._from_ms)


def is_near(difference_ms: int) -> bool:
    """Whether T is slewed towards a wall clock that is so far away."""
    return abs(difference_ms) <= CLOCK_SLEW_MS_MAX


class Warnings:
    """When it is said that T and the wall clock are far apart: at once, then ever more rarely."""

    def __init__(self) -> None:
        self._pause_ms = 0
        self._said_ms = 0

    def is_due(self, difference_ms: int, now: Moment) -> bool:
        if is_near(difference_ms):
            self._pause_ms = 0
            return False
        if self._pause_ms and now.boot_ms - self._said_ms < self._pause_ms:
            return False
        self._said_ms = now.boot_ms
        self._pause_ms = min(2 * self._pause_ms or CLOCK_WARN_MS_MIN, CLOCK_WARN_MS_MAX)
        return True


def warning(difference_ms: int, how: str = "s3d db set-time --confirm") -> str:
    """What an operator is told, and what to do; `how`: cluster time is set."""
    ahead = "ahead of" if difference_ms > 0 else "behind"
    return (
        f"the wall clock here is {abs(difference_ms) // 1000} s {ahead} cluster time, by which "
        "objects are retained, and which does not follow by itself over more than "
        f"{CLOCK_SLEW_MS_MAX // 60_000} minutes. Set the clocks right; where they are, as after a "
        f"time when nothing of the cluster ran, {how} takes their time over"
    )


@dataclass(frozen=True)
class Clocks:
    """The clocks of a process."""

    boot: bytes
    boot_ms: Callable[[], int]
    wall_ms: Callable[[], int]

    def now(self) -> Moment:
        return Moment(self.boot, self.boot_ms())


def system() -> Clocks:
    """Those of this machine. A boot is told by the kernel's id of it, by the namespace of clocks
    that this process is in (containers may have their own CLOCK_BOOTTIME), and by the name of the
    host: machines that were made from one image of memory have the same id."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        parts = (boot_id, os.readlink("/proc/self/ns/time"), os.uname().nodename)
        boot = " ".join(parts).encode()[:BOOT_BYTES_MAX]
    except OSError:
        boot = b""
    return Clocks(
        boot,
        lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000,
        lambda: time.time_ns() // 1_000_000,
    )

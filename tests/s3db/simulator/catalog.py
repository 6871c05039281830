"""Clients that call procedures of the product's catalog, as some member's tables suggest.

What a member holds may be old by the time of the call, and a call whose outcome is unknown may be
sent again: so commands come too late, and twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from catalog.histories import Histories
from predastore.base.limits import S3_PART_BYTES_MIN

from .machine import Command, encode

if TYPE_CHECKING:
    from .member import SimMember
    from .world import World

PAUSE_S = (0.0, 0.06)
TIMEOUT_S = 0.7
RETRY_S = 0.05
AGAIN = 0.6  # how often a call whose outcome is unknown is sent again
SIZES = (7, S3_PART_BYTES_MIN, S3_PART_BYTES_MIN + 1)


class CatalogClient:
    """One call at a time. What was surely not done is tried again."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.done = 0
        self.is_finished = False
        self._rng = random.Random(f"catalog {world.seed} {number}")
        self._histories = Histories(self._rng, f"{number}", sizes=SIZES)
        self._count = 0
        self._attempt = 0
        self._finishing = False

    def begin(self) -> None:
        self.world.at(self._rng.uniform(0, 0.5), self._next)

    def finish(self) -> None:
        """Make one more call and then rest."""
        self._finishing = True

    def _next(self) -> None:
        if self.is_finished:
            return
        machine = self._anyone().machine
        name, args = self._histories.next(machine.catalog.tables, machine.time.time_ms)
        self._count += 1
        command = Command(name, "", None, None, self.number, self._count, "", args.encode())
        self._try(encode(command), last=self._finishing)

    def _anyone(self) -> SimMember:
        return self.world.members[self._rng.choice(list(self.world.members))]

    def _try(self, command: bytes, last: bool, leader: int | None = None) -> None:
        self._attempt += 1
        attempt = self._attempt
        member = self._anyone() if leader is None else self.world.members[leader]

        def answered(what: str, detail: int | None) -> None:
            if self._attempt != attempt:
                return
            self._attempt += 1
            if what == "refused":
                self._later(RETRY_S, partial(self._try, command, last, detail))
            elif what == "done":
                self._done(last)
            elif last or self._rng.random() < AGAIN:
                self._later(RETRY_S, partial(self._try, command, last))
            else:
                self._next()

        def reply(what: str, detail: int | None) -> None:
            self.world.at(self._rng.uniform(0.0002, 0.002), partial(answered, what, detail))

        deliver = partial(member.later, 0, partial(member.propose, command, reply))
        self.world.at(self._rng.uniform(0.0002, 0.002), deliver)
        self.world.at(TIMEOUT_S, partial(answered, "unknown", None))

    def _later(self, within_s: float, event: Callable[[], None]) -> None:
        self.world.at(within_s * self._rng.random(), event)

    def _done(self, last: bool) -> None:
        self.done += 1
        self.is_finished = last
        self.world.at(self._rng.uniform(*PAUSE_S), self._next)

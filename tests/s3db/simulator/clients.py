"""Clients that get, scan, put, delete and call procedures, and write down what they saw, and when.

A write that was not answered in time may be sent again as the same request, perhaps elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .checker import PATIENT, Operation
from .machine import Command, encode

if TYPE_CHECKING:
    from .world import World

KEYS = ("a", "b", "c")
KINDS = (
    *("get", "get", "get", "put", "put", "delete", "scan"),
    *("cas", "cas", "add", "move"),  # procedures
)
TIMEOUT_S = 0.7
RETRY_S = 0.05
AGAIN = 0.6  # how often a write whose outcome is unknown is sent again


class Client:
    """One operation at a time. What was surely not done is tried again, as the same operation."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self._member = world.rng.choice(list(world.members))
        self._count = 0
        self._seen: dict[str, int | None] = {}
        self._attempt = 0
        self._may_be_done = False  # the present operation, by an earlier try
        self._finishing = False
        self.is_finished = False

    def begin(self) -> None:
        self.world.at(self.world.rng.uniform(0, 0.5), self._next)

    def finish(self) -> None:
        """Do one more write and then rest."""
        self._finishing = True

    def _next(self) -> None:
        rng = self.world.rng
        key = rng.choice(KEYS)
        kind = "put" if self._finishing else rng.choice(KINDS)
        operation = Operation("" if kind == "scan" else key, kind, self.world.now)
        self._count += 1
        self._may_be_done = False
        if kind in ("put", "cas"):
            operation.value = self.number * 1_000_000 + self._count
        if kind == "cas":
            operation.expected = self._seen.get(key)
        if kind == "move":
            operation.target = rng.choice([other for other in KEYS if other != key])
        self.world.history.append(operation)
        self._try(operation, last=self._finishing)

    def _try(self, operation: Operation, last: bool) -> None:
        self._attempt += 1
        attempt = self._attempt
        rng = self.world.rng
        member = self.world.members[self._member]
        command = encode(
            Command(
                operation.kind,
                operation.key,
                operation.value,
                operation.expected,
                self.number,
                self._count,
                operation.target,
            )
        )

        def once(function: Callable[..., None], *arguments: object) -> None:
            """Only the first answer to the present attempt counts."""
            if self._attempt == attempt:
                self._attempt += 1
                function(operation, last, *arguments)

        def answer(function: Callable[..., None]) -> Callable[..., None]:
            return lambda *args: self.world.at(
                rng.uniform(0.0002, 0.002), partial(once, function, *args)
            )

        def deliver() -> None:
            if operation.changes:
                member.later(0, partial(member.propose, command, answer(self._wrote)))
            else:
                look = partial(_look, operation)
                member.later(0, partial(member.read, look, answer(self._read)))

        self.world.at(rng.uniform(0.0002, 0.002), deliver)
        self.world.at(TIMEOUT_S, partial(once, self._expired))

    def _read(self, operation: Operation, last: bool, answered: bool, found: Any) -> None:
        if not answered:
            self._elsewhere(operation, last, None)
            return
        if operation.kind == "scan":
            operation.rows = found
        else:
            operation.found = found
        self._completed(operation, last)

    def _wrote(self, operation: Operation, last: bool, what: str, detail: int | None) -> None:
        if what == "refused":
            self._elsewhere(operation, last, detail)
        elif what == "too-low" and not self._may_be_done:
            self.world.history.remove(operation)
            self.world.at(self.world.rng.uniform(0, 0.08), self._next)
        elif what == "done":
            operation.found = detail
            self._completed(operation, last)
        else:
            self._expired(operation, last)

    def _completed(self, operation: Operation, last: bool) -> None:
        operation.returned = self.world.now
        if operation.rows is not None:
            self._seen.update({key: operation.rows.get(key) for key in KEYS})
        elif operation.kind == "get":
            self._seen[operation.key] = operation.found
        elif operation.kind in ("put", "delete") or operation.found == operation.expected:
            self._seen[operation.key] = operation.value
        if last:
            self.is_finished = True
            return
        if self.world.rng.random() < 0.3:
            self._member = self.world.rng.choice(list(self.world.members))
        self.world.at(self.world.rng.uniform(0, 0.08), self._next)

    def _elsewhere(self, operation: Operation, last: bool, leader: int | None) -> None:
        """Nothing was done: the same operation, at the leader or another member."""
        self._member = leader or self.world.rng.choice(list(self.world.members))
        self.world.at(RETRY_S * self.world.rng.random(), partial(self._try, operation, last))

    def _expired(self, operation: Operation, last: bool) -> None:
        """The outcome is unknown: the same request again, or something new, and it stays so."""
        self._member = self.world.rng.choice(list(self.world.members))
        self._may_be_done = True
        if self.world.rng.random() < AGAIN or operation.kind in PATIENT:
            self.world.at(RETRY_S * self.world.rng.random(), partial(self._try, operation, last))
        else:
            self._next()


def _look(operation: Operation, values: Mapping[str, int]) -> Any:
    return dict(values) if operation.kind == "scan" else values.get(operation.key)

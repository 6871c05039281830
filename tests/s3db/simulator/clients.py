"""Clients that get, put and compare-and-set, and write down what they saw, and when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .checker import Operation
from .machine import Command, encode

if TYPE_CHECKING:
    from .world import World

KEYS = ("a", "b", "c")
TIMEOUT_S = 0.7
RETRY_S = 0.05


class Client:
    """One operation at a time. What was surely not done is tried again, as the same operation."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self._member = world.rng.choice(list(world.members))
        self._values = 0
        self._seen: dict[str, int | None] = {}
        self._attempt = 0
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
        kind = "put" if self._finishing else rng.choice(["get", "get", "put", "cas"])
        operation = Operation(key, kind, self.world.now)
        if kind != "get":
            self._values += 1
            operation.value = self.number * 1_000_000 + self._values
        if kind == "cas":
            operation.expected = self._seen.get(key)
        self.world.history.append(operation)
        self._try(operation, last=self._finishing)

    def _try(self, operation: Operation, last: bool) -> None:
        self._attempt += 1
        attempt = self._attempt
        rng = self.world.rng
        member = self.world.members[self._member]

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
            if operation.kind == "get":
                member.later(0, partial(member.read, operation.key, answer(self._read)))
            else:
                assert operation.value is not None
                command = Command(
                    operation.kind, operation.key, operation.value, operation.expected
                )
                member.later(0, partial(member.propose, encode(command), answer(self._wrote)))

        self.world.at(rng.uniform(0.0002, 0.002), deliver)
        self.world.at(TIMEOUT_S, partial(once, self._expired))

    def _read(self, operation: Operation, last: bool, answered: bool, value: int | None) -> None:
        if not answered:
            self._elsewhere(operation, last, None)
            return
        operation.found = value
        self._completed(operation, last)

    def _wrote(self, operation: Operation, last: bool, what: str, detail: int | None) -> None:
        if what == "refused":
            self._elsewhere(operation, last, detail)
        elif what == "done":
            operation.found = detail
            self._completed(operation, last)
        else:
            self._expired(operation, last)

    def _completed(self, operation: Operation, last: bool) -> None:
        operation.returned = self.world.now
        if operation.kind == "get":
            self._seen[operation.key] = operation.found
        elif operation.kind == "put" or operation.found == operation.expected:
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
        """A write's outcome is unknown for ever; go on with something new."""
        self._member = self.world.rng.choice(list(self.world.members))
        self._next()

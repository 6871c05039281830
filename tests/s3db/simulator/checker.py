"""Is a history of a small map linearizable? (Wing and Gong's search, with Lowe's memory.)

Linearizability is local (Herlihy and Wing 1990): a history is linearizable if, for each object,
its operations on that object are. An object here is a key, or all keys that one scan reads; so
keys that no scan binds together are searched alone.

Every put and cas has a value of its own. An operation whose outcome is unknown may have been
done at any time after it began, or not at all. The search does one only just before an
operation that it explains: in any linearization, one that nothing after it observes can be left
out, and one that is observed later can be moved back to just before that. Counts and moves, whose
result depends on what was there, are known: clients ask until they are told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .procedures import STEP

NEVER = float("inf")
PATIENT = ("add", "move")  # kinds that are never given up

State = tuple[int | None, ...]


class Violation(AssertionError):
    """The cluster did what no correct one does."""


@dataclass
class Operation:
    """`kind`: get (found), put (value), delete, cas (expected -> value; found, done), add (one
    STEP; found), move (to the key `target`; found), or scan (rows: all that is there of the keys
    that begin with `key`). `found`: at `key`, before.

    `returned` is NEVER where the outcome is unknown.
    """

    key: str
    kind: str
    invoked: float
    returned: float = NEVER
    value: int | None = None
    expected: int | None = None
    found: int | None = None
    rows: Mapping[str, int] | None = None
    target: str = ""

    @property
    def is_known(self) -> bool:
        return self.returned != NEVER

    @property
    def changes(self) -> bool:
        return self.kind not in ("get", "scan")


def first_violation(history: Iterable[Operation]) -> str | None:
    """The key, or scanned prefix, whose operations are not linearizable; None if all are."""
    history = list(history)
    scanned = {op.key for op in history if op.kind == "scan"}
    if any(op.kind == "move" for op in history):
        scanned = {""}  # it binds any two keys
    prefixes = sorted(scanned, key=len)

    def place(key: str) -> str:
        return next((prefix for prefix in prefixes if key.startswith(prefix)), key)

    by_place: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_place[place(operation.key)].append(operation)
    for name, operations in by_place.items():
        if not is_linearizable(operations):
            return name
    return None


def is_linearizable(operations: list[Operation]) -> bool:
    """Whether some order of the operations of one object explains all that they found."""
    return _Search(operations).succeeds()


class _Search:
    def __init__(self, operations: Iterable[Operation]) -> None:
        operations = sorted(operations, key=lambda operation: operation.invoked)
        self._known = [op for op in operations if op.is_known]
        self._unknown = [op for op in operations if not op.is_known and op.changes]
        assert all(op.kind not in PATIENT for op in self._unknown)
        keys = {op.key for op in operations if op.kind != "scan"}
        keys.update(key for op in self._known for key in op.rows or ())
        keys.update(op.target for op in operations if op.kind == "move")
        self._place = {key: position for position, key in enumerate(sorted(keys))}
        self._wants = [tuple(self._needed(op)) for op in self._known]

    def _needed(self, operation: Operation) -> Iterator[tuple[int, int | None]]:
        """(position, value) of all that a known operation found."""
        if operation.kind == "scan":
            assert operation.rows is not None
            for key, position in self._place.items():
                if key.startswith(operation.key):
                    yield position, operation.rows.get(key)
        elif operation.kind in ("get", "cas", "add", "move"):
            yield self._place[operation.key], operation.found

    def succeeds(self) -> bool:
        every = (1 << len(self._known)) - 1
        seen: set[tuple[int, int, State]] = set()
        stack: list[tuple[int, int, State]] = [(0, 0, (None,) * len(self._place))]
        while stack:
            step = stack.pop()
            done, tried, state = step
            if done == every:
                return True
            if step in seen:
                continue
            seen.add(step)
            candidates, horizon = self._candidates(done)
            for i in self._helpers(tried, state, candidates, horizon):
                stack.append((done, tried | 1 << i, self._after(self._unknown[i], state)))
            for i in reversed(candidates):  # those that returned first are tried first
                if all(state[position] == value for position, value in self._wants[i]):
                    stack.append((done | 1 << i, tried, self._after(self._known[i], state)))
        return False

    def _candidates(self, done: int) -> tuple[list[int], float]:
        """Known operations that may be next: nothing that is not done returned before they
        began. And that first return of what is not done."""
        horizon = NEVER
        found = []
        for i in range((~done & (done + 1)).bit_length() - 1, len(self._known)):
            operation = self._known[i]
            if operation.invoked > horizon:
                break
            if not done >> i & 1:
                found.append(i)
                horizon = min(horizon, operation.returned)
        found = [i for i in found if self._known[i].invoked <= horizon]
        return sorted(found, key=lambda i: self._known[i].returned), horizon

    def _helpers(
        self, tried: int, state: State, candidates: list[int], horizon: float
    ) -> Iterator[int]:
        """Unknown operations that lead to what a candidate found, at once or by way of others."""
        wanted = {want for i in candidates for want in self._wants[i] if state[want[0]] != want[1]}
        chosen: set[int] = set()
        grew = True
        while grew:
            grew = False
            for i, operation in enumerate(self._unknown):
                position = self._place[operation.key]
                may = operation.invoked <= horizon and not tried >> i & 1 and i not in chosen
                if not may or (position, operation.value) not in wanted:
                    continue
                chosen.add(i)
                if operation.kind == "cas" and state[position] != operation.expected:
                    wanted.add((position, operation.expected))
                    grew = True
        for i in chosen:
            operation = self._unknown[i]
            if operation.kind != "cas" or state[self._place[operation.key]] == operation.expected:
                yield i

    def _after(self, operation: Operation, state: State) -> State:
        if not operation.changes:
            return state
        position = self._place[operation.key]
        found, changed = state[position], list(state)
        if operation.kind == "add":
            changed[position] = (found or 0) + STEP
        elif operation.kind == "move":
            if found is not None:
                changed[position] = None
                changed[self._place[operation.target]] = found
        elif operation.kind != "cas" or found == operation.expected:
            changed[position] = operation.value
        return tuple(changed)

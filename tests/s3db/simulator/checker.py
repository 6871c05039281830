"""Is a history of a register linearizable? (Wing and Gong's search, with Lowe's memory.)

Linearizability is local (Herlihy and Wing 1990): a history is linearizable if, for each key, its
operations on that key are; so each key is searched alone.

Every write has a value of its own, and both gets and compare-and-sets report the value that they
found. So a write whose outcome is unknown, and whose value nobody ever found, can be left out:
taking it out of any linearization leaves one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

NEVER = float("inf")


@dataclass
class Operation:
    """`kind`: get (found), put (value), or cas (expected -> value; found, done).

    `returned` is NEVER where the outcome is unknown; such a cas may have been done or not.
    """

    key: str
    kind: str
    invoked: float
    returned: float = NEVER
    value: int | None = None
    expected: int | None = None
    found: int | None = None

    @property
    def is_known(self) -> bool:
        return self.returned != NEVER

    def apply(self, state: int | None) -> tuple[bool, int | None]:
        """(is this a legal step from `state`, the state after it)."""
        if self.kind == "put":
            return True, self.value
        if self.is_known and self.found != state:
            return False, state
        if self.kind == "cas" and state == self.expected:
            return True, self.value
        return True, state


def first_violation(history: Iterable[Operation]) -> str | None:
    """The key whose operations are not linearizable; None if all are."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key, operations in by_key.items():
        if not is_linearizable(operations):
            return key
    return None


def is_linearizable(operations: list[Operation]) -> bool:
    """Whether some order of the operations of one register explains all that they found."""
    found = {operation.found for operation in operations if operation.is_known}
    relevant = [
        operation
        for operation in operations
        if operation.is_known or (operation.kind != "get" and operation.value in found)
    ]
    relevant.sort(key=lambda operation: operation.invoked)
    count = len(relevant)
    must = sum(1 << i for i in range(count) if relevant[i].is_known)
    seen: set[tuple[int, int | None]] = set()
    stack: list[tuple[int, int | None]] = [(0, None)]
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        horizon = NEVER  # nothing invoked after the first return of what is not done can be next
        for i in range((~done & (done + 1)).bit_length() - 1, count):
            operation = relevant[i]
            if operation.invoked > horizon:
                break
            if done >> i & 1:
                continue
            horizon = min(horizon, operation.returned)
            legal, after = operation.apply(state)
            if legal:
                stack.append((done | 1 << i, after))
    return False

"""Statements found by the beginning of a resource's name, so that a long policy costs little more
than the statements that may apply.

Each pattern of resources begins with some plain text, its head, maybe of no characters. A statement
is looked up under its heads: once for each length that a head has, of which there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from predastore.policy.statement import Statement

_PLAIN_MAX: Final = 4  # so few statements are gone through faster than looked up


class StatementIndex:
    """Statements in their order, by the heads of their resources."""

    __slots__ = ("_by_head", "_lengths", "_statements")

    def __init__(self, statements: Sequence[Statement]) -> None:
        self._statements = tuple(statements)
        by_head: dict[str, list[int]] = {}
        for number, statement in enumerate(self._statements):
            for head in set(statement.heads):
                by_head.setdefault(head, []).append(number)
        self._by_head = by_head
        self._lengths = tuple(sorted({len(head) for head in by_head}))

    def near(self, resource: str) -> Sequence[Statement]:
        """The statements that may be about the resource, in their order; no other one is."""
        statements = self._statements
        if len(statements) <= _PLAIN_MAX:
            return statements
        lists = [
            numbers
            for length in self._lengths
            if (numbers := self._by_head.get(resource[:length])) is not None
        ]
        if len(lists) == 1:
            return [statements[number] for number in lists[0]]
        return [statements[number] for number in sorted(set(chain.from_iterable(lists)))]

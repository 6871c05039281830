"""Which member a call goes to next: the likely one, whom it names, then the others in turn."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence


class Rotation:
    """Whom to ask next: a hint, else around the ring from the first choice, `silent` ones last.
    `did_not_answer`: in this call."""

    def __init__(
        self, members: tuple[int, ...], first: int | None, silent: Collection[int] = ()
    ) -> None:
        self._members: Sequence[int] = members
        self._first = first
        self._silent = silent
        self._next = 0
        self._is_sorted = False  # nor need be, where the first choice answers
        self.did_not_answer: set[int] = set()
        self._hint: int | None = None
        self._hints_left = len(members)  # members that point at each other are not believed long

    @property
    def hinted(self) -> bool:
        return self._hint is not None

    def hint(self, member: int | None) -> None:
        is_news = member in self._members and member not in self.did_not_answer
        if is_news and self._hints_left > 0:
            self._hints_left -= 1
            self._hint = member

    def take(self) -> int:
        if self._hint is not None:
            member, self._hint = self._hint, None
            return member
        if not self._is_sorted:
            first = self._first
            if first is not None and self._next == 0 and self._is_likely(first):
                self._next = 1
                return first
            self._sort()
        member = self._members[self._next]
        self._next = (self._next + 1) % len(self._members)
        return member

    def _is_likely(self, member: int) -> bool:
        return member in self._members and member not in self._silent

    def _sort(self) -> None:
        members = self._members
        first = self._first
        start = members.index(first) if first in members else random.randrange(len(members))
        ring = (*members[start:], *members[:start])
        self._members = sorted(ring, key=lambda member: member in self._silent)
        self._next %= len(members)
        self._is_sorted = True

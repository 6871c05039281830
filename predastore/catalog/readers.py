"""What readers need, so that nothing is taken from under them.

A reader looks a key up, and then opens what its record names. From before the one until after the
other it *looks* at the key: what the key named meanwhile stays where its row says. What it then
reads, a layout, it *holds* until its end.

A byte store with a grace time keeps all that is replaced for longer than a look takes; in one
without, what is replaced goes once those who looked before have it in hand. They never wait for a
client meanwhile, so this is soon. Who looks after the commit that replaced it finds the new record.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Look:
    """A reader's, by `Readers.looking`. `number`: looks that began later have higher ones."""

    __slots__ = ("_looks", "_waiting", "number")

    def __init__(self, number: int, looks: dict[int, Look]) -> None:
        self.number = number
        self._looks = looks
        self._waiting: list[asyncio.Future[None]] = []
        looks[number] = self

    def end(self) -> None:
        """What was looked up is in hand, or is not needed; may be said twice."""
        self._looks.pop(self.number, None)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def ended(self) -> None:
        if self.number in self._looks:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]


class Readers:
    """Of one process; keys are named "<bucket>/<key>"."""

    def __init__(self) -> None:
        self._held: Counter[bytes] = Counter()  # layouts
        self._looks: dict[str, dict[int, Look]] = {}
        self._number = 0

    @property
    def now(self) -> int:
        """For `need`: what looks there are now, and before."""
        return self._number

    @contextmanager
    def looking(self, name: str) -> Iterator[Look]:
        """Around a look-up, and the opening of what it found."""
        self._number += 1
        looks = self._looks.setdefault(name, {})
        look = Look(self._number, looks)
        try:
            yield look
        finally:
            look.end()
            if not looks and self._looks.get(name) is looks:
                del self._looks[name]

    @contextmanager
    def holding(self, layout: bytes) -> Iterator[None]:
        """Around reading it."""
        self._held[layout] += 1
        try:
            yield
        finally:
            self._held[layout] -= 1
            if not self._held[layout]:
                del self._held[layout]

    def hold(self, layout: bytes) -> bool:
        """Whether somebody reads it."""
        return layout in self._held

    def look_at(self, name: str, now: int) -> bool:
        """Whether somebody looks at the key since `now` or before."""
        return any(number <= now for number in self._looks.get(name, ()))

    async def have_passed(self, name: str) -> None:
        """Waits for those who look at the key now."""
        for look in [*self._looks.get(name, {}).values()]:
            await look.ended()

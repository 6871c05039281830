"""How background work gives way to requests.

Work is done in short steps. While requests come, so much rest follows each step that the work has
only its share of the time; while none come, it goes on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from predastore.base.limits import NODE_REST_S_MAX


class Pace:
    """`activity`: a number that grows with each request."""

    def __init__(self, activity: Callable[[], int]) -> None:
        self._activity = activity
        self._seen = activity()

    async def rest(self, worked_s: float, share: float, least_s: float = 0.0) -> None:
        """After a step that took `worked_s`: so that it has at most `share` of the time, and takes
        at least `least_s`."""
        seen = self._activity()
        pause_s = worked_s * (1 / share - 1) if seen != self._seen else 0.0
        self._seen = seen
        await asyncio.sleep(min(max(pause_s, least_s - worked_s, 0.0), NODE_REST_S_MAX))

"""Whether a member's tables are so large, or its disk so full, that bodies are to lie elsewhere.

The state takes small bodies while there is plenty of room (catalog/writes.py): they are a
convenience, and all that the cluster can do needs it to take the rows of large ones, too. So it
says so long before commits are refused (raft/room.py). Every answer has it, and so it is looked at
now and then only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from predastore.base.errors import StoreFailed
from predastore.base.limits import CROWDED_FILE_BYTES, CROWDED_FREE_BYTES, CROWDED_LOOK_MS

if TYPE_CHECKING:
    from predastore.s3db.raft.room import MemberRoom
    from predastore.s3db.store import Store

_NEVER: Final = float("-inf")


class Crowding:
    def __init__(self, store: Store, room: MemberRoom, clock: Callable[[], float]) -> None:
        self._store = store
        self._room = room
        self._clock = clock
        self._looked_at = _NEVER
        self._is_crowded = False

    def look(self) -> bool:
        """Whether it is, as of CROWDED_LOOK_MS ago at most."""
        now = self._clock()
        if now - self._looked_at >= CROWDED_LOOK_MS / 1000:
            self._looked_at = now
            self._is_crowded = self._is_so()
        return self._is_crowded

    def _is_so(self) -> bool:
        if self._room.left_bytes() < CROWDED_FREE_BYTES:
            return True
        try:
            return self._store.used_bytes() >= CROWDED_FILE_BYTES
        except StoreFailed:
            return True

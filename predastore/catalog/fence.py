"""No write becomes visible whose shards may have been taken for orphans.

Orphans are shards that no record names, committed on their nodes before a horizon that lies long
before the records were read. A write whose process was stopped between its shards' commit and its
own (SIGSTOP, a suspended machine) could come back after that. So before orphans are deleted, the
horizon is stored, and each commit that names new shards checks that the horizon is still the one
that it knows. If it is not, the write looks at the new one, and gives up if its shards are older.
"""

from __future__ import annotations

from typing import Final

import msgspec

from predastore.catalog.errors import WriteTooOld
from predastore.catalog.keys import HEALING
from predastore.s3db.commands import Absent, Check, Equals
from predastore.s3db.global_state import GlobalState
from predastore.storage.formats import decode

HORIZON_KEY: Final = b"horizon"


class HorizonRecord(msgspec.Struct, frozen=True, array_like=True):
    """No record may begin to name a shard that may have been committed before `before_ms`: such
    as are not named by then are being deleted. `pass_id`: of the pass that set it."""

    before_ms: int
    pass_id: bytes


class Fence:
    """One for each process that writes."""

    def __init__(self, state: GlobalState) -> None:
        self._state = state
        self._known: bytes | None = None

    @property
    def check(self) -> Check:
        """For the commit: the horizon is the one that is known."""
        if self._known is None:
            return Absent(HEALING, HORIZON_KEY)
        return Equals(HEALING, HORIZON_KEY, self._known)

    async def renew(self, began_ms: int) -> None:
        """After the check failed. WriteTooOld if shards committed since `began_ms` may be gone."""
        self._known = await self._state.get(HEALING, HORIZON_KEY)
        if self._known is None:
            return
        horizon = decode(HorizonRecord, self._known)
        if began_ms < horizon.before_ms:
            raise WriteTooOld("the write stood still for so long that its data was given up")

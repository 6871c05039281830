"""When each access key was last used, and for what: noted in memory, stored once in a while.

It is known to within IAM_USED_PRECISION_S. What this process has noted is lost if it is killed
within IAM_USED_FLUSH_S.
"""

from __future__ import annotations

import asyncio
import logging

from predastore.base.errors import PreconditionFailed, PredastoreError
from predastore.base.limits import IAM_USED_FLUSH_S, IAM_USED_PRECISION_S, IAM_USED_WAITING_MAX
from predastore.iam import keys
from predastore.iam.identity import Identified
from predastore.iam.keys import ACCESS_KEYS, USED
from predastore.iam.rows import UsedRow
from predastore.s3db.commands import Exists, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode, encode

logger = logging.getLogger(__name__)


class LastUsed:
    def __init__(self, state: GlobalState) -> None:
        self._state = state
        self._noted: dict[str, UsedRow] = {}  # of what this process knows that it was stored
        self._waiting: dict[str, UsedRow] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to store what is noted, now and then."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """What was noted is stored, if that can be done."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.flush()

    def note(self, who: Identified, service: str, region: str) -> None:
        """A key was used now. Those of the file and of sessions have no row."""
        identity = who.identity
        if identity.ground is None or identity.session is not None:
            return
        row, before = UsedRow(now_ms(), service, region), self._noted.get(who.access_key_id)
        if (
            before is not None
            and row.used_ms - before.used_ms < IAM_USED_PRECISION_S * 1000
            and before.service == service
        ):
            return
        if len(self._waiting) >= IAM_USED_WAITING_MAX:
            return
        if len(self._noted) >= IAM_USED_WAITING_MAX:
            self._noted.clear()
        self._noted[who.access_key_id] = self._waiting[who.access_key_id] = row

    async def read(self, access_key_id: str) -> UsedRow | None:
        """When it was last used, as far as this process and the metadata know."""
        stored = await self._state.get(USED, keys.access_key(access_key_id))
        rows = [self._noted.get(access_key_id), None if stored is None else decode(UsedRow, stored)]
        return max((row for row in rows if row is not None), key=_time, default=None)

    async def flush(self) -> None:
        """Stores what waits; what can not be stored is for the next time."""
        waiting, self._waiting = self._waiting, {}
        for access_key_id, row in waiting.items():
            key = keys.access_key(access_key_id)
            try:
                await self._state.commit(
                    batch(Put(USED, key, encode(row)), checks=(Exists(ACCESS_KEYS, key),))
                )
            except PreconditionFailed:
                continue  # the key was deleted meanwhile
            except PredastoreError as error:
                self._waiting = {**waiting, **self._waiting}
                logger.info("last uses are not stored yet", extra={"error": str(error)})
                return

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(IAM_USED_FLUSH_S)
            await self.flush()


def _time(row: UsedRow) -> int:
    return row.used_ms

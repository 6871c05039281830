"""A member tells the cluster where it is, and what level its program has, where that is news.

At its start, as soon as there is a leader: what the cluster replicates may be of an older or a
newer program of this member, or of another address. Later only where its level is told wrongly:
with a journal that is behind, it may learn only then what it was thought to be. An address that
changes later is an operator's doing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from predastore.base.errors import DeadlineExceeded, NoLeader, NotLeader, PredastoreError
from predastore.base.limits import CHANGE_TIMEOUT_MS, RAFT_ANNOUNCE_PAUSE_MS
from predastore.s3db import changes, levels
from predastore.s3db.changes import Changes
from predastore.s3db.raft.contacts import peer_name
from predastore.s3db.raft.messages import Address, Configuration

if TYPE_CHECKING:
    from predastore.rpc import Endpoint

logger = logging.getLogger(__name__)


class Announcing:
    def __init__(self, own: Address | None, endpoint: Endpoint, changes: Changes) -> None:
        """`own`: None where the member's file has no address of it; then it says nothing."""
        self._own = own
        self._endpoint = endpoint
        self._changes = changes
        self._has_said_where = False
        self._complaint = ""
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """The member is one of a cluster, or its configuration has changed."""
        if self._own is None or (self._task is not None and not self._task.done()):
            return
        if not (self._changes.is_settled and self._is_known(self._own)):
            self._task = asyncio.get_running_loop().create_task(self._run(self._own))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._own = None

    async def _run(self, own: Address) -> None:
        while True:
            if self._changes.is_settled:  # else what is known may be taken back
                if self._is_known(own):
                    return
                await self._try(own)
            await asyncio.sleep(RAFT_ANNOUNCE_PAUSE_MS / 1000)

    async def _try(self, own: Address) -> None:
        try:
            await self._announce(own)
        except (NoLeader, NotLeader):
            pass  # soon
        except PredastoreError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning(
                    "raft: the cluster was not told where this member is, and of its level: %s",
                    error,
                    extra={"member": own.member},
                )

    def _is_known(self, own: Address) -> bool:
        """So that there is nothing to say, or nobody who counts this member."""
        configuration = self._changes.members
        if own.member not in configuration.members():
            return True
        if own in configuration.addresses:
            self._has_said_where = True
        if not self._has_said_where:
            return False
        return levels.of_members(configuration)[own.member] == own.level

    async def _announce(self, own: Address) -> None:
        leader, said = self._changes.leader, self._said(own, self._changes.members)
        if leader is None:
            raise NoLeader("no leader is known")
        if leader != own.member:
            await self._endpoint.call(
                peer_name(leader),
                changes.ANNOUNCE,
                changes.AnnounceRequest(said),
                changes.MembersChanged,
                timeout_ms=CHANGE_TIMEOUT_MS,
            )
            return
        try:
            async with asyncio.timeout(CHANGE_TIMEOUT_MS / 1000):
                await self._changes.announce(said)
        except TimeoutError:
            raise DeadlineExceeded("it was not committed in time") from None

    def _said(self, own: Address, configuration: Configuration) -> Address:
        """Where it is according to its file, or once that is known, to the cluster."""
        for known in configuration.addresses:
            if known.member == own.member and self._has_said_where:
                return msgspec.structs.replace(known, level=own.level)
        return own

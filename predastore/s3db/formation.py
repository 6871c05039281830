"""How a member without a journal finds its place: in a cluster that runs, or in a new one.

It asks the other members of its configuration file who they are:

    NEW          no journal either
    FIRST        one of the first voters of a new cluster, which has decided nothing yet
    ESTABLISHED  of a cluster that has decided something

- One is ESTABLISHED: this member asks that cluster to take it in, as a learner; the leader
  removes it first if it knows it, since a member whose disk was lost must not vote as the one it
  was (it may have acknowledged entries, or voted in this term). Until the cluster has answered
  it takes no message of Raft.
- None is, and all others are NEW or FIRST: it becomes one of the first voters, who are those of
  the file. Of a majority that says so it is content after a grace period: one that has lost its
  disk is never part of a majority of such, unless the disks of a majority are lost.

Members whose files name different members, or another cluster, do not found one together.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from predastore.base.errors import PredastoreError
from predastore.base.limits import (
    RAFT_FORM_GRACE_MS,
    RAFT_FORM_JOIN_MS,
    RAFT_FORM_LOG_MS,
    RAFT_FORM_PAUSE_MS,
    RAFT_STEP_TIMEOUT_MS,
)
from predastore.s3db.client import Client
from predastore.s3db.raft.contacts import peer_name
from predastore.s3db.raft.messages import Address, Configuration

if TYPE_CHECKING:
    from predastore.rpc import Endpoint

logger = logging.getLogger(__name__)

HELLO = "raft.hello"


class Standing(enum.IntEnum):
    NEW = 0
    FIRST = 1
    ESTABLISHED = 2


class HelloRequest(msgspec.Struct, frozen=True, array_like=True):
    """Who are you?"""


class HelloReply(msgspec.Struct, frozen=True, array_like=True):
    """`members`: those of the replier's configuration file."""

    standing: Standing
    members: tuple[int, ...]
    cluster_id: bytes


class Formation:
    def __init__(
        self,
        endpoint: Endpoint,
        *,
        member_id: int,
        members: Sequence[int],
        addresses: Sequence[Address],
        cluster_id: bytes,
        own: Address | None,
        found: Callable[[Configuration], None],
        joined: Callable[[Configuration], None],
    ) -> None:
        """`addresses`: those of the file, alike for all founders, so of the first release's level;
        `own`: as this member says. One of `found` and `joined` is called, once, by `run`."""
        self._endpoint = endpoint
        self._id = member_id
        self._members = tuple(sorted(members))
        self._addresses = tuple(sorted(addresses, key=lambda address: address.member))
        self._cluster_id = cluster_id
        self._own = own
        self._found = found
        self._joined = joined
        self._others = [member for member in self._members if member != member_id]
        self._said = ""
        self._said_at = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        grace_ends = loop.time() + RAFT_FORM_GRACE_MS / 1000
        while True:
            known = await self._ask_all()
            if Standing.ESTABLISHED in known:
                if await self._join():
                    return
            elif len(known) == len(self._others) or (
                2 * (len(known) + 1) > len(self._members) and loop.time() >= grace_ends
            ):
                logger.info("raft: founding a cluster", extra={"members": self._members})
                self._found(Configuration(self._members, (), self._addresses))
                return
            elif loop.time() >= grace_ends:
                self._say("waiting for the other members of the configuration file")
            await asyncio.sleep(RAFT_FORM_PAUSE_MS / 1000)

    async def _ask_all(self) -> list[Standing]:
        answers = await asyncio.gather(*map(self._ask, self._others))
        return [standing for standing in answers if standing is not None]

    async def _ask(self, member: int) -> Standing | None:
        """None: no answer, or one that does not count."""
        try:
            reply, _ = await self._endpoint.call(
                peer_name(member),
                HELLO,
                HelloRequest(),
                HelloReply,
                timeout_ms=RAFT_STEP_TIMEOUT_MS,
            )
        except PredastoreError as error:
            logger.debug("raft: no hello", extra={"peer": peer_name(member), "error": str(error)})
            return None
        if reply.cluster_id != self._cluster_id:
            self._say(f"member {member} is one of another cluster: [cluster] name differs")
            return None
        if reply.standing is not Standing.ESTABLISHED and reply.members != self._members:
            self._say(
                f"member {member} has [[db]] of the ids {list(reply.members)}, this one of "
                f"{list(self._members)}: give both the same, so that they can found a cluster"
            )
            return None
        return reply.standing

    async def _join(self) -> bool:
        client = Client(self._endpoint, self._others, None)
        try:
            configuration = await client.join(
                self._id, self._own, is_new=True, timeout_ms=RAFT_FORM_JOIN_MS
            )
        except PredastoreError as error:
            self._say(f"the cluster has not taken this member in yet: {error}")
            return False
        logger.info("raft: joined a cluster", extra={"members": configuration.members()})
        self._joined(configuration)
        return True

    def _say(self, what: str) -> None:
        """Now and then, unless it is news."""
        now = asyncio.get_running_loop().time()
        if what != self._said or now - self._said_at >= RAFT_FORM_LOG_MS / 1000:
            self._said, self._said_at = what, now
            logger.warning("raft: %s", what, extra={"member": self._id})

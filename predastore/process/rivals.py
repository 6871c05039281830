"""No two processes run one node, or one member of the metadata cluster: the second does not start.

Before a process opens anything it asks the others whom they see (`check`). One that they see as
running what this one is to run, under whatever address, is asked itself: if it answers, this
process ends. If it does not answer, but may (its host may be cut off from this one alone), the
others are asked again until they have found it dead; one that was to listen where this one will
listen is gone.

Two that start at the same moment do not see each other. So each node has an owner in s3db, and no
process serves a node before it is that (`Ownership`). Who was stopped for a while and finds another
in its place ends; gossip under its name is contradicted by the owner alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterable, Sequence

from predastore.base.config import Config
from predastore.base.errors import InUse, PeerUnreachable, PredastoreError
from predastore.base.limits import (
    READY_LOG_MS,
    RIVAL_ASK_MS,
    RIVAL_ASKED_MAX,
    RIVAL_MORE_MS,
    RIVAL_PAUSE_MS,
    RIVAL_WAIT_MS_MAX,
)
from predastore.gossip import Record
from predastore.gossip.agent import VIEW
from predastore.gossip.messages import GossipView, Viewed
from predastore.process.roles import Roles
from predastore.rpc import Endpoint, self_signed
from predastore.storage.extents import now_ms
from predastore.storage.node_owners import Owner, OwnerRecord, Owners
from predastore.storage.ring_table import NodeRow

_log = logging.getLogger(__name__)

Address = tuple[str, int]


# --- asking -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _asking(cluster_key: bytes) -> AsyncIterator[Endpoint]:
    """An endpoint for a few questions, beside that of the process, which answers to its own."""
    endpoint = Endpoint(cluster_key=cluster_key, certificate=self_signed(), name="starting")
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def _viewed(endpoint: Endpoint, address: Address) -> Viewed | None:
    """What the process at an address says of itself and of others; None: no answer."""
    peer = endpoint.add_seed(*address)
    try:
        said, _ = await endpoint.call(peer, VIEW, GossipView(), Viewed, timeout_ms=RIVAL_ASK_MS)
    except PredastoreError as error:
        _log.debug("no view", extra={"peer": peer, "error": str(error)})
        return None
    return said


async def _seen(endpoint: Endpoint, addresses: Iterable[Address]) -> list[Record]:
    """The newest records of the processes that those at `addresses` see. Who has not answered
    shortly after the first one did is not waited for."""
    waiting = {asyncio.ensure_future(_viewed(endpoint, address)) for address in set(addresses)}
    newest: dict[str, Record] = {}
    timeout_s: float | None = None
    try:
        while waiting:
            done, waiting = await asyncio.wait(
                waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for said in (task.result() for task in done):
                for record in said.records if said is not None else ():
                    known = newest.get(record.name)
                    if known is None or record.order > known.order:
                        newest[record.name] = record
                    timeout_s = RIVAL_MORE_MS / 1000
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return list(newest.values())


# --- before anything is opened ----------------------------------------------------------------


async def check(settings: Config, chosen: Roles, cluster_key: bytes) -> None:
    """InUse where another process runs a node or a member of those that are `chosen`."""
    others = other_addresses(settings, chosen)
    if not others or not (chosen.nodes or chosen.members):
        return
    loop = asyncio.get_running_loop()
    began_s = said_s = loop.time()
    async with _asking(cluster_key) as endpoint:
        while doubts := await _doubts(endpoint, others, chosen):
            (what, address), now_s = doubts[0], loop.time()
            if now_s - began_s > RIVAL_WAIT_MS_MAX / 1000:
                raise _twice(what, address, "the other processes see it there")
            if now_s - said_s > READY_LOG_MS / 1000:
                said_s = now_s
                _log.warning(
                    "%s: others see a process at %s:%d that runs it; waiting until it is gone",
                    *(what, *address),
                )
            await asyncio.sleep(RIVAL_PAUSE_MS / 1000)


async def _doubts(
    endpoint: Endpoint, others: Sequence[Address], chosen: Roles
) -> list[tuple[str, Address]]:
    """What is to run here and may run elsewhere. InUse where it does."""
    doubts = []
    for record in await _seen(endpoint, others):
        for what, address, own in _shared(record, chosen):
            said = await _viewed(endpoint, address)
            if said is not None and _shared(said.sender, chosen):
                raise _twice(what, address, "it answers there")
            if said is None and address != own:
                doubts.append((what, address))
    return doubts


def _shared(record: Record, chosen: Roles) -> list[tuple[str, Address, Address]]:
    """What a process that is here runs of what is `chosen`: a name for people, where it takes
    calls, and where this process is to."""
    if not record.is_here:
        return []
    nodes = {row.id: (row.host, row.port) for row in chosen.nodes}
    members = {row.id: (row.host, row.raft_port) for row in chosen.members}
    shared = [
        (f"node {row.id}", (row.host, row.port), nodes[row.id])
        for row in record.facts.nodes
        if row.id in nodes
    ]
    shared += [
        (f"database member {row.id}", (row.host, row.raft_port), members[row.id])
        for row in record.facts.members
        if row.id in members
    ]
    return shared


def other_addresses(settings: Config, chosen: Roles) -> list[Address]:
    """Some of those where other processes may answer."""
    found = [(row.host, row.port) for row in settings.nodes if row not in chosen.nodes]
    found += [(row.host, row.raft_port) for row in settings.db if row not in chosen.members]
    some = random.sample(found, min(len(found), RIVAL_ASKED_MAX))
    return [*some, *settings.cluster.join]


def _twice(what: str, address: Address, why: str) -> InUse:
    host, port = address
    return InUse(
        f"{what} runs in another process, at {host}:{port} ({why}); stop that one first, or give "
        "this one another id, with a row and a path of its own"
    )


# --- while it runs ----------------------------------------------------------------------------


class Ownership:
    """That this process, and no other, runs the nodes `own`. `life`: of this process. `others`:
    where other processes may answer. `endpoint`: has the cluster key."""

    def __init__(
        self,
        own: Sequence[NodeRow],
        life: int,
        others: Sequence[Address],
        endpoint: Endpoint,
    ) -> None:
        self._own = own
        self._life = life
        self._others = others
        self._endpoint = endpoint

    async def confirm(self, owners: Owners) -> None:
        """Makes sure of it in s3db. InUse: another process owns one of them, and runs.
        PeerUnreachable: one does that may run."""
        found = await owners.read([row.id for row in self._own])
        for row, owner in zip(self._own, found, strict=True):
            latest = owner
            while not await self._has(owners, row, latest):
                (latest,) = await owners.read([row.id])

    async def _has(self, owners: Owners, row: NodeRow, owner: Owner | None) -> bool:
        """Whether it is so now; False: to be looked at again, as somebody else has changed it."""
        new = OwnerRecord(self._life, row.host, row.port, now_ms())
        if owner is not None and owner.record.life == self._life:
            if (owner.record.host, owner.record.port) == (row.host, row.port):
                return True
        elif owner is not None:
            await self._make_sure_is_gone(row, owner.record)
        return await owners.take(row.id, new, owner)

    async def _make_sure_is_gone(self, row: NodeRow, owner: OwnerRecord) -> None:
        what, address = f"node {row.id}", (owner.host, owner.port)
        async with _asking(self._endpoint.cluster_keys[0]) as endpoint:
            said = await _viewed(endpoint, address)
            if said is not None and said.sender.facts.life == owner.life:
                raise _twice(what, address, "it answers there, and was first")
            if said is not None or address == (row.host, row.port):
                return
            for record in await _seen(endpoint, self._others):
                if record.facts.life == owner.life and record.is_here:
                    raise PeerUnreachable(
                        f"{what}: another process runs it, at {owner.host}:{owner.port}, as others "
                        "see it; waiting until it is gone"
                    )

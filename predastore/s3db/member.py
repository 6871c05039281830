"""One member of the metadata cluster, as the rest of the process sees it.

The protocol is in `raft/`, run by its `Engine`; here it meets its peers (rpc methods "raft.step"
and "raft.read_index" of the peer "db/<id>") and those who commit and read. pysyncobj's SyncObj
is the shell around it (shell.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predastore.errors import MemberFailed, NoLeader, OutcomeUnknown, PredastoreError, TooLarge
from predastore.limits import RAFT_COMMAND_BYTES_MAX, RAFT_STEP_TIMEOUT_MS, RPC_PAYLOAD_BYTES_MAX
from predastore.rpc import CallContext, Method, Reply
from predastore.s3db import shell
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.engine import Engine
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.links import STEP, Link, StepReply, StepRequest
from predastore.s3db.raft.messages import DECODER, Message
from predastore.s3db.raft.reads import ReadIndexReply, ReadIndexRequest, Reads
from predastore.s3db.raft.recovery import recover
from predastore.s3db.raft.snapshots import read_note
from predastore.s3db.raft.state import Recovered, Role, Timing

if TYPE_CHECKING:
    from predastore.rpc import Endpoint
    from predastore.s3db.commands import Applied
    from predastore.s3db.store import Store

logger = logging.getLogger(__name__)

_READ_INDEX = "raft.read_index"


def peer_name(member: int) -> str:
    return f"db/{member}"


class Member:
    """Made by `open`; all methods are called on the loop that opened it."""

    def __init__(
        self,
        *,
        member_id: int,
        directory: Path,
        recovered: Recovered,
        journal: Journal,
        store: Store,
        endpoint: Endpoint,
        timing: Timing,
    ) -> None:
        self.id = member_id
        self.store = store
        self._endpoint = endpoint
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(
            member_id=member_id,
            directory=directory,
            recovered=recovered,
            journal=journal,
            store=store,
            timing=timing,
            post=self._post,
        )
        self._core = self._engine.core
        self._reads = Reads(self._take_read_index)
        self._links = {
            member: Link(
                endpoint, peer_name(member), partial(self._engine.transport.connected, member)
            )
            for member in recovered.marker.configuration.members()
            if member != member_id
        }

    @classmethod
    async def open(
        cls,
        *,
        path: Path,
        member_id: int,
        members: Sequence[int],
        store: Store,
        endpoint: Endpoint,
        timing: Timing | None = None,
    ) -> Member:
        """Start a member whose journal is in `path`; StartupError.

        `members`: the first voters of a new cluster; later the journal knows who they are.
        `store` must not be durable by itself: the member replays, and syncs it from time to time.
        """

        def load() -> tuple[Journal, Recovered]:
            journal = Journal(OsDisk(path / "journal"), member_id)
            recovered = recover(
                journal,
                applied=store.applied_index,
                members=members,
                where=str(path),
                installing=read_note(path),
            )
            return journal, recovered

        journal, recovered = await asyncio.to_thread(load)
        known = recovered.marker.configuration.members()
        if set(known) != set(members):
            logger.warning(
                "raft: the members of this cluster are %s, by its journal; the configuration's %s "
                "are not used",
                sorted(known),
                sorted(members),
                extra={"member": member_id},
            )
        member = cls(
            member_id=member_id,
            directory=path,
            recovered=recovered,
            journal=journal,
            store=store,
            endpoint=endpoint,
            timing=timing or Timing(),
        )
        endpoint.serve(peer_name(member_id), member._service())
        member._engine.wake()
        return member

    # --- what callers use ---------------------------------------------------------------------

    @property
    def failed(self) -> asyncio.Future[MemberFailed]:
        """Resolves, with the reason, when the member can not go on; then the process must end."""
        return self._engine.failed

    @property
    def leader(self) -> int | None:
        return self._core.leader

    @property
    def role(self) -> Role:
        return self._core.role

    @property
    def applied_index(self) -> int:
        return self._engine.driver.applied_index

    async def propose(self, command: bytes, *, timeout_ms: int) -> Applied:
        """Commit an encoded Batch through this member, the leader; what applying it gave.

        NotLeader, NoLeader, Overloaded, TooLarge, PreconditionFailed: nothing was changed.
        OutcomeUnknown: it may yet be done.
        """
        self._check_running()
        if len(command) > RAFT_COMMAND_BYTES_MAX:
            raise TooLarge(f"a commit of {len(command)} bytes; {RAFT_COMMAND_BYTES_MAX} may be")
        if self._core.role is not Role.LEADER:
            leader = self._core.leader
            reason = shell.MISSING_LEADER if leader is None else shell.NOT_LEADER
            raise shell.failure(reason, leader)
        future: asyncio.Future[Applied] = self._loop.create_future()
        self._engine.submit(command, partial(self._settle, future))
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await future
        except TimeoutError:
            raise OutcomeUnknown(f"the commit was not decided within {timeout_ms} ms") from None

    def _settle(self, future: asyncio.Future[Applied], outcome: Any, reason: int) -> None:
        """pysyncobj's callback: an outcome of the state machine, or a fail reason."""
        if future.done():
            return
        if reason != shell.SUCCESS:
            future.set_exception(shell.failure(reason, self._core.leader))
        elif isinstance(outcome, PredastoreError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    async def read_barrier(self, *, timeout_ms: int) -> None:
        """Afterwards reads of `store` see all that was acknowledged before this call.

        On every member. NoLeader: not in time, or there is no leader.
        """
        self._check_running()
        deadline = self._loop.time() + timeout_ms / 1000
        index = await self._reads.index(deadline)
        if index <= self.applied_index:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._engine.wait_applied(index)
        except TimeoutError:
            raise NoLeader(f"entry {index} was not applied within {timeout_ms} ms") from None

    def status(self) -> dict[str, Any]:
        """Role, term, indexes and members with their lag, for operators."""
        core = self._core
        configuration = core.membership.current
        peers = {} if core.leadership is None else core.leadership.peers
        return {
            "id": self.id,
            "role": core.role.value,
            "term": core.term,
            "leader": core.leader,
            "voters": list(configuration.voters),
            "learners": list(configuration.learners),
            "first_index": core.log.first_index,
            "last_index": core.log.last_index,
            "commit_index": core.commit,
            "applied_index": self.applied_index,
            "lag": {str(peer): core.log.last_index - p.match for peer, p in peers.items()},
            "connected": {str(peer): link.is_connected for peer, link in self._links.items()},
            "journal_segments": self._journal.segment_count,
            "failed": str(self.failed.result()) if self.failed.done() else None,
        }

    async def close(self) -> None:
        """Hand leadership over if somebody can take it, then stop; the store stays open."""
        if not self._engine.is_stopped and self._core.transfer_to_fittest():
            self._engine.wake()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._core.timing.election_s):
                    await self._engine.follows.wait()
        self._engine.stop(NoLeader("this member is shutting down"))
        await self._reads.close()
        for link in self._links.values():
            await link.close()
        await self._engine.close()

    def _check_running(self) -> None:
        if self._engine.is_stopped:
            raise NoLeader(f"member {self.id} has stopped; nothing was changed")

    # --- peers --------------------------------------------------------------------------------

    def _service(self) -> dict[str, Method]:
        return {
            STEP: Method(StepRequest, StepReply, self._on_step, RPC_PAYLOAD_BYTES_MAX),
            _READ_INDEX: Method(ReadIndexRequest, ReadIndexReply, self._on_read_index, 0),
        }

    def _post(self, member: int, messages: Sequence[Message]) -> None:
        if not self._engine.is_stopped:
            self._links[member].send(messages)

    async def _on_step(self, _: StepRequest, payload: memoryview, context: CallContext) -> Reply:
        self._check_running()
        messages = DECODER.decode(payload)
        if messages:
            self._engine.transport.received(messages[0].source, messages)
        return Reply(StepReply())

    async def _take_read_index(self) -> int:
        """From the own core if it leads, else from the leader."""
        leader = self._core.leader
        if self._core.role is Role.LEADER:
            return await self._engine.read_index()
        if leader is None:
            raise NoLeader("no leader is known")
        reply, _ = await self._endpoint.call(
            peer_name(leader),
            _READ_INDEX,
            ReadIndexRequest(),
            ReadIndexReply,
            timeout_ms=RAFT_STEP_TIMEOUT_MS,
        )
        return reply.index

    async def _on_read_index(
        self, _: ReadIndexRequest, payload: memoryview, context: CallContext
    ) -> Reply:
        self._check_running()
        return Reply(ReadIndexReply(await self._engine.read_index()))

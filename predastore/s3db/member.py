"""One member of the metadata cluster, as the rest of the process sees it.

The protocol is in `raft/`, run by its `Engine`; here it meets its peers (rpc methods "raft.step",
"raft.read_index" and "raft.hello" of the peer "db/<id>") and those who commit and read.
pysyncobj's SyncObj is the shell around it (shell.py).

A member with an empty journal looks for its cluster first (formation.py), in the background;
meanwhile it knows no leader. Where the others are is in the configuration that the cluster
replicates; the addresses of the configuration file go before those, so that an operator can
move a host.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from predastore.base.errors import MemberFailed, NoLeader, Overloaded
from predastore.base.limits import RAFT_STEP_TIMEOUT_MS, READ_TIMEOUT_MS, RPC_PAYLOAD_BYTES_MAX
from predastore.base.threads import in_thread, within
from predastore.rpc import CallContext, Later, Method, Reply
from predastore.rpc.service import in_task
from predastore.s3db import backup, clock, identity, levels
from predastore.s3db.announcing import Announcing
from predastore.s3db.asking import Asking
from predastore.s3db.backup import Backup
from predastore.s3db.changes import Changes
from predastore.s3db.clock import Clocks
from predastore.s3db.formation import HELLO, Formation, HelloReply, HelloRequest, Standing
from predastore.s3db.freshness import Freshness
from predastore.s3db.proposals import Proposals
from predastore.s3db.raft.contacts import Contacts, peer_name
from predastore.s3db.raft.disk import OsDisk
from predastore.s3db.raft.engine import Engine
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.links import STEP, StepReply, StepRequest
from predastore.s3db.raft.messages import DECODER, Address, Configuration, Message
from predastore.s3db.raft.reads import ReadIndexes, ReadIndexReply, ReadIndexRequest, while_it_leads
from predastore.s3db.raft.recovery import recover
from predastore.s3db.raft.snapshots import read_note
from predastore.s3db.raft.state import Recovered, Role, Timing
from predastore.s3db.timekeeping import Timekeeper

if TYPE_CHECKING:
    from predastore.rpc import Endpoint
    from predastore.s3db.commands import Applied
    from predastore.s3db.store import Store

logger = logging.getLogger(__name__)

_READ_INDEX = "raft.read_index"


class Member:
    """Made by `open`; all methods are called on the loop that opened it."""

    def __init__(
        self,
        *,
        member_id: int,
        members: Sequence[int],
        addresses: Sequence[Address],
        cluster_id: bytes,
        directory: Path,
        recovered: Recovered,
        journal: Journal,
        store: Store,
        endpoint: Endpoint,
        timing: Timing,
        clocks: Clocks,
    ) -> None:
        self.id = member_id
        self.store = store
        self._directory = directory
        self._members = tuple(sorted(members))
        self._cluster_id = cluster_id
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
            configured=self._meet,
            told=self._applied,
        )
        self._core = self._engine.core
        self._proposals = Proposals(self._engine)
        self.timekeeper = Timekeeper(member_id, self._engine, self.propose, store, clocks)
        self.changes = Changes(member_id, self._engine)
        self._reads = ReadIndexes(self._take_read_index)
        self.freshness = Freshness(partial(self.read_barrier, timeout_ms=RAFT_STEP_TIMEOUT_MS))
        self.asking = Asking(store, self._engine, self.read_barrier, self.freshness.proven)
        self._backing_up = asyncio.Lock()
        own = _own(member_id, addresses, store.procedures.level)
        self._announcing = Announcing(own, endpoint, self.changes)
        self._contacts = Contacts(endpoint, self._engine.transport.connected, self._receive, own)
        self._is_formed = not self._core.is_unformed
        self._formation = Formation(
            endpoint,
            member_id=member_id,
            members=members,
            addresses=addresses,
            cluster_id=cluster_id,
            own=own,
            found=self._found,
            joined=self._joined,
        )
        self._forming: asyncio.Task[None] | None = None

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
        addresses: Sequence[Address] = (),
        cluster_id: bytes = bytes(identity.CLUSTER_ID_BYTES),
        clocks: Clocks | None = None,
    ) -> Member:
        """Start a member whose journal is in `path`; StartupError.

        `members`: those of the configuration file, this one included, and `addresses` where they
        are: the first voters of a new cluster. Later the journal knows who belongs to it.
        `store` need not be durable by itself: what a crash undoes there is applied again.
        `cluster_id`: 16 bytes; the journal of another cluster is refused. `clocks`: this machine's.
        """

        def load() -> tuple[Journal, Recovered]:
            identity.establish(path, member_id, cluster_id)
            backup.clear(path)
            journal = Journal(OsDisk(path / "journal"), member_id)
            recovered = recover(
                journal,
                applied=store.applied_index,
                members=members if set(members) == {member_id} else (),
                where=str(path),
                installing=read_note(path),
            )
            return journal, recovered

        journal, recovered = await asyncio.to_thread(load)
        member = cls(
            member_id=member_id,
            members=members,
            addresses=addresses,
            cluster_id=cluster_id,
            directory=path,
            recovered=recovered,
            journal=journal,
            store=store,
            endpoint=endpoint,
            timing=timing or Timing(),
            clocks=clocks or clock.system(),
        )
        endpoint.serve(peer_name(member_id), member._service())
        member._meet(member._core.membership.current)
        member._engine.wake()
        member.timekeeper.start()
        if not member._is_formed:
            member._forming = asyncio.create_task(member._form())
        return member

    def _applied(self) -> None:
        self.timekeeper.applied()

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
        """Commit an encoded command through this member, the leader; what applying it gave.

        NotLeader, NoLeader, Overloaded, TooLarge, PreconditionFailed, ProcedureFailed, LevelTooLow:
        nothing was changed. OutcomeUnknown: it may yet be done.
        """
        self._check_running()
        return await self._proposals.propose(command, timeout_ms=timeout_ms)

    async def read_barrier(self, *, timeout_ms: int = READ_TIMEOUT_MS) -> None:
        """Afterwards reads of `store` see all that was acknowledged before this call.

        On every member. NoLeader: not in time, or there is no leader.
        """
        self._check_running()
        begun = self._loop.time()
        deadline = begun + timeout_ms / 1000
        index = await self._reads.index(deadline)
        if index > self.applied_index:
            try:
                await within(self._engine.wait_applied(index), deadline)
            except TimeoutError:
                raise NoLeader(f"entry {index} was not applied within {timeout_ms} ms") from None
        self.freshness.proven(begun)

    async def backup(self) -> Backup:
        """A copy of the state that has all that was acknowledged; one is made at a time.

        NoLeader, Overloaded, NodeFull.
        """
        if self._backing_up.locked():
            raise Overloaded("another backup is being begun at this member")
        async with self._backing_up:
            await self.read_barrier(timeout_ms=READ_TIMEOUT_MS)
            # Until its end: the file that the next one writes has the same name.
            return await in_thread(
                None, backup.begin, self.store, self._directory, self._cluster_id, undo=Backup.close
            )

    def status(self) -> dict[str, Any]:
        """Role, term, indexes and members with their lag, for operators."""
        core = self._core
        configuration = core.membership.current
        peers = {} if core.leadership is None else core.leadership.peers
        return {
            "id": self.id,
            "role": core.role.value,
            "formed": self._is_formed,
            "term": core.term,
            "leader": core.leader,
            "voters": list(configuration.voters),
            "learners": list(configuration.learners),
            "level": self.store.procedures.level,
            "levels": {str(member): n for member, n in levels.of_members(configuration).items()},
            "addresses": {
                str(known.member): [known.host, known.port] for known in configuration.addresses
            },
            "first_index": core.log.first_index,
            "last_index": core.log.last_index,
            "commit_index": core.commit,
            "applied_index": self.applied_index,
            "lag": {str(peer): core.log.last_index - p.match for peer, p in peers.items()},
            "connected": {
                str(peer): is_connected for peer, is_connected in self._contacts.connected().items()
            },
            "disk_free_bytes": self._engine.room.left_bytes(),
            "journal_segments": self._journal.segment_count,
            "journal_bytes": self._journal.size_bytes,
            "time": self.timekeeper.status(),
            "failed": str(self.failed.result()) if self.failed.done() else None,
        }

    async def close(self) -> None:
        """Hand leadership over if somebody can take it, then stop; the store stays open."""
        if self._forming is not None:
            self._forming.cancel()
            await asyncio.wait([self._forming])
        if not self._engine.is_stopped and self._core.transfer_to_fittest():
            self._engine.wake()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._core.timing.election_s):
                    await self._engine.follows.wait()
        self._engine.stop(NoLeader("this member is shutting down"))
        await self._announcing.close()
        await self.timekeeper.close()
        await self.freshness.close()
        await self.asking.close()
        await self._reads.close()
        await self._contacts.close()
        await self._engine.close()

    def _check_running(self) -> None:
        if self._engine.is_stopped:
            raise NoLeader(f"member {self.id} has stopped; nothing was changed")

    # --- peers --------------------------------------------------------------------------------

    def _service(self) -> dict[str, Method]:
        step = self._on_step
        return {
            STEP: Method(StepRequest, StepReply, in_task(step), RPC_PAYLOAD_BYTES_MAX, step),
            _READ_INDEX: Method(ReadIndexRequest, ReadIndexReply, self._on_read_index, 0),
            HELLO: Method(HelloRequest, HelloReply, self._on_hello, 0),
        }

    async def _form(self) -> None:
        try:
            await self._formation.run()
        except Exception as error:
            self._engine.fail(error)

    def _found(self, configuration: Configuration) -> None:
        """Be one of a new cluster's first voters."""
        self._core.bootstrap(configuration)
        self._is_formed = True
        self._meet(configuration)
        self._engine.wake()

    def _joined(self, configuration: Configuration) -> None:
        """The cluster has taken this member in: it may take messages now."""
        self._is_formed = True
        self._meet(configuration)

    def _meet(self, configuration: Configuration) -> None:
        """Know the members of a configuration, and where they are."""
        members = configuration.members()
        self._engine.transport.meet({self.id, *members})
        for known in configuration.addresses:
            self._locate(known)
        if members:
            self._contacts.retain(members)
        if self._is_formed:
            self._announcing.look()
        if members and self.id not in members and self._is_formed:
            logger.warning("raft: this member is not one of the cluster's (any more)")

    def _locate(self, known: Address) -> None:
        if known.member not in self._members:
            self._endpoint.add_peer(peer_name(known.member), known.host, known.raft_port)

    def _post(self, member: int, messages: Sequence[Message]) -> None:
        if not self._engine.is_stopped:
            self._contacts.send(member, messages)

    def _on_step(self, request: StepRequest, payload: memoryview, _: CallContext) -> Reply | Later:
        self._check_running()
        if request.address is not None:
            self._locate(request.address)
        messages = DECODER.decode(payload) if self._is_formed else []
        if not messages:
            return Reply(StepReply())
        source = messages[0].source
        later = self._contacts.answer(source, messages)  # before there is something to say
        self._receive(source, messages)
        return later

    def _receive(self, source: int, messages: Sequence[Message]) -> None:
        if not self._engine.is_stopped:
            self._engine.transport.received(source, messages)

    async def _on_hello(self, _: HelloRequest, __: memoryview, ___: CallContext) -> Reply:
        standing = Standing.NEW
        if self._is_formed:
            has_log = self._core.log.last_index > 0
            standing = Standing.ESTABLISHED if has_log else Standing.FIRST
        return Reply(HelloReply(standing, self._members, self._cluster_id))

    async def _take_read_index(self) -> int:
        """From the own core if it leads, else from the leader."""
        leader = self._core.leader
        if self._core.role is Role.LEADER:
            return await self._engine.read_index()
        if leader is None:
            raise NoLeader("no leader is known")
        asked = self._endpoint.call(
            peer_name(leader), _READ_INDEX, ReadIndexRequest(), ReadIndexReply,
            timeout_ms=RAFT_STEP_TIMEOUT_MS,
        )  # fmt: skip
        reply, _ = await while_it_leads(asked, lambda: self._core.leader == leader)
        return reply.index

    async def _on_read_index(
        self, _: ReadIndexRequest, payload: memoryview, context: CallContext
    ) -> Reply:
        self._check_running()
        return Reply(ReadIndexReply(await self._engine.read_index()))


def _own(member_id: int, addresses: Sequence[Address], level: int) -> Address | None:
    """Where the member is, if its file says so, and what level its program has."""
    for known in addresses:
        if known.member == member_id:
            return msgspec.structs.replace(known, level=level)
    return None

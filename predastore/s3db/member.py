"""One member of the metadata cluster: the Raft core, its journal, its state machine, its peers.

Where things run: the core, on the event loop only; the journal's writes and syncs, in one thread;
the state machine's transactions, in another. Nothing is timed on the path of a commit: a proposal
leads to a turn of the core at once, and all that came before a thread was free goes together.

    propose -> shell's queue -> turn -> appends to peers ... replies -> commit -> apply -> caller
                                     -> journal write, sync /

A failed write or sync, a failed transaction, or a broken invariant ends the member for good:
`failed` resolves, whoever waits gets OutcomeUnknown, and the process should end, because what
the disk holds is no longer known.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predastore.errors import (
    MemberFailed,
    NodeFull,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    PredastoreError,
    TooLarge,
)
from predastore.limits import (
    RAFT_COMMAND_BYTES_MAX,
    RAFT_LOG_CUT_BYTES,
    RAFT_LOG_KEPT_BYTES,
    RAFT_STEP_TIMEOUT_MS,
    RPC_PAYLOAD_BYTES_MAX,
)
from predastore.rpc import CallContext, Method, Reply

from . import shell
from .raft.core import Core
from .raft.disk import OsDisk
from .raft.driver import Driver
from .raft.journal import Journal
from .raft.links import STEP, Link, StepReply, StepRequest
from .raft.messages import COMMAND, DECODER, Entry, Message, Record, SnapshotChunk
from .raft.reads import ReadIndexReply, ReadIndexRequest, Reads
from .raft.recovery import recover
from .raft.state import ChunkWanted, ReadState, Recovered, Role, Timing
from .raft.waiting import AppliedWaiters
from .raft.worker import Worker
from .shell import Callback, RpcTransport, Shell

if TYPE_CHECKING:
    from predastore.rpc import Endpoint

    from .commands import Applied
    from .store import Store

logger = logging.getLogger(__name__)

_READ_INDEX = "raft.read_index"
_FULL_RETRY_S = 1.0  # until what is committed is tried again on a full disk


def peer_name(member: int) -> str:
    return f"db/{member}"


class Member:
    """See the module. Made by `open`; all methods are called on the loop that opened it."""

    def __init__(
        self,
        *,
        member_id: int,
        recovered: Recovered,
        journal: Journal,
        store: Store,
        endpoint: Endpoint,
        timing: Timing,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = member_id
        self.store = store
        self.failed: asyncio.Future[MemberFailed] = loop.create_future()
        self._loop = loop
        self._journal = journal
        self._endpoint = endpoint
        self._core = Core(
            member_id,
            recovered,
            applied=store.applied_index,
            rng=random.Random(),
            now=loop.time(),
            timing=timing,
        )
        self._driver = Driver(self._core, self)
        self._writer = Worker(f"journal-{member_id}", self._fail)
        self._applier = Worker(f"apply-{member_id}", self._fail)
        self._reads = Reads(self._take_read_index)
        self._applied_waiters = AppliedWaiters()
        self._callers: dict[int, tuple[int, Callback]] = {}  # index -> (term, who waits for it)
        self._stopped = False
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._led_term = 0  # the term that this member leads, 0 while it follows
        self._follows = asyncio.Event()
        self._cutting = False
        nodes = {
            member: shell.Node(peer_name(member))
            for member in recovered.marker.configuration.members()
        }
        self._links = {
            member: Link(endpoint, node.id, partial(self._contact, member))
            for member, node in nodes.items()
            if member != member_id
        }
        others = {member: node for member, node in nodes.items() if member != member_id}
        self._transport = RpcTransport(shell.Node(peer_name(member_id)), others, self._post)
        self._shell = Shell(
            peer_name(member_id),
            nodes,
            self._transport,
            on_tick=self._turn,
            on_messages=self._step,
        )

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
            journal = Journal(OsDisk(Path(path) / "journal"), member_id)
            return journal, recover(
                journal, applied=store.applied_index, members=members, where=str(path)
            )

        journal, recovered = await asyncio.to_thread(load)
        member = cls(
            member_id=member_id,
            recovered=recovered,
            journal=journal,
            store=store,
            endpoint=endpoint,
            timing=timing or Timing(),
        )
        endpoint.serve(peer_name(member_id), member._service())
        member._wake()
        return member

    # --- what callers use ---------------------------------------------------------------------

    @property
    def leader(self) -> int | None:
        return self._core.leader

    @property
    def role(self) -> Role:
        return self._core.role

    @property
    def applied_index(self) -> int:
        return self._driver.applied_index

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
        self._shell.submit(command, partial(self._settle, future))
        self._wake()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await future
        except TimeoutError:
            raise OutcomeUnknown(f"the commit was not decided within {timeout_ms} ms") from None

    async def read_barrier(self, *, timeout_ms: int) -> None:
        """Afterwards reads of `store` see all that was acknowledged before this call."""
        self._check_running()
        deadline = self._loop.time() + timeout_ms / 1000
        index = await self._reads.index(deadline)
        if index <= self._driver.applied_index:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._applied_waiters.wait(index)
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
            "applied_index": self._driver.applied_index,
            "lag": {str(peer): core.log.last_index - p.match for peer, p in peers.items()},
            "connected": {str(peer): link.is_connected for peer, link in self._links.items()},
            "journal_segments": self._journal.segment_count,
            "failed": str(self.failed.result()) if self.failed.done() else None,
        }

    def shell_status(self) -> dict[str, Any]:
        """pysyncobj's own status report."""
        self._shell.mirror(self._core, self._driver.applied_index)
        return self._shell.getStatus()

    async def close(self) -> None:
        """Hand leadership over if there is somebody to take it, then stop; the store stays open."""
        if not self._stopped and self._core.transfer_to_fittest():
            self._wake()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._core.timing.election_s):
                    await self._follows.wait()
        self._stop(NoLeader("this member is shutting down"))
        await self._reads.close()
        for link in self._links.values():
            await link.close()
        await self._writer.close()
        await self._applier.close()
        self._journal.close()
        self._shell.destroy()

    # --- turns --------------------------------------------------------------------------------

    def _wake(self) -> None:
        """A turn soon; one for all that this iteration of the loop brings."""
        if not self._turn_due and not self._stopped:
            self._turn_due = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._turn_due = False
        if self._stopped:
            return
        self._guarded(self._shell.doTick)

    def _turn(self) -> None:
        """What pysyncobj's tick has become."""
        self._core.tick(self._loop.time())
        proposals = self._shell.drain()
        if proposals:
            self._propose(proposals)
        self._driver.turn()
        self._note_role()
        self._arm()

    def _guarded(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:
            self._fail(error)

    def _arm(self) -> None:
        """Time matters only for heartbeats and elections; the timer is moved when it rings."""
        when = self._core.deadline()
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() >= self._core.deadline():
            self._wake()
        elif not self._stopped:
            self._arm()

    def _propose(self, proposals: list[tuple[bytes, Callback]]) -> None:
        try:
            index = self._core.propose([command for command, _ in proposals])
        except NotLeader:
            reason = shell.NOT_LEADER
        except PredastoreError:
            reason = shell.REQUEST_DENIED
        else:
            for position, (_, callback) in enumerate(proposals):
                self._callers[index + position] = (self._core.term, callback)
            return
        for _, callback in proposals:
            callback(None, reason)

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

    def _note_role(self) -> None:
        """On step-down nobody can tell what becomes of entries that are not committed."""
        led = self._core.term if self._core.role is Role.LEADER else 0
        if led == self._led_term:
            return
        self._led_term = led
        if led:
            self._follows.clear()
        else:
            self._follows.set()
        logger.info(
            "raft: role %s",
            self._core.role.value,
            extra={"member": self.id, "term": self._core.term, "leader": self._core.leader},
        )
        undecided = [index for index in self._callers if index > self._core.commit]
        for index in undecided:
            if self._callers[index][0] != led:
                self._callers.pop(index)[1](None, shell.UNKNOWN_OUTCOME)

    # --- actions of the driver ----------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            by_member.setdefault(message.target, []).append(message)
        for member, batch in by_member.items():
            self._transport.send_to(member, batch)

    def _post(self, member: int, messages: Sequence[Message]) -> None:
        if not self._stopped:
            self._links[member].send(messages)

    def write(self, records: Sequence[Record]) -> None:
        def work() -> None:
            self._journal.append(records)
            self._journal.sync()

        self._writer.run(work, self._written)

    def _written(self, _: None) -> None:
        if not self._stopped:
            self._guarded(self._driver.written)
            self._wake()

    def apply(self, entries: Sequence[Entry]) -> None:
        commands = [
            (entry.index, entry.data if entry.kind == COMMAND else b"") for entry in entries
        ]

        def work() -> Sequence[Any] | None:
            try:
                return self.store.apply(commands)
            except NodeFull:
                logger.exception("s3db: no room for what is committed", extra={"member": self.id})
                return None  # nothing was done

        self._applier.run(work, partial(self._applied, entries))

    def _applied(self, entries: Sequence[Entry], outcomes: Sequence[Any] | None) -> None:
        if self._stopped:
            return
        if outcomes is None:
            self._loop.call_later(_FULL_RETRY_S, self.apply, entries)
            return
        for entry, outcome in zip(entries, outcomes, strict=True):
            caller = self._callers.pop(entry.index, None)
            if caller is not None:
                is_own = caller[0] == entry.term
                caller[1](outcome, shell.SUCCESS if is_own else shell.DISCARDED)
        self._guarded(self._driver.applied)
        self._applied_waiters.applied(self._driver.applied_index)
        self._cut_log()
        self._wake()

    def answer_reads(self, reads: Sequence[ReadState]) -> None:
        for read in reads:
            future = read.context
            assert isinstance(future, asyncio.Future)
            if future.done():
                continue
            if read.index is None:
                future.set_exception(NoLeader("leadership was lost while reading"))
            else:
                future.set_result(read.index)

    def keep_chunks(self, chunks: Sequence[SnapshotChunk]) -> None:
        raise MemberFailed("snapshots are not wired")

    def find_chunks(self, wanted: Sequence[ChunkWanted]) -> None:
        raise MemberFailed("snapshots are not wired")

    # --- peers --------------------------------------------------------------------------------

    def _service(self) -> dict[str, Method]:
        return {
            STEP: Method(StepRequest, StepReply, self._on_step, RPC_PAYLOAD_BYTES_MAX),
            _READ_INDEX: Method(ReadIndexRequest, ReadIndexReply, self._on_read_index, 0),
        }

    async def _on_step(self, _: StepRequest, payload: memoryview, context: CallContext) -> Reply:
        self._check_running()
        messages = DECODER.decode(payload)
        if messages:
            self._transport.received(messages[0].source, messages)
        return Reply(StepReply())

    def _step(self, messages: Sequence[Message]) -> None:
        """What pysyncobj's message handler has become."""
        now = self._loop.time()

        def step() -> None:
            for message in messages:
                self._core.step(message, now)

        self._guarded(step)
        self._wake()

    async def _take_read_index(self) -> int:
        """From the own core if it leads, else from the leader."""
        leader = self._core.leader
        if self._core.role is Role.LEADER:
            return await self._own_read_index()
        if leader is None:
            raise NoLeader("no leader is known")
        timeout_ms = RAFT_STEP_TIMEOUT_MS
        reply, _ = await self._endpoint.call(
            peer_name(leader),
            _READ_INDEX,
            ReadIndexRequest(timeout_ms),
            ReadIndexReply,
            timeout_ms=timeout_ms,
        )
        return reply.index

    async def _own_read_index(self) -> int:
        future: asyncio.Future[int] = self._loop.create_future()
        self._core.read_index(future)
        self._wake()
        return await future

    async def _on_read_index(
        self, request: ReadIndexRequest, _: memoryview, context: CallContext
    ) -> Reply:
        self._check_running()
        return Reply(ReadIndexReply(await self._own_read_index()))

    def _contact(self, member: int, is_connected: bool) -> None:
        self._transport.connected(member, is_connected)

    # --- the log's length ---------------------------------------------------------------------

    def _cut_log(self) -> None:
        """Sync the state machine, then cut the log behind what it holds."""
        log = self._core.log
        if self._cutting or log.size_bytes < RAFT_LOG_KEPT_BYTES + RAFT_LOG_CUT_BYTES:
            return
        synced_to = self._driver.applied_index
        self._cutting = True

        def cut(_: None) -> None:
            self._cutting = False
            if not self._stopped:
                index = min(synced_to, log.index_before_last(RAFT_LOG_KEPT_BYTES))
                self._guarded(partial(self._core.compact, index))
                self._wake()

        self._applier.run(self.store.sync, cut)

    # --- the end ------------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._stopped:
            raise NoLeader(f"member {self.id} has stopped; nothing was changed")

    def _fail(self, error: BaseException) -> None:
        if self._stopped:
            return
        logger.critical("s3db: the member has failed", exc_info=error, extra={"member": self.id})
        failure = MemberFailed(f"database member {self.id} has stopped: {error}")
        self._stop(failure)
        self.failed.set_result(failure)

    def _stop(self, error: PredastoreError) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for _, callback in [*self._callers.values()]:
            callback(None, shell.UNKNOWN_OUTCOME)
        for _, callback in self._shell.drain():
            callback(None, shell.MISSING_LEADER)
        self._callers.clear()
        self._applied_waiters.fail(error)

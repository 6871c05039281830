"""Runs a core on an event loop: turns, timers, the two worker threads, snapshots, failure.

Where things run: the core, on the loop only; the journal's writes and syncs, in one thread
(journal_writer.py); the state machine's transactions, but for small ones, in another
(applier.py); its checkpoints, and copies for and from other members, in a third. Nothing is timed
on the path of a commit: a proposal leads to a turn at once, and all that came before a thread was
free goes together.

    submit -> shell's queue -> turn -> appends to peers ... replies -> commit -> apply -> callback
                                    -> journal write, sync /

The journal is synced for each commit, the state machine is not: after a crash it goes back to its
last checkpoint, and the journal begins at or before that (upkeep.py).

A failed write or sync, a failed transaction, or a broken invariant ends the engine for good:
`failed` resolves, and the process should end, because what the disk holds is no longer known.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predastore.base.errors import (
    MemberFailed,
    NodeFull,
    NoLeader,
    NotLeader,
    PredastoreError,
    anew,
)
from predastore.s3db import shell
from predastore.s3db.crowding import Crowding
from predastore.s3db.levels import Levels, check_member
from predastore.s3db.raft.applier import Applier
from predastore.s3db.raft.callers import AppliedWaiters, Callback, Callers
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.driver import Driver
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.journal_writer import JournalWriter
from predastore.s3db.raft.membership import MemberChange
from predastore.s3db.raft.messages import (
    Address,
    Configuration,
    Entry,
    Marker,
    Message,
    Record,
    SnapshotChunk,
)
from predastore.s3db.raft.room import MemberRoom
from predastore.s3db.raft.snapshots import Receiver, Sender
from predastore.s3db.raft.state import ChunkWanted, ReadState, Recovered, Role, Timing
from predastore.s3db.raft.turns import Turns
from predastore.s3db.raft.upkeep import JournalUpkeep
from predastore.s3db.raft.worker import Worker

if TYPE_CHECKING:
    from predastore.s3db.store import Store

logger = logging.getLogger(__name__)


class Engine:
    """Implements the driver's `Actions`."""

    def __init__(
        self,
        *,
        member_id: int,
        directory: Path,
        recovered: Recovered,
        journal: Journal,
        store: Store,
        timing: Timing,
        post: Callable[[int, Sequence[Message]], None],
        configured: Callable[[Configuration], None],
        told: Callable[[], None],
    ) -> None:
        """`post` sends messages to one member; they may get lost. `configured` is told of each
        configuration that comes into force, `told` that the state has changed."""
        loop = asyncio.get_running_loop()
        self.id = member_id
        self.failed: asyncio.Future[MemberFailed] = loop.create_future()
        self.is_stopped = self._is_installing = False
        self.follows, self.leads = asyncio.Event(), asyncio.Event()
        self.core = RaftCore(
            member_id,
            recovered,
            applied=store.applied_index,
            rng=random.Random(),
            now=loop.time(),
            timing=timing,
        )
        self.driver = Driver(self.core, self)
        self.levels = Levels(self.core.membership, store.procedures)
        self.room = MemberRoom(directory, member_id, loop.time)
        self.crowding = Crowding(store, self.room, loop.time)
        self._loop, self._store, self._post = loop, store, post
        self._configured, self._told = configured, told
        self._configuration = self.core.membership.current
        self._writer = JournalWriter(
            journal, f"journal-{member_id}", written=self._written, failed=self.fail
        )
        self._applier = Worker(f"apply-{member_id}", self.fail)
        self._applications = Applier(
            member_id, store, self._applier, applied=self._applied, failed=self.fail
        )
        self._copier = Worker(f"snapshot-{member_id}", self.fail)
        self._callers, self._applied_waiters = Callers(), AppliedWaiters()
        self._turns = Turns(self._tick, self.core.deadline)
        self._led_term = 0  # the term that this member leads, 0 while it follows
        self._sender = Sender(directory, self.core, store, self._copier, self.wake)
        self._receiver = Receiver(
            directory, self.core, store, self._copier, wake=self.wake, arrived=self._install
        )
        self._upkeep = JournalUpkeep(
            self.core,
            store,
            journal=journal,
            room=self.room,
            applier=self._applier,
            syncer=self._copier,
            sender=self._sender,
            wake=self.wake,
        )
        members = {member_id, *self._configuration.members()}
        names = {member: shell.Node(f"db/{member}") for member in members}
        self.transport = shell.RpcTransport(names[member_id], names, post)
        self._shell = shell.Shell(
            f"db/{member_id}",
            names,
            self.transport,
            on_tick=self._turn,
            on_messages=self._step,
        )

    # --- what the member uses -----------------------------------------------------------------

    def submit(self, command: bytes, callback: Callback) -> None:
        """Propose with the next turn; `callback` gets (outcome, fail reason)."""
        self._shell.submit(command, callback)
        self.wake()

    def read_index(self) -> asyncio.Future[int]:
        """A read index of this leader; NotLeader, NoLeader, Overloaded."""
        future: asyncio.Future[int] = self._loop.create_future()
        self.core.read_index(future)
        self.wake()
        return future

    def change(
        self, change: MemberChange, member: int, address: Address | None
    ) -> asyncio.Future[None]:
        """Propose a change of the membership; resolves once it is committed and applied. NotLeader,
        NoLeader, Overloaded, LevelTooLow: nothing was changed. OutcomeUnknown from the future."""
        if address is not None:
            check_member(member, address, self.level_used)
        index = self.core.change_membership(change, member, address)
        future: asyncio.Future[None] = self._loop.create_future()

        def decided(_: Any, reason: int) -> None:
            if future.done():
                return
            if reason == shell.SUCCESS:
                future.set_result(None)
            else:
                future.set_exception(shell.failure(reason, self.core.leader))

        self._callers.add(index, self.core.term, [decided])
        self.wake()
        return future

    def wait_applied(self, index: int) -> asyncio.Future[None]:
        future = self._applied_waiters.wait(index)
        self._guarded(partial(self.driver.await_applied, index))
        return future

    @property
    def level_used(self) -> int:
        """The highest level of a command that was applied here, or stands in the log."""
        return self.levels.highest(
            self.core.log.after(self.driver.applied_index), self._store.level
        )

    def status(self) -> dict[str, Any]:
        """pysyncobj's own report."""
        self._shell.mirror(self.core, self.driver.applied_index)
        return self._shell.getStatus()

    def stop(self, error: PredastoreError) -> None:
        """No more turns; whoever waits is told."""
        if self.is_stopped:
            return
        self.is_stopped = True
        self._turns.stop()
        self._upkeep.stop()
        self._applications.stop()
        self._callers.abandon()
        for _, callback in self._shell.drain():
            callback(None, shell.MISSING_LEADER)
        if self.core.leadership is not None:
            self.core.leadership.abandon_reads()
            self.answer_reads(self.core.out.reads)
        self._applied_waiters.fail(error)

    async def close(self) -> None:
        """After `stop`: waits for what is under way in the threads."""
        self._sender.close()
        for worker in (self._writer, self._applier, self._copier):
            await worker.close()
        self._shell.destroy()

    def fail(self, error: BaseException) -> None:
        if self.is_stopped:
            return
        logger.critical("s3db: the member has failed", exc_info=error, extra={"member": self.id})
        failure = MemberFailed(f"database member {self.id} has stopped: {error}")
        self.stop(failure)
        self.failed.set_result(failure)

    # --- turns --------------------------------------------------------------------------------

    def wake(self) -> None:
        """A turn soon; one for all that the next rounds of the loop bring."""
        self._turns.wake()

    def _tick(self) -> None:
        self._guarded(self._shell.doTick)

    def _turn(self) -> None:
        """What pysyncobj's tick has become."""
        self.core.tick(self._loop.time())
        proposals = self._shell.drain()
        if proposals:
            self._propose(proposals)
        self._advance(self.driver.turn)

    def _advance(self, turn: Callable[[], None]) -> None:
        """One of the driver's turns, and what follows from the core's new state."""
        turn()
        self._note_role()
        self._note_configuration()
        self._promote()
        self._turns.arm()

    def _guarded(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:
            self.fail(error)

    def _propose(self, proposals: list[tuple[bytes, Callback]]) -> None:
        refusal: PredastoreError | None = None
        proposals = self.levels.permitted(proposals)
        try:
            self._refuse_if_full()
            index = self.core.propose([command for command, _ in proposals])
        except NodeFull as error:
            refusal, reason = anew(error), shell.SUCCESS
        except NotLeader:
            reason = shell.NOT_LEADER
        except PredastoreError:
            reason = shell.REQUEST_DENIED
        else:
            self._callers.add(index, self.core.term, [callback for _, callback in proposals])
            return
        for _, callback in proposals:
            callback(refusal, reason)

    def _refuse_if_full(self) -> None:
        """A leader without room hands over, to one that has some, or refuses."""
        leadership = self.core.leadership
        is_leading_on = leadership is not None and leadership.successor is None
        if not is_leading_on or not self.room.is_full():
            return
        if not (self.room.may_transfer() and self.core.transfer_to_fittest()):
            raise self.room.refusal()

    def _step(self, messages: Sequence[Message]) -> None:
        """What pysyncobj's message handler has become."""
        now = self._loop.time()

        def step() -> None:
            for message in self.room.admitted(messages, self.core.log.size_bytes):
                self.core.step(message, now)

        self._guarded(step)
        self._turns.now()

    def _note_role(self) -> None:
        """On step-down nobody can tell what becomes of entries that are not committed."""
        led = self.core.term if self.core.role is Role.LEADER else 0
        if led == self._led_term:
            return
        if self._led_term:
            self._callers.step_down(self.core.commit)
            self._sender.close()
        self._led_term = led
        (self.leads if led else self.follows).set()
        (self.follows if led else self.leads).clear()
        logger.info(
            "raft: now %s",
            self.core.role.value,
            extra={"member": self.id, "term": self.core.term, "leader": self.core.leader},
        )

    def _note_configuration(self) -> None:
        configuration = self.core.membership.current
        if configuration is not self._configuration:
            self._configuration = configuration
            self.levels.look()
            self._configured(configuration)

    def _promote(self) -> None:
        """A leader lets a learner vote as soon as it has caught up."""
        leadership = self.core.leadership
        learner = None if leadership is None else leadership.caught_up_learner()
        if learner is not None:
            logger.info("raft: a learner has caught up", extra={"member": learner})
            self.core.change_membership(MemberChange.PROMOTE, learner)
            self.wake()

    # --- actions of the driver ----------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            by_member.setdefault(message.target, []).append(message)
        for member, batch in by_member.items():
            self.transport.send_to(member, batch)

    def write(self, records: Sequence[Record]) -> None:
        self._writer.write(records)

    def _written(self) -> None:
        if not self.is_stopped:
            self._guarded(partial(self._advance, self.driver.written))

    def apply(self, entries: Sequence[Entry]) -> None:
        self._applications.apply(entries)

    def _applied(self, entries: Sequence[Entry], outcomes: Sequence[Any]) -> None:
        self._told()
        self._callers.applied(entries, outcomes)
        self._advance(self.driver.applied)
        self._applied_waiters.applied(self.driver.applied_index)
        self._upkeep.applied()
        if self._receiver.complete is not None:
            self._install()
            self.wake()

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

    # --- snapshots -----------------------------------------------------------------------------

    def find_chunks(self, wanted: Sequence[ChunkWanted]) -> None:
        self._sender.find(wanted)

    def take_chunks(self, chunks: Sequence[SnapshotChunk]) -> None:
        self._receiver.take(chunks)

    def _install(self) -> None:
        """A whole snapshot is here: once the state machine rests, it takes its place."""
        marker = self._receiver.complete
        if marker is None or self._is_installing or not self.driver.hold():
            return  # tried again when what is being applied is done
        if marker.index <= self.core.handed:
            self._receiver.reset()
            self.driver.release()
            return
        self._is_installing = True
        self._receiver.install(self._installed)

    def _installed(self, marker: Marker | None) -> None:
        self._is_installing = False
        self._receiver.reset()
        if self.is_stopped:
            return
        if marker is None:
            self._guarded(self.driver.release)
        else:
            self._told()
            self._guarded(partial(self.driver.installed, marker))
            self._applied_waiters.applied(self.driver.applied_index)
        self.wake()

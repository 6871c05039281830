"""A member of the simulation: the product's core, driver and journal, driven by events."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from predastore._fast.crc import crc32c
from predastore.base.errors import LevelTooLow, NoLeader, NotLeader, Overloaded, PredastoreError
from predastore.s3db import clock, levels
from predastore.s3db.clock import ClusterClock, Moment
from predastore.s3db.levels import Levels
from predastore.s3db.raft.assembly import ChunkAssembly
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.membership import MemberChange
from predastore.s3db.raft.messages import (
    COMMAND,
    Address,
    Entry,
    Marker,
    Message,
    Record,
    SnapshotChunk,
)
from predastore.s3db.raft.recovery import recover
from predastore.s3db.raft.state import ChunkWanted, ReadState

from .checker import Violation
from .disk import SimDisk
from .machine import Machine, encode_tick, kind_of, level_of, level_of_dump
from .procedures import NEWEST, OLDEST, PROGRAMS, procedure_of

if TYPE_CHECKING:
    from .world import World

SEGMENT_BYTES = 4096
CHUNK_BYTES_MIN = 16
CHUNKS_MAX = 12  # of a snapshot
NOON_MS = 1_790_000_000_000  # what clocks say when a run begins
LOG_KEPT = 8  # entries kept when the log is cut
ARCHIVE_SHARE = 0.7  # of cuts after which those who lag find more in the journal
LAGGING_S = 5.0  # who was silent for longer does not

# ("done", found), ("refused", leader), ("unknown", None), ("too-low", None)
WriteReply = Callable[[str, int | None], None]
Look = Callable[[Mapping[str, int]], Any]  # at the registers
ReadReply = Callable[[bool, Any], None]  # (answered, what was found)


class SimMember:
    def __init__(self, world: World, member: int) -> None:
        self.world = world
        self.id = member
        self.rng = random.Random(world.rng.random())
        self.disk = SimDisk(self.rng, zeros_ahead=True)
        self.machine = self._new_machine()
        self.is_up = False
        self.paused_until = 0.0
        self.clock_ahead_s = 0.0
        self.sync_s = world.scenario.sync_s
        self.installing: Marker | None = None
        self.installs = 0
        self.disks_lost = 0
        self.is_formed = True
        self.level = (
            self.rng.choice((OLDEST, NEWEST, NEWEST, NEWEST)) if world.scenario.upgrades else NEWEST
        )
        self.went_back = False
        self.boots = 0
        self.boot_ahead_ms = self.wall_ahead_ms = 0
        self._life = 0

    def _new_machine(self) -> Machine:
        scenario = self.world.scenario
        return Machine(self.rng, remembers=scenario.remembers, keeps_answers=scenario.keeps_answers)

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._life += 1
        if self._is_too_old(self.machine.level_used):
            return
        self.is_up = True
        self._armed = float("inf")
        self._callers: dict[int, tuple[int, WriteReply]] = {}
        self._reads: list[tuple[int, Look, ReadReply]] = []
        self.assembly = ChunkAssembly()
        self._received = bytearray()
        self._arriving: Marker | None = None
        self._snapshot: tuple[Marker, bytes] | None = None
        self.journal = Journal(
            self.disk, self.id, segment_bytes_max=SEGMENT_BYTES, random_bytes=self.rng.randbytes
        )
        recovered = recover(
            self.journal,
            applied=self.machine.applied_index,
            members=()
            if self.disks_lost and not self.world.scenario.forgetful
            else range(1, self.world.scenario.members + 1),
            where=f"member {self.id}",
            installing=self.installing,
        )
        self.core = self.world.scenario.core(
            self.id,
            recovered,
            applied=self.machine.applied_index,
            rng=self.rng,
            now=self.clock(),
            timing=self.world.scenario.timing,
            bounds=self.world.scenario.bounds,
        )
        self.core.archive = self.journal.archive
        self.driver = self.world.scenario.driver(self.core, self)
        self._levels = Levels(self.core.membership, PROGRAMS[self.level])
        self.is_formed = not self.core.is_unformed
        self._time = ClusterClock(self.machine.time, self.moment())
        self._joining: tuple[SimMember, int, int] | None = None
        self._turn()
        if not self.is_formed:
            self._join()
        if self.world.scenario.upgrades:
            self.later(0.05, self._announce)
        if self.world.scenario.ticks:
            self.later(0.05, self._tick)

    def crash(self) -> None:
        self.is_up = False
        if self.world.scenario.ticks and self.rng.random() < 0.5:
            self.boots += 1
            self.boot_ahead_ms = self.rng.randrange(10**9)
        self._life += 1
        self.disk.crash()
        self.machine.crash()

    def lose_disk(self) -> None:
        self.crash()
        self.disk.lose()
        self.disks_lost += 1
        self.is_formed = False
        self.machine = self._new_machine()
        self.installing = None

    def _join(self) -> None:
        """What formation.py and changes.py do, step by step, with whoever leads at the moment."""
        self.later(0.05, self._join_on)
        leader = self.world.nemesis.leader()
        if leader is None or not self.world.network.is_open(self.id, leader.id):
            return
        core = leader.core
        if self._joining is not None:
            asked, term, index = self._joining
            if asked is leader and core.term == term and core.commit >= index:
                self.is_formed = True
            elif asked is not leader or core.term != term:
                self._joining = None
            return
        with suppress(Overloaded, NoLeader, LevelTooLow):
            levels.check_member(self.id, self.address, leader.level_used)
            if self.id in core.membership.current.members():
                core.change_membership(MemberChange.REMOVE, self.id)
            else:
                index = core.change_membership(MemberChange.ADD_LEARNER, self.id, self.address)
                self._joining = (leader, core.term, index)
        leader.later(0, leader._turn)

    # --- cluster time -------------------------------------------------------------------------

    def moment(self) -> Moment:
        """CLOCK_BOOTTIME runs truly, in each boot from another start."""
        boot_ms = int(self.world.now * 1000) + self.boot_ahead_ms
        return Moment(b"%d/%d" % (self.id, self.boots), boot_ms)

    def _tick(self) -> None:
        """What timekeeping.py does, more often; at the end of a run all comes to rest."""
        self.later(0.3, self._tick)
        if self.world.nemesis.is_active:
            self.propose_tick(clock.TICK)

    def propose_tick(self, name: str) -> None:
        if self.core.leadership is None:
            return
        wall_ms = NOON_MS + int(self.world.now * 1000) + self.wall_ahead_ms
        tick = self._time.tick(self.moment(), wall_ms)
        if name == clock.SET or self.world.scenario.believes_clocks:
            tick = self._time.set(self.moment(), wall_ms)
        self.world.note_tick(tick)
        self.propose(encode_tick(name, tick), lambda *_: None)

    # --- programs -----------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        return Address(self.id, "", 0, 0, self.level)

    @property
    def level_used(self) -> int:
        """As Engine.level_used."""
        waiting = self.core.log.after(self.driver.applied_index)
        return max([self.machine.level_used, *map(level_of, waiting)])

    def _announce(self) -> None:
        """What announcing.py and changes.py do."""
        self.later(0.05, self._announce)
        leader, configuration = self.world.nemesis.leader(), self.core.membership.current
        known = levels.of_members(configuration).get(self.id, self.level)
        if leader is None or not self.is_formed or known == self.level:
            return
        if not self.world.network.is_open(self.id, leader.id):
            return
        with suppress(Overloaded, NoLeader, LevelTooLow):
            if self.id in leader.core.membership.current.members():
                levels.check_member(self.id, self.address, leader.level_used)
                leader.core.change_membership(MemberChange.MOVE, self.id, self.address)
        leader.later(0, leader._turn)

    def _is_too_old(self, level: int) -> bool:
        """Whether this program stops, since it would need to have `level`; only one that is older
        than what ran here before ever has to."""
        if level > self.level and not self.went_back:
            raise Violation(f"member {self.id} meets level {level}, and has {self.level}")
        return level > self.level

    def _join_on(self) -> None:
        if not self.is_formed:
            self._join()

    def restart(self) -> None:
        if not self.is_up:
            self.start()

    def later(self, delay: float, event: Callable[[], None]) -> None:
        """In this life only, if there is one, and not while the process is stopped."""
        if not self.is_up:
            return
        life = self._life

        def fire() -> None:
            if self._life != life:
                return
            if self.world.now < self.paused_until:
                self.world.at(self.paused_until - self.world.now, fire)
            else:
                event()

        self.world.at(delay, fire)

    def clock(self) -> float:
        return self.world.now + self.clock_ahead_s

    # --- what comes in ------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        self.later(0, partial(self._step, message))

    def _step(self, message: Message) -> None:
        if not self.is_formed:
            return
        self.core.step(message, self.clock())
        self._turn()

    def _turn(self) -> None:
        leadership = self.core.leadership
        led = self.core.term if leadership is not None else 0
        if leadership is not None and self.world.scenario.promotes:
            learner = leadership.caught_up_learner()
            if learner is not None:
                self.core.change_membership(MemberChange.PROMOTE, learner)
        self.driver.turn()
        for index in [i for i in self._callers if i > self.core.commit]:
            if self._callers[index][0] != led:
                self._callers.pop(index)[1]("unknown", None)
        deadline = self.core.deadline()
        if deadline < self._armed:
            self._armed = deadline
            self.later(max(0.0, deadline - self.clock()), self._ring)

    def _ring(self) -> None:
        self._armed = float("inf")
        self.core.tick(self.clock())
        self._turn()

    # --- clients ------------------------------------------------------------------------------

    def propose(self, command: bytes, reply: WriteReply) -> None:
        if self._is_refused(command):
            reply("too-low", None)
            return
        try:
            index = self.core.propose([command])
        except NotLeader as error:
            reply("refused", error.leader)
        except PredastoreError:
            reply("refused", None)
        else:
            self._callers[index] = (self.core.term, reply)
            self._turn()

    def _is_refused(self, command: bytes) -> bool:
        scenario, kind = self.world.scenario, kind_of(command)
        if not scenario.upgrades or scenario.hasty or self.core.leadership is None:
            return False
        return procedure_of(kind) is not None and bool(self._levels.refusal_of(f"sim.{kind}"))

    def read(self, look: Look, reply: ReadReply) -> None:
        """Linearizable, here: by the own read index, or the leader's."""
        if self.core.leadership is not None:
            self._ask(partial(self._indexed, look, reply))
            return
        leader = self.core.leader
        if leader is None:
            reply(False, None)
            return
        network, target = self.world.network, self.world.members[leader]
        back = partial(self.later, 0)

        def indexed(index: int | None) -> None:
            for delay in network.delays(leader, self.id)[:1]:
                self.world.at(delay, lambda: back(partial(self._indexed, look, reply, index)))

        for delay in network.delays(self.id, leader)[:1]:
            self.world.at(delay, lambda: target.later(0, partial(target._ask, indexed)))

    def _ask(self, indexed: Callable[[int | None], None]) -> None:
        try:
            self.core.read_index(indexed)
        except PredastoreError:
            indexed(None)
        else:
            self._turn()

    def _indexed(self, look: Look, reply: ReadReply, index: int | None) -> None:
        if index is None:
            reply(False, None)
        elif index <= self.driver.applied_index:
            reply(True, look(self.machine.values))
        else:
            self._reads.append((index, look, reply))

    # --- actions of the driver ----------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.world.send(message)

    def write(self, records: Sequence[Record]) -> None:
        self.journal.append(records)
        self.later(self.rng.uniform(0.1, 1) * self.sync_s, self._written)

    def _written(self) -> None:
        self.journal.sync()
        self.driver.written()
        self._turn()

    def apply(self, entries: Sequence[Entry]) -> None:
        self.later(self.rng.uniform(0.0001, 0.002), partial(self._applied, entries))

    def _applied(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.world.note_applied(self.id, entry)
            if level_of(entry) > self.level and self.world.scenario.passes_over:
                self.machine.applied_index = entry.index
                continue
            if self._is_too_old(level_of(entry)):
                self.crash()
                return
            before = self.machine.time
            found = self.machine.apply(entry)
            self.world.note_time(before, self.machine.time)
            self.world.note_found(self.id, entry.index, found)
            term, reply = self._callers.pop(entry.index, (0, None))
            if reply is not None:
                own = term == entry.term and entry.kind == COMMAND
                reply("done" if own else "refused", found if own else None)
        self._time.observe(self.machine.time, self.moment())
        self.driver.applied()
        self._answer_applied()
        self._turn()

    def _answer_applied(self) -> None:
        ready = [read for read in self._reads if read[0] <= self.driver.applied_index]
        self._reads = [read for read in self._reads if read[0] > self.driver.applied_index]
        for _, look, answer in ready:
            answer(True, look(self.machine.values))

    def answer_reads(self, reads: Sequence[ReadState]) -> None:
        for read in reads:
            read.context(read.index)

    def cut_log(self) -> None:
        """Sync the state machine, and forget most of the log behind it."""
        scenario = self.world.scenario
        if not scenario.careless:
            self.machine.sync()
        index = self.driver.applied_index - (0 if scenario.careless else LOG_KEPT)
        if index > self.core.log.base_index:
            self.journal.kept_index = self._needed_index()
            self.core.compact(index)
            self._turn()

    def _needed_index(self) -> int:
        """Now and then followers that lag find what they lack in the journal."""
        leadership = self.core.leadership
        if leadership is None or self.rng.random() > ARCHIVE_SHARE:
            return sys.maxsize
        return leadership.lagging_from(LAGGING_S)

    # --- snapshots ----------------------------------------------------------------------------

    def find_chunks(self, wanted: Sequence[ChunkWanted]) -> None:
        for want in wanted:
            self.later(self.rng.uniform(0.001, 0.02), partial(self._send_chunk, want))

    def _send_chunk(self, want: ChunkWanted) -> None:
        leadership = self.core.leadership
        if leadership is None:
            return
        marker, data = self._snapshot or (None, b"")
        if marker is None or marker.index < self.core.log.base_index:
            self.machine.sync()
            index = self.machine.applied_index
            term = self.core.log.term_at(index)
            assert term is not None
            marker = Marker(index, term, self.core.membership.at(index))
            data = self.machine.dump()
            self._snapshot = (marker, data)
        offset = want.offset if want.index == marker.index else 0
        size = max(CHUNK_BYTES_MIN, len(data) // CHUNKS_MAX)
        chunk = data[offset : offset + size]
        leadership.send_chunk(
            want.follower,
            marker,
            offset=offset,
            total_bytes=len(data),
            crc=crc32c(chunk),
            data=chunk,
        )
        self._turn()

    def take_chunks(self, chunks: Sequence[SnapshotChunk]) -> None:
        for chunk in chunks:
            if self._arriving:
                continue  # a repeated one, while the whole is being installed
            if self.assembly.takes(chunk):
                del self._received[chunk.offset :]
                self._received += chunk.data
                if self.assembly.taken(chunk):
                    self._arriving = chunk.marker
                    self.later(0.001, self._install)
                    continue
            self.core.chunk_kept(chunk, self.assembly.offset)
        self.later(0, self._turn)

    def _install(self) -> None:
        marker = self._arriving
        assert marker is not None
        if not self.driver.hold():
            self.later(0.001, self._install)
        elif marker.index <= self.core.handed:
            self._arriving = None
            self.driver.release()
        else:
            self.installing = marker  # the durable note
            self.later(self.rng.uniform(0.0, 0.01), partial(self._replace, marker))

    def _replace(self, marker: Marker) -> None:
        if self._is_too_old(level_of_dump(bytes(self._received))):
            self.crash()
            return
        self.machine.load(bytes(self._received))
        self.later(self.rng.uniform(0.0, 0.01), partial(self._installed, marker))

    def _installed(self, marker: Marker) -> None:
        self._arriving = None
        self.assembly.reset()
        self.installs += 1
        self._time.observe(self.machine.time, self.moment())
        self.driver.installed(marker)
        self._answer_applied()
        self._turn()

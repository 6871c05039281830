"""A member comes back under more commits than this machine could make, in virtual time.

`python -m tests.s3db.simulator.flood [--rate 15000] [--away 3] ...` from the checkout prints what
was found, as a table.

Three members of the product's engine, core, journal, archive, upkeep, snapshots and links stand on
a `Hardware` (hardware.py). A client offers batches of commands at the leader each millisecond,
answered or not. One follower is killed, comes back some seconds later, and has to catch up while
that goes on. The load does not yield to it: two of three members are a majority.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

import tests.conftest  # noqa: F401 (it puts tests/ on the path)
from predastore.base.errors import NoLeader, PeerUnreachable, PredastoreError
from predastore.rpc import Reply
from predastore.s3db.commands import Put, batch, encode
from predastore.s3db.raft import engine
from predastore.s3db.raft.archive import JournalArchive
from predastore.s3db.raft.contacts import Contacts
from predastore.s3db.raft.engine import Engine
from predastore.s3db.raft.journal import Journal
from predastore.s3db.raft.messages import DECODER, Entry, Message
from predastore.s3db.raft.recovery import recover
from predastore.s3db.raft.snapshots import read_note
from predastore.s3db.raft.state import Timing
from support.loops import passed, run_in_virtual_time

from .hardware import Bill, Hardware, MemoryDisk, SimStore, SimWorker, SimWriter, Wire

MEMBERS = (1, 2, 3)
STEP_S = 0.001  # between two batches of the client's
LOOK_S = 0.02  # between two looks at the members
BEFORE_S = 0.5  # of load, before the member goes
AFTER_S = 1.0  # for which it has to keep up, once it is back
KEYS = 50_000


@dataclass(frozen=True)
class Flood:
    """`rate`: commits a second; `within_s`: in which who was away has to be back."""

    seed: int = 1
    rate: int = 15_000
    body_bytes: int = 8 << 10
    away_s: float = 3.0
    within_s: float = 60.0
    hardware: Hardware = field(default_factory=Hardware)


@dataclass
class Found:
    """`caught_up_s`: from its start until it lags less than the load of LOOK_S; None: it was not
    back in time. Sizes are the largest of any moment; those of the journal are the leader's."""

    caught_up_s: float | None = None
    commits: int = 0
    refused: int = 0
    commits_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    longest_ms: float = 0.0
    leader_log_bytes: int = 0
    member_log_bytes: int = 0
    journal_bytes: int = 0
    frames: int = 0
    copies_made: int = 0
    copies_taken: int = 0
    archived_entries: int = 0
    digests: set[int] = field(default_factory=set)


class FloodMember:
    def __init__(self, world: FloodWorld, member: int, folder: Path) -> None:
        self.world = world
        self.id = member
        self.directory = folder / str(member)
        self.directory.mkdir()
        self.disk = MemoryDisk()
        self.store = SimStore(world.flood.hardware, world.bill)
        self.wire = Wire(world.flood.hardware)
        self.is_up = False

    def start(self) -> None:
        self.is_up = True
        self.journal = Journal(self.disk, self.id, random_bytes=self.world.rng.randbytes)
        recovered = recover(
            self.journal,
            applied=self.store.applied_index,
            members=MEMBERS,
            where=f"member {self.id}",
            installing=read_note(self.directory),
        )
        store: Any = self.store
        self.engine = Engine(
            member_id=self.id,
            directory=self.directory,
            recovered=recovered,
            journal=self.journal,
            store=store,
            timing=Timing(),
            post=self._post,
            configured=lambda _: None,
            told=lambda: None,
        )
        transport = self.engine.transport
        self.contacts = Contacts(_Caller(self), transport.connected, self._receive, None)
        self.engine.wake()

    async def kill(self) -> None:
        """What was written to the journal is there at the next start; the tables go back to their
        last checkpoint."""
        self.is_up = False
        self.engine.stop(NoLeader("killed"))
        await self.contacts.close()
        await self.engine.close()
        self.store.crash()

    def _post(self, member: int, messages: Sequence[Message]) -> None:
        if self.is_up:
            self.contacts.send(member, messages)

    def _receive(self, source: int, messages: Sequence[Message]) -> None:
        if self.is_up:
            self.engine.transport.received(source, messages)

    def step(self, source: int, payload: bytes, answered: Callable[[Reply], None]) -> None:
        """As Member does it."""
        messages = DECODER.decode(payload)
        later = self.contacts.answer(source, messages)
        self._receive(source, messages)
        later.when_given(answered)


class _Caller:
    """A `LinkCaller`: calls over wires."""

    def __init__(self, member: FloodMember) -> None:
        self._member = member

    def post(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: Any,
        payload: Sequence[bytes] = (),
        *,
        timeout_ms: int,
        done: Callable[[Any], None],
    ) -> Callable[[], object]:
        source, target = self._member, self._member.world.members[int(peer.removeprefix("db/"))]
        data = b"".join(payload)
        engines = source.engine, getattr(target, "engine", None)
        timer = asyncio.get_running_loop().call_later(
            timeout_ms / 1000, lambda: done(PeerUnreachable(f"{peer} does not answer"))
        )

        def finish(outcome: tuple[Any, memoryview] | PredastoreError) -> None:
            if not timer.cancelled() and source.is_up and source.engine is engines[0]:
                timer.cancel()
                done(outcome)

        def arrive() -> None:
            if not target.is_up:
                source.wire.send(0, partial(finish, PeerUnreachable(f"{peer} is down")))
            elif target.engine is engines[1]:
                target.step(source.id, data, answered)

        def answered(reply: Reply) -> None:
            answer = b"".join(reply.payload)
            outcome = (reply.header, memoryview(answer))
            target.wire.send(len(answer) + 64, partial(finish, outcome))

        source.wire.send(len(data) + 64, arrive)
        return timer.cancel


class FloodWorld:
    def __init__(self, flood: Flood, folder: Path) -> None:
        self.flood = flood
        self.rng = random.Random(flood.seed)
        self.bill = Bill()
        self.found = Found()
        self._latencies_s: list[float] = []
        self._body = self.rng.randbytes(flood.body_bytes)
        self._loaded_s = 0.0
        self._is_over = False
        self.members = {member: FloodMember(self, member, folder) for member in MEMBERS}

    @contextmanager
    def _modelled(self) -> Iterator[None]:
        hardware = self.flood.hardware
        worker = partial(SimWorker, self.bill, hardware.piece_s)
        writer = partial(SimWriter, hardware, self.rng)
        with ExitStack() as stack:
            stack.enter_context(patch.object(engine, "random", SimpleNamespace(Random=self._drawn)))
            stack.enter_context(patch.object(engine, "Worker", worker))
            stack.enter_context(patch.object(engine, "JournalWriter", writer))
            stack.enter_context(patch.object(JournalArchive, "batch", self._counted))
            yield

    def _drawn(self) -> random.Random:
        """What a member's core draws from, which follows from the seed."""
        return random.Random(self.rng.random())

    @property
    def _counted(self) -> Callable[..., list[Entry]]:
        found, batch = self.found, JournalArchive.batch

        def counted(archive: JournalArchive, *args: int, **bounds: int) -> list[Entry]:
            entries = batch(archive, *args, **bounds)
            found.archived_entries += len(entries)
            return entries

        return counted

    async def run(self) -> Found:
        with self._modelled():
            for member in self.members.values():
                member.start()
            while self.leader() is None:
                await passed(LOOK_S)
            load = asyncio.create_task(self._load())
            await self._until(BEFORE_S)
            leader = self.leader()
            away = next(m for m in self.members.values() if m is not leader)
            await away.kill()
            await self._until(self.flood.away_s)
            await self._come_back(away)
            self._is_over = True
            await load
            await self._until(1.0)
            await self._come_to_rest()
            for member in self.members.values():
                await member.kill()
        return self.found

    async def _come_back(self, away: FloodMember) -> None:
        begun = asyncio.get_running_loop().time()
        away.start()
        while asyncio.get_running_loop().time() < begun + self.flood.within_s:
            await self._until(LOOK_S)
            if self._lag(away) <= self.flood.rate * LOOK_S:
                self.found.caught_up_s = asyncio.get_running_loop().time() - begun
                await self._until(AFTER_S)
                assert self._lag(away) <= self.flood.rate * 0.25, "it falls behind again"
                return

    async def _come_to_rest(self) -> None:
        found = self.found
        found.commits_s = found.commits / max(self._loaded_s, 1e-9)
        for _ in range(int(self.flood.within_s / LOOK_S)):
            if len({member.store.applied_index for member in self.members.values()}) == 1:
                break
            await self._until(LOOK_S)
        latencies = sorted(self._latencies_s)
        found.p50_ms = latencies[len(latencies) // 2] * 1e3
        found.p99_ms = latencies[len(latencies) * 99 // 100] * 1e3
        found.longest_ms = latencies[-1] * 1e3
        stores = [member.store for member in self.members.values()]
        found.copies_made = sum(store.copies_made for store in stores)
        found.copies_taken = sum(store.copies_taken for store in stores)
        found.digests = {store.state.digest for store in stores}

    def leader(self) -> FloodMember | None:
        leading = [m for m in self.members.values() if m.is_up and m.engine.core.leadership]
        return max(leading, key=lambda m: m.engine.core.term, default=None)

    def _lag(self, member: FloodMember) -> int:
        leader = self.leader()
        if leader is None:
            return sys.maxsize
        return leader.engine.core.commit - member.engine.driver.applied_index

    async def _until(self, seconds: float) -> None:
        """So much later, with looks at the members all the while."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 1e-9:
            await passed(min(LOOK_S, left))
            self._look()

    def _look(self) -> None:
        found, leader = self.found, self.leader()
        for member in self.members.values():
            if not member.is_up:
                continue
            if member.engine.failed.done():
                raise member.engine.failed.result()
            size_bytes = member.engine.core.log.size_bytes
            if member is leader:
                found.leader_log_bytes = max(found.leader_log_bytes, size_bytes)
                found.journal_bytes = max(found.journal_bytes, member.journal.size_bytes)
                found.frames = max(found.frames, member.journal.archive.frame_count)
            else:
                found.member_log_bytes = max(found.member_log_bytes, size_bytes)

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        offered = 0
        while not self._is_over:
            due = int((loop.time() - begun) * self.flood.rate)
            leader = self.leader()
            for number in range(offered, due):
                body = number.to_bytes(8, "big") + self._body[8:]
                request = number.to_bytes(16, "big")
                put = Put("inline", b"%d" % (number % KEYS), body)
                command = encode(batch(put, request_id=request, stamp_ms=1))
                if leader is not None:
                    leader.engine.submit(command, partial(self._answered, loop.time()))
            offered = due
            self._loaded_s = loop.time() - begun
            await passed(STEP_S)

    def _answered(self, begun: float, outcome: Any, reason: int) -> None:
        if reason == 0 and not isinstance(outcome, PredastoreError):
            self.found.commits += 1
            self._latencies_s.append(asyncio.get_running_loop().time() - begun)
        else:
            self.found.refused += 1


def drown(flood: Flood) -> Found:
    """One run of a seed."""
    with tempfile.TemporaryDirectory() as folder:
        return run_in_virtual_time(FloodWorld(flood, Path(folder)).run())


def main() -> int:
    parser = argparse.ArgumentParser(prog="flood", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=15_000)
    parser.add_argument("--away", type=float, default=3.0)
    parser.add_argument("--within", type=float, default=120.0)
    for name, value in asdict(Hardware()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    options = vars(parser.parse_args())
    hardware = Hardware(**{name: options[name] for name in asdict(Hardware())})
    flood = Flood(
        seed=options["seed"],
        rate=options["rate"],
        away_s=options["away"],
        within_s=options["within"],
        hardware=hardware,
    )
    found = drown(flood)
    for name, value in asdict(found).items():
        shown = f"{value:,.3f}" if isinstance(value, float) else str(value)
        sys.stdout.write(f"{name:<18} {shown}\n")
    return 0 if found.caught_up_s is not None else 1


if __name__ == "__main__":
    sys.exit(main())

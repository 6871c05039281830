"""Any sequence of operations, upkeep and faults of the disk leaves a store that has what it
acknowledged, and never gives out a wrong byte.

The disk forgets what was not synced when the power is cut, fills up, fails, flips bits, and is
slow; the model is a dictionary. A shard with a flipped bit may be refused, until it is mended from
what the other nodes would have. Everything is drawn by hypothesis, so a failure is
shrunk to a short story.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from forgetful_disk import FaultyDisk
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from node_support import Shards, block_of, keep, open_store, read_back

from predastore._fast.crc import crc32c
from predastore.base.errors import NodeFull, ShardCorrupt, ShardNotFound, StartupError, StoreFailed
from predastore.base.limits import KIB
from predastore.node.shard import ShardRef
from support.waiting import eventually_async

SIZES = st.sampled_from([1, 100, 3000, 9001, 20_000])
SEGMENT_BYTES = 64 * KIB
RESERVE_BYTES = 8 * KIB


class FaultMachine(RuleBasedStateMachine):
    """`here`: acknowledged; `unsure`: written or deleted without an answer; `hurt`: with a bit
    flipped since; `gone`: deleted, or refused."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.path = self.root / "node-0"
        self.runner = asyncio.Runner()
        self.contents: Shards = {}
        self.here: set[ShardRef] = set()
        self.unsure: set[ShardRef] = set()
        self.hurt: set[ShardRef] = set()
        self.gone: set[ShardRef] = set()
        self.lives = self.version = 0

    @initialize()
    def start(self) -> None:
        (self.path / "segments").mkdir(parents=True)
        self.open()

    def open(self) -> None:
        self.disk = FaultyDisk(self.path / "segments")
        self.store = self.runner.run(
            open_store(
                self.path,
                disk=self.disk,
                segment_bytes_max=SEGMENT_BYTES,
                reserve_bytes=RESERVE_BYTES,
            )
        )
        self.runner.run(self.settle_doubts())

    async def settle_doubts(self) -> None:
        """After a start, what was unsure is there or not, and stays so."""
        for ref in self.unsure - self.hurt:
            there = await read_back(self.store, ref, self.contents[ref])
            (self.here if there else self.gone).add(ref)
        for ref in list(self.hurt):
            try:
                await self.store.stat(ref)
            except ShardNotFound:
                # Its last record was bad, with nothing after it: this looks like a torn write.
                self.hurt.discard(ref)
                self.gone.add(ref)
        self.unsure.clear()

    def attempt(self, ref: ShardRef, work: Awaitable[None], *, then: set[ShardRef]) -> None:
        """Carries out an operation on a shard; `then` has it if it succeeds."""
        self.runner.run(self.attempted(ref, work, then))

    async def attempted(self, ref: ShardRef, work: Awaitable[None], then: set[ShardRef]) -> None:
        for place in (self.here, self.hurt, self.gone):
            place.discard(ref)
        try:
            await work
            then.add(ref)
        except StoreFailed:
            self.unsure.add(ref)

    def new(self, sizes: list[int]) -> tuple[ShardRef, Awaitable[None]]:
        """A shard that was never there, and its writing."""
        self.version += 1
        ref = ShardRef(random.Random(self.version).randbytes(32), bytes(16), self.version % 4)
        blocks = [block_of((self.version, i), size) for i, size in enumerate(sizes)]
        self.contents[ref] = blocks
        return ref, keep(self.store, ref, blocks)

    # --- operations -----------------------------------------------------------------------

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=4))
    def write(self, sizes: list[int]) -> None:
        ref, work = self.new(sizes)
        try:
            self.attempt(ref, work, then=self.here)
        except NodeFull:
            self.gone.add(ref)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.here, key=ShardRef.key)))
        try:
            self.attempt(ref, self.store.delete([ref]), then=self.gone)
        except NodeFull:
            self.here.add(ref)

    @rule(rounds=st.integers(1, 4))
    def compact(self, rounds: int) -> None:
        try:
            for _ in range(rounds):
                self.runner.run(self.store.compact())
        except (NodeFull, StoreFailed):
            return

    @rule()
    def scrub_and_mend(self) -> None:
        """After a scrub, every flipped bit of a live block is known; what repair then writes makes
        the shard good."""
        try:
            self.store.scrub(start=True)
            self.runner.run(self.store.scrub_round())
            bad = self.store.bad(b"", 100).rows
            for row in bad:
                self.runner.run(self.mend(row.ref, row.stripes))
            for row in bad:
                self.hurt.discard(row.ref)
                self.here.add(row.ref)
        except (NodeFull, StoreFailed):
            return

    async def mend(self, ref: ShardRef, stripes: list[int]) -> None:
        blocks = self.contents[ref]
        for stripe in stripes:
            await self.store.append(ref, stripe, blocks[stripe], crc32c(blocks[stripe]))
        await self.store.commit(ref, len(blocks), sum(map(len, blocks)))
        assert await read_back(self.store, ref, blocks)

    # --- faults ---------------------------------------------------------------------------

    @rule(room=st.sampled_from([0, 100, 5000, 40_000]))
    def fill_up(self, room: int) -> None:
        self.disk.room_bytes = room

    @rule()
    def room_again(self) -> None:
        """Without a restart."""
        self.disk.room_bytes = None
        if not self.store.failure:
            refused = len(self.gone)
            self.write([10])
            assert len(self.gone) == refused

    @rule(operations=st.integers(1, 8))
    def fail(self, operations: int) -> None:
        self.disk.fail_next = operations

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def flip_a_bit(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.here, key=ShardRef.key)))
        stripe = data.draw(st.integers(0, len(self.contents[ref]) - 1))
        place = self.runner.run(self.store.locate(ref)).blocks[stripe]
        file = self.path / "segments" / f"{place.segment:08d}.seg"
        self.disk.flip(file, place.offset + data.draw(st.integers(0, place.length - 1)))
        self.here.discard(ref)
        self.hurt.add(ref)

    @rule(lose_index=st.booleans())
    def end_the_process(self, lose_index: bool) -> None:
        """The power stays on: nothing written is lost."""
        self.disk.dead = True
        self.runner.run(self.store.close())
        if lose_index:
            shutil.rmtree(self.path / "index")
        self.open()

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=4), compacts=st.booleans(), ends=st.booleans())
    def be_slow(self, sizes: list[int], compacts: bool, ends: bool) -> None:
        """While nothing comes to its end on the disk, nothing is acknowledged, and reads go on."""
        self.disk.hold()
        try:
            self.runner.run(self.wait_for_the_disk(sizes, compacts, ends))
        finally:
            self.disk.flow()
        if ends:
            self.end_the_process(lose_index=False)

    async def wait_for_the_disk(self, sizes: list[int], compacts: bool, ends: bool) -> None:
        before, works = set(self.here), [self.new([size]) for size in sizes]
        tasks = [asyncio.ensure_future(self.attempted(*new, self.here)) for new in works]
        if compacts:
            tasks.append(asyncio.ensure_future(self.compact_on_the_side()))
        await eventually_async(
            lambda: self.disk.held or all(task.done() for task in tasks), what="a slow disk"
        )
        assert self.here == before
        await self.check()
        self.disk.dead = ends
        self.disk.flow()
        for (ref, _), outcome in zip(
            works, await asyncio.gather(*tasks, return_exceptions=True), strict=False
        ):
            if isinstance(outcome, NodeFull):
                self.gone.add(ref)
            elif outcome is not None:
                raise outcome

    async def compact_on_the_side(self) -> None:
        with contextlib.suppress(NodeFull, StoreFailed):
            await self.store.compact()

    @rule(seed=st.integers(0, 1000), lose_index=st.booleans())
    def cut_the_power(self, seed: int, lose_index: bool) -> None:
        self.disk.dead = True
        self.runner.run(self.store.close())
        self.lives += 1
        target = self.root / f"node-{self.lives}"
        self.disk.cut(target / "segments", random.Random(seed))
        shutil.copy(self.path / "node.id", target)
        if not lose_index:
            shutil.copytree(self.path / "index", target / "index")
        shutil.rmtree(self.path)
        self.path = target
        self.open()

    # --- what must hold -------------------------------------------------------------------

    @invariant()
    def what_was_acknowledged_reads_back_and_no_byte_is_wrong(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.check())

    async def check(self) -> None:
        for ref in self.here:
            assert await read_back(self.store, ref, self.contents[ref]), "an acknowledged shard"
        for ref in self.gone:
            assert not await read_back(self.store, ref, self.contents[ref]), "a deleted shard"
        for ref in self.hurt | self.unsure:
            try:
                await read_back(self.store, ref, self.contents[ref])
            except ShardCorrupt:
                assert ref in self.hurt

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.root)


TestStoreFaults = FaultMachine.TestCase
TestStoreFaults.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_a_start_on_a_broken_disk_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "segments").mkdir()
        disk = FaultyDisk(tmp_path / "segments")
        disk.fail_next = 1
        try:
            await open_store(tmp_path, disk=disk)
        except StartupError as error:
            assert "the disk is broken" in str(error)
        else:
            raise AssertionError("it started")

    asyncio.run(main())

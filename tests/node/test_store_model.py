"""Any sequence of operations and restarts leaves a store with what a dictionary would have."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from node_support import block_of, damage_block, open_store, put, read_back, ref_of, write

from predastore._fast.crc import crc32c
from predastore.base.errors import ShardCorrupt
from predastore.base.limits import KIB
from predastore.node.shard import ShardRef

SEGMENT_BYTES = 64 * KIB
NUMBERS = st.integers(0, 7)
SIZES = st.sampled_from([1, 8, 4000, 17_001, 30_000])


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.shards: dict[ShardRef, list[bytes]] = {}
        self.version = 0

    @initialize()
    def start(self) -> None:
        self.store = self.runner.run(open_store(self.path, segment_bytes_max=SEGMENT_BYTES))

    def new_ref(self, number: int) -> ShardRef:
        """A write of an object draws a new write id each time."""
        self.version += 1
        return ShardRef(ref_of(number).object_hash, self.version.to_bytes(16, "big"), number)

    @rule(number=NUMBERS, size=SIZES)
    def put(self, number: int, size: int) -> None:
        ref = self.new_ref(number)
        self.shards[ref] = [block_of(self.version, size)]
        self.runner.run(put(self.store, ref, self.shards[ref][0]))

    @rule(number=NUMBERS, sizes=st.lists(SIZES, min_size=1, max_size=5))
    def write(self, number: int, sizes: list[int]) -> None:
        ref = self.new_ref(number)
        self.shards[ref] = [block_of((self.version, i), size) for i, size in enumerate(sizes)]
        self.runner.run(write(self.store, ref, self.shards[ref]))

    @rule(number=NUMBERS, size=SIZES)
    def append_without_commit(self, number: int, size: int) -> None:
        block = block_of(number, size)
        self.runner.run(self.store.append(self.new_ref(number), 0, block, crc32c(block)))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        victims = data.draw(st.lists(st.sampled_from([*self.shards, ref_of(99)]), max_size=6))
        self.runner.run(self.store.delete(victims))
        for ref in victims:
            self.shards.pop(ref, None)

    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from([*self.shards, None]))
        if ref is not None and len(self.shards[ref]) == 1:
            self.runner.run(put(self.store, ref, self.shards[ref][0]))

    @rule(rounds=st.integers(1, 5))
    def compact(self, rounds: int) -> None:
        for _ in range(rounds):
            self.runner.run(self.store.compact())

    @rule(data=st.data())
    def damage_and_mend(self, data: st.DataObject) -> None:
        """A block is damaged and found to be, and then replaced."""
        ref = data.draw(st.sampled_from([*self.shards, None]))
        if ref is not None:
            stripe = data.draw(st.integers(0, len(self.shards[ref]) - 1))
            self.runner.run(self.mend(ref, stripe))

    async def mend(self, ref: ShardRef, stripe: int) -> None:
        blocks = self.shards[ref]
        await damage_block(self.store, self.path, ref, stripe)
        with pytest.raises(ShardCorrupt):
            await self.store.read(ref, stripe, 0, 1)
        assert [(row.ref, row.stripes) for row in self.store.bad(b"", 9).rows] == [(ref, [stripe])]
        await self.store.append(ref, stripe, blocks[stripe], crc32c(blocks[stripe]))
        await self.store.commit(ref, len(blocks), sum(map(len, blocks)))
        assert not self.store.bad(b"", 9).rows

    @rule(lose_index=st.booleans())
    def reopen(self, lose_index: bool) -> None:
        self.runner.run(self.store.close())
        if lose_index:
            shutil.rmtree(self.path / "index")
        self.store = self.runner.run(open_store(self.path, segment_bytes_max=SEGMENT_BYTES))
        assert self.store.recovery.torn_bytes == 0

    @invariant()
    def everything_reads_back(self) -> None:
        async def check() -> None:
            for ref, blocks in self.shards.items():
                assert await read_back(self.store, ref, blocks)
            assert (await self.store.status()).shard_count == len(self.shards)

        if hasattr(self, "store"):
            self.runner.run(check())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.path)


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)

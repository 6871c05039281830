"""Power cuts: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import asyncio
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from forgetful_disk import ForgetfulDisk
from node_support import block_of, open_store, opened, put, read_back, run, write

from predastore.base.errors import PredastoreError, StartupError, StoreFailed
from predastore.base.limits import KIB
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore

ROUNDS = 4
SEGMENT_BYTES = 128 * KIB


@dataclass
class Model:
    """`here`: acknowledged; `unsure`: written or deleted without an answer; `gone`: deleted."""

    contents: dict[ShardRef, list[bytes]] = field(default_factory=dict)
    here: set[ShardRef] = field(default_factory=set)
    unsure: set[ShardRef] = field(default_factory=set)
    gone: set[ShardRef] = field(default_factory=set)

    async def check(self, store: ShardStore) -> None:
        """What the store has is what it may have; then nothing is unsure any more."""
        for ref in self.here:
            assert await read_back(store, ref, self.contents[ref]), "an acknowledged shard is lost"
        for ref in self.gone:
            assert not await read_back(store, ref, self.contents[ref]), "a deleted shard is back"
        for ref in self.unsure:
            there = await read_back(store, ref, self.contents[ref])
            (self.here if there else self.gone).add(ref)
        self.unsure.clear()
        assert (await store.status()).shard_count == len(self.here)


async def worker(store: ShardStore, model: Model, source: random.Random, number: int) -> None:
    """Writes and deletes until the disk is dead."""
    for _ in range(200):
        mine = [one for one in model.here if one.index == number]
        try:
            if mine and source.random() < 0.45:
                victim = min(mine, key=lambda one: one.object_hash)
                model.here.remove(victim)
                model.unsure.add(victim)
                await store.delete([victim])
                model.unsure.remove(victim)
                model.gone.add(victim)
                continue
            ref = ShardRef(source.randbytes(32), source.randbytes(16), number)
            sizes = [source.choice([1, 100, 5000, 30_000]) for _ in range(source.randint(1, 4))]
            blocks = [block_of((ref, stripe), size) for stripe, size in enumerate(sizes)]
            model.contents[ref] = blocks
            model.unsure.add(ref)
            if len(blocks) == 1:
                await put(store, ref, blocks[0])
            else:
                await write(store, ref, blocks)
            model.unsure.remove(ref)
            model.here.add(ref)
        except StoreFailed:
            return
        except PredastoreError as error:
            raise AssertionError("only a dead disk may refuse") from error


async def compactor(store: ShardStore) -> None:
    """Rewrites whatever is due, as long as the store can write."""
    while True:
        try:
            if not await store.compact():
                await asyncio.sleep(0)
        except StoreFailed:
            return


async def live_until_cut(path: Path, model: Model, source: random.Random) -> None:
    """One life of a store, from a start over what the last one left, to its power cut."""
    target = path.with_name(path.name + "-next")
    disk = ForgetfulDisk(
        path / "segments", cut_at=source.choice([source.randint(1, 12), 40, 150, 400])
    )
    old_index, last_index = path.with_name("old-index"), path / "index"
    try:
        store = await open_store(path, disk=disk, segment_bytes_max=SEGMENT_BYTES)
    except StartupError:
        assert disk.dead
    else:
        shutil.copytree(last_index, old_index)
        await model.check(store)
        await asyncio.gather(
            compactor(store), *(worker(store, model, source, number) for number in range(4))
        )
        disk.dead = True
        await store.close()
    disk.cut(target / "segments", source)
    shutil.copy(path / "node.id", target)
    left = source.choice([old_index, last_index, None])
    if left and left.exists():
        shutil.copytree(left, target / "index")
    shutil.rmtree(old_index, ignore_errors=True)
    shutil.rmtree(path)
    target.rename(path)


@pytest.mark.parametrize("seed", range(40))
def test_after_power_cuts_what_was_acknowledged_is_there(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(seed)
    if seed % 2:
        # The index is written often, and segments are unlinked.
        monkeypatch.setattr("predastore.node.index.NODE_INDEX_LAYER_SHARDS_MAX", 5)
    path = tmp_path / "node"
    model = Model()

    async def main() -> None:
        (path / "segments").mkdir(parents=True)
        for _ in range(ROUNDS):
            await live_until_cut(path, model, source)
        async with opened(path) as store:
            await model.check(store)
        shutil.rmtree(path / "index")
        async with opened(path) as store:
            await model.check(store)

    run(main())

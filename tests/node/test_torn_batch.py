"""One batch of writes, cut at each step, each sector of it lost or spared: all of them tried.

The writer takes all that waits at once and syncs once. What a power cut spares of such a batch may
be its end without its beginning: a footer without the shards that it lists, a seal without the
segment before it. And the start after it may be cut in turn.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from forgetful_disk import SECTOR_BYTES, ForgetfulDisk, Sector
from node_support import (
    Shards,
    block_of,
    open_store,
    opened,
    put,
    read_back,
    records_of,
    ref_of,
    run,
    segments,
)

from predastore._fast import frame
from predastore._fast.crc import crc32c
from predastore.base.errors import StartupError
from predastore.base.limits import KIB, MIB
from predastore.node.store import ShardStore

SEGMENT_BYTES = 64 * KIB
STEPS_MAX = 30  # more than any batch or start here has
WAIT_S = 10.0


class GatedDisk(ForgetfulDisk):
    """While `gated`, a sync waits for `gate`; the writer then finds all that came meanwhile.
    `cut_at_sync`: the power is cut at the sync after that one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gated = self.cut_at_sync = False
        self.entered, self.gate = threading.Event(), threading.Event()

    def sync(self, descriptor: int) -> None:
        if self.gated:
            self.gated = False
            self.entered.set()
            assert self.gate.wait(WAIT_S)
        elif self.cut_at_sync:
            self.dead = True
        super().sync(descriptor)


@dataclass
class Life:
    """A store whose disk ended in its last batch. `kept`: what was acknowledged before; `unsure`:
    what the batch wrote or deleted. `cut`: in that batch, not after it."""

    path: Path
    disk: ForgetfulDisk
    kept: Shards
    unsure: Shards
    cut: bool


async def live(path: Path, *, filled_bytes: int, count: int, cut_at: int | None) -> Life:
    """Fills the store, and cuts the power during the `cut_at`-th step of the batch that follows;
    None: at its first sync."""
    disk = GatedDisk(path / "segments")
    kept = {ref_of(1): [block_of("filling", filled_bytes)], ref_of(2): [b"also kept"]}
    deleted = {ref_of(3): [b"to be deleted"]}
    written = {
        ref_of(10 + n): [block_of((n, stripe), 1200) for stripe in range(1 + n % 2)]
        for n in range(count)
    }
    store = await open_store(path, disk=disk, segment_bytes_max=SEGMENT_BYTES)
    await put(store, ref_of(1), kept[ref_of(1)][0])
    await put(store, ref_of(3), deleted[ref_of(3)][0])
    disk.gated = True
    plug = asyncio.ensure_future(put(store, ref_of(2), kept[ref_of(2)][0]))
    assert await asyncio.to_thread(disk.entered.wait, WAIT_S)

    async def begin() -> None:
        """Comes after the others, who all wait by then."""
        if cut_at is not None:
            disk.revive(cut_at=1 + cut_at)  # the first is the sync that waits
        disk.cut_at_sync = cut_at is None
        disk.gate.set()
        await plug

    await asyncio.gather(
        store.delete(list(deleted)), *parts(store, written), begin(), return_exceptions=True
    )
    cut, disk.dead = disk.dead, True
    await store.close()
    return Life(path, disk, kept, written | deleted, cut)


def parts(store: ShardStore, shards: Shards) -> Iterator[Coroutine[None, None, None]]:
    """All operations that write these shards, at once."""
    for ref, blocks in shards.items():
        if len(blocks) == 1:
            yield put(store, ref, blocks[0])
            continue
        for stripe, block in enumerate(blocks):
            yield store.append(ref, stripe, block, crc32c(block))
        yield store.commit(ref, len(blocks), sum(map(len, blocks)))


def choices(sectors: list[Sector]) -> Iterator[list[Sector]]:
    """Which are lost: none, one, all but one, all."""
    yield []
    for one in sectors:
        yield [one]
        yield [other for other in sectors if other != one]
    if len(sectors) > 2:
        yield sectors


def left_overs(
    path: Path, disk: ForgetfulDisk, choices: Iterable[list[Sector]], *, index: bool
) -> Iterator[Path]:
    """The directory `path` as the next start may find it after the power cut."""
    target = path.with_name("left")
    for lost in choices:
        for old_length in {False, disk.shortened}:
            shutil.rmtree(target, ignore_errors=True)
            disk.cut_losing(target / "segments", lost, old_length=old_length)
            shutil.copy(path / "node.id", target)
            if index and (path / "index").exists():
                shutil.copytree(path / "index", target / "index")
            yield target


async def check(path: Path, life: Life) -> None:
    """What was acknowledged is there, the rest is there whole or not at all; and that stays so when
    the index is built again, from the footer of the segment. What was torn is no damage then."""
    said: list[list[bool]] = []
    for rebuilt in (False, True):
        async with opened(path, segment_bytes_max=SEGMENT_BYTES) as store:
            for ref, blocks in life.kept.items():
                assert await read_back(store, ref, blocks), "an acknowledged shard is lost"
            said.append([await read_back(store, *item) for item in life.unsure.items()])
            if rebuilt:
                assert store.recovery.damaged == 0
                break
            await seal(store)
        shutil.rmtree(path / "index")
    assert said[0] == said[1], "a start without the index says something else"


async def seal(store: ShardStore) -> None:
    """Writes more than fits into the segment."""
    for number in range(2):
        await put(store, ref_of(100 + number), bytes(SEGMENT_BYTES - 10 * KIB))


WHERE = pytest.mark.parametrize("filled_bytes", [1000, 58_000], ids=["within", "across"])


@WHERE
@pytest.mark.parametrize("footer_part_bytes", [MIB, 1], ids=["one footer", "many"])
def test_whatever_a_power_cut_spares_of_a_batch(
    tmp_path: Path, filled_bytes: int, footer_part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.node.appender.NODE_FOOTER_PART_BYTES", footer_part_bytes)

    async def main() -> None:
        tried = []
        for cut_at in range(1, STEPS_MAX):
            path = tmp_path / f"{cut_at}"
            life = await live(path, filled_bytes=filled_bytes, count=4, cut_at=cut_at)
            if not life.cut:
                return
            state = (life.disk.unsynced(), life.disk.shortened)
            if state not in tried:
                tried.append(state)
                for left in left_overs(path, life.disk, choices(state[0]), index=False):
                    await check(left, life)
        raise AssertionError("the batch has more steps")

    run(main())


def lost_payloads(life: Life) -> list[Sector]:
    """A sector of each block that the last batch wrote, with nothing else in it."""
    (segment,) = segments(life.path)
    unsynced = set(life.disk.unsynced())
    found = []
    for record in records_of(segment):
        sector = -(-(record.offset + frame.HEADER_BYTES) // SECTOR_BYTES)
        place = (segment.name, sector)
        if record.kind == frame.BLOCK and record.length > 1000 and place in unsynced:
            found.append(place)
    return found


# Enough shards for tombstones in several sectors; and a segment with no room for tombstones.
@pytest.mark.parametrize(("filled_bytes", "count"), [(1000, 8), (60_300, 3)])
def test_a_start_that_drops_torn_shards_may_be_cut_too(
    tmp_path: Path, filled_bytes: int, count: int
) -> None:
    async def main() -> None:
        path, torn = tmp_path / "node", tmp_path / "torn"
        life = await live(path, filled_bytes=filled_bytes, count=count, cut_at=None)
        lost = lost_payloads(life)
        assert len(lost) >= count, "each shard is torn"
        life.disk.cut_losing(torn / "segments", lost, old_length=False)
        shutil.copy(path / "node.id", torn)
        for cut_at in range(1, STEPS_MAX + count):
            shutil.rmtree(path)
            shutil.copytree(torn, path)
            disk = ForgetfulDisk(path / "segments", cut_at=cut_at)
            try:
                store = await open_store(path, disk=disk, segment_bytes_max=SEGMENT_BYTES)
            except StartupError:
                for left in left_overs(path, disk, choices(disk.unsynced()), index=True):
                    await check(left, life)
                continue
            assert store.recovery.dropped_shards >= count - 1, "all but what was cut off"
            await store.close()
            (segment,) = segments(path)
            assert (segment.stat().st_size > SEGMENT_BYTES) == (filled_bytes > 1000)
            return
        raise AssertionError("no start was long enough")

    run(main())


@WHERE
def test_what_is_taken_in_after_a_kill_outlasts_a_power_cut(
    tmp_path: Path, filled_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends with writes that are not synced; the next one finds them, and puts them
    into the index; then the power is cut."""

    async def start_and_cut(path: Path, life: Life, cut_at: int) -> bool:
        """Whether the start was cut."""
        life.disk.revive(cut_at=cut_at)
        with monkeypatch.context() as patch:
            patch.setattr("predastore.node.index.NODE_INDEX_LAYER_SHARDS_MAX", 1)
            try:
                store = await open_store(path, disk=life.disk, segment_bytes_max=SEGMENT_BYTES)
            except StartupError:
                for left in left_overs(path, life.disk, [life.disk.unsynced()], index=True):
                    await check(left, life)
                return True
        await store.close()
        return False

    async def main() -> None:
        for step in range(1, STEPS_MAX):
            for cut_at in range(1, STEPS_MAX):
                path = tmp_path / f"{step}-{cut_at}"
                life = await live(path, filled_bytes=filled_bytes, count=4, cut_at=step)
                if not life.cut:
                    return
                if not await start_and_cut(path, life, cut_at):
                    break
        raise AssertionError("the batch has more steps")

    run(main())

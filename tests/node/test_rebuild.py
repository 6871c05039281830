"""Building the index of a stopped node again."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest
from node_support import block_of, damage_block, opened, put, read_back, ref_of, run, write

from predastore.base.errors import NoRoom, NotPermitted, StartupError
from predastore.node import rebuild
from predastore.node.rebuild import rebuild_index
from predastore.node.shard import ShardRef


@pytest.mark.parametrize("index", ["good", "garbage", "gone"])
def test_an_index_is_built_from_the_segments_alone(tmp_path: Path, index: str) -> None:
    shards: dict[ShardRef, list[bytes]] = {
        ref_of(n): [block_of((n, i), 20_000) for i in range(1 + n % 3)] for n in range(40)
    }

    async def fill() -> None:
        async with opened(tmp_path) as store:
            for ref, blocks in shards.items():
                await (
                    put(store, ref, blocks[0]) if len(blocks) == 1 else write(store, ref, blocks)
                )
            gone = list(shards)[::4]
            await store.delete(gone)
            for ref in gone:
                del shards[ref]
            while await store.compact():
                pass

    async def check() -> None:
        async with opened(tmp_path) as store:
            assert (store.recovery.changes, store.recovery.rebuilt) == (0, False)
            assert (await store.status()).shard_count == len(shards)
            for ref, blocks in shards.items():
                assert await read_back(store, ref, blocks)

    run(fill())
    if index == "garbage":
        (tmp_path / "index" / "data.mdb").write_bytes(random.Random(1).randbytes(50_000))
    elif index == "gone":
        shutil.rmtree(tmp_path / "index")
    seen: list[tuple[int, int]] = []
    found = rebuild_index(tmp_path, lambda done, total: seen.append((done, total)))
    assert (found.node_id, found.shards, found.bad_shards) == (3, len(shards), 0)
    assert found.live_bytes > 20_000 * sum(map(len, shards.values()))
    assert found.report.damaged == 0
    total = seen[0][1]
    assert total == len(list((tmp_path / "segments").glob("*.seg"))) > 3
    assert seen == [(done, total) for done in range(total + 1)]
    run(check())


def test_damage_in_the_newest_segment_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await write(store, ref_of(1), [block_of(i, 500) for i in range(3)])
            await put(store, ref_of(2), b"says that all before was synced")
            await damage_block(store, tmp_path, ref_of(1), 1)

    run(main())
    found = rebuild_index(tmp_path, lambda _, __: None)
    assert (found.shards, found.bad_shards, found.report.damaged) == (2, 1, 1)


def test_only_the_directory_of_a_stopped_node_will_do(tmp_path: Path) -> None:
    async def running() -> None:
        async with opened(tmp_path / "node"):
            with pytest.raises(StartupError, match="in use by another process"):
                rebuild_index(tmp_path / "node", lambda _, __: None)

    run(running())
    with pytest.raises(StartupError, match="is no directory"):
        rebuild_index(tmp_path / "nowhere", lambda _, __: None)
    with pytest.raises(StartupError, match="not the directory of a node"):
        rebuild_index(tmp_path, lambda _, __: None)
    (tmp_path / "node" / "node.id").write_text("?")
    with pytest.raises(StartupError, match="can not be read"):
        rebuild_index(tmp_path / "node", lambda _, __: None)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, NoRoom), (errno.EACCES, NotPermitted), (errno.EIO, StartupError)],
)
@pytest.mark.parametrize("place", ["DirectoryLock", "recover"])
def test_what_the_system_refuses_keeps_its_kind(
    place: str,
    number: int,
    kind: type[StartupError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def made() -> None:
        async with opened(tmp_path):
            pass

    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "file"))

    run(made())
    monkeypatch.setattr(rebuild, place, failing)
    with pytest.raises(StartupError, match=f"/file can not be used .{os.strerror(number)}") as told:
        rebuild_index(tmp_path, lambda _, __: None)
    assert type(told.value) is kind

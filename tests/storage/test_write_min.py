"""How many shards a write needs, and whether writes can be done now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from predastore.base import metrics
from predastore.base.errors import NodeFull, NoLeader, NotEnoughNodes
from predastore.catalog.keys import REPAIR
from predastore.catalog.rows import RepairRow
from predastore.storage.extents import MISSING, ShardExtent
from predastore.storage.formats import decode
from support.backends import FakeNodes, Harness, distributed, filesystem, run, some_bytes

STRIPE = 2 * 4096
SIZES = (500, 5 * STRIPE + 1)


def short_writes(missing: int) -> float:
    return metrics.FAMILIES["predastore_short_writes_total"].child(str(missing)).value


def nodes_of(at: Harness) -> FakeNodes:
    assert at.nodes is not None
    return at.nodes


async def missing_of(at: Harness, key: str = "k") -> tuple[int, ...]:
    placement = (await at.found(key)).placement
    assert placement is not None
    (extent,) = placement.extents
    assert isinstance(extent, ShardExtent)
    return tuple(shard for shard, node in enumerate(extent.nodes) if node == MISSING)


@pytest.mark.parametrize("size", SIZES)
def test_with_one_parity_shard_writes_go_on_while_one_of_three_nodes_is_down(
    tmp_path: Path, size: int
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, (2, 1), node_count=3) as at:
            nodes_of(at)[2].down = True
            before = short_writes(1)
            await at.put("k", some_bytes(size))
            assert short_writes(1) == before + 1
            assert len(await missing_of(at)) == 1
            ((_, stored),) = (await at.table(REPAIR)).items()
            assert decode(RepairRow, stored).shards == await missing_of(at)
            assert await at.get("k") == some_bytes(size)
            nodes_of(at)[3].down = True
            with pytest.raises(NotEnoughNodes, match="1 of 3 shards were placed, 2 are needed"):
                await at.put("k", some_bytes(size, 2))

    run(main())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("write_shards", "may_be_down"), [(3, 2), (4, 1), (5, 0)])
def test_a_write_needs_as_many_shards_as_it_is_told(
    tmp_path: Path, size: int, write_shards: int, may_be_down: int
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5, write_shards=write_shards) as at:
            nodes = nodes_of(at)
            for node in range(1, may_be_down + 1):
                nodes[node].down = True
            await at.put("k", some_bytes(size))
            assert len(await missing_of(at)) == may_be_down
            assert await at.get("k") == some_bytes(size)
            assert await at.catalog.write_obstacle() == ""
            nodes[may_be_down + 1].down = True
            with pytest.raises(NotEnoughNodes):
                await at.put("k", some_bytes(size, 2))
            told = f"{write_shards - 1} of 5 nodes take shards, and a write needs {write_shards}"
            assert await at.catalog.write_obstacle() == told

    run(main())


def test_without_parity_writes_need_every_shard(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, (3, 0), node_count=3) as at:
            assert at.store.cluster.write_shards == 3

    run(main())


def test_a_full_disk_and_metadata_without_a_leader_keep_writes_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            nodes = nodes_of(at)
            assert await at.catalog.write_obstacle() == ""
            nodes[1].full = nodes[2].full = True
            assert "3 of 5 nodes take shards" in await at.catalog.write_obstacle()
            nodes[1].full = False
            assert await at.catalog.write_obstacle() == "", "the loss of one is made up for"
            for error, why in (
                (NoLeader("of 10.0.0.1"), "no leader, or no majority, answers"),
                (NodeFull("make room on /srv/db"), "the disk of a member is nearly full"),
            ):

                async def refused(_: object, error: Exception = error) -> None:
                    raise error

                with monkeypatch.context() as patch:
                    patch.setattr(at.state, "commit", refused)
                    told = await at.catalog.write_obstacle()
                    assert told == f"metadata takes no commits: {why}", "nothing of hosts and paths"

    run(main())


def test_plain_files_can_be_written_while_their_disk_takes_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            assert await at.catalog.write_obstacle() == ""
            said = os.statvfs(tmp_path)
            full = (*said[:4], 1, *said[5:])  # f_bavail
            read_only = (*said[:8], os.ST_RDONLY, *said[9:])
            for disk, told in ((full, "the disk is full but for its reserve"),
                               (read_only, "the file system is mounted read-only")):  # fmt: skip
                disks = [os.statvfs_result(disk)]
                monkeypatch.setattr(at.store.files, "disks", lambda disks=disks: disks)
                assert await at.catalog.write_obstacle() == told

    run(main())

"""`s3d cluster status` against the truth, at moments that are held; in all suites over this cluster
it is compared all the time (healing_support.Truth)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from predastore.catalog.keys import HEALING
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.jobs.healing import reconcile, repair
from predastore.jobs.healing.records import LEFT, RESTORED_KEY, NodeRecord, node_key
from predastore.node.shard import ShardRef
from predastore.process.commands import leaving, missing, standing
from predastore.s3db.commands import Put, batch
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import decode
from support.backends import BytesSource, run, some_bytes
from support.healing import BLOCK, FAST, Cluster, cluster, healing, until


class Held:
    """Makes steps of healing wait: nothing is repaired, no pass begins."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._walk, self._work_off = reconcile.Pass.run, repair.Repair._work_off

    def passes(self) -> None:
        async def run(_: reconcile.Pass) -> bool:
            return False

        self._patch.setattr(reconcile.Pass, "run", run)

    def repairs(self) -> None:
        async def work_off(*_: Any) -> repair.Outcome:
            return repair.Outcome.LATER

        self._patch.setattr(repair.Repair, "_work_off", work_off)

    def nothing(self) -> None:
        self._patch.setattr(reconcile.Pass, "run", self._walk)
        self._patch.setattr(repair.Repair, "_work_off", self._work_off)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


async def missing_of(at: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = (await at.status())["missing"]
    return found


async def first_line(at: Cluster) -> str:
    return missing.lines(await missing_of(at))[0]


def test_a_disk_that_was_replaced_is_being_checked_and_then_counted(
    tmp_path: Path, held: Held
) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at) as healer:
            await at.put_many(40)
            await at.put_part("parts")
            await at.put_part("unfinished", complete=False)
            await until(at.is_whole)
            assert await first_line(at) == "redundancy: no shard is known to be missing"
            held.passes()
            held.repairs()
            await at.wipe(2)
            lacking = await at.missing()
            assert len(lacking) > 40
            found = await missing_of(at)
            assert found["checking"] == [{"node": 2, "why": "new"}]
            assert not found["whole"]
            assert await first_line(at) == "redundancy: not known yet"
            await until(lambda: _answers(healer, 2))
            assert not (await missing_of(at))["whole"], "the pass has still to be made"
            held.nothing()
            held.repairs()

            async def is_checked() -> bool:
                return not (await missing_of(at))["checking"]

            await until(is_checked)
            found = await missing_of(at)
            assert found["shards"] == len(lacking)
            assert found["bytes"] == sum(
                records_size(extent)
                for extent in await at.extents()
                for shard in range(5)
                if (extent.write_id, shard) in lacking
            )
            assert f"{len(lacking)} shards are missing, " in await first_line(at)
            held.nothing()
            await until(at.is_whole)
            assert not await at.missing()

    run(main())


def records_size(extent: ShardExtent) -> int:
    stripes, rest = divmod(extent.size, extent.k * extent.block_bytes)
    return stripes * extent.block_bytes + -(-rest // extent.k)


async def _answers(healer: Any, node: int) -> bool:
    return bool(healer._context.watch.is_up(node))


def test_what_records_name_on_a_node_that_is_down_is_counted(tmp_path: Path) -> None:
    """Not what it holds: shards of objects that were deleted wait there to be let go of."""

    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.put_many(30)
            await until(at.is_whole)
            await at.stop_node(4)
            for number in range(10):
                await at.catalog.delete("bucket", f"k{number}")
                del at.bodies[f"k{number}"]
            lacking = len(await at.missing())
            assert 0 < lacking <= 20

            async def is_counted() -> bool:
                (away,) = (await missing_of(at))["unreachable"]
                return bool(away["counted"])

            await until(is_counted)
            found = await missing_of(at)
            assert found["shards"] == lacking
            assert f"{lacking} of them, " in missing.lines(found)[1]
            await at.run_node(4)
            await until(at.is_whole)

    run(main())


def test_what_is_noted_on_a_node_that_goes_down_is_counted_once(tmp_path: Path, held: Held) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.put_many(30)
            await until(at.is_whole)
            held.repairs()
            await at.wipe(2)
            await until(at.notes)
            await at.stop_node(2)
            lacking = len(await at.missing())

            async def is_exact() -> bool:
                return bool((await missing_of(at))["shards"] == lacking)

            await until(is_exact)
            held.nothing()
            await at.run_node(2)
            await until(at.is_whole)

    run(main())


def test_an_empty_node_that_is_down_has_nothing_that_is_missing(tmp_path: Path) -> None:
    """ "0 shards are missing, 66 min left" never stands."""

    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await until(at.is_whole)
            await at.stop_node(4)

            async def is_counted() -> bool:
                away = (await missing_of(at))["unreachable"]
                return bool(away) and bool(away[0]["counted"])

            await until(is_counted)
            found = await missing_of(at)
            assert (found["shards"], found["seconds_left"], found["whole"]) == (0, 0, False)
            assert missing.lines(found) == [
                "redundancy: no shard is known to be missing, but",
                "  node 4 does not answer; no record names a shard there",
            ]

    run(main())


def test_two_notes_of_one_extent_are_two_shards(tmp_path: Path) -> None:
    """The later one stands in the place of the one before, whose shard has no node."""

    async def main() -> None:
        async with cluster(tmp_path) as at:
            await at.stop_node(4)
            await at.put("k", some_bytes(5 * BLOCK))
            layout, extent = (await at.at.found("k")).row.layout, await at.extent_of("k")
            other = next(shard for shard, node in enumerate(extent.nodes) if node == 3)
            await at.note("k", layout, extent, (other,))
            await at.stores[3].delete([ShardRef(extent.shard_hash, extent.write_id, other)])
            assert len(await at.missing()) == 2
            notes = (await missing.read(at.state, [])).notes
            assert sum(notes.shards.values()) == 2

    run(main())


def test_bad_shards_count_from_the_moment_that_their_node_knows(tmp_path: Path, held: Held) -> None:
    """Unless no record names them: those go with the orphans, and keep nothing from being whole."""

    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.put("k", some_bytes(5 * BLOCK))
            await at.put("orphan", some_bytes(5 * BLOCK, 2))
            await until(at.is_whole)
            named, unnamed = await at.extent_of("k"), await at.extent_of("orphan")
            await at.forget("orphan")
            await spoil(at, unnamed, 1)
            assert (await at.stores[unnamed.nodes[1]].status()).bad_shards == 1
            await until(at.is_whole)
            held.passes()
            held.repairs()
            await spoil(at, named, 0)
            found = await missing_of(at)
            assert {"node": named.nodes[0], "shards": 1 + (named.nodes[0] == unnamed.nodes[1])} in (
                found["damaged"]
            )
            assert not found["whole"]
            held.nothing()
            await until(at.is_whole)
            assert not await at.missing()

    run(main())


async def spoil(at: Cluster, extent: ShardExtent, shard: int) -> None:
    """A bit of each block of a shard flips, and its node notices."""
    node, ref = extent.nodes[shard], ShardRef(extent.shard_hash, extent.write_id, shard)
    store = at.stores[node]
    for stripe, place in enumerate((await store.locate(ref)).blocks):
        with (at.path(node) / "segments" / f"{place.segment:08d}.seg").open("r+b") as file:
            file.seek(place.offset)
            byte = file.read(1)
            file.seek(place.offset)
            file.write(bytes([byte[0] ^ 4]))
        with pytest.raises(Exception, match="CRC"):
            await store.read(ref, stripe, 0, 1)


def test_a_node_that_was_removed_is_being_checked_until_every_gateway_has_heard_of_it(
    tmp_path: Path,
) -> None:
    """A write of one that had not may name it."""

    async def main() -> None:
        pace = dataclasses.replace(FAST, left_s=0.3)
        async with cluster(tmp_path, (1, 2, 3, 4, 5, 6)) as at, healing(at, pace) as healer:
            await at.put_many(10)
            await until(at.is_whole)
            at.set_nodes((1, 2, 3, 4, 5), draining=(6,))
            healer.config_changed()
            await until(at.is_whole)
            at.set_nodes((1, 2, 3, 4, 5))
            healer.config_changed()
            assert (await missing_of(at))["checking"] == [{"node": 6, "why": "left"}]
            assert "records that still name what has left" in missing.lines(await missing_of(at))[1]
            await until(at.is_whole)
            stored = await at.state.get(HEALING, node_key(6))
            assert stored is not None
            assert decode(NodeRecord, stored).store_id == LEFT
            at.set_nodes((1, 2, 3, 4, 5, 6))  # activated again
            healer.config_changed()
            assert (await missing_of(at))["checking"] == [{"node": 6, "why": "new"}]
            await until(at.is_whole)

    run(main())


def test_what_was_noted_of_a_part_is_found_when_its_upload_is_completed(
    tmp_path: Path, held: Held
) -> None:
    """The note says no object; until a walk has found it, it stays."""

    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await until(at.is_whole)
            body = some_bytes(100_000, 7)
            upload = await at.at.begin("k")
            part = await at.catalog.put_part(upload, 1, BytesSource(body), len(body))
            held.repairs()
            await at.wipe(2)
            await until(at.notes)
            await until(at.is_checked)
            await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            at.bodies["k"] = body
            held.nothing()
            await until(at.is_whole)
            assert await at.faults() == []

    run(main())


def test_after_a_restore_nothing_counts_as_looked_through(tmp_path: Path, held: Held) -> None:
    """Its records may name what was deleted since the backup was taken."""

    async def main() -> None:
        async with cluster(tmp_path) as at:
            async with healing(at):
                await at.put_many(5)
                await until(at.is_whole)
            extent = (await at.extents())[0]
            ref = ShardRef(extent.shard_hash, extent.write_id, 0)
            held.passes()
            async with healing(at, name="two"):
                # In this order, as the status is looked at all the time.
                await at.state.commit(batch(Put(HEALING, RESTORED_KEY, b"r" * 16)))
                await at.stores[extent.nodes[0]].delete([ref])
                assert len((await missing_of(at))["checking"]) == 5
                assert len(await at.missing()) == 1
            held.nothing()
            async with healing(at, name="three"):
                await until(at.is_whole)
                assert not await at.missing()

    run(main())


def test_healing_logs_what_it_begins_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with cluster(tmp_path, (1, 2, 3, 4, 5, 6)) as at, healing(at) as healer:
            await at.put_many(10)
            await until(at.is_whole)
            caplog.clear()
            await at.wipe(2)
            await until(at.is_whole)
            said = [record.message for record in caplog.records]
            assert [line for line in said if "records" in line or "repair" in line] == [
                "the records are looked over",
                "the records were looked over",
                "repair begins",
                "repair is done",
            ]
            caplog.clear()
            at.set_nodes((1, 2, 3, 4, 5), draining=(6,))
            healer.config_changed()
            await until(at.is_whole)
            begun, *_, ended = [record for record in caplog.records if "ring wants" in record.msg]
            assert begun.msg == "shards are moved to where the ring wants them"
            assert ended.msg == "all shards are where the ring wants them"
            assert vars(ended)["shards"] > 0

    with caplog.at_level("INFO", "predastore.jobs.healing"):
        run(main())


def test_a_node_that_is_emptied_says_what_it_waits_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, (1, 2, 3, 4, 5, 6)) as at, healing(at) as healer:
            await at.put_many(10)
            await until(at.is_whole)
            assert (await at.status())["waits"] == []
            healer._context.grace_s = 1000
            held = (await at.stores[6].status()).shard_count
            at.set_nodes((1, 2, 3, 4, 5), draining=(6,))
            (waits,) = (await at.status())["waits"]
            assert (waits["to_move"], waits["kept"]) == (held, 0)
            told = f"node 6 is draining; it waits for {held} shards to be moved, or let go of"
            assert leaving.lines([waits], {}) == [told]
            healer.config_changed()
            await until(at.lies_where_the_ring_wants)
            (waits,) = (await at.status())["waits"]
            assert (waits["to_move"], waits["kept"]) == (0, held)
            assert 0 < waits["kept_s"] <= 300
            assert leaving.lines([waits], {})[0].count("kept for readers, at least ")
            healer._context.grace_s = 0
            await until(at.is_whole)
            told = "node 6 is draining; it is empty: s3d cluster remove 6 takes it out"
            assert leaving.lines((await at.status())["waits"], {}) == [told]
            await at.stop_node(6)
            (line,) = leaving.lines((await at.status())["waits"], {6: 840})
            assert line.endswith("or is given up in 14 min and no record names it")

    run(main())


def test_what_was_said_of_healing_long_ago_is_not_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at:
            async with healing(at):
                await until(at.is_whole)
            found = await at.status()
            assert standing.is_whole(found)
            found["healing"]["age_s"] = 3600.0
            assert not standing.is_whole(found)

    run(main())

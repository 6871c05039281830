"""Completing an upload whose parts lack shards."""

from __future__ import annotations

from pathlib import Path

from predastore.catalog.keys import OBJECTS, REPAIR
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import RepairRow
from predastore.jobs.healing.holders import find
from predastore.storage.extents import HASH_BYTES
from predastore.storage.formats import decode
from support.backends import BytesSource, distributed, run
from support.healing import cluster, healing
from support.waiting import until


def test_what_parts_lack_stays_noted_and_is_found_in_the_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            assert at.nodes is not None
            at.nodes[1].down = True
            upload = await at.begin("k")
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            ((key, stored),) = (await at.table(REPAIR)).items()
            note = decode(RepairRow, stored)
            version = await at.found("k")
            assert key == version.row.layout + note.extent.write_id
            (holder,) = await find(at.state, key[:HASH_BYTES], note.part)
            assert holder.table == OBJECTS
            assert version.placement is not None
            assert holder.extents == version.placement.extents == (note.extent,)

    run(main())


def test_what_was_completed_while_a_node_was_down_is_made_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path) as at, healing(at):
            await at.stop_node(4)
            await at.put_part("parts")
            assert await at.notes() == 1
            await at.run_node(4)

            async def is_whole() -> bool:
                return not await at.notes() and not await at.faults()

            await until(is_whole)
            for extent in await at.extents():
                assert set(extent.nodes) == {1, 2, 3, 4, 5}

    run(main())

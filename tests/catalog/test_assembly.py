"""Completing an upload whose parts lack shards."""

from __future__ import annotations

import os
from pathlib import Path

from predastore.catalog.assembly import Assembly, complete_ops
from predastore.storage.records import (
    MISSING,
    OBJECTS,
    REPAIR,
    Checksum,
    PartRecord,
    RepairRecord,
    ShardExtent,
    UploadRecord,
)

from predastore.base.limits import COMMIT_BYTES_MAX, MIB, S3_KEY_BYTES_MAX, S3_PARTS_MAX
from predastore.jobs.healing.holders import find
from predastore.s3db.commands import batch, encode
from predastore.storage import records
from predastore.storage.interface import CompletedPart
from support.backends import OWNER, BytesSource, distributed, run
from support.healing import cluster, healing, until


def test_the_largest_upload_is_one_commit_though_a_node_is_down() -> None:
    key = "k" * S3_KEY_BYTES_MAX
    upload = UploadRecord(
        *("bucket", key, records.new_id().hex(), "1", 1, "binary/octet-stream"),
        *({}, {}, "sha256", "COMPOSITE"),
    )
    parts = {
        number: PartRecord(
            number,
            ShardExtent(
                *(os.urandom(32), os.urandom(16), 3, 2, MIB, 8 * MIB, (1, 2, 3, 4, MISSING))
            ),
            8 * MIB,
            "0" * 32,
            1,
            (Checksum("sha256", bytes(32)),),
        )
        for number in range(1, S3_PARTS_MAX + 1)
    }
    assembly = Assembly(upload, [CompletedPart(n, "0" * 32) for n in parts])
    assembly.take(
        (records.part_key(upload.upload_id, number), records.encode(part))
        for number, part in parts.items()
    )
    ops, leftovers = complete_ops(upload, assembly.record(), has_others=assembly.has_others)
    assert leftovers == ()
    assert len(encode(batch(*ops))) < COMMIT_BYTES_MAX // 3
    ops, leftovers = complete_ops(upload, assembly.record(), has_others=True)
    assert len(leftovers) == 1
    assert len(encode(batch(*ops))) < COMMIT_BYTES_MAX // 2


def test_what_parts_lack_stays_noted_and_is_found_in_the_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            assert at.nodes is not None
            at.nodes[1].down = True
            upload = await at.objects.create_upload("bucket", "k", OWNER)
            part = await at.objects.put_part(upload, 1, BytesSource(b"part"), 4)
            record = await at.objects.complete(upload, [CompletedPart(1, part.etag)])
            ((key, stored),) = (await at.table(REPAIR)).items()
            note = records.decode(RepairRecord, stored)
            (holder,) = await find(at.state, key[: records.HASH_BYTES], note.part)
            assert holder.table == OBJECTS
            assert holder.extents == record.extents == (note.extent,)
            assert key[records.HASH_BYTES :] == note.extent.write_id

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

"""The ops of the commits that more than one operation makes."""

from __future__ import annotations

from collections.abc import Sequence

from predastore.s3db.commands import Delete, Keep, Op, Put
from predastore.storage import records
from predastore.storage.interface import Written
from predastore.storage.records import (
    OBJECTS,
    PARTS,
    REPAIR,
    UPLOADS,
    GarbageRecord,
    ObjectRecord,
    RepairRecord,
    ShardExtent,
)


def object_ops(record: ObjectRecord) -> tuple[Op, ...]:
    """Points the key at `record`, and keeps what it replaces."""
    hash_ = records.object_hash(record.bucket, record.key)
    name = f"{record.bucket}/{record.key}".encode()
    return (
        Keep(OBJECTS, hash_, records.deleted_key(name, records.new_id())),
        Put(OBJECTS, hash_, records.encode(record)),
        Put(
            OBJECTS,
            records.arn_key(record.bucket, record.key),
            records.encode_listed(hash_, records.summarize(record)),
        ),
    )


def delete_ops(bucket: str, key: str) -> tuple[Op, ...]:
    """Removes the key, and keeps what it pointed at."""
    hash_ = records.object_hash(bucket, key)
    name = f"{bucket}/{key}".encode()
    return (
        Keep(OBJECTS, hash_, records.deleted_key(name, records.new_id())),
        Delete(OBJECTS, hash_),
        Delete(OBJECTS, records.arn_key(bucket, key)),
    )


def parts_garbage(upload_id: str) -> tuple[bytes, bytes]:
    """The (key, value) in PARTS that tells of all parts that are left of an upload."""
    where = records.deleted_key(upload_id.encode(), records.new_id())
    return where, records.encode(GarbageRecord((), upload_id))


def abort_ops(key: bytes, upload_id: str) -> tuple[tuple[Op, ...], tuple[bytes, bytes]]:
    """Ends the upload whose record has this key, and its `parts_garbage`."""
    garbage = parts_garbage(upload_id)
    ops = (
        Delete(UPLOADS, key),
        Delete(PARTS, records.touch_key(upload_id)),
        Put(PARTS, *garbage),
    )
    return ops, garbage


def repair_ops(
    bucket: str, key: str, extent: ShardExtent, missing: Sequence[int], part: str = ""
) -> tuple[Op, ...]:
    """Puts shards on the repair table. `part`: as in RepairRecord."""
    record = RepairRecord(bucket, key, extent, tuple(missing), records.now_ms(), part)
    where = records.repair_key(records.object_hash(bucket, key), extent.write_id)
    return (Put(REPAIR, where, records.encode(record)),)


def missing_ops(bucket: str, key: str, written: Written, part: str = "") -> tuple[Op, ...]:
    """`repair_ops` for what `written` lacks, if anything."""
    if not written.missing or not isinstance(written.extent, ShardExtent):
        return ()
    return repair_ops(bucket, key, written.extent, written.missing, part)

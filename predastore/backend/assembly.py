"""Completing a multipart upload: from the parts that lie there to the record of the object.

Pure: what is wrong with the client's list is raised as S3's error for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from predastore.backend import records
from predastore.backend.commit_ops import object_ops
from predastore.backend.interface import CompletedPart
from predastore.backend.records import (
    PARTS,
    UPLOADS,
    Checksum,
    GarbageRecord,
    ObjectRecord,
    PartRecord,
    PartSize,
    UploadRecord,
)
from predastore.coding import checksum
from predastore.errors import BodyMismatch, S3Error
from predastore.limits import S3_OBJECT_BYTES_MAX, S3_PART_BYTES_MIN
from predastore.s3db.commands import Delete, DeletePrefix, Op, Put


def assemble(
    upload: UploadRecord, wanted: Sequence[CompletedPart], stored: Mapping[int, PartRecord]
) -> ObjectRecord:
    """The object made of the `wanted` parts, in their order."""
    chosen = _chosen(wanted, stored)
    for part in chosen[:-1]:
        if part.size < S3_PART_BYTES_MIN:
            raise S3Error(
                "EntityTooSmall",
                PartNumber=str(part.number),
                ProposedSize=str(part.size),
                MinSizeAllowed=str(S3_PART_BYTES_MIN),
                ETag=part.etag,
            )
    size = sum(part.size for part in chosen)
    if size > S3_OBJECT_BYTES_MAX:
        raise S3Error(
            "EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(S3_OBJECT_BYTES_MAX)
        )
    digests = _digests(upload, chosen)
    composite = upload.checksum_type == "COMPOSITE"
    return ObjectRecord(
        bucket=upload.bucket,
        key=upload.key,
        write_id=records.new_id(),
        extents=tuple(part.extent for part in chosen),
        size=size,
        etag=checksum.multipart_etag([bytes.fromhex(part.etag) for part in chosen]),
        modified_ms=records.now_ms(),
        owner=upload.owner,
        content_type=upload.content_type,
        headers=upload.headers,
        user=upload.user,
        checksums=_checksums(upload, chosen, digests),
        parts=tuple(
            PartSize(part.number, part.size, digest if composite else b"")
            for part, digest in zip(chosen, digests, strict=True)
        ),
        upload_id=upload.upload_id,
        storage_class=upload.storage_class,
    )


def check_expected(record: ObjectRecord, checksums: Mapping[str, bytes], size: int | None) -> None:
    """What the client said about the whole: S3Error InvalidRequest, BodyMismatch."""
    if size is not None and size != record.size:
        raise S3Error("InvalidRequest", f"the parts have {record.size} bytes, not {size}")
    values = {each.algorithm: each.value for each in record.checksums}
    for name, value in checksums.items():
        if not hmac.compare_digest(values.get(name, b""), value):
            raise BodyMismatch(f"the object's {name} is not the one that was declared", name)


def complete_ops(
    upload: UploadRecord, record: ObjectRecord, stored: Sequence[PartRecord]
) -> tuple[tuple[Op, ...], tuple[tuple[bytes, bytes], ...]]:
    """The commit's ops, and the (key, value) in PARTS that tells of parts that are not used.

    What parts lack is on the repair table since they were put, under the object's key, and stays
    there until it is made: to write it again would be too much for one commit.
    """
    used = {extent.write_id for extent in record.extents}
    unused = tuple(part.extent for part in stored if part.extent.write_id not in used)
    leftovers: tuple[tuple[bytes, bytes], ...] = ()
    if unused:
        where = records.deleted_key(upload.upload_id.encode(), records.new_id())
        leftovers = ((where, records.encode(GarbageRecord(unused))),)
    upload_key = records.upload_key(upload.bucket, upload.key, upload.upload_id)
    ops = (
        *object_ops(record),
        Delete(UPLOADS, upload_key),
        Delete(PARTS, records.touch_key(upload.upload_id)),
        DeletePrefix(PARTS, records.parts_prefix(upload.upload_id)),
        *(Put(PARTS, where, value) for where, value in leftovers),
    )
    return ops, leftovers


def _chosen(wanted: Sequence[CompletedPart], stored: Mapping[int, PartRecord]) -> list[PartRecord]:
    if not wanted:
        raise S3Error("MalformedXML", "You must specify at least one part")
    chosen: list[PartRecord] = []
    for named in wanted:
        if chosen and named.number <= chosen[-1].number:
            raise S3Error("InvalidPartOrder")
        part = stored.get(named.number)
        if part is None or part.etag != named.etag or not _agrees(part, named.checksums):
            raise S3Error("InvalidPart", PartNumber=str(named.number), ETag=named.etag)
        chosen.append(part)
    return chosen


def _agrees(part: PartRecord, checksums: Mapping[str, bytes]) -> bool:
    values = {each.algorithm: each.value for each in part.checksums}
    return all(values.get(name) == value for name, value in checksums.items())


def _digests(upload: UploadRecord, parts: Sequence[PartRecord]) -> list[bytes]:
    """Each part's digest of the upload's algorithm, raw; b"" where that has none."""
    name = upload.checksum_algorithm
    values: list[bytes] = []
    for part in parts:
        value = next((each.value for each in part.checksums if each.algorithm == name), None)
        if name and value is None:
            raise S3Error("InvalidPart", PartNumber=str(part.number), ETag=part.etag)
        values.append(value or b"")
    return values


def _checksums(
    upload: UploadRecord, parts: Sequence[PartRecord], values: Sequence[bytes]
) -> tuple[Checksum, ...]:
    """The whole object's checksum, of the parts' digests or combined from them."""
    name = upload.checksum_algorithm
    if not name:
        return ()
    if upload.checksum_type == "FULL_OBJECT":
        sized = [(value, part.size) for value, part in zip(values, parts, strict=True)]
        return (Checksum(name, checksum.full_object(name, sized)),)
    digests = checksum.Digests((name,))
    digests.update(b"".join(values))
    return (Checksum(name, digests.digest(name), len(parts)),)

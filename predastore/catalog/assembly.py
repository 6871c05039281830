"""Completing a multipart upload: from the parts that lie there to the record of the object.

Pure: what is wrong with the client's list is raised as S3's error for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from predastore.base.errors import BodyMismatch, S3Error
from predastore.base.limits import S3_OBJECT_BYTES_MAX, S3_PART_BYTES_MIN
from predastore.catalog.commit_ops import object_ops, parts_garbage
from predastore.coding import checksum
from predastore.s3db.commands import Delete, DeletePrefix, Op, Put
from predastore.storage import records
from predastore.storage.interface import CompletedPart
from predastore.storage.records import (
    PARTS,
    UPLOADS,
    Checksum,
    Extent,
    ObjectRecord,
    PartRecord,
    PartSize,
    UploadRecord,
)


class Assembly:
    """The object of an upload's `wanted` parts. It is given all parts that there are, in order and
    some at a time, and keeps of each no more than the object's record needs.

    S3Error MalformedXML, InvalidPartOrder.
    """

    def __init__(self, upload: UploadRecord, wanted: Sequence[CompletedPart]) -> None:
        if not wanted:
            raise S3Error("MalformedXML", "You must specify at least one part")
        if any(after.number <= before.number for before, after in pairwise(wanted)):
            raise S3Error("InvalidPartOrder")
        self.has_others = False  # there are parts that are not wanted
        self._upload = upload
        self._wanted = wanted
        self._sizes: list[PartSize] = []
        self._extents: list[Extent] = []
        self._md5s: list[bytes] = []
        self._digests: list[bytes] = []
        self._last: PartRecord | None = None
        self._too_small: PartRecord | None = None

    def take(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes the next of the rows (key, value) in PARTS; S3Error InvalidPart."""
        for key, stored in rows:
            number = records.part_number(key)
            taken = len(self._sizes)
            if taken == len(self._wanted) or number < self._wanted[taken].number:
                self.has_others = True
                continue
            named = self._wanted[taken]
            part = records.decode(PartRecord, stored)
            if number != named.number or part.etag != named.etag or not _agrees(part, named):
                raise _invalid(named)
            self._add(part)

    def _add(self, part: PartRecord) -> None:
        before, self._last = self._last, part
        if before is not None and before.size < S3_PART_BYTES_MIN and self._too_small is None:
            self._too_small = before
        digest = self._digest(part)
        is_composite = self._upload.checksum_type == "COMPOSITE"
        self._sizes.append(PartSize(part.number, part.size, digest if is_composite else b""))
        self._extents.append(part.extent)
        self._md5s.append(bytes.fromhex(part.etag))
        self._digests.append(digest)

    def _digest(self, part: PartRecord) -> bytes:
        """Of the upload's algorithm, raw; b"" where that has none."""
        name = self._upload.checksum_algorithm
        if not name:
            return b""
        for each in part.checksums:
            if each.algorithm == name:
                return each.value
        raise S3Error("InvalidPart", PartNumber=str(part.number), ETag=part.etag)

    def record(self) -> ObjectRecord:
        """The object's, once all rows were taken; S3Error InvalidPart, EntityTooSmall,
        EntityTooLarge."""
        upload, taken = self._upload, len(self._sizes)
        if taken < len(self._wanted):
            raise _invalid(self._wanted[taken])
        if (small := self._too_small) is not None:
            raise S3Error(
                "EntityTooSmall",
                PartNumber=str(small.number),
                ProposedSize=str(small.size),
                MinSizeAllowed=str(S3_PART_BYTES_MIN),
                ETag=small.etag,
            )
        size = sum(part.size for part in self._sizes)
        if size > S3_OBJECT_BYTES_MAX:
            raise S3Error(
                "EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(S3_OBJECT_BYTES_MAX)
            )
        return ObjectRecord(
            bucket=upload.bucket,
            key=upload.key,
            write_id=records.new_id(),
            extents=tuple(self._extents),
            size=size,
            etag=checksum.multipart_etag(self._md5s),
            modified_ms=records.now_ms(),
            owner=upload.owner,
            content_type=upload.content_type,
            headers=upload.headers,
            user=upload.user,
            checksums=self._whole_checksums(),
            parts=tuple(self._sizes),
            upload_id=upload.upload_id,
            storage_class=upload.storage_class,
        )

    def _whole_checksums(self) -> tuple[Checksum, ...]:
        """The whole object's checksum, of the parts' digests or combined from them."""
        name = self._upload.checksum_algorithm
        if not name:
            return ()
        if self._upload.checksum_type == "FULL_OBJECT":
            sizes = (part.size for part in self._sizes)
            values = [*zip(self._digests, sizes, strict=True)]
            return (Checksum(name, checksum.full_object(name, values)),)
        digests = checksum.Digests((name,))
        digests.update(b"".join(self._digests))
        return (Checksum(name, digests.digest(name), len(self._digests)),)


def check_expected(record: ObjectRecord, checksums: Mapping[str, bytes], size: int | None) -> None:
    """What the client said about the whole: S3Error InvalidRequest, BodyMismatch."""
    if size is not None and size != record.size:
        raise S3Error("InvalidRequest", f"the parts have {record.size} bytes, not {size}")
    values = {each.algorithm: each.value for each in record.checksums}
    for name, value in checksums.items():
        if not hmac.compare_digest(values.get(name, b""), value):
            raise BodyMismatch(f"the object's {name} is not the one that was declared", name)


def complete_ops(
    upload: UploadRecord, record: ObjectRecord, *, has_others: bool
) -> tuple[tuple[Op, ...], tuple[tuple[bytes, bytes], ...]]:
    """The commit's ops, and the (key, value) in PARTS that tells of parts that are not used.

    What parts lack is on the repair table since they were put, under the object's key, and stays
    there until it is made: to write it again would be too much for one commit.
    """
    leftovers: tuple[tuple[bytes, bytes], ...] = ()
    used: tuple[Op, ...] = (DeletePrefix(PARTS, records.parts_prefix(upload.upload_id)),)
    if has_others:
        leftovers = (parts_garbage(upload.upload_id),)
        keys = (records.part_key(upload.upload_id, part.number) for part in record.parts)
        used = tuple(Delete(PARTS, key) for key in keys)
    ops = (
        *object_ops(record),
        Delete(UPLOADS, records.key_of_upload(upload)),
        Delete(PARTS, records.touch_key(upload.upload_id)),
        *used,
        *(Put(PARTS, where, value) for where, value in leftovers),
    )
    return ops, leftovers


def _invalid(named: CompletedPart) -> S3Error:
    return S3Error("InvalidPart", PartNumber=str(named.number), ETag=named.etag)


def _agrees(part: PartRecord, named: CompletedPart) -> bool:
    values = {each.algorithm: each.value for each in part.checksums}
    return all(values.get(name) == value for name, value in named.checksums.items())

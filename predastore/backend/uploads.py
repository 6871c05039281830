"""Multipart uploads: parts are written like objects; completing only commits a new record.

Every part's commit writes the upload's touch value anew. Completing reads that value, then the
parts, and commits under the check that the value is still the same: so the parts that it read
are all there are. Aborting is one small commit: the upload record goes, and a garbage entry
lets the collector find the parts, which nobody can reach any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from predastore.backend import records
from predastore.backend.assembly import assemble, check_expected, complete_ops
from predastore.backend.commit_ops import missing_ops
from predastore.backend.core import Core, algorithms, checksums_of
from predastore.backend.interface import (
    ALWAYS,
    NO_EXPECTATION,
    Attributes,
    CompletedPart,
    Condition,
    Expectation,
    PartListing,
    Place,
    Source,
    UploadListing,
    Written,
)
from predastore.backend.permits import Permit
from predastore.backend.records import (
    OBJECTS,
    PARTS,
    UPLOADS,
    GarbageRecord,
    ObjectRecord,
    PartRecord,
    UploadRecord,
)
from predastore.backend.upload_listing import UploadWalk
from predastore.coding.checksum import Digests
from predastore.errors import PreconditionFailed, PredastoreError, S3Error
from predastore.limits import (
    BACKEND_CONDITION_TRIES_MAX,
    BACKEND_SCAN_PAGE_MAX,
    S3_PARTS_MAX,
)
from predastore.s3db.commands import Applied, Check, Delete, Equals, Exists, Keep, Put, batch

_UPLOAD_ID_CHARACTERS: Final = frozenset("0123456789abcdef")


class Uploads(Core):
    """Part of `Objects`."""

    async def create_upload(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        checksum_algorithm: str = "",
        checksum_type: str = "",
        *,
        permit: Permit | None = None,
    ) -> UploadRecord:
        """Begins an upload. `checksum_type`: COMPOSITE or FULL_OBJECT, with an algorithm."""
        upload = UploadRecord(
            bucket=bucket,
            key=key,
            upload_id=records.new_id().hex(),
            owner=attributes.owner,
            created_ms=records.now_ms(),
            content_type=attributes.content_type,
            headers=dict(attributes.headers),
            user=dict(attributes.user),
            checksum_algorithm=checksum_algorithm,
            checksum_type=checksum_type,
            storage_class=attributes.storage_class,
        )
        ops = (
            Put(UPLOADS, _key(upload), records.encode(upload)),
            Put(PARTS, records.touch_key(upload.upload_id), records.new_id()),
        )
        await self._commit_in_bucket(bucket, ops, permit=permit)
        return upload

    async def upload(self, bucket: str, key: str, upload_id: str) -> UploadRecord:
        """An upload in progress; S3Error NoSuchUpload."""
        if len(upload_id) == records.UPLOAD_ID_CHARS and _UPLOAD_ID_CHARACTERS.issuperset(
            upload_id
        ):
            stored = await self._state.get(UPLOADS, records.upload_key(bucket, key, upload_id))
            if stored is not None:
                return records.decode(UploadRecord, stored)
        raise S3Error("NoSuchUpload", UploadId=upload_id)

    # --- parts ----------------------------------------------------------------------------

    async def put_part(
        self,
        upload: UploadRecord,
        number: int,
        source: Source,
        size: int,
        expectation: Expectation = NO_EXPECTATION,
    ) -> PartRecord:
        """Stores a part, in place of an earlier one of that number; raises what `put` does.

        The upload's checksum algorithm is computed and stored even if not asked for.
        """
        compute = expectation.compute | {upload.checksum_algorithm}
        digests = Digests(algorithms(expectation, upload.checksum_algorithm))
        place = Place(upload.bucket, upload.key, upload.upload_id, number)
        written = await self._store.write(place, records.new_id(), source, size, digests)
        values = await self._verified(written, digests, expectation)
        part = PartRecord(
            number=number,
            extent=written.extent,
            size=size,
            etag=values["md5"].hex(),
            modified_ms=records.now_ms(),
            checksums=checksums_of(values, frozenset(compute)),
        )
        await self._to_the_end(self._finish_part(upload, part, written))
        return part

    async def _finish_part(self, upload: UploadRecord, part: PartRecord, written: Written) -> None:
        where = records.part_key(upload.upload_id, part.number)
        ops = (
            Keep(PARTS, where, records.deleted_key(where, records.new_id())),
            Put(PARTS, where, records.encode(part)),
            Put(PARTS, records.touch_key(upload.upload_id), records.new_id()),
            *missing_ops(upload.bucket, upload.key, written, where.decode()),
        )

        async def commit(fence: Check) -> Applied:
            checks = (fence, Exists(UPLOADS, _key(upload)))
            return await self._state.commit(batch(*ops, checks=checks))

        try:
            applied = await self._fenced(written, commit)
        except PreconditionFailed as error:
            await self._discard_unless_unknown(written, error)
            raise S3Error("NoSuchUpload", UploadId=upload.upload_id) from error
        except PredastoreError as error:
            await self._discard_unless_unknown(written, error)
            raise
        await self._store.publish(written.extent)
        await self._collector.retire(PARTS, applied.kept)

    async def list_parts(
        self, upload: UploadRecord, after: int = 0, limit: int = 1000
    ) -> PartListing:
        """Parts with numbers above `after`, in order."""
        parts, truncated = await self._parts(upload, after, limit)
        return PartListing(parts, truncated, parts[-1].number if parts else after)

    async def _parts(
        self, upload: UploadRecord, after: int, limit: int
    ) -> tuple[list[PartRecord], bool]:
        prefix = records.parts_prefix(upload.upload_id)
        parts: list[PartRecord] = []
        position = records.part_key(upload.upload_id, after)
        truncated = limit > 0
        while truncated and len(parts) < limit:
            page = await self._state.list(PARTS, prefix, b"", position, limit - len(parts))
            parts.extend(records.decode(PartRecord, stored) for _, stored in page.entries)
            truncated = page.truncated
            position = page.next or position
        return parts, truncated

    # --- listing --------------------------------------------------------------------------

    async def list_uploads(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        limit: int = 1000,
    ) -> UploadListing:
        """Uploads in progress by key, then by age, and common prefixes, after the markers."""
        base = records.uploads_prefix(bucket)
        walk = UploadWalk(base, prefix, delimiter, limit)
        position = walk.start(key_marker, upload_id_marker)
        while not walk.full:
            page = await self._state.list(
                UPLOADS, base + prefix.encode(), b"", position, BACKEND_SCAN_PAGE_MAX
            )
            position = walk.take(page.entries, page.next)
            if not page.truncated:
                break
        return walk.listing()

    # --- the end --------------------------------------------------------------------------

    async def complete(
        self,
        upload: UploadRecord,
        parts: Sequence[CompletedPart],
        condition: Condition = ALWAYS,
        *,
        expected_checksums: Mapping[str, bytes] | None = None,
        expected_size: int | None = None,
    ) -> ObjectRecord:
        """Makes the object of the named parts; no bytes are copied. Other parts are dropped.

        `expected_checksums`: of the whole object, raw. S3Error InvalidPart, InvalidPartOrder,
        EntityTooSmall, EntityTooLarge, InvalidRequest (size), NoSuchUpload, PreconditionFailed;
        BodyMismatch for a checksum.
        """
        return await self._to_the_end(
            self._complete(upload, parts, condition, expected_checksums or {}, expected_size)
        )

    async def _complete(
        self,
        upload: UploadRecord,
        wanted: Sequence[CompletedPart],
        condition: Condition,
        expected_checksums: Mapping[str, bytes],
        expected_size: int | None,
    ) -> ObjectRecord:
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            touch = await self._state.get(PARTS, records.touch_key(upload.upload_id))
            if touch is None:
                raise S3Error("NoSuchUpload", UploadId=upload.upload_id)
            stored, _ = await self._parts(upload, 0, S3_PARTS_MAX + 1)
            record = assemble(upload, wanted, {part.number: part for part in stored})
            check_expected(record, expected_checksums, expected_size)
            checks = (
                Exists(UPLOADS, _key(upload)),
                Equals(PARTS, records.touch_key(upload.upload_id), touch),
            )
            ops, leftovers = complete_ops(upload, record, stored)
            try:
                applied = await self._commit_object(
                    upload.bucket, upload.key, ops, condition, checks
                )
            except PreconditionFailed as failed:
                if failed.check == 0:
                    raise S3Error("NoSuchUpload", UploadId=upload.upload_id) from failed
                continue  # a part came in between: read them again
            await self._collector.retire(OBJECTS, applied.kept)
            await self._collector.retire(PARTS, leftovers)
            return record
        raise S3Error("ConditionalRequestConflict")

    async def abort(self, upload: UploadRecord) -> None:
        """Ends the upload and lets its parts go; S3Error NoSuchUpload."""
        await self._to_the_end(self._abort(upload))

    async def _abort(self, upload: UploadRecord) -> None:
        garbage = GarbageRecord((), upload.upload_id)
        name = upload.upload_id.encode()
        where = records.deleted_key(name, records.new_id())
        stored = records.encode(garbage)
        ops = (
            Delete(UPLOADS, _key(upload)),
            Delete(PARTS, records.touch_key(upload.upload_id)),
            Put(PARTS, where, stored),
        )
        try:
            await self._state.commit(batch(*ops, checks=(Exists(UPLOADS, _key(upload)),)))
        except PreconditionFailed as failed:
            raise S3Error("NoSuchUpload", UploadId=upload.upload_id) from failed
        await self._collector.retire(PARTS, ((where, stored),))


def _key(upload: UploadRecord) -> bytes:
    return records.upload_key(upload.bucket, upload.key, upload.upload_id)

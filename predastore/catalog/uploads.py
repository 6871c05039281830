"""Multipart uploads: parts are written like objects; completing only commits a new record.

An upload belongs to the bucket in which it began, by that bucket's id: every commit checks that
this is still the bucket of the name. In one that was made anew under it there is no such upload.

Every part's commit writes the upload's touch value anew. Completing reads that value, then the
parts, and commits under the check that the value is still the same: so the parts that it read
are all there are. What is wrong with them is told only while the value is the same, too: of two
that complete an upload, or complete and abort it, the later finds no upload, and not half of its
parts. Aborting is one small commit: the upload record goes, and a garbage entry lets the collector
find the parts, which nobody can reach any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from predastore.base.errors import BodyMismatch, PreconditionFailed, PredastoreError, S3Error
from predastore.base.limits import (
    BACKEND_CONDITION_TRIES_MAX,
    BACKEND_PARTS_PAGE_MAX,
    BACKEND_SCAN_PAGE_MAX,
)
from predastore.catalog.assembly import Assembly, check_expected, complete_ops
from predastore.catalog.commit_ops import abort_ops, missing_ops
from predastore.catalog.core import Core, algorithms, checksums_of
from predastore.catalog.permits import Permit, anybody
from predastore.catalog.upload_listing import UploadWalk
from predastore.coding.checksum import Digests
from predastore.s3db.commands import Applied, Check, Equals, Exists, Keep, Op, Put
from predastore.storage import records
from predastore.storage.interface import (
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
from predastore.storage.records import (
    BUCKETS,
    OBJECTS,
    PARTS,
    UPLOADS,
    BucketRecord,
    ObjectRecord,
    PartRecord,
    UploadRecord,
)

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

        def ops(within: BucketRecord) -> tuple[Op, ...]:
            nonlocal upload
            upload = msgspec.structs.replace(upload, bucket_id=within.id)
            return (
                Put(UPLOADS, records.key_of_upload(upload), records.encode(upload)),
                Put(PARTS, records.touch_key(upload.upload_id), records.new_id()),
            )

        await self._store.check_room()
        await self._commit_in_bucket(await self._permit(bucket, permit), ops)
        return upload

    async def upload(
        self, bucket: str, key: str, upload_id: str, *, permit: Permit | None = None
    ) -> UploadRecord:
        """An upload in progress; S3Error NoSuchUpload, NoSuchBucket, what the permit's judge
        raises."""
        is_id = len(upload_id) == records.UPLOAD_ID_CHARS
        is_id = is_id and _UPLOAD_ID_CHARACTERS.issuperset(upload_id)
        held = await self._permit(bucket, permit)
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            wanted = [(BUCKETS, records.bucket_key(bucket))]
            if is_id:
                place = records.upload_key(bucket, held.record.id, key, upload_id)
                wanted.append((UPLOADS, place))
            stored_bucket, *found = await self._state.read(wanted)
            if stored_bucket == held.stored:
                if found and found[0] is not None:
                    return records.decode(UploadRecord, found[0])
                raise S3Error("NoSuchUpload", UploadId=upload_id)
            held = await self._permits.renew(held)
        raise S3Error("ConditionalRequestConflict")

    async def completed(
        self, bucket: str, key: str, upload_id: str, *, permit: Permit | None = None
    ) -> ObjectRecord:
        """The object that an upload has made, if it is still there; else S3Error NoSuchUpload, or
        what the permit's judge raises."""
        judge = anybody if permit is None else permit.judge
        stored_bucket, stored = await self._state.read(
            (
                (BUCKETS, records.bucket_key(bucket)),
                (OBJECTS, records.object_hash(bucket, key)),
            )
        )
        judge(None if stored_bucket is None else records.decode(BucketRecord, stored_bucket))
        if stored_bucket is None:
            raise S3Error("NoSuchBucket", BucketName=bucket)
        if stored is not None and upload_id:
            record = records.decode(ObjectRecord, stored)
            if record.upload_id == upload_id:
                return record
        raise S3Error("NoSuchUpload", UploadId=upload_id)

    async def _upload_permit(self, upload: UploadRecord, permit: Permit | None) -> Permit:
        """A permit for the bucket in which the upload began, and for no other of its name."""
        held = (await self._permit(upload.bucket, permit)).of_upload(upload)
        if held.record.id != upload.bucket_id:
            held = await self._permits.renew(held)
        return held

    # --- parts ----------------------------------------------------------------------------

    async def put_part(
        self,
        upload: UploadRecord,
        number: int,
        source: Source,
        size: int,
        expectation: Expectation = NO_EXPECTATION,
        *,
        permit: Permit | None = None,
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
        await self._to_the_end(self._finish_part(upload, part, written, permit))
        return part

    async def _finish_part(
        self, upload: UploadRecord, part: PartRecord, written: Written, permit: Permit | None
    ) -> None:
        where = records.part_key(upload.upload_id, part.number)
        ops = (
            Keep(PARTS, where, records.deleted_key(where, records.new_id())),
            Put(PARTS, where, records.encode(part)),
            Put(PARTS, records.touch_key(upload.upload_id), records.new_id()),
            *missing_ops(upload.bucket, upload.key, written, where.decode()),
        )

        async def commit(fence: Check) -> Applied:
            held = await self._upload_permit(upload, permit)
            checks = (fence, Exists(UPLOADS, records.key_of_upload(upload)))
            return await self._commit_in_bucket(held, lambda _: ops, checks)

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
        prefix = records.parts_prefix(upload.upload_id)
        parts: list[PartRecord] = []
        position = records.part_key(upload.upload_id, after)
        truncated = limit > 0
        while truncated and len(parts) < limit:
            page = await self._state.list(PARTS, prefix, b"", position, limit - len(parts))
            parts.extend(records.decode(PartRecord, stored) for _, stored in page.entries)
            truncated = page.truncated
            position = page.next or position
        return PartListing(parts, truncated, parts[-1].number if parts else after)

    # --- listing --------------------------------------------------------------------------

    async def list_uploads(
        self,
        bucket: BucketRecord,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        limit: int = 1000,
    ) -> UploadListing:
        """Uploads in progress by key, then by age, and common prefixes, after the markers."""
        base = records.uploads_prefix(bucket.name, bucket.id)
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
        permit: Permit | None = None,
    ) -> ObjectRecord:
        """Makes the object of the named parts; no bytes are copied. Other parts are dropped.

        `expected_checksums`: of the whole object, raw. S3Error InvalidPart, InvalidPartOrder,
        EntityTooSmall, EntityTooLarge, InvalidRequest (size), NoSuchUpload, PreconditionFailed,
        what the permit's judge raises; BodyMismatch for a checksum.
        """

        async def assembled() -> tuple[ObjectRecord, bool]:
            record, has_others = await self._assembled(upload, parts)
            check_expected(record, expected_checksums or {}, expected_size)
            return record, has_others

        return await self._to_the_end(self._complete(upload, assembled, condition, permit))

    async def _complete(
        self,
        upload: UploadRecord,
        assembled: Callable[[], Awaitable[tuple[ObjectRecord, bool]]],
        condition: Condition,
        permit: Permit | None,
    ) -> ObjectRecord:
        held = await self._upload_permit(upload, permit)
        touched = (PARTS, records.touch_key(upload.upload_id))
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            touch = await self._state.get(*touched)
            if touch is None:
                raise S3Error("NoSuchUpload", UploadId=upload.upload_id)
            checks = (Exists(UPLOADS, records.key_of_upload(upload)), Equals(*touched, touch))
            try:
                record, has_others = await assembled()
                ops, leftovers = complete_ops(upload, record, has_others=has_others)
                applied = await self._commit_object(held, upload.key, ops, condition, checks)
            except PreconditionFailed:
                continue  # the upload has ended, or a part came in between
            except (S3Error, BodyMismatch):
                if await self._state.get(*touched) == touch:
                    raise
                continue  # it was judged by what is no longer so
            await self._collector.retire(OBJECTS, applied.kept)
            await self._collector.retire(PARTS, leftovers)
            return record
        raise S3Error("ConditionalRequestConflict")

    async def _assembled(
        self, upload: UploadRecord, wanted: Sequence[CompletedPart]
    ) -> tuple[ObjectRecord, bool]:
        """The object of the wanted parts, and whether there are others."""
        assembly = Assembly(upload, wanted)
        prefix, after, truncated = records.parts_prefix(upload.upload_id), b"", True
        while truncated:
            page = await self._state.list(PARTS, prefix, b"", after, BACKEND_PARTS_PAGE_MAX)
            assembly.take(page.entries)
            truncated, after = page.truncated, page.next
        return assembly.record(), assembly.has_others

    async def abort(self, upload: UploadRecord, *, permit: Permit | None = None) -> None:
        """Ends the upload and lets its parts go; S3Error NoSuchUpload, what the permit's judge
        raises."""
        await self._to_the_end(self._abort(upload, permit))

    async def _abort(self, upload: UploadRecord, permit: Permit | None) -> None:
        key = records.key_of_upload(upload)
        ops, garbage = abort_ops(key, upload.upload_id)
        held = await self._upload_permit(upload, permit)
        try:
            await self._commit_in_bucket(held, lambda _: ops, (Exists(UPLOADS, key),))
        except PreconditionFailed as failed:
            raise S3Error("NoSuchUpload", UploadId=upload.upload_id) from failed
        await self._collector.retire(PARTS, (garbage,))

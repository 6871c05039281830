"""Multipart uploads: parts are written like objects; completing copies no bytes.

An upload belongs to the bucket in which it began, by that bucket's id: in one that was made anew
under its name there is no such upload. What an upload needs is decided in the procedures
(procedures/uploads.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from predastore.base.failpoints import failpoint
from predastore.base.limits import BACKEND_CONDITION_TRIES_MAX, BACKEND_SCAN_PAGE_MAX
from predastore.base.randomness import random_bytes
from predastore.catalog import keys, refusals
from predastore.catalog.core import algorithms, checksums_of
from predastore.catalog.errors import Contended, NoSuchUpload
from predastore.catalog.keys import BUCKETS, COMPLETED, PARTS, UPLOADS
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import (
    NO_CONDITION,
    AbortUpload,
    Completed,
    CompletedPart,
    CompleteUpload,
    Condition,
    CreateUpload,
    Nothing,
    PutPart,
    WastedParts,
)
from predastore.catalog.rows import (
    BucketRow,
    Checksum,
    CompletedRow,
    PartRow,
    UploadRow,
    bucket_row,
)
from predastore.catalog.upload_listing import UploadWalk
from predastore.catalog.values import (
    NO_EXPECTATION,
    Attributes,
    Expectation,
    PartListing,
    Stored,
    UploadListing,
)
from predastore.catalog.writes import Writes, shown_id
from predastore.coding.checksum import Digests
from predastore.storage import extents
from predastore.storage.formats import decode
from predastore.storage.interface import Place, Source, Written


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in progress, and the permit for its bucket under which it was found."""

    permit: Permit
    row: UploadRow


class Uploads(Writes):
    """Part of `Catalog`."""

    async def create_upload(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        checksum_algorithm: str = "",
        checksum_type: str = "",
        *,
        permit: Permit | None = None,
    ) -> UploadRow:
        """Begins an upload. `checksum_type`: COMPOSITE or FULL_OBJECT, with an algorithm."""
        row = UploadRow(
            bucket=bucket,
            key=key,
            upload_id=extents.new_id().hex(),
            owner=attributes.owner,
            created_ms=extents.now_ms(),
            content_type=attributes.content_type,
            headers=dict(attributes.headers),
            user=dict(attributes.user),
            checksum_algorithm=checksum_algorithm,
            checksum_type=checksum_type,
            storage_class=attributes.storage_class,
            tags=attributes.tags,
            retention=attributes.retention,
            legal_hold=attributes.legal_hold,
        )
        await self._store.check_room()
        held = await self._permit(bucket, permit)
        await self._call("upload.create", held, lambda now: CreateUpload(now.held, row), Nothing)
        return row

    async def upload(
        self, bucket: str, key: str, upload_id: str, *, permit: Permit | None = None
    ) -> Upload:
        """An upload in progress; NoSuchUpload, NoSuchBucket, what the permit's judge raises."""
        held = await self._permit(bucket, permit)
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            wanted = [(BUCKETS, keys.bucket(bucket))]
            if keys.is_upload_id(upload_id):
                wanted.append((UPLOADS, keys.upload(held.row.id, key, upload_id)))
            stored_bucket, *found = await self._state.read(wanted)
            row = bucket_row(stored_bucket) if stored_bucket else None
            if self._permits.is_valid(held, row):
                if found and found[0] is not None:
                    return Upload(held, decode(UploadRow, found[0]))
                raise NoSuchUpload(UploadId=upload_id)
            held = await self._permits.renew(held)
        raise Contended

    async def completed(
        self, bucket: str, key: str, upload_id: str, *, permit: Permit | None = None
    ) -> Stored:
        """What an upload that was completed not long ago has made; NoSuchUpload, or what the
        permit's judge raises."""
        held = await self._permit(bucket, permit)
        if keys.is_upload_id(upload_id):
            name = keys.upload_name(held.row.id, upload_id)
            stored = await self._state.get(COMPLETED, name)
            row = decode(CompletedRow, stored) if stored else None
            if row is not None and row.key == key:
                return _stored(refusals.read(Completed, row.answer))
        raise NoSuchUpload(UploadId=upload_id)

    # --- parts ----------------------------------------------------------------------------

    async def put_part(
        self,
        upload: Upload,
        number: int,
        source: Source,
        size: int,
        expectation: Expectation = NO_EXPECTATION,
    ) -> PartRow:
        """Stores a part, in place of an earlier one of that number; raises what `put` does, and
        NoSuchUpload.

        The upload's checksum algorithm is computed and stored even if not asked for.
        """
        row, bucket_id = upload.row, upload.permit.row.id
        compute = expectation.compute | {row.checksum_algorithm}
        digests = Digests(algorithms(expectation, row.checksum_algorithm))
        place = Place(
            layout=keys.layout(row.bucket, row.key, bytes.fromhex(row.upload_id)),
            name=keys.part_hash(row.upload_id, number),
            bucket=row.bucket,
            key=row.key,
            part=keys.part(bucket_id, row.upload_id, number),
        )
        written = await self._store.write(place, extents.new_id(), source, size, digests)
        values = await self._verified(written, digests, expectation)
        part = PartRow(
            number=number,
            extent=written.extent,
            size=size,
            etag=values["md5"].hex(),
            modified_ms=extents.now_ms(),
            checksums=checksums_of(values, frozenset(compute)),
        )
        await self._to_the_end(self._finish_part(upload, part, written))
        return part

    async def _finish_part(self, upload: Upload, part: PartRow, written: Written) -> None:
        key, upload_id = upload.row.key, upload.row.upload_id

        def arguments(now: Permit) -> PutPart:
            return PutPart(
                *(now.held, key, upload_id, part),
                *(extents.now_ms(), self._grace_ms, written.missing),
            )

        answer = await self._call("upload.part", upload.permit, arguments, WastedParts, written)
        failpoint("part.committed")
        await self._store.publish(written.extent)
        await self._collector.retire(answer.wasted)

    async def list_parts(self, upload: Upload, after: int = 0, limit: int = 1000) -> PartListing:
        """Parts with numbers above `after`, in order."""
        prefix = keys.parts(upload.permit.row.id, upload.row.upload_id)
        position = keys.part(upload.permit.row.id, upload.row.upload_id, after)
        parts: list[PartRow] = []
        truncated = limit > 0
        while truncated and len(parts) < limit:
            page = await self._state.list(PARTS, prefix, b"", position, limit - len(parts))
            parts.extend(decode(PartRow, stored) for _, stored in page.entries)
            truncated = page.truncated
            position = page.next or position
        return PartListing(parts, truncated, parts[-1].number if parts else after)

    async def list_uploads(
        self,
        bucket: BucketRow,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        limit: int = 1000,
    ) -> UploadListing:
        """Uploads in progress by key, then by age, and common prefixes, after the markers."""
        base = keys.documents(bucket.id)
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
        upload: Upload,
        parts: Sequence[CompletedPart],
        condition: Condition = NO_CONDITION,
        *,
        expected_checksums: Mapping[str, bytes] | None = None,
        expected_size: int | None = None,
    ) -> Stored:
        """Makes the object of the named parts, which are in ascending order; no bytes are copied.
        Other parts are dropped.

        `expected_checksums`: of the whole object, raw. InvalidPart, PartTooSmall, ObjectTooLarge,
        SizeDiffers, NoSuchUpload, ConditionFailed, NoSuchKey, what the permit's judge raises;
        BodyMismatch for a checksum.
        """
        assert parts, "the caller refuses none, and any other order"
        assert all(before.number < part.number for before, part in pairwise(parts))
        row = upload.row
        expected = tuple(Checksum(*each) for each in sorted((expected_checksums or {}).items()))
        random = random_bytes(keys.RANDOM_BYTES)

        def arguments(now: Permit) -> CompleteUpload:
            return CompleteUpload(
                *(now.held, row.key, row.upload_id, random, tuple(parts)),
                *(extents.now_ms(), self._grace_ms, condition, expected_size, expected),
            )

        async def work() -> Stored:
            answer = await self._call("upload.complete", upload.permit, arguments, Completed)
            failpoint("complete.committed")
            await self._collector.retire(answer.added.wasted)
            return _stored(answer)

        return await self._to_the_end(work())

    async def abort(self, upload: Upload) -> None:
        """Ends the upload and lets its parts go; NoSuchUpload, what the permit's judge raises."""
        row = upload.row

        def arguments(now: Permit) -> AbortUpload:
            return AbortUpload(now.held, row.key, row.upload_id, extents.now_ms(), self._grace_ms)

        async def work() -> None:
            await self._call("upload.abort", upload.permit, arguments, Nothing)
            failpoint("abort.committed")
            name = keys.upload_name(upload.permit.row.id, row.upload_id)
            await self._collector.retire((name,))

        await self._to_the_end(work())


def _stored(answer: Completed) -> Stored:
    summary = answer.summary
    return Stored(
        summary.etag,
        summary.modified_ms,
        summary.size,
        answer.checksums,
        shown_id(answer.added),
    )

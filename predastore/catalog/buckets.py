"""Operations on buckets and their documents."""

from __future__ import annotations

import os
from typing import Final

from predastore.base.errors import NodeFull
from predastore.base.failpoints import failpoint
from predastore.base.limits import BACKEND_SCAN_PAGE_MAX
from predastore.catalog import keys, refusals
from predastore.catalog.core import CatalogCore
from predastore.catalog.keys import BUCKETS, DOCUMENTS
from predastore.catalog.permits import Judge, Permit
from predastore.catalog.procedures.arguments import (
    ChangeBucket,
    CreateBucket,
    DeleteBucket,
    Nothing,
    Reason,
)
from predastore.catalog.rows import BucketRow, DefaultRetention, Versioning, bucket_row
from predastore.storage import extents

TAGS: Final = "tags"  # a kind of document


class Buckets(CatalogCore):
    """Part of `Catalog`."""

    async def create_bucket(
        self,
        name: str,
        owner: str,
        region: str,
        *,
        public: bool = False,
        is_locked: bool = False,
        document: tuple[str, bytes] | None = None,
    ) -> bool:
        """True: created, with its document. False: there is one of this name, whoever's; `bucket`
        has it. One with object lock is versioned."""
        try:
            await self._store.check_room()
        except NodeFull:
            if await self.bucket(name) is None:
                raise
            return False
        row = BucketRow(
            name,
            new_id(),
            owner,
            region,
            extents.now_ms(),
            public,
            versioning=Versioning.ENABLED if is_locked else Versioning.NEVER,
            is_locked=is_locked,
        )
        applied = await self._state.call("bucket.create", CreateBucket(row, document).encode())
        if refusals.reason_of(applied.answer) is Reason.BUCKET_EXISTS:
            return False
        refusals.read(Nothing, applied.answer)
        self._permits.forget(name)
        return True

    async def delete_bucket(self, name: str, *, permit: Permit | None = None) -> None:
        """NoSuchBucket, what the permit's judge raises; BucketNotEmpty: it has objects, versions or
        delete markers. Uploads in progress go with it: nobody finds them from now on."""
        held = await self._permit(name, permit)
        deleted = b""

        def arguments(now: Permit) -> DeleteBucket:
            nonlocal deleted
            deleted = now.row.id
            return DeleteBucket(now.held, extents.now_ms())

        async def work() -> None:
            await self._call("bucket.delete", held, arguments, Nothing)
            failpoint("bucket.deleted")
            await self._collector.retire((deleted,))

        try:
            await self._to_the_end(work())
        finally:
            self._permits.forget(name)

    async def change_bucket(
        self,
        permit: Permit,
        *,
        versioning: Versioning | None = None,
        is_locked: bool | None = None,
        retention: DefaultRetention | None = None,
        document: tuple[str, bytes | None] | None = None,
    ) -> None:
        """Changes what is not None; `retention` of NONE, and a document of None, remove what there
        is. BucketLocked where object lock does not allow it; NodeFull where there is no room for a
        document."""
        if document is not None and document[1] is not None:
            await self._store.check_room()

        def arguments(now: Permit) -> ChangeBucket:
            return ChangeBucket(now.held, versioning, is_locked, retention, document)

        try:
            await self._to_the_end(self._call("bucket.change", permit, arguments, Nothing))
        finally:
            self._permits.forget(permit.row.name)

    async def bucket(self, name: str) -> BucketRow | None:
        """The bucket's row, or None."""
        stored = await self._state.get(BUCKETS, keys.bucket(name))
        return None if stored is None else bucket_row(stored)

    async def document(self, bucket: BucketRow, kind: str) -> bytes | None:
        """A document of a bucket just read, or None."""
        return await self._state.get(DOCUMENTS, keys.document(bucket.id, kind))

    async def permit(self, name: str, judge: Judge) -> Permit:
        """Leave to do something to the bucket, for the operations that take one; what `judge`
        raises."""
        return await self._permits.ask(name, judge)

    async def buckets(self, owner: str | None = None) -> list[BucketRow]:
        """The buckets of an account, or of all, by name."""
        found: list[BucketRow] = []
        after = b""
        while True:
            page = await self._state.list(BUCKETS, b"", b"", after, BACKEND_SCAN_PAGE_MAX)
            for _, stored in page.entries:
                row = bucket_row(stored)
                if owner is None or row.owner == owner:
                    found.append(row)
            if not page.truncated:
                return found
            after = page.next


def new_id() -> bytes:
    """The id of a new bucket: random, but for a first bit with which no bucket's name begins."""
    first, *rest = os.urandom(extents.ID_BYTES)
    return bytes([first | 0x80, *rest])

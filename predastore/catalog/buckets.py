"""Operations on buckets and their documents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from predastore.base.errors import NodeFull
from predastore.base.failpoints import failpoint
from predastore.base.limits import BACKEND_SCAN_PAGE_MAX
from predastore.catalog import keys, refusals
from predastore.catalog.core import CatalogCore
from predastore.catalog.documents import DocumentKind
from predastore.catalog.keys import ACCOUNT_DOCUMENTS, BUCKETS, DOCUMENTS
from predastore.catalog.permits import Judge, Permit
from predastore.catalog.procedures.arguments import (
    ChangeAccess,
    ChangeBucket,
    CreateBucket,
    CreateBucketWith,
    DeleteBucket,
    Nothing,
    Reason,
)
from predastore.catalog.rows import (
    BucketRow,
    DefaultRetention,
    ObjectOwnership,
    PublicBlock,
    Versioning,
    bucket_row,
)
from predastore.s3db.commands import Check
from predastore.storage import extents

TAGS: Final = "tags"  # kinds of documents
CORS: Final = "cors"
ACL: Final = "acl"
POLICY: Final = "policy"

NO_DOCUMENTS: Final[Mapping[str, bytes]] = MappingProxyType({})


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
        ownership: ObjectOwnership = ObjectOwnership.NONE,
        block: PublicBlock | None = None,
        documents: Mapping[str, bytes] = NO_DOCUMENTS,
    ) -> bool:
        """True: created, with its documents, by their kinds. False: there is one of this name,
        whoever's; `bucket` has it. One with object lock is versioned."""
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
            ownership=ownership,
            block=block,
        )
        applied = await self._state.call(*_creation(row, documents))
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

    async def change_access(
        self,
        permit: Permit,
        *,
        ownership: ObjectOwnership | None = None,
        block: tuple[PublicBlock, ...] | None = None,
    ) -> None:
        """Changes what is not None; NONE, and an empty tuple, remove what there is."""

        def arguments(now: Permit) -> ChangeAccess:
            return ChangeAccess(now.held, ownership, block)

        try:
            await self._to_the_end(self._call("bucket.change_access", permit, arguments, Nothing))
        finally:
            self._permits.forget(permit.row.name)

    async def bucket(self, name: str) -> BucketRow | None:
        """The bucket's row, or None."""
        stored = await self._state.get(BUCKETS, keys.bucket(name))
        return None if stored is None else bucket_row(stored)

    async def document(self, bucket: BucketRow, kind: str) -> bytes | None:
        """A document of a bucket just read, or None."""
        return await self._state.get(DOCUMENTS, keys.document(bucket.id, kind))

    async def account_document(self, account: str, kind: str) -> bytes | None:
        """A document of an account, or None."""
        return await self._state.get(ACCOUNT_DOCUMENTS, keys.account_document(account, kind))

    async def change_account(self, account: str, kind: str, document: bytes | None) -> None:
        """Stores a document of an account; None removes it. NodeFull."""
        place = keys.account_document(account, kind)
        if document is None:
            await self._state.delete(ACCOUNT_DOCUMENTS, place)
            return
        await self._store.check_room()
        await self._state.set(ACCOUNT_DOCUMENTS, place, document)

    async def permit(
        self,
        name: str,
        judge: Judge,
        *kinds: DocumentKind[Any],
        checks: tuple[Check, ...] = (),
    ) -> Permit:
        """Leave to do something to the bucket, for the operations that take one; what `judge`
        raises. `kinds`: of the documents that it judges by. `checks`: as in `Permit`."""
        return await self._permits.ask(name, judge, *kinds, checks=checks)

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


def _creation(row: BucketRow, documents: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The procedure that makes such a bucket, the oldest that can, and its arguments."""
    given = tuple(documents.items())
    if len(given) > 1 or row.ownership or row.block is not None:
        return "bucket.create_with", CreateBucketWith(row, given).encode()
    return "bucket.create", CreateBucket(row, given[0] if given else None).encode()


def new_id() -> bytes:
    """The id of a new bucket: random, but for a first bit with which no bucket's name begins."""
    first, *rest = os.urandom(extents.ID_BYTES)
    return bytes([first | 0x80, *rest])

"""Operations on buckets."""

from __future__ import annotations

from predastore.backend import records
from predastore.backend.core import Core
from predastore.backend.permits import Judge, Permit
from predastore.backend.records import BUCKETS, OBJECTS, UPLOADS, BucketRecord
from predastore.errors import PreconditionFailed, S3Error
from predastore.limits import BACKEND_SCAN_PAGE_MAX
from predastore.s3db.commands import Absent, Delete, Exists, NoPrefix, Put, batch


class Buckets(Core):
    """Part of `Objects`."""

    async def create_bucket(self, name: str, owner: str, region: str, public: bool = False) -> bool:
        """True: created. False: there is one of this name, whoever's; `bucket` has it."""
        key = records.bucket_key(name)
        record = BucketRecord(name, owner, region, records.now_ms(), public)
        try:
            await self._state.commit(
                batch(Put(BUCKETS, key, records.encode(record)), checks=(Absent(BUCKETS, key),))
            )
        except PreconditionFailed:
            return False
        return True

    async def delete_bucket(self, name: str) -> None:
        """S3Error NoSuchBucket; BucketNotEmpty while it has objects or uploads in progress."""
        self._permits.forget(name)
        key = records.bucket_key(name)
        checks = (
            Exists(BUCKETS, key),
            NoPrefix(OBJECTS, records.arn_prefix(name)),
            NoPrefix(UPLOADS, records.uploads_prefix(name)),
        )
        try:
            await self._state.commit(batch(Delete(BUCKETS, key), checks=checks))
        except PreconditionFailed as failed:
            code = "NoSuchBucket" if failed.check == 0 else "BucketNotEmpty"
            raise S3Error(code, BucketName=name) from failed

    async def bucket(self, name: str) -> BucketRecord | None:
        """The bucket's record, or None."""
        stored = await self._state.get(BUCKETS, records.bucket_key(name))
        return None if stored is None else records.decode(BucketRecord, stored)

    async def permit(self, name: str, judge: Judge) -> Permit:
        """Leave to write to the bucket, for the operations that take one; what `judge` raises."""
        return await self._permits.ask(name, judge)

    async def buckets(self, owner: str | None = None) -> list[BucketRecord]:
        """The buckets of an account, or of all, by name."""
        found: list[BucketRecord] = []
        after = b""
        while True:
            page = await self._state.list(BUCKETS, b"", b"", after, BACKEND_SCAN_PAGE_MAX)
            for _, stored in page.entries:
                record = records.decode(BucketRecord, stored)
                if owner is None or record.owner == owner:
                    found.append(record)
            if not page.truncated:
                return found
            after = page.next

"""Operations on buckets."""

from __future__ import annotations

from predastore.base.errors import NodeFull, PreconditionFailed, S3Error
from predastore.base.limits import BACKEND_SCAN_PAGE_MAX
from predastore.catalog.core import Core
from predastore.catalog.permits import Judge, Permit
from predastore.s3db.commands import Absent, Delete, NoPrefix, Op, Put, batch
from predastore.storage import records
from predastore.storage.records import BUCKETS, OBJECTS, PARTS, BucketRecord, GarbageRecord


class Buckets(Core):
    """Part of `Objects`."""

    async def create_bucket(self, name: str, owner: str, region: str, public: bool = False) -> bool:
        """True: created. False: there is one of this name, whoever's; `bucket` has it."""
        try:
            await self._store.check_room()
        except NodeFull:
            if await self.bucket(name) is None:
                raise
            return False
        key = records.bucket_key(name)
        record = BucketRecord(
            name, owner, region, records.now_ms(), public, records.new_bucket_id()
        )
        try:
            await self._state.commit(
                batch(Put(BUCKETS, key, records.encode(record)), checks=(Absent(BUCKETS, key),))
            )
        except PreconditionFailed:
            return False
        return True

    async def delete_bucket(self, name: str, *, permit: Permit | None = None) -> None:
        """S3Error NoSuchBucket, what the permit's judge raises; BucketNotEmpty: it has objects.

        Uploads in progress go with it: nobody finds them from now on, and the collector ends them.
        """
        await self._to_the_end(self._delete_bucket(name, permit))

    async def _delete_bucket(self, name: str, permit: Permit | None) -> None:
        garbage: list[tuple[bytes, bytes]] = []  # (key, value), the last one that was committed

        def ops(bucket: BucketRecord) -> tuple[Op, ...]:
            uploads = records.uploads_prefix(name, bucket.id)
            where = records.deleted_key(bucket.id.hex().encode(), records.new_id())
            garbage.append((where, records.encode(GarbageRecord((), "", uploads))))
            return (Delete(BUCKETS, records.bucket_key(name)), Put(PARTS, *garbage[-1]))

        held = await self._permit(name, permit)
        try:
            await self._commit_in_bucket(held, ops, (NoPrefix(OBJECTS, records.arn_prefix(name)),))
        except PreconditionFailed as failed:
            raise S3Error("BucketNotEmpty", BucketName=name) from failed
        finally:
            self._permits.forget(name)
        await self._collector.retire(PARTS, garbage[-1:])

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

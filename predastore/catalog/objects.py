"""`Objects`: every operation on buckets, objects and multipart uploads.

The one class that the S3 layer calls. Keys and names are `str`, checked by the caller (length,
legal bucket name); ETags have no quotes. One commit per changing call. What has a meaning in
S3 is raised as S3Error (NoSuchBucket, NoSuchKey, NoSuchUpload, PreconditionFailed,
ConditionalRequestConflict, BucketNotEmpty, InvalidPart, InvalidPartOrder, EntityTooSmall,
EntityTooLarge, InvalidRequest, BadDigest); NotEnoughNodes, ObjectUnreadable, BodyMismatch,
NodeFull, Overloaded, NoLeader and OutcomeUnknown are for the caller to map.

Changing calls take the `Permit` that the request was given (`permit`), and are bound to the bucket
that it is for; without one, anybody may change the bucket that is there.

A PUT: bytes are written durably under a fresh write id; one commit points the key at them and
records what they replaced; then they are published, and the replaced bytes go to the collector.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager

from predastore.base.errors import (
    ObjectReplaced,
    ObjectUnreadable,
    PredastoreError,
    S3Error,
    TooLarge,
)
from predastore.base.failpoints import failpoint
from predastore.base.limits import BACKEND_CONDITION_TRIES_MAX
from predastore.catalog.buckets import Buckets
from predastore.catalog.commit_ops import delete_ops, missing_ops, object_ops
from predastore.catalog.core import algorithms, checksums_of
from predastore.catalog.permits import Permit
from predastore.catalog.readers import Look
from predastore.catalog.uploads import Uploads
from predastore.coding.checksum import Digests
from predastore.s3db.commands import Applied, Check
from predastore.storage import records
from predastore.storage.interface import (
    ALWAYS,
    NO_EXPECTATION,
    Attributes,
    Buffer,
    Condition,
    Expectation,
    Listing,
    Opened,
    Place,
    Source,
    Written,
)
from predastore.storage.records import (
    BUCKETS,
    OBJECTS,
    BucketRecord,
    Extent,
    ObjectRecord,
    ShardExtent,
    Summary,
)


class Objects(Buckets, Uploads):
    """Constructed over a GlobalState and a ByteStore; `start` it, `close` it."""

    # --- writing --------------------------------------------------------------------------

    async def put(
        self,
        bucket: str,
        key: str,
        source: Source,
        size: int,
        attributes: Attributes,
        expectation: Expectation = NO_EXPECTATION,
        condition: Condition = ALWAYS,
        *,
        permit: Permit | None = None,
    ) -> ObjectRecord:
        """Stores `size` bytes of `source` as the object; durable and visible on return.

        Raises what `ByteStore.write` does; BodyMismatch for a digest; S3Error NoSuchBucket,
        PreconditionFailed, NoSuchKey (If-Match without an object); what the permit's judge raises.
        Then nothing is stored.
        """
        if condition:  # spares a body that can not be stored; the commit decides
            held = await self._permit(bucket, permit)
            await self._guard(held, records.object_hash(bucket, key), condition)
        write_id = records.new_id()
        digests = Digests(algorithms(expectation))
        written = await self._store.write(Place(bucket, key), write_id, source, size, digests)
        failpoint("put.shards.durable")
        values = await self._verified(written, digests, expectation)
        record = ObjectRecord(
            bucket=bucket,
            key=key,
            write_id=write_id,
            extents=(written.extent,),
            size=size,
            etag=values["md5"].hex(),
            modified_ms=records.now_ms(),
            owner=attributes.owner,
            content_type=attributes.content_type,
            headers=dict(attributes.headers),
            user=dict(attributes.user),
            checksums=checksums_of(values, expectation.compute),
            storage_class=attributes.storage_class,
        )
        await self._to_the_end(self._finish_put(record, written, condition, permit))
        return record

    async def _finish_put(
        self, record: ObjectRecord, written: Written, condition: Condition, permit: Permit | None
    ) -> None:
        ops = (*object_ops(record), *missing_ops(record.bucket, record.key, written))

        async def commit(fence: Check) -> Applied:
            held = await self._permit(record.bucket, permit)
            return await self._commit_object(held, record.key, ops, condition, (fence,))

        try:
            applied = await self._fenced(written, commit)
        except PredastoreError as error:
            await self._discard_unless_unknown(written, error)
            raise
        failpoint("put.committed")
        if not self._store.grace_s:
            await self._readers.have_passed(records.object_hash(record.bucket, record.key))
        await self._store.publish(written.extent)
        await self._collector.retire(OBJECTS, applied.kept)

    # --- reading --------------------------------------------------------------------------

    async def lookup(
        self, bucket: str, key: str
    ) -> tuple[BucketRecord | None, ObjectRecord | None]:
        """Both records as of one moment, in one round trip."""
        stored_bucket, stored = await self._state.read(
            (
                (BUCKETS, records.bucket_key(bucket)),
                (OBJECTS, records.object_hash(bucket, key)),
            )
        )
        return (
            None if stored_bucket is None else records.decode(BucketRecord, stored_bucket),
            None if stored is None else records.decode(ObjectRecord, stored),
        )

    def looking(self, bucket: str, key: str) -> AbstractContextManager[Look]:
        """Around a `lookup` and the `open_read` of what it finds, which is given the look: it finds
        the bytes, though the object is replaced or deleted meanwhile. No client is to be waited for
        within the block, and nothing written: what replaces the object waits for its end."""
        return self._readers.looking(records.object_hash(bucket, key))

    async def open_read(
        self, record: ObjectRecord, start: int, end: int, look: Look | None = None
    ) -> Reading:
        """The bytes [start, end) of a version just looked up, of which the first are had already.
        `look`: that in which it was looked up; it ends here.

        The caller closes it (`aclose`) if it does not read to the end. ObjectReplaced: there is
        another version now, and this one's bytes are gone: look up again. ObjectUnreadable:
        fewer than k shards can be had. S3Error NoSuchKey: the object was deleted meanwhile.
        """
        opened = _nothing if look is None else look.end
        try:
            return await self._begin(record, start, end, opened, certain=False)
        except ObjectUnreadable as error:
            with self.looking(record.bucket, record.key) as again:
                opened()
                _, now = await self.lookup(record.bucket, record.key)
                if now is None:
                    raise S3Error("NoSuchKey", Key=record.key) from error
                if now.write_id != record.write_id:
                    raise ObjectReplaced(f"{record.bucket}/{record.key} was replaced") from error
                return await self._begin(now, start, end, again.end, certain=True)
        finally:
            opened()

    async def _begin(
        self, record: ObjectRecord, start: int, end: int, opened: Opened, *, certain: bool
    ) -> Reading:
        return await Reading(self._read(record, start, end, opened, certain=certain)).begin()

    async def open_source(
        self, record: ObjectRecord, start: int, end: int, look: Look | None = None
    ) -> RecordSource:
        """The bytes [start, end) as a body for `put` or `put_part`, to be used in `async with`.
        `look`: as `open_read`."""
        return RecordSource(await self.open_read(record, start, end, look))

    async def _read(
        self, record: ObjectRecord, start: int, end: int, opened: Opened, *, certain: bool
    ) -> AsyncGenerator[Buffer, None]:
        def damaged(extent: ShardExtent, shard: int) -> None:
            self._repairs.note(record.bucket, record.key, extent, shard)

        with self._readers.holding(record.extents):
            base = 0
            for extent in record.extents:
                low, high = max(start - base, 0), min(end - base, extent.size)
                base += extent.size
                lies: Extent | None = extent
                while lies is not None and low < high:
                    try:
                        async with contextlib.aclosing(
                            self._store.read(lies, low, high, damaged, opened, certain=certain)
                        ) as stream:
                            async for buffer in stream:
                                low += len(buffer)
                                yield buffer
                    except ObjectUnreadable:
                        if (lies := await self._moved(record, lies)) is None:
                            raise

    async def _moved(self, record: ObjectRecord, extent: Extent) -> Extent | None:
        """The extent as the object's record names it now, if its shards have been moved."""
        _, now = await self.lookup(record.bucket, record.key)
        for each in now.extents if now is not None else ():
            if each.write_id == extent.write_id and each != extent:
                return each
        return None

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = 1000,
        *,
        permit: Permit | None = None,
    ) -> Listing:
        """Keys and common prefixes strictly after `after`, in UTF-8 byte order.

        `limit` counts both. `after` may be a common prefix: then everything below it is passed
        over. The bucket still is the one that `permit` was given for, or what its judge raises;
        without one, it is not looked at.
        """
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            page = await self._list(bucket, prefix, delimiter, after, limit)
            if permit is None or await self._permits.is_valid(permit):
                return page
            permit = await self._permits.renew(permit)
        raise S3Error("ConditionalRequestConflict")

    async def _list(
        self, bucket: str, prefix: str, delimiter: str, after: str, limit: int
    ) -> Listing:
        base = records.arn_prefix(bucket)
        begin = base + prefix.encode()
        position = base + after.encode() if after else b""
        entries: dict[str, Summary] = {}
        prefixes: dict[str, None] = {}
        truncated = limit > 0
        while truncated and (left := limit - len(entries) - len(prefixes)) > 0:
            # a page may be short, as the state bounds its bytes
            page = await self._state.list(OBJECTS, begin, delimiter.encode(), position, left)
            for name, stored in page.entries:
                entries[name[len(base) :].decode()] = records.decode_listed(stored)[1]
            prefixes.update((common[len(base) :].decode(), None) for common in page.prefixes)
            truncated = page.truncated
            position = page.next or position
        return Listing([*entries.items()], [*prefixes], truncated, position[len(base) :].decode())

    # --- deleting -------------------------------------------------------------------------

    async def delete(
        self,
        bucket: str,
        key: str,
        condition: Condition = ALWAYS,
        *,
        permit: Permit | None = None,
    ) -> bool:
        """True: there was one. S3Error NoSuchBucket, PreconditionFailed, NoSuchKey."""
        return await self._to_the_end(self._delete(bucket, key, condition, permit))

    async def _delete(
        self, bucket: str, key: str, condition: Condition, permit: Permit | None
    ) -> bool:
        ops = delete_ops(bucket, key)
        held = await self._permit(bucket, permit)
        applied = await self._commit_object(held, key, ops, condition)
        failpoint("delete.committed")
        await self._collector.retire(OBJECTS, applied.kept)
        return bool(applied.kept)

    async def delete_many(
        self, bucket: str, keys: Sequence[str], *, permit: Permit | None = None
    ) -> dict[str, PredastoreError | None]:
        """In one commit, or in several where the records are too large for one; for each key
        None, or why it is still there. NoSuchBucket."""
        return await self._to_the_end(self._delete_many(bucket, tuple(dict.fromkeys(keys)), permit))

    async def _delete_many(
        self, bucket: str, keys: tuple[str, ...], permit: Permit | None
    ) -> dict[str, PredastoreError | None]:
        ops = [op for key in keys for op in delete_ops(bucket, key)]
        held = await self._permit(bucket, permit)
        try:
            applied = await self._commit_in_bucket(held, lambda _: ops)
        except TooLarge as error:
            if len(keys) == 1:
                return {keys[0]: error}
            half = len(keys) // 2
            first = await self._delete_many(bucket, keys[:half], permit)
            return first | await self._delete_many(bucket, keys[half:], permit)
        await self._collector.retire(OBJECTS, applied.kept)
        return dict.fromkeys(keys)


class Reading:
    """The bytes of a version: iterate once, and `aclose` unless it was to the end."""

    def __init__(self, stream: AsyncGenerator[Buffer, None]) -> None:
        self._stream = stream
        self._first: Buffer | None = None

    async def begin(self) -> Reading:
        """Fetches the first buffer, so that early errors come early."""
        self._first = await anext(self._stream, None)
        return self

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Buffer:
        first, self._first = self._first, None
        return first if first is not None else await anext(self._stream)

    async def aclose(self) -> None:
        self._first = None
        await self._stream.aclose()


class RecordSource:
    """A stored object's bytes as a body; an async context manager."""

    def __init__(self, stream: Reading) -> None:
        self._stream = stream
        self._rest = memoryview(b"")

    async def readinto(self, buffer: memoryview) -> int:
        if not self._rest:
            self._rest = memoryview(await anext(self._stream, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def __aenter__(self) -> RecordSource:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()


def _nothing() -> None:
    """What an open without a look has to tell."""

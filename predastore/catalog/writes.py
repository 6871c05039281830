"""Writing: put and copy.

A PUT: bytes are written durably under a fresh write id; one call makes them a version and lets go
of what it replaces; then they are published. A small body goes with the call, and is nowhere else.
A copy names the layout of its source: no byte is read.
"""

from __future__ import annotations

import msgspec

from predastore._fast.crc import crc32c
from predastore.base.errors import BodyMismatch
from predastore.base.failpoints import failpoint
from predastore.base.randomness import random_bytes
from predastore.catalog import keys
from predastore.catalog.core import algorithms, checksums_of
from predastore.catalog.errors import ConditionFailed, NoSuchKey
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import (
    NO_CONDITION,
    Added,
    Condition,
    Content,
    PutObject,
)
from predastore.catalog.procedures.judging import holds, which
from predastore.catalog.reads import CatalogReads
from predastore.catalog.rows import NO_LAYOUT, Checksum, Detail, Kind, Summary, Versioning
from predastore.catalog.values import (
    NO_EXPECTATION,
    Attributes,
    Expectation,
    ObjectVersion,
    Stored,
)
from predastore.coding.checksum import Digests
from predastore.storage import extents
from predastore.storage.extents import FileExtent
from predastore.storage.formats import pack
from predastore.storage.interface import Place, Source, Written


class Writes(CatalogReads):
    """Part of `Catalog`."""

    # --- put ------------------------------------------------------------------------------

    async def put(
        self,
        bucket: str,
        key: str,
        source: Source,
        size: int,
        attributes: Attributes,
        expectation: Expectation = NO_EXPECTATION,
        condition: Condition = NO_CONDITION,
        *,
        permit: Permit | None = None,
    ) -> Stored:
        """Stores `size` bytes of `source` as the newest version; durable and visible on return.

        Raises what `ByteStore.write` does; BodyMismatch for a digest; NoSuchBucket,
        ConditionFailed, NoSuchKey (If-Match without an object); what the permit's judge raises.
        Then nothing is stored.
        """
        held = await self._permit(bucket, permit)
        if condition != NO_CONDITION:  # spares a body that can not be stored; the call decides
            await self._check_condition(held, key, condition)
        digests = Digests(algorithms(expectation))
        if self._takes_inline(size):
            content, written = await self._inline(held, key, source, size, digests), None
        else:
            content, written = await self._placed(held, key, source, size, digests)
        failpoint("put.shards.durable")
        values = await self._verified(written, digests, expectation)
        checksums = checksums_of(values, expectation.compute)
        summary = _summary(size, values["md5"].hex(), attributes, checksums)
        detail = _detail(attributes, checksums)
        return await self._to_the_end(
            self._finish_put(held, key, content, written, summary, detail, attributes, condition)
        )

    async def _check_condition(self, held: Permit, key: str, condition: Condition) -> None:
        """ConditionFailed or NoSuchKey, as things are now."""
        found = await self.find(held.row.name, key, needs_bytes=False)
        if not self._permits.is_valid(held, found.bucket):
            return
        if condition.if_match is not None and found.version is None:
            raise NoSuchKey(Key=key)
        if not holds(condition, found.version.etag if found.version else None):
            raise ConditionFailed(Condition=which(condition))

    def _takes_inline(self, size: int) -> bool:
        return size <= self._inline_max and self._state.takes_inline

    async def _inline(
        self, held: Permit, key: str, source: Source, size: int, digests: Digests
    ) -> Content:
        body = await _whole(source, size)
        digests.update(body)
        if not size:
            return Content(Kind.NOWHERE, NO_LAYOUT)
        layout = keys.layout(held.row.name, key, extents.new_id())
        return Content(Kind.INLINE, layout, body=body, crc=crc32c(body))

    async def _placed(
        self, held: Permit, key: str, source: Source, size: int, digests: Digests
    ) -> tuple[Content, Written]:
        write_id = extents.new_id()
        layout = keys.layout(held.row.name, key, write_id)
        is_plain = held.row.versioning is Versioning.NEVER
        place = Place(layout, layout, held.row.name, key, is_plain=is_plain)
        written = await self._store.write(place, write_id, source, size, digests)
        if not size and not isinstance(written.extent, FileExtent):
            return Content(Kind.NOWHERE, NO_LAYOUT), written
        content = Content(Kind.PLACED, layout, extents=(written.extent,), missing=written.missing)
        return content, written

    async def _finish_put(
        self,
        held: Permit,
        key: str,
        content: Content,
        written: Written | None,
        summary: Summary,
        detail: Detail,
        attributes: Attributes,
        condition: Condition,
    ) -> Stored:
        is_plain = held.row.versioning is Versioning.NEVER
        random = random_bytes(keys.RANDOM_BYTES)

        async def renewed(now: Permit) -> None:
            """Another place, where the bucket has versions by now."""
            nonlocal content, written
            if written is not None and is_plain and now.row.versioning:
                place = Place(content.layout, content.layout, now.row.name, key)
                written = await self._store.replaced(written, place)
                if content.extents:
                    content = msgspec.structs.replace(content, extents=(written.extent,))

        def arguments(now: Permit) -> PutObject:
            return PutObject(
                held=now.held,
                key=key,
                random=random,
                content=content,
                summary=summary,
                detail=msgspec.Raw(pack(detail)),
                now_ms=extents.now_ms(),
                grace_ms=self._grace_ms,
                condition=condition,
                tags=attributes.tags,
                retention=attributes.retention,
                legal_hold=attributes.legal_hold,
            )

        added = await self._call("object.put", held, arguments, Added, written, renewed)
        failpoint("put.committed")
        if written is not None:
            await self._publish(held.row.name, key, written)
        await self._collector.retire(added.wasted)
        return Stored(
            summary.etag,
            summary.modified_ms,
            summary.size,
            detail.checksums,
            shown_id(added),
        )

    async def _publish(self, bucket: str, key: str, written: Written) -> None:
        if not self._store.grace_s:
            await self._readers.have_passed(f"{bucket}/{key}")
        await self._store.publish(written.extent)

    # --- copy -----------------------------------------------------------------------------

    def can_share(self, version: ObjectVersion) -> bool:
        """Whether `copy` can be made of a version, which was found with its bytes."""
        if version.row.kind is Kind.INLINE:
            return self._takes_inline(version.size)
        return version.row.kind is Kind.NOWHERE or self._store.shares

    async def copy(
        self,
        source: ObjectVersion,
        bucket: str,
        key: str,
        attributes: Attributes,
        condition: Condition = NO_CONDITION,
        *,
        permit: Permit | None = None,
    ) -> Stored:
        """A version with the source's bytes, ETag, checksums and parts, of which none is moved.
        Raises what `put` does; LayoutGone: the source was deleted meanwhile, look it up again."""
        held = await self._permit(bucket, permit)
        old, row = source.detail, source.row
        content = Content(row.kind, NO_LAYOUT)
        if row.kind is Kind.PLACED:
            namer = (source.bucket.id, source.order, row.random)
            content = Content(row.kind, row.layout, shared_with=namer)
        elif row.kind is Kind.INLINE:
            body = source.body
            assert body is not None, "it was found with its bytes"
            layout = keys.layout(bucket, key, extents.new_id())
            content = Content(row.kind, layout, body=body, crc=crc32c(body))
        summary = _summary(source.size, source.etag, attributes, old.checksums)
        detail = _detail(attributes, old.checksums, old.part_count)
        return await self._to_the_end(
            self._finish_put(held, key, content, None, summary, detail, attributes, condition)
        )


def shown_id(added: Added) -> str:
    """The new version's id; "" in a bucket that never had versions."""
    if not added.order:
        return ""
    return keys.version_id(added.order, added.random, is_null=added.is_null)


async def _whole(source: Source, size: int) -> bytes:
    """A small body, to its verified end; BodyMismatch("length")."""
    buffer = bytearray(size + 1)
    filled = 0
    with memoryview(buffer) as view:
        while count := await source.readinto(view[filled:]):
            filled += count
            if filled > size:
                raise BodyMismatch("the body is longer than its declared length", "length")
    if filled < size:
        raise BodyMismatch("the body ended before its declared length", "length")
    return bytes(memoryview(buffer)[:size])


def _summary(
    size: int, etag: str, attributes: Attributes, checksums: tuple[Checksum, ...]
) -> Summary:
    composite = any(checksum.part_count for checksum in checksums)
    return Summary(
        size=size,
        etag=etag,
        modified_ms=extents.now_ms(),
        owner=attributes.owner,
        checksum_algorithms=tuple(checksum.algorithm for checksum in checksums),
        checksum_type="" if not checksums else "COMPOSITE" if composite else "FULL_OBJECT",
        storage_class=attributes.storage_class,
    )


def _detail(attributes: Attributes, checksums: tuple[Checksum, ...], part_count: int = 0) -> Detail:
    return Detail(
        attributes.content_type,
        dict(attributes.headers),
        dict(attributes.user),
        checksums,
        part_count,
    )

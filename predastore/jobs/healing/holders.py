"""The records that name shards, one by one or all of them, and how such a record is changed.

A walk visits the parts before the objects: completing an upload moves extents from the former to
the latter, so that an extent that is there all the time is met at least once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from predastore.base.limits import HEALING_PAGE_RECORDS
from predastore.s3db.commands import Check, Equals, Exists, Op, Put
from predastore.s3db.global_state import GlobalState
from predastore.storage import records
from predastore.storage.records import (
    DELETED_PREFIX,
    HASH_BYTES,
    OBJECTS,
    PARTS,
    UPLOAD_ID_CHARS,
    Extent,
    ObjectRecord,
    PartRecord,
    ShardExtent,
)

WALKED: Final = (PARTS, OBJECTS)


@dataclass(frozen=True, slots=True)
class Holder:
    """A record as it is stored under `key` of `table`."""

    table: str
    key: bytes
    stored: bytes
    record: ObjectRecord | PartRecord

    @property
    def extents(self) -> tuple[Extent, ...]:
        return records.extents_of(self.record)

    def naming(self, extents: Mapping[int, ShardExtent]) -> Holder:
        """As it is to be stored with the given extents, by index, in place of those it has."""
        record = self.record
        if isinstance(record, PartRecord):
            record = msgspec.structs.replace(record, extent=extents[0])
        else:
            new = tuple(extents.get(n, extent) for n, extent in enumerate(record.extents))
            record = msgspec.structs.replace(record, extents=new)
        return Holder(self.table, self.key, records.encode(record), record)

    def replaced_by(self, new: Holder) -> tuple[list[Check], list[Op]]:
        """For the commit that puts `new` in its place, if it is still there."""
        checks: list[Check] = [Equals(self.table, self.key, self.stored)]
        ops: list[Op] = [Put(self.table, self.key, new.stored)]
        if self.table == PARTS:
            # The touch value makes an upload that is being completed read its parts again.
            touch = records.touch_key(self.key[:UPLOAD_ID_CHARS].decode())
            checks.append(Exists(PARTS, touch))
            ops.append(Put(PARTS, touch, records.new_id()))
        return checks, ops


async def find(state: GlobalState, hash_: bytes, part: str) -> list[Holder]:
    """The records, as of one moment, that may name an extent of the object with this hash, or of
    the part."""
    wanted = [(OBJECTS, hash_)]
    if part:
        wanted += [(PARTS, part.encode()), (PARTS, part.encode()[:UPLOAD_ID_CHARS])]
    stored = await state.read(wanted)
    found = []
    if stored[0] is not None:
        found.append(Holder(OBJECTS, hash_, stored[0], records.decode(ObjectRecord, stored[0])))
    if part and stored[1] is not None and stored[2] is not None:  # none without a touch value
        record = records.decode(PartRecord, stored[1])
        found.append(Holder(PARTS, part.encode(), stored[1], record))
    return found


async def walk(
    state: GlobalState, table: str, after: bytes = b""
) -> AsyncGenerator[tuple[list[Holder], bytes], None]:
    """The records of `table` in pages, each with the place behind it."""
    truncated = True
    while truncated:
        page = await state.list(table, b"", b"", after, HEALING_PAGE_RECORDS)
        truncated = page.truncated
        after = _behind(page.next or after)
        yield _holders(table, page.entries), after


async def walk_deleted(state: GlobalState) -> AsyncGenerator[Sequence[Extent], None]:
    """The extents that wait for their nodes to let go of them, in pages."""
    for table in WALKED:
        after, truncated = b"", True
        while truncated:
            page = await state.list(table, DELETED_PREFIX, b"", after, HEALING_PAGE_RECORDS)
            truncated, after = page.truncated, page.next or after
            extents: list[Extent] = []
            for _, stored in page.entries:
                extents += records.extents_of(records.decode_deleted(stored))
            yield extents


def _behind(key: bytes) -> bytes:
    """`key`, or the end of what it lies in, where that has no records."""
    for prefix in (DELETED_PREFIX, records.ARN):
        if key.startswith(prefix):
            return prefix + b"\xff"
    return key


def _holders(table: str, entries: Sequence[tuple[bytes, bytes]]) -> list[Holder]:
    holders = []
    for key, stored in entries:
        if key.startswith(DELETED_PREFIX):
            continue
        if table == PARTS:
            if len(key) > UPLOAD_ID_CHARS:
                holders.append(Holder(table, key, stored, records.decode(PartRecord, stored)))
        elif len(key) == HASH_BYTES and not key.startswith(records.ARN):
            holders.append(Holder(table, key, stored, records.decode(ObjectRecord, stored)))
    return holders

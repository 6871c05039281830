"""The procedures about buckets: create, create_with, delete, change, change_access."""

from __future__ import annotations

import msgspec

from predastore.catalog import keys
from predastore.catalog.keys import BUCKETS, DOCUMENTS, UPLOADS, VERSIONS
from predastore.catalog.procedures import layouts
from predastore.catalog.procedures.arguments import (
    NOTHING,
    ChangeAccess,
    ChangeBucket,
    CreateBucket,
    CreateBucketWith,
    DeleteBucket,
    Reason,
    refuse,
)
from predastore.catalog.procedures.judging import held_bucket
from predastore.catalog.rows import BucketRow, GarbageRow, Versioning, Waste
from predastore.s3db.procedures import View
from predastore.storage.formats import encode, rewritten, unpack


def create(view: View, arguments: bytes) -> bytes:
    """`CreateBucket` to nothing; BUCKET_EXISTS, whoever's it is; LOCKED, where it is to have lock
    and not to be versioned."""
    args = unpack(CreateBucket, arguments)
    return _created(view, args.row, () if args.document is None else (args.document,))


def create_with(view: View, arguments: bytes) -> bytes:
    """The same for a bucket that is to have any number of documents, or whose row says who owns
    what is in it: `CreateBucketWith` to nothing."""
    args = unpack(CreateBucketWith, arguments)
    return _created(view, args.row, args.documents)


def _created(view: View, row: BucketRow, documents: tuple[tuple[str, bytes], ...]) -> bytes:
    place = keys.bucket(row.name)
    if view.get(BUCKETS, place) is not None:
        raise refuse(Reason.BUCKET_EXISTS)
    _check_lock(row)
    view.put(BUCKETS, place, encode(row))
    for kind, value in documents:
        view.put(DOCUMENTS, keys.document(row.id, kind), value)
    return NOTHING


def delete(view: View, arguments: bytes) -> bytes:
    """`DeleteBucket` to nothing; BUCKET_NOT_EMPTY where it has a version, or a delete marker.
    Its uploads in progress are left to who works off what is due."""
    args = unpack(DeleteBucket, arguments)
    bucket = held_bucket(view, args.held)
    if view.first(VERSIONS, keys.documents(bucket.id)) is not None:
        raise refuse(Reason.BUCKET_NOT_EMPTY)
    view.delete(BUCKETS, keys.bucket(bucket.name))
    if view.first(UPLOADS, keys.documents(bucket.id)) is not None:
        layouts.owe(view, GarbageRow(Waste.BUCKET, bucket.id), args.now_ms)
    view.delete_prefix(DOCUMENTS, keys.documents(bucket.id))
    return NOTHING


def change(view: View, arguments: bytes) -> bytes:
    """`ChangeBucket` to nothing. BUCKET_LOCKED, where a bucket that has lock is to be
    suspended, or to have none any more, or where one that is not versioned is to have it."""
    args = unpack(ChangeBucket, arguments)
    bucket = held_bucket(view, args.held)
    new = msgspec.structs.replace(bucket, generation=bucket.generation + 1)
    if args.versioning is not None:
        new = msgspec.structs.replace(new, versioning=args.versioning)
    if args.is_locked is not None:
        new = msgspec.structs.replace(new, is_locked=args.is_locked)
    if args.retention is not None:
        given = args.retention if args.retention.mode else None
        new = msgspec.structs.replace(new, retention=given)
    _check_change(bucket, new)
    _replace(view, new)
    if args.document is not None:
        kind, value = args.document
        if value is None:
            view.delete(DOCUMENTS, keys.document(bucket.id, kind))
        else:
            view.put(DOCUMENTS, keys.document(bucket.id, kind), value)
    return NOTHING


def change_access(view: View, arguments: bytes) -> bytes:
    """`ChangeAccess` to nothing."""
    args = unpack(ChangeAccess, arguments)
    bucket = held_bucket(view, args.held)
    new = msgspec.structs.replace(bucket, generation=bucket.generation + 1)
    if args.ownership is not None:
        new = msgspec.structs.replace(new, ownership=args.ownership)
    if args.block is not None:
        new = msgspec.structs.replace(new, block=args.block[0] if args.block else None)
    _replace(view, new)
    return NOTHING


def _replace(view: View, new: BucketRow) -> None:
    place = keys.bucket(new.name)
    stored = view.get(BUCKETS, place)
    assert stored is not None
    view.put(BUCKETS, place, rewritten(stored, new))


def _check_change(old: BucketRow, new: BucketRow) -> None:
    forgets = old.versioning is not Versioning.NEVER and new.versioning is Versioning.NEVER
    unlocks = old.is_locked and not new.is_locked
    if forgets or unlocks:
        raise refuse(Reason.BUCKET_LOCKED)
    _check_lock(new)


def _check_lock(row: BucketRow) -> None:
    is_versioned = row.versioning is Versioning.ENABLED
    if (row.is_locked and not is_versioned) or (row.retention is not None and not row.is_locked):
        raise refuse(Reason.BUCKET_LOCKED)

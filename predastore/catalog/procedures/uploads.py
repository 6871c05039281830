"""The procedures about multipart uploads: create, part, complete, abort.

An upload belongs to the bucket in which it began, by that bucket's id: in one that was made anew
under its name there is no such upload. Completing is one step: the parts are judged, moved to the
placement of the new version's layout, and the others left to who works off what is due. Who
completes the same upload again, within COMPLETED_KEPT_MS, is told what the first was told.
"""

from __future__ import annotations

from predastore.base.limits import COMPLETED_KEPT_MS
from predastore.catalog import keys
from predastore.catalog.keys import COMPLETED, OBJECTS, PARTS, UPLOADS
from predastore.catalog.procedures import layouts
from predastore.catalog.procedures.arguments import (
    NOTHING,
    AbortUpload,
    Added,
    Completed,
    CompleteUpload,
    CreateUpload,
    PutPart,
    Reason,
    WastedParts,
    done,
    refuse,
)
from predastore.catalog.procedures.chain import ChangingChain
from predastore.catalog.procedures.completion import Assembly
from predastore.catalog.procedures.judging import check_condition, check_lock, held_bucket
from predastore.catalog.procedures.layouts import Leavings
from predastore.catalog.procedures.objects import retention_in
from predastore.catalog.rows import (
    BucketRow,
    CompletedRow,
    GarbageRow,
    Kind,
    PartRow,
    PlacementRow,
    UploadRow,
    Versioning,
    VersionRow,
    Waste,
)
from predastore.s3db.procedures import View
from predastore.storage.formats import decode, encode, unpack


def create(view: View, arguments: bytes) -> bytes:
    """`CreateUpload` to nothing; `upload.create_with_acl` is the same, by a name that is known to
    no program that would not keep the ACL."""
    args = unpack(CreateUpload, arguments)
    bucket = held_bucket(view, args.held)
    row = args.row
    check_lock(bucket, row.retention, row.legal_hold)
    view.put(UPLOADS, keys.upload(bucket.id, row.key, row.upload_id), encode(row))
    return NOTHING


def part(view: View, arguments: bytes) -> bytes:
    """A part, in the place of one of its number: `PutPart` to `WastedParts`."""
    args = unpack(PutPart, arguments)
    bucket = held_bucket(view, args.held)
    _upload(view, bucket, args.key, args.upload_id)
    leavings = Leavings(layouts.due_ms(view, args.now_ms, args.grace_ms))
    place = keys.part(bucket.id, args.upload_id, args.row.number)
    stored = view.get(PARTS, place)
    if stored is not None:
        old = decode(PartRow, stored).extent
        page = PlacementRow(bucket.name, args.key, (old,))
        layouts.let_go_of_extent(view, page, old.write_id, leavings)
    view.put(PARTS, place, encode(args.row))
    layout = layout_of(bucket.name, args.key, args.upload_id)
    layouts.note(
        view, layout, bucket.name, args.key, args.row.extent, args.missing, args.now_ms, place
    )
    return done(WastedParts(leavings.take()))


def complete(view: View, arguments: bytes) -> bytes:
    """`CompleteUpload` to `Completed`."""
    args = unpack(CompleteUpload, arguments)
    bucket = held_bucket(view, args.held)
    again = _completed(view, bucket, args)
    if again is not None:
        return again
    upload = _upload(view, bucket, args.key, args.upload_id)
    assembly = Assembly(upload)
    for named in args.parts:
        stored = view.get(PARTS, keys.part(bucket.id, args.upload_id, named.number))
        assembly.take(named, None if stored is None else decode(PartRow, stored))
    assembly.check(args)
    leavings = Leavings(layouts.due_ms(view, args.now_ms, args.grace_ms))
    chain = ChangingChain(view, bucket, args.key, leavings)
    check_condition(args.condition, chain)
    layout = layout_of(bucket.name, args.key, args.upload_id)
    for number, page in enumerate(assembly.pages()):
        view.put(OBJECTS, keys.page(layout, number), encode(page))
    row = VersionRow(
        random=args.random,
        is_null=bucket.versioning is not Versioning.ENABLED,
        is_marker=False,
        kind=Kind.PLACED,
        layout=layout,
        summary=assembly.summary(args.now_ms),
        detail=assembly.detail(),
        tags=upload.tags,
        retention=retention_in(bucket, upload.retention, max(view.time_ms, args.now_ms)),
        legal_hold=upload.legal_hold,
    )
    order = chain.add(row)
    written = Added(order, row.random, row.is_null, leavings.take())
    answer = done(Completed(written, row.summary, assembly.checksums()))
    _remember(view, bucket, args, answer)
    _end(view, bucket, args.key, args.upload_id)
    _drop_parts(view, bucket, args)
    return answer


def abort(view: View, arguments: bytes) -> bytes:
    """`AbortUpload` to nothing."""
    args = unpack(AbortUpload, arguments)
    bucket = held_bucket(view, args.held)
    _upload(view, bucket, args.key, args.upload_id)
    _end(view, bucket, args.key, args.upload_id)
    name = keys.upload_name(bucket.id, args.upload_id)
    layouts.owe(
        view, GarbageRow(Waste.UPLOAD, name), layouts.due_ms(view, args.now_ms, args.grace_ms)
    )
    return NOTHING


def layout_of(bucket_name: str, key: str, upload_id: str) -> bytes:
    """The layout of the object that an upload makes."""
    return keys.layout(bucket_name, key, bytes.fromhex(upload_id))


def _upload(view: View, bucket: BucketRow, key: str, upload_id: str) -> UploadRow:
    stored = view.get(UPLOADS, keys.upload(bucket.id, key, upload_id))
    if stored is None:
        raise refuse(Reason.NO_SUCH_UPLOAD, UploadId=upload_id)
    return decode(UploadRow, stored)


def _completed(view: View, bucket: BucketRow, args: CompleteUpload) -> bytes | None:
    """What was told when this upload was completed, if it was."""
    stored = view.get(COMPLETED, keys.upload_name(bucket.id, args.upload_id))
    if stored is None:
        return None
    row = decode(CompletedRow, stored)
    return row.answer if row.key == args.key else None


def _remember(view: View, bucket: BucketRow, args: CompleteUpload, answer: bytes) -> None:
    name = keys.upload_name(bucket.id, args.upload_id)
    view.put(COMPLETED, name, encode(CompletedRow(args.key, answer)))
    layouts.owe(view, GarbageRow(Waste.COMPLETED, name), args.now_ms + COMPLETED_KEPT_MS)


def _end(view: View, bucket: BucketRow, key: str, upload_id: str) -> None:
    view.delete(UPLOADS, keys.upload(bucket.id, key, upload_id))


def _drop_parts(view: View, bucket: BucketRow, args: CompleteUpload) -> None:
    """The rows of parts whose extents have moved; where there are others, they stay, to be let
    go of."""
    prefix = keys.parts(bucket.id, args.upload_id)
    moved = {keys.part(bucket.id, args.upload_id, each.number) for each in args.parts}
    start, has_others = prefix, False
    for _ in range(len(moved) + 1):
        found = view.first(PARTS, prefix, start)
        if found is None:
            break
        if found[0] not in moved:
            has_others = True
            break
        start = found[0] + b"\0"
    if not has_others:
        view.delete_prefix(PARTS, prefix)
        return
    for place in sorted(moved):
        view.delete(PARTS, place)
    name = keys.upload_name(bucket.id, args.upload_id)
    layouts.owe(
        view, GarbageRow(Waste.UPLOAD, name), layouts.due_ms(view, args.now_ms, args.grace_ms)
    )

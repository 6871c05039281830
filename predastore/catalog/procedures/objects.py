"""The procedures about objects and their versions: put, delete, amend, set_acl."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Final

import msgspec

from predastore.base.limits import (
    DELETE_BYTES_LEFT_MIN,
    DELETE_READS_LEFT_MIN,
)
from predastore.catalog import keys
from predastore.catalog.keys import VERSIONS
from predastore.catalog.procedures import layouts
from predastore.catalog.procedures.arguments import (
    Added,
    Amended,
    AmendObject,
    DeleteObjects,
    Deletion,
    Deletions,
    Doomed,
    PutObject,
    Reason,
    SetObjectAcl,
    done,
    refuse,
)
from predastore.catalog.procedures.chain import Chain, ChangingChain, Version
from predastore.catalog.procedures.judging import (
    check_condition,
    check_lock,
    failure_of,
    held_bucket,
    is_kept,
    may_become,
)
from predastore.catalog.procedures.layouts import Leavings
from predastore.catalog.rows import (
    NO_LAYOUT,
    NO_RETENTION,
    BucketRow,
    DefaultRetention,
    Detail,
    Kind,
    Retention,
    Summary,
    Versioning,
    VersionRow,
)
from predastore.s3db.procedures import View
from predastore.storage.formats import pack, repacked, rewritten, unpack

_DAY_MS: Final = 86_400_000
_NO_DETAIL: Final = msgspec.Raw(pack(Detail("")))


def put(view: View, arguments: bytes) -> bytes:
    """A new version, which is the newest: `PutObject` to `Added`."""
    args = unpack(PutObject, arguments)
    bucket = held_bucket(view, args.held)
    check_lock(bucket, args.retention, args.legal_hold)
    leavings = Leavings(layouts.due_ms(view, args.now_ms, args.grace_ms))
    chain = ChangingChain(view, bucket, args.key, leavings)
    check_condition(args.condition, chain)
    row = VersionRow(
        random=args.random,
        is_null=bucket.versioning is not Versioning.ENABLED,
        is_marker=False,
        kind=args.content.kind,
        layout=args.content.layout,
        summary=args.summary,
        detail=args.detail,
        tags=args.tags,
        retention=retention_in(bucket, args.retention, max(view.time_ms, args.now_ms)),
        legal_hold=args.legal_hold,
    )
    order = chain.add(row, args.content)
    return done(Added(order, row.random, row.is_null, leavings.take()))


def delete(view: View, arguments: bytes) -> bytes:
    """Each for itself, in one step as many as its bounds allow: `DeleteObjects` to `Deletions`."""
    args = unpack(DeleteObjects, arguments)
    bucket = held_bucket(view, args.held)
    leavings = Leavings(layouts.due_ms(view, args.now_ms, args.grace_ms))
    chains: dict[str, ChangingChain] = {}
    deletions: list[Deletion] = []
    for doomed in args.doomed:
        if deletions and _is_enough(view):
            break
        chain = chains.get(doomed.key)
        if chain is None:
            chain = chains[doomed.key] = ChangingChain(view, bucket, doomed.key, leavings)
        reason = _failure(doomed, chain)
        if reason:
            deletions.append(Deletion(reason))
        elif doomed.version is not None:
            deletions.append(_delete_version(view, chain, doomed.version, args, leavings))
        elif bucket.versioning is Versioning.NEVER:
            deletions.append(_delete_version(view, chain, b"", args, leavings))
        else:
            deletions.append(_mark(chain, doomed.random, args, leavings))
    return done(Deletions(tuple(deletions), bucket.versioning is not Versioning.NEVER))


def amend(view: View, arguments: bytes) -> bytes:
    """Another value for what stands beside a version's bytes: `AmendObject` to `Amended`."""
    args = unpack(AmendObject, arguments)
    bucket = held_bucket(view, args.held)
    check_lock(bucket, args.retention, args.legal_hold)
    version = _object(Chain(view, bucket, args.key), args.version)
    old = version.row
    new = old
    if args.tags is not None:
        new = msgspec.structs.replace(new, tags=args.tags)
    if args.legal_hold is not None:
        new = msgspec.structs.replace(new, legal_hold=args.legal_hold)
    if args.retention is not None:
        if not may_become(old.retention, args.retention, view.time_ms, bypass=args.bypass):
            raise refuse(Reason.LOCKED)
        new = msgspec.structs.replace(new, retention=args.retention)
    place = keys.version(bucket.id, args.key, version.order)
    view.put(VERSIONS, place, rewritten(version.stored, new))
    has_versions = bucket.versioning is not Versioning.NEVER
    return done(Amended(version.order, old.random, old.is_null, has_versions))


def set_acl(view: View, arguments: bytes) -> bytes:
    """Another ACL of a version, of which nothing else changes: `SetObjectAcl` to `Amended`;
    ACL_CHANGED, where it is not the one that was seen, or has another owner."""
    args = unpack(SetObjectAcl, arguments)
    bucket = held_bucket(view, args.held)
    version = _object(Chain(view, bucket, args.key), args.version)
    old = version.row
    detail = unpack(Detail, old.detail)
    if (old.summary.owner, detail.acl) != args.seen:
        raise refuse(Reason.ACL_CHANGED)
    changed = msgspec.structs.replace(detail, acl=args.acl)
    new = msgspec.structs.replace(old, detail=msgspec.Raw(repacked(old.detail, changed)))
    place = keys.version(bucket.id, args.key, version.order)
    view.put(VERSIONS, place, rewritten(version.stored, new))
    has_versions = bucket.versioning is not Versioning.NEVER
    return done(Amended(version.order, old.random, old.is_null, has_versions))


def _object(chain: Chain, wanted: bytes | None) -> Version:
    """What the id names, or the current one; NO_SUCH_KEY, NO_SUCH_VERSION, IS_MARKER."""
    version = chain.find(wanted)
    if version is None:
        if wanted is None:
            raise refuse(Reason.NO_SUCH_KEY, Key=chain.key)
        raise refuse(Reason.NO_SUCH_VERSION)
    if not version.is_object:
        raise refuse(Reason.IS_MARKER)
    return version


# --- what put and complete share ------------------------------------------------------------------


def retention_in(bucket: BucketRow, asked: Retention, time_ms: int) -> Retention:
    """What a new version gets: what was asked for, or what the bucket gives at this time."""
    if asked.mode or bucket.retention is None or not bucket.is_locked:
        return asked
    return Retention(bucket.retention.mode, _until_ms(bucket.retention, time_ms))


def _until_ms(default: DefaultRetention, time_ms: int) -> int:
    if default.days:
        return time_ms + default.days * _DAY_MS
    begins = datetime.fromtimestamp(time_ms // 1000, UTC)
    year = begins.year + default.years
    day = min(begins.day, calendar.monthrange(year, begins.month)[1])
    ends = begins.replace(year=year, day=day)
    return int(ends.timestamp()) * 1000 + time_ms % 1000


# --- deleting -------------------------------------------------------------------------------------


def _is_enough(view: View) -> bool:
    """Whether one deletion more might break a bound of this call."""
    bytes_left = min(view.read_bytes_left, view.written_bytes_left)
    return view.reads_left < DELETE_READS_LEFT_MIN or bytes_left < DELETE_BYTES_LEFT_MIN


def _failure(doomed: Doomed, chain: Chain) -> Reason:
    condition = doomed.condition
    if condition.if_match is None and condition.if_none_match is None:
        return Reason.DONE
    return failure_of(condition, chain.find(doomed.version))


def _delete_version(
    view: View, chain: ChangingChain, version: bytes, args: DeleteObjects, leavings: Leavings
) -> Deletion:
    found: Version | None = chain.find(version)
    if found is None:
        return Deletion()
    if is_kept(found.row, view.time_ms, bypass=args.bypass):
        return Deletion(Reason.LOCKED)
    chain.remove(found)
    return Deletion(
        existed=True,
        is_marker=found.row.is_marker,
        order=found.order,
        random=found.row.random,
        is_null=found.row.is_null,
        wasted=leavings.take(),
    )


def _mark(chain: ChangingChain, random: bytes, args: DeleteObjects, leavings: Leavings) -> Deletion:
    """Makes a delete marker the newest version."""
    is_null = chain.bucket.versioning is not Versioning.ENABLED
    replaced = chain.replaced()
    row = VersionRow(
        random=random,
        is_null=is_null,
        is_marker=True,
        kind=Kind.NOWHERE,
        layout=NO_LAYOUT,
        summary=Summary(0, "", args.now_ms, chain.bucket.owner),
        detail=_NO_DETAIL,
        retention=NO_RETENTION,
    )
    order = chain.add(row)
    return Deletion(
        existed=replaced is not None,
        is_marker=True,
        order=order,
        random=random,
        is_null=is_null,
        wasted=leavings.take(),
    )

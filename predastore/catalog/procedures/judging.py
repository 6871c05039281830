"""What procedures check before they change anything, each check by its name."""

from __future__ import annotations

from predastore.catalog import keys
from predastore.catalog.keys import BUCKETS
from predastore.catalog.procedures.arguments import (
    NO_CONDITION,
    Condition,
    HeldBucket,
    Reason,
    refuse,
)
from predastore.catalog.procedures.chain import Chain, Version
from predastore.catalog.rows import BucketRow, LockMode, Retention, VersionRow, bucket_row
from predastore.s3db.procedures import View


def held_bucket(view: View, held: HeldBucket) -> BucketRow:
    """The bucket, which is as it was when the caller was given its permit; BUCKET_CHANGED."""
    stored = view.get(BUCKETS, keys.bucket(held.name))
    if stored is not None:
        row = bucket_row(stored)
        if row.id == held.id and row.generation == held.generation:
            return row
    raise refuse(Reason.BUCKET_CHANGED)


def holds(condition: Condition, etag: str | None) -> bool:
    """Whether a condition holds of what is current; None: there is no object, or it was deleted."""
    if condition.if_match is not None and (etag is None or condition.if_match not in ("*", etag)):
        return False
    return etag is None or condition.if_none_match not in ("*", etag)


def which(condition: Condition) -> str:
    """The header field that a condition came in."""
    return "If-Match" if condition.if_match is not None else "If-None-Match"


def failure_of(condition: Condition, version: Version | None) -> Reason:
    """Why the condition does not hold of a version, or DONE. A delete marker is as none."""
    etag = version.row.summary.etag if version is not None and version.is_object else None
    if holds(condition, etag):
        return Reason.DONE
    return Reason.NO_SUCH_KEY if etag is None else Reason.CONDITION_FAILED


def check_condition(condition: Condition, chain: Chain) -> None:
    """NO_SUCH_KEY with the `Key`, or CONDITION_FAILED with the `Condition` that fails."""
    if condition == NO_CONDITION:
        return
    newest = chain.newest()
    for one in (
        Condition(if_match=condition.if_match),
        Condition(if_none_match=condition.if_none_match),
    ):
        reason = failure_of(one, newest)
        if reason is Reason.NO_SUCH_KEY:
            raise refuse(reason, Key=chain.key)
        if reason:
            raise refuse(reason, Condition=which(one))


def check_lock(bucket: BucketRow, retention: Retention | None, legal_hold: bool | None) -> None:
    """NO_LOCK, where a version is to be kept in a bucket that has no object lock: there it could be
    replaced all the same."""
    if not bucket.is_locked and (legal_hold or (retention is not None and retention.mode)):
        raise refuse(Reason.NO_LOCK)


def is_kept(row: VersionRow, time_ms: int, *, bypass: bool) -> bool:
    """Whether a version may not be removed at this cluster time."""
    if row.legal_hold:
        return True
    if row.retention.until_ms <= time_ms:
        return False
    return row.retention.mode is LockMode.COMPLIANCE or (
        row.retention.mode is LockMode.GOVERNANCE and not bypass
    )


def may_become(old: Retention, new: Retention, time_ms: int, *, bypass: bool) -> bool:
    """Whether a version's retention may be changed so: it is over, or grows in its mode; or it is
    one of GOVERNANCE, and the caller may bypass that, as also for COMPLIANCE in its place."""
    if old.mode is LockMode.NONE or old.until_ms <= time_ms:
        return True
    if new.mode is old.mode and new.until_ms >= old.until_ms:
        return True
    return bypass and old.mode is LockMode.GOVERNANCE

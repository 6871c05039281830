"""Object lock: what requests say of it, in header fields and as XML, and what answers do.

Whether a version may go, or its retention be changed, is decided where the commit is applied, by
the cluster's time. What is refused here is what could not be meant.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.procedures.arguments import NO_DEFAULT
from predastore.catalog.rows import (
    NO_RETENTION,
    BucketRow,
    DefaultRetention,
    LockMode,
    Retention,
    UploadRow,
)
from predastore.httpd.message import Headers
from predastore.s3 import checksums
from predastore.s3.dates import iso8601_exact
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import tag
from predastore.storage.extents import now_ms

MODE: Final = "x-amz-object-lock-mode"
UNTIL: Final = "x-amz-object-lock-retain-until-date"
LEGAL_HOLD: Final = "x-amz-object-lock-legal-hold"
BYPASS: Final = "x-amz-bypass-governance-retention"

MODES: Final = {mode.name: mode for mode in LockMode if mode}
HOLDS: Final = {"ON": True, "OFF": False}

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class Lock(NamedTuple):
    """What a request asks for the version that it makes."""

    retention: Retention
    legal_hold: bool | None


def check_bucket(bucket: BucketRow) -> None:
    """InvalidRequest, if it has no object lock."""
    if not bucket.is_locked:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


def check_of(headers: Headers, *, has_body: bool = False) -> Callable[[BucketRow], None]:
    """The check whether a bucket takes an object that is asked for so. `has_body`: its bytes come
    with the request, and, where they are to be kept, have to come with a digest."""
    is_asked = any(headers.get(name) for name in (MODE, UNTIL, LEGAL_HOLD))

    def check(bucket: BucketRow) -> None:
        if is_asked:
            check_bucket(bucket)
        if has_body and (is_asked or bucket.retention is not None):
            _check_digest(headers, "Put Object")

    return check


def check_bypass(headers: Headers) -> Callable[[BucketRow], None]:
    """The check whether a bucket takes a deletion that is asked for so."""

    def check(bucket: BucketRow) -> None:
        if headers.get(BYPASS) and not bucket.is_locked:
            why = f"{BYPASS} is only applicable to Object Lock enabled buckets."
            raise S3Error("InvalidArgument", why, ArgumentName=BYPASS)

    return check


def check_part(headers: Headers, upload: UploadRow, bucket: BucketRow) -> None:
    """InvalidRequest for a part without a digest, where what is made of it is to be kept."""
    is_asked = upload.retention.mode or upload.legal_hold is not None
    if is_asked or bucket.retention is not None:
        _check_digest(headers, "Put Part")


def _check_digest(headers: Headers, what: str) -> None:
    if not checksums.has_digest(headers):
        raise S3Error(
            "InvalidRequest",
            f"Content-MD5 OR x-amz-checksum- HTTP header is required for {what} requests with "
            "Object Lock parameters",
        )


# --- header fields ----------------------------------------------------------------------------


def of_headers(headers: Headers) -> Lock:
    """InvalidArgument for what is none."""
    mode, until, hold = (headers.get(name) or "" for name in (MODE, UNTIL, LEGAL_HOLD))
    if bool(mode) != bool(until):
        raise S3Error("InvalidArgument", f"{UNTIL} and {MODE} must both be supplied")
    if mode and mode not in MODES:
        raise _invalid("Unknown wormMode directive.", MODE, mode)
    if hold and hold not in HOLDS:
        raise _invalid("Legal Hold must be either of 'ON' or 'OFF'", LEGAL_HOLD, hold)
    retention = Retention(MODES[mode], _until_ms(until)) if mode else NO_RETENTION
    return Lock(retention, HOLDS.get(hold))


def _until_ms(text: str) -> int:
    """A time that is still to come."""
    try:
        until = datetime.fromisoformat(text.strip())
        until_ms = (until - _EPOCH) // timedelta(milliseconds=1)  # TypeError: it names no zone
        until.astimezone(UTC)  # OverflowError: after the year 9999, which nobody could read
    except (ValueError, TypeError, OverflowError):
        why = "The retain until date must be provided in ISO 8601 format"
        raise _invalid(why, UNTIL, text) from None
    if until_ms <= now_ms():
        raise _invalid("The retain until date must be in the future!", UNTIL, text)
    return until_ms


def _invalid(why: str, name: str, value: str) -> S3Error:
    return S3Error("InvalidArgument", why, ArgumentName=name, ArgumentValue=value)


def hold_name(legal_hold: bool) -> str:
    return "ON" if legal_hold else "OFF"


def retention_fields(retention: Retention) -> list[tuple[str, str]]:
    """What GET and HEAD say; nothing where there is none."""
    if not retention.mode:
        return []
    return [(MODE, retention.mode.name), (UNTIL, iso8601_exact(retention.until_ms))]


# --- documents --------------------------------------------------------------------------------


def retention_of(document: Element) -> Retention:
    """Of a Retention document; an empty one removes what there is. MalformedXML,
    InvalidArgument."""
    fields = document.only("Mode", "RetainUntilDate")
    if not fields:
        return NO_RETENTION
    if len(fields) != 2 or fields["Mode"] not in MODES:
        raise S3Error("MalformedXML")
    return Retention(MODES[fields["Mode"]], _until_ms(fields["RetainUntilDate"]))


def legal_hold_of(document: Element) -> bool:
    """Of a LegalHold document; MalformedXML."""
    status = document.only("Status").get("Status", "")
    if status not in HOLDS:
        raise S3Error("MalformedXML")
    return HOLDS[status]


def default_of(document: Element) -> DefaultRetention:
    """Of an ObjectLockConfiguration document; NO_DEFAULT where it has no rule. MalformedXML,
    InvalidRetentionPeriod."""
    children = {child.name: child for child in document.children}
    enabled, rule = children.pop("ObjectLockEnabled", None), children.pop("Rule", None)
    is_twice = len(document.children) > (enabled is not None) + (rule is not None)
    if is_twice or enabled is None or enabled.text != "Enabled":
        raise S3Error("MalformedXML")
    if rule is None:
        return NO_DEFAULT
    if len(rule.children) != 1 or rule.children[0].name != "DefaultRetention":
        raise S3Error("MalformedXML")
    fields = rule.children[0].only("Mode", "Days", "Years")
    if fields.get("Mode") not in MODES or ("Days" in fields) == ("Years" in fields):
        raise S3Error("MalformedXML")
    mode = MODES[fields["Mode"]]
    if "Days" in fields:
        return DefaultRetention(mode, _period(fields["Days"], limits.S3_LOCK_DAYS_MAX), 0)
    return DefaultRetention(mode, 0, _period(fields["Years"], limits.S3_LOCK_YEARS_MAX))


def _period(text: str, most: int) -> int:
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise S3Error("MalformedXML")
    if digits != text.strip() or len(digits) > len(str(most)) or not 1 <= int(digits) <= most:
        raise S3Error(
            "InvalidRetentionPeriod",
            f"The retention period must be a positive integer value of at most {most}.",
        )
    return int(digits)


def configuration(default: DefaultRetention | None) -> list[str]:
    """The elements of an ObjectLockConfiguration."""
    parts = [tag("ObjectLockEnabled", "Enabled")]
    if default is not None:
        period = tag("Days", default.days) if default.days else tag("Years", default.years)
        mode = tag("Mode", default.mode.name)
        parts.append(f"<Rule><DefaultRetention>{mode}{period}</DefaultRetention></Rule>")
    return parts


def retention_elements(retention: Retention) -> list[str]:
    until = tag("RetainUntilDate", iso8601_exact(retention.until_ms))
    return [tag("Mode", retention.mode.name), until]

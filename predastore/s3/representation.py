"""What GET and HEAD say about an object: its header fields, and which part of it is meant."""

from __future__ import annotations

from typing import Final

from predastore.base.errors import S3Error
from predastore.catalog.values import ObjectVersion, PlacedPart
from predastore.httpd.message import Response
from predastore.s3 import checksums, conditions, encoded_words, lock
from predastore.s3.access import OF_A_VERSION
from predastore.s3.context import Context
from predastore.s3.dates import http_date, parse_date
from predastore.s3.headers import STORED
from predastore.s3.ranges import Span, parse_range
from predastore.s3.versions import read_fields

OVERRIDES: Final = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}


def _overridden(ctx: Context) -> dict[str, str]:
    """Fields that a signed request wants changed in the answer."""
    found: dict[str, str] = {}
    for name, value in ctx.query.items():
        if name in OVERRIDES:
            if ctx.account is None:
                raise S3Error(
                    "InvalidRequest",
                    "Request specific response headers cannot be used for anonymous GET requests.",
                )
            if any(character < " " or character == "\x7f" for character in value):
                raise S3Error("InvalidArgument", ArgumentName=name, ArgumentValue=value)
            found[OVERRIDES[name]] = value.encode().decode("latin-1")
    return found


def _validators(version: ObjectVersion) -> list[tuple[str, str]]:
    return [("Last-Modified", http_date(version.modified_ms)), ("ETag", f'"{version.etag}"')]


def _checksums(
    ctx: Context, version: ObjectVersion, part: PlacedPart | None, *, whole: bool
) -> list[tuple[str, str]]:
    """What tells of the digest of the bytes in the answer, if it is asked for and known."""
    if ctx.headers.get("x-amz-checksum-mode", "").upper() != "ENABLED":
        return []
    if part is not None:
        return checksums.part_headers(version, part.part)
    return checksums.answer_headers(version.checksums, with_type=True) if whole else []


def _fields(ctx: Context, version: ObjectVersion) -> list[tuple[str, str]]:
    fields = [*_validators(version), ("Accept-Ranges", "bytes"), *read_fields(version)]
    detail = version.detail
    overridden = _overridden(ctx) if ctx.query else {}
    if "Content-Type" not in overridden:
        fields.append(("Content-Type", detail.content_type))
    fields.extend(overridden.items())
    for name, value in detail.headers.items():
        shown = STORED[name]
        if shown not in overridden:
            fields.append((shown, value))
    for name, value in detail.user.items():
        fields.append((f"x-amz-meta-{name}", encoded_words.encode(value)))
    if version.storage_class:
        fields.append(("x-amz-storage-class", version.storage_class))
    return fields + _beside(ctx, version)


def _beside(ctx: Context, version: ObjectVersion) -> list[tuple[str, str]]:
    """Of tags and locks, what the requester may read."""
    row = version.row
    fields: list[tuple[str, str]] = []
    if row.tags:
        action = "s3:GetObjectTagging"
        if ctx.may(OF_A_VERSION[action] if ctx.version_id else action):
            fields.append(("x-amz-tagging-count", str(len(row.tags))))
    if row.retention.mode and ctx.may("s3:GetObjectRetention"):
        fields += lock.retention_fields(row.retention)
    if row.legal_hold is not None and ctx.may("s3:GetObjectLegalHold"):
        fields.append((lock.LEGAL_HOLD, lock.hold_name(row.legal_hold)))
    return fields


def _check_conditions(ctx: Context, version: ObjectVersion) -> Response | None:
    """The 304 answer, PreconditionFailed, or None: go on.

    A 304 has what a cache brings up to date by it (RFC 9110, 15.4.5): the fields that a 200 would
    have of that kind.
    """
    failed = conditions.failed(ctx.headers, conditions.READ, version.etag, version.modified_ms)
    if not failed:
        return None
    fields = _validators(version)
    if not conditions.is_not_modified(failed):
        raise S3Error(
            "PreconditionFailed", headers=dict(fields), Condition=conditions.shown(failed)
        )
    overridden = _overridden(ctx) if ctx.query else {}
    for name in ("cache-control", "expires"):
        value = overridden.get(STORED[name], version.detail.headers.get(name))
        if value is not None:
            fields.append((STORED[name], value))
    return Response(304, fields)


def _range_applies(ctx: Context, version: ObjectVersion) -> bool:
    """If-Range: the range is wanted only of the version that the client has a part of."""
    wanted = ctx.headers.get("if-range")
    if wanted is None:
        return True
    if '"' in wanted:
        return wanted.strip() == f'"{version.etag}"'
    date_s = parse_date(wanted)
    return date_s is not None and date_s == version.modified_ms // 1000


async def _part(ctx: Context, version: ObjectVersion) -> PlacedPart | None:
    """The part that is asked for by its number; None: none is, or the object was put whole, and
    so is its own part 1."""
    if "partNumber" not in ctx.query:
        return None
    if ctx.headers.get("range") is not None:
        raise S3Error(
            "InvalidRequest", "Cannot specify both Range header and partNumber query parameter"
        )
    number = ctx.part_number()
    if not version.part_count and number == 1:
        return None
    part = await ctx.catalog.part(version, number) if version.part_count else None
    if part is None:
        raise S3Error(
            "InvalidPartNumber",
            ActualPartCount=str(version.part_count or 1),
            PartNumberRequested=str(number),
        )
    return part


def _span(ctx: Context, version: ObjectVersion, part: PlacedPart | None) -> Span | None:
    """The bytes that are wanted, or None for all of them."""
    if part is not None:
        return Span(part.start, part.start + part.part.size)
    if "partNumber" in ctx.query:
        return Span(0, version.size)
    wanted = ctx.headers.get("range")
    if wanted is None or not _range_applies(ctx, version):
        return None
    return parse_range(wanted, version.size)


async def represent(ctx: Context, version: ObjectVersion) -> tuple[Response, Span]:
    """The answer without its body, and the bytes that belong in it.

    The span is empty where there is nothing to send (304, or an object without bytes).
    """
    if (unchanged := _check_conditions(ctx, version)) is not None:
        return unchanged, Span(0, 0)
    part = await _part(ctx, version)
    span = _span(ctx, version, part)
    fields = _fields(ctx, version)
    whole = span is None or (span.start, span.end) == (0, version.size)
    fields += _checksums(ctx, version, part, whole=whole)
    if span is None:
        return Response(200, fields, b"", version.size), Span(0, version.size)
    if part is not None:
        fields.append(("x-amz-mp-parts-count", str(version.part_count)))
    length = span.end - span.start
    if length:
        fields.append(("Content-Range", f"bytes {span.start}-{span.end - 1}/{version.size}"))
    return Response(206 if length else 200, fields, b"", length), span

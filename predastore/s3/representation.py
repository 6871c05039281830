"""What GET and HEAD say about an object: its header fields, and which part of it is meant."""

from __future__ import annotations

from typing import Final

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import checksums, conditions, encoded_words
from predastore.s3.context import Context
from predastore.s3.dates import http_date, parse_date
from predastore.s3.headers import STORED
from predastore.s3.ranges import Span, parse_range
from predastore.s3.target import check_version
from predastore.storage.records import ObjectRecord

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


def _validators(record: ObjectRecord) -> list[tuple[str, str]]:
    return [("Last-Modified", http_date(record.modified_ms)), ("ETag", f'"{record.etag}"')]


def _checksums(ctx: Context, record: ObjectRecord, *, whole: bool) -> list[tuple[str, str]]:
    """What tells of the digest of the bytes in the answer, if it is asked for and known."""
    if ctx.headers.get("x-amz-checksum-mode", "").upper() != "ENABLED":
        return []
    if "partNumber" in ctx.query and record.parts:
        return checksums.part_headers(record, ctx.part_number())
    return checksums.answer_headers(record.checksums, with_type=True) if whole else []


def _fields(ctx: Context, record: ObjectRecord, *, whole: bool) -> list[tuple[str, str]]:
    fields = [*_validators(record), ("Accept-Ranges", "bytes")]
    overridden = _overridden(ctx) if ctx.query else {}
    if "Content-Type" not in overridden:
        fields.append(("Content-Type", record.content_type))
    fields.extend(overridden.items())
    for name, value in record.headers.items():
        shown = STORED[name]
        if shown not in overridden:
            fields.append((shown, value))
    for name, value in record.user.items():
        fields.append((f"x-amz-meta-{name}", encoded_words.encode(value)))
    if record.storage_class:
        fields.append(("x-amz-storage-class", record.storage_class))
    return fields + _checksums(ctx, record, whole=whole)


def _check_conditions(ctx: Context, record: ObjectRecord) -> Response | None:
    """The 304 answer, PreconditionFailed, or None: go on.

    A 304 has what a cache brings up to date by it (RFC 9110, 15.4.5): the fields that a 200 would
    have of that kind.
    """
    failed = conditions.failed(ctx.headers, conditions.READ, record.etag, record.modified_ms)
    if not failed:
        return None
    fields = _validators(record)
    if not conditions.is_not_modified(failed):
        raise S3Error(
            "PreconditionFailed", headers=dict(fields), Condition=conditions.shown(failed)
        )
    overridden = _overridden(ctx) if ctx.query else {}
    for name in ("cache-control", "expires"):
        value = overridden.get(STORED[name], record.headers.get(name))
        if value is not None:
            fields.append((STORED[name], value))
    return Response(304, fields)


def _range_applies(ctx: Context, record: ObjectRecord) -> bool:
    """If-Range: the range is wanted only of the version that the client has a part of."""
    wanted = ctx.headers.get("if-range")
    if wanted is None:
        return True
    if '"' in wanted:
        return wanted.strip() == f'"{record.etag}"'
    date_s = parse_date(wanted)
    return date_s is not None and date_s == record.modified_ms // 1000


def _part_span(number: int, record: ObjectRecord) -> Span:
    """Where part `number` lies; an object that was put whole is its own part 1."""
    if not record.parts and number == 1:
        return Span(0, record.size)
    start = 0
    for part in record.parts:
        if part.number == number:
            return Span(start, start + part.size)
        start += part.size
    raise S3Error(
        "InvalidPartNumber",
        ActualPartCount=str(len(record.parts) or 1),
        PartNumberRequested=str(number),
    )


def _span(ctx: Context, record: ObjectRecord) -> Span | None:
    """The bytes that are wanted, or None for all of them."""
    wanted = ctx.headers.get("range")
    if "partNumber" in ctx.query:
        if wanted is not None:
            raise S3Error(
                "InvalidRequest",
                "Cannot specify both Range header and partNumber query parameter",
            )
        return _part_span(ctx.part_number(), record)
    if wanted is None or not _range_applies(ctx, record):
        return None
    return parse_range(wanted, record.size)


def represent(ctx: Context, record: ObjectRecord) -> tuple[Response, Span]:
    """The answer without its body, and the bytes that belong in it.

    The span is empty where there is nothing to send (304, or an object without bytes).
    """
    if "versionId" in ctx.query:
        check_version(ctx.query["versionId"])
    if (unchanged := _check_conditions(ctx, record)) is not None:
        return unchanged, Span(0, 0)
    span = _span(ctx, record)
    fields = _fields(ctx, record, whole=span is None or (span.start, span.end) == (0, record.size))
    if span is None:
        return Response(200, fields, b"", record.size), Span(0, record.size)
    if "partNumber" in ctx.query and record.parts:
        fields.append(("x-amz-mp-parts-count", str(len(record.parts))))
    length = span.end - span.start
    if length:
        fields.append(("Content-Range", f"bytes {span.start}-{span.end - 1}/{record.size}"))
    return Response(206 if length else 200, fields, b"", length), span

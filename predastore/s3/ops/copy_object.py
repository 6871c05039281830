"""CopyObject: PUT /bucket/key with x-amz-copy-source. Read and written here, not by the client."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import ObjectReplaced, S3Error
from predastore.catalog.permits import Permit
from predastore.httpd.message import Response
from predastore.s3 import checksums, conditions
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.target import CopySource, parse_copy_source
from predastore.s3.xml_write import xml_response
from predastore.storage.interface import Attributes, Condition, Expectation
from predastore.storage.records import ObjectRecord

_REDIRECT = "x-amz-website-redirect-location"
_CHANGES = (_REDIRECT, "x-amz-checksum-algorithm", "x-amz-storage-class")


def check_source(ctx: Context, record: ObjectRecord) -> None:
    """The conditions on the source, and its size; shared with UploadPartCopy."""
    failed = conditions.failed(ctx.headers, conditions.COPY_SOURCE, record.etag, record.modified_ms)
    if failed:
        raise S3Error("PreconditionFailed", Condition=conditions.shown(failed))


def _replaces_metadata(ctx: Context) -> bool:
    directive = (ctx.headers.get("x-amz-metadata-directive") or "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            "Unknown metadata directive.",
            ArgumentName="x-amz-metadata-directive",
            ArgumentValue=directive,
        )
    return directive == "REPLACE"


def _attributes(ctx: Context, record: ObjectRecord, *, replace: bool) -> Attributes:
    """The metadata of the copy. A redirect is never copied: it is the request's or none."""
    said = ctx.attributes()
    if replace:
        return said
    kept = {name: value for name, value in record.headers.items() if name != _REDIRECT}
    if _REDIRECT in said.headers:
        kept[_REDIRECT] = said.headers[_REDIRECT]
    return Attributes(said.owner, record.content_type, kept, record.user, said.storage_class)


def _algorithms(ctx: Context, record: ObjectRecord) -> frozenset[str]:
    """What to compute of the copy: the algorithm asked for, else those of the source."""
    wanted = checksums.parse_copy_algorithm(ctx.headers)
    if wanted:
        return frozenset({wanted})
    return frozenset(one.algorithm for one in record.checksums)


def _check_changes_something(ctx: Context, source: CopySource, *, replace: bool) -> None:
    """A copy of an object onto itself has to change what is said about it."""
    onto_itself = (source.bucket, source.key) == (ctx.bucket_name, ctx.key)
    changed = replace or any(ctx.headers.get(name) for name in _CHANGES)
    if onto_itself and not changed:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location "
            "or encryption attributes.",
        )


async def _copy(
    ctx: Context, source: CopySource, condition: Condition, permit: Permit, *, replace: bool
) -> ObjectRecord:
    """ObjectReplaced: the source was, before it could be read."""
    with ctx.objects.looking(source.bucket, source.key) as look:
        record = await ctx.copy_source(source)
        check_source(ctx, record)
        if record.size > limits.S3_PUT_BYTES_MAX:
            raise S3Error(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy "
                f"source: {limits.S3_PUT_BYTES_MAX}",
            )
        attributes = _attributes(ctx, record, replace=replace)
        expectation = Expectation(compute=_algorithms(ctx, record))
        body = await ctx.objects.open_source(record, 0, record.size, look)
    async with body:
        return await ctx.objects.put(
            ctx.bucket_name,
            ctx.key,
            body,
            record.size,
            attributes,
            expectation,
            condition,
            permit=permit,
        )


async def run(ctx: Context) -> Response:
    ctx.signer()
    source = parse_copy_source(ctx.headers.get("x-amz-copy-source", ""))
    replace = _replaces_metadata(ctx)
    condition = ctx.write_condition()
    _check_changes_something(ctx, source, replace=replace)
    permit = await ctx.permit()
    for _ in range(limits.S3_READ_TRIES_MAX):
        try:
            copied = await _copy(ctx, source, condition, permit, replace=replace)
        except ObjectReplaced:
            continue
        return xml_response(
            "CopyObjectResult",
            (
                f"<LastModified>{iso8601(copied.modified_ms)}</LastModified>",
                f"<ETag>&quot;{copied.etag}&quot;</ETag>",
                checksums.answer_elements(copied.checksums, with_type=True),
            ),
        )
    raise S3Error("SlowDown", "The source is being replaced faster than it can be read.")

"""UploadPartCopy: PUT /bucket/key?partNumber=n&uploadId=id with x-amz-copy-source."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import ObjectReplaced, S3Error
from predastore.catalog.errors import BucketChanged
from predastore.catalog.rows import PartRow
from predastore.catalog.uploads import Upload
from predastore.catalog.values import ObjectVersion
from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.ops.copy_object import check_source
from predastore.s3.ranges import Span, parse_copy_range
from predastore.s3.target import CopySource, parse_copy_source
from predastore.s3.versions import SOURCE_VERSION_ID, read_fields
from predastore.s3.xml_write import xml_response


def _span(ctx: Context, version: ObjectVersion) -> Span:
    wanted = ctx.headers.get("x-amz-copy-source-range")
    span = Span(0, version.size) if wanted is None else parse_copy_range(wanted, version.size)
    if span.end - span.start > limits.S3_PUT_BYTES_MAX:
        raise S3Error("EntityTooLarge")
    return span


async def _copy(
    ctx: Context, upload: Upload, number: int, source: CopySource
) -> tuple[PartRow, ObjectVersion]:
    """The part, and of what it was made. ObjectReplaced: the source was, before it could be
    read."""
    with ctx.catalog.looking(source.bucket, source.key) as look:
        version = await ctx.copy_source(source)
        check_source(ctx, version)
        span = _span(ctx, version)
        body = await ctx.catalog.open_source(version, span.start, span.end, look)
    async with body:
        return await ctx.catalog.put_part(upload, number, body, span.end - span.start), version


async def run(ctx: Context) -> Response:
    number = ctx.part_number()
    source = parse_copy_source(ctx.headers.get("x-amz-copy-source", ""))
    permit = await ctx.permit()
    upload_id = ctx.query["uploadId"]
    upload = await ctx.catalog.upload(ctx.bucket_name, ctx.key, upload_id, permit=permit)
    for _ in range(limits.S3_READ_TRIES_MAX):
        try:
            part, version = await _copy(ctx, upload, number, source)
        except (ObjectReplaced, BucketChanged):
            continue
        return xml_response(
            "CopyPartResult",
            (
                f"<LastModified>{iso8601(part.modified_ms)}</LastModified>",
                f"<ETag>&quot;{part.etag}&quot;</ETag>",
                checksums.answer_elements(part.checksums, with_type=False),
            ),
            read_fields(version, SOURCE_VERSION_ID),
        )
    raise S3Error("SlowDown", "The source is being replaced faster than it can be read.")

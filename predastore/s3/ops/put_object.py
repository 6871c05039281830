"""PutObject: PUT /bucket/key."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    ctx.signer()
    size = ctx.body_size()
    attributes = ctx.attributes()
    expectation = ctx.expectation()
    condition = ctx.write_condition()
    permit = await ctx.permit()
    record = await ctx.objects.put(
        ctx.bucket_name,
        ctx.key,
        ctx.request.body,
        size,
        attributes,
        expectation,
        condition,
        permit=permit,
    )
    fields = [("ETag", f'"{record.etag}"')]
    fields += checksums.answer_headers(record.checksums, with_type=True)
    return Response(200, fields)

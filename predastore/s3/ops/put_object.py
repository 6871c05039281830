"""PutObject: PUT /bucket/key."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import acl_change, acl_request, checksums, lock
from predastore.s3.context import Context
from predastore.s3.versions import stored_fields


async def run(ctx: Context) -> Response:
    size = ctx.body_size()
    acl = acl_request.of_headers(ctx.headers)
    attributes = ctx.attributes(acl)
    expectation = ctx.expectation()
    condition = ctx.write_condition()
    check = lock.check_of(ctx.headers, has_body=True)
    permit = await acl_change.permit_for(ctx, acl, check)
    stored = await ctx.catalog.put(
        ctx.bucket_name,
        ctx.key,
        ctx.request.body,
        size,
        attributes,
        expectation,
        condition,
        permit=permit,
    )
    fields = [("ETag", f'"{stored.etag}"')]
    fields += checksums.answer_headers(stored.checksums, with_type=True)
    fields += stored_fields(stored)
    return Response(200, fields)

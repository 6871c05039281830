"""PutObject: PUT /bucket/key."""

from __future__ import annotations

from predastore.catalog.values import Stored
from predastore.httpd.message import Response
from predastore.s3 import acl_change, acl_request, checksums, lock
from predastore.s3.context import Context
from predastore.s3.versions import Fields, stored_fields


async def run(ctx: Context) -> Response:
    stored = await store(ctx, ctx.body_size())
    return Response(200, answer_fields(stored))


async def store(ctx: Context, size: int, *, may_end: bool = False) -> Stored:
    """The request's body, of `size` bytes (`may_end`: at most), as the object that its header
    fields say, where the request may make it."""
    acl = acl_request.of_headers(ctx.headers)
    attributes = ctx.attributes(acl)
    expectation = ctx.expectation()
    condition = ctx.write_condition()
    check = lock.check_of(ctx.headers, has_body=True)
    permit = await acl_change.permit_for(ctx, acl, check)
    return await ctx.catalog.put(
        ctx.bucket_name,
        ctx.key,
        ctx.request.body,
        size,
        attributes,
        expectation,
        condition,
        permit=permit,
        may_end=may_end,
    )


def answer_fields(stored: Stored) -> Fields:
    """What is told of an object that was made."""
    fields = [("ETag", f'"{stored.etag}"')]
    fields += checksums.answer_headers(stored.checksums, with_type=True)
    return fields + stored_fields(stored)

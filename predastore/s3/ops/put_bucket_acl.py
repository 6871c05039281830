"""PutBucketAcl: PUT /bucket?acl, with a canned ACL, with grants in fields, or with a document."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.buckets import ACL
from predastore.httpd.message import Response
from predastore.s3 import acl_change
from predastore.s3.acl_request import acl_in
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    asked = await acl_change.asked_of(ctx, of_bucket=True)
    permit = await acl_change.permit_for(ctx, asked)
    owner = permit.row.owner
    if asked.owner not in ("", owner):
        raise S3Error("AccessDenied")
    stored = acl_in(asked, owner)(permit.row)
    await ctx.catalog.change_bucket(permit, document=(ACL, stored or None))
    return Response(200)

"""PutObjectLockConfiguration: PUT /bucket?object-lock. For ever; the default retention may
change."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.errors import BucketLocked
from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    default = await ctx.said("ObjectLockConfiguration", lock.default_of)
    try:
        await ctx.catalog.change_bucket(permit, is_locked=True, retention=default)
    except BucketLocked:
        raise S3Error(
            "InvalidBucketState",
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
        ) from None
    return Response(200)

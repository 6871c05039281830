"""DeleteBucket: DELETE /bucket. Only an empty one; its uploads in progress go with it."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.errors import BucketNotEmpty
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.errors import TABLE


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    try:
        await ctx.catalog.delete_bucket(ctx.bucket_name, permit=permit)
    except BucketNotEmpty:
        why = TABLE["BucketNotEmpty"][1]
        if permit.row.versioning:
            why += ". You must delete all versions in the bucket."
        raise S3Error("BucketNotEmpty", why, BucketName=ctx.bucket_name) from None
    return Response(204)

"""GetBucketPolicy: GET /bucket?policy. The very text that was put."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.buckets import POLICY
from predastore.httpd.message import Response
from predastore.s3 import bucket_policy
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    account = ctx.signer()
    bucket = await ctx.bucket()
    bucket_policy.check_home(account, bucket, ctx.request.method)
    stored = await ctx.catalog.document(bucket, POLICY)
    if stored is None:
        raise S3Error("NoSuchBucketPolicy", BucketName=ctx.bucket_name)
    return Response(200, [("Content-Type", "application/json")], bucket_policy.text_of(stored))

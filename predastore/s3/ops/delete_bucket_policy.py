"""DeleteBucketPolicy: DELETE /bucket?policy."""

from __future__ import annotations

from predastore.catalog.buckets import POLICY
from predastore.catalog.rows import BucketRow
from predastore.httpd.message import Response
from predastore.s3 import bucket_policy
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    account = ctx.signer()

    def fit(bucket: BucketRow) -> None:
        bucket_policy.check_home(account, bucket, ctx.request.method)

    await ctx.catalog.change_bucket(await ctx.permit(check=fit), document=(POLICY, None))
    return Response(204)

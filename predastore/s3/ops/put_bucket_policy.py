"""PutBucketPolicy: PUT /bucket?policy. Who puts a policy that denies it everything can still put
another one, as the root of the bucket's owner."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.buckets import POLICY
from predastore.catalog.rows import BucketRow
from predastore.httpd.message import Response
from predastore.policy import is_public
from predastore.s3 import account_block, bucket_policy
from predastore.s3.context import Context
from predastore.s3.public_access import union


async def run(ctx: Context) -> Response:
    account = ctx.signer()

    def at_home(bucket: BucketRow) -> None:
        bucket_policy.check_home(account, bucket, ctx.request.method)

    await ctx.permit(check=at_home)
    async with ctx.document(limits.S3_CONFIG_XML_BYTES_MAX) as data:
        text = bytes(data)
    if not text:
        raise S3Error("MalformedPolicy")
    document = bucket_policy.read(text, ctx.bucket_name)
    is_open = is_public(document)
    block = await account_block.of(ctx, account) if is_open else None

    def fit(bucket: BucketRow) -> None:
        at_home(bucket)
        if is_open and union(bucket.block, block).block_policy:
            raise S3Error("AccessDenied")

    permit = await ctx.permit(check=fit)
    stored = bucket_policy.to_stored(text, ctx.bucket_name)
    await ctx.catalog.change_bucket(permit, document=(POLICY, stored))
    return Response(204)

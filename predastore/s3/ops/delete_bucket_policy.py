"""DeleteBucketPolicy: DELETE /bucket?policy."""

from __future__ import annotations

from predastore.catalog.buckets import POLICY
from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    ctx.signer()
    await ctx.catalog.change_bucket(await ctx.permit(), document=(POLICY, None))
    return Response(204)

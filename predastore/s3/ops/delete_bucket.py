"""DeleteBucket: DELETE /bucket. Only an empty one; its uploads in progress go with it."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await ctx.catalog.delete_bucket(ctx.bucket_name, permit=await ctx.permit())
    return Response(204)

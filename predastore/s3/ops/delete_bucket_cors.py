"""DeleteBucketCors: DELETE /bucket?cors."""

from __future__ import annotations

from predastore.catalog.buckets import CORS
from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await ctx.catalog.change_bucket(await ctx.permit(), document=(CORS, None))
    return Response(204)

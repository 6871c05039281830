"""DeleteBucketTagging: DELETE /bucket?tagging."""

from __future__ import annotations

from predastore.catalog.buckets import TAGS
from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await ctx.catalog.change_bucket(await ctx.permit(), document=(TAGS, None))
    return Response(204)

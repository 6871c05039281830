"""DeleteBucket: DELETE /bucket. Only an empty one, with no upload in progress."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.access import Need
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await ctx.bucket(Need.WRITE)
    await ctx.objects.delete_bucket(ctx.bucket_name)
    return Response(204)

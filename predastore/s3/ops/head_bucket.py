"""HeadBucket: HEAD /bucket. Is it there, and may the caller use it?"""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    bucket = await ctx.bucket()
    fields = [("x-amz-bucket-region", bucket.region), ("x-amz-access-point-alias", "false")]
    return Response(200, fields)

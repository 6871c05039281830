"""DeleteObjectTagging: DELETE /bucket/key?tagging."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.amendments import amend
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    return await amend(ctx, await ctx.permit(), tags=(), status=204)

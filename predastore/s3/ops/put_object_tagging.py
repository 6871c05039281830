"""PutObjectTagging: PUT /bucket/key?tagging. In place of all tags that there were."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import tags
from predastore.s3.amendments import amend
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    return await amend(ctx, permit, tags=await ctx.said("Tagging", tags.of_object))

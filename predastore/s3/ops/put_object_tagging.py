"""PutObjectTagging: PUT /bucket/key?tagging. In place of all tags that there were. Policies may ask
which tags, so these are read before anything is decided."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import tags
from predastore.s3.amendments import amend
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    given = await ctx.said("Tagging", tags.of_object)
    ctx.access.gives(given)
    return await amend(ctx, await ctx.permit(), tags=given)

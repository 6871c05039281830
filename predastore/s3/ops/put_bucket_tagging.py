"""PutBucketTagging: PUT /bucket?tagging. In place of all tags that there were."""

from __future__ import annotations

from predastore.catalog.buckets import TAGS
from predastore.httpd.message import Response
from predastore.s3 import tags
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    wanted = await ctx.said("Tagging", tags.of_bucket)
    document = tags.to_document(wanted) if wanted else None
    await ctx.catalog.change_bucket(permit, document=(TAGS, document))
    return Response(204)

"""TagResource: POST /v20180820/tags/<ARN of a bucket>, a call of S3 Control. The tags that the body
names are set, and all others stay."""

from __future__ import annotations

from predastore.catalog.rows import Tags
from predastore.httpd.message import Response
from predastore.s3 import resource_tags, tags
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await resource_tags.addressed(ctx)
    said = dict(await ctx.said("TagResourceRequest", tags.of_resource))

    def changed(there: Tags) -> Tags:
        return tags.checked_of_bucket(tuple({**dict(there), **said}.items()))

    await resource_tags.change(ctx, changed)
    return Response(204)

"""UntagResource: DELETE /v20180820/tags/<ARN of a bucket>?tagKeys=..., a call of S3 Control."""

from __future__ import annotations

from predastore.catalog.rows import Tags
from predastore.httpd.message import Response
from predastore.s3 import control, resource_tags
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    gone = control.tag_keys(ctx.request.raw_query)

    def changed(there: Tags) -> Tags:
        return tuple(pair for pair in there if pair[0] not in gone)

    await resource_tags.change(ctx, changed)
    return Response(204)

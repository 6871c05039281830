"""GetBucketTagging: GET /bucket?tagging."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.buckets import TAGS
from predastore.httpd.message import Response
from predastore.s3 import tags
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    stored = await ctx.catalog.document(await ctx.bucket(), TAGS)
    if stored is None:
        raise S3Error("NoSuchTagSet", BucketName=ctx.bucket_name)
    return xml_response("Tagging", (tags.element(tags.of_stored(stored)),))

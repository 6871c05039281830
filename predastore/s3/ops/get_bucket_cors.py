"""GetBucketCors: GET /bucket?cors."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.buckets import CORS
from predastore.httpd.message import Response
from predastore.s3 import cors
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    stored = await ctx.catalog.document(await ctx.bucket(), CORS)
    if stored is None:
        raise S3Error("NoSuchCORSConfiguration", BucketName=ctx.bucket_name)
    return xml_response(cors.ROOT, cors.elements(cors.of_stored(stored)))

"""GetPublicAccessBlock: GET /bucket?publicAccessBlock."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import public_access
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    bucket = await ctx.bucket()
    if bucket.block is None:
        raise S3Error("NoSuchPublicAccessBlockConfiguration", BucketName=ctx.bucket_name)
    return xml_response(public_access.ROOT, (public_access.elements(bucket.block),))

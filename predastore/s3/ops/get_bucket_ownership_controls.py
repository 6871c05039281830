"""GetBucketOwnershipControls: GET /bucket?ownershipControls."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import ownership
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    bucket = await ctx.bucket()
    if not bucket.ownership:
        raise S3Error("OwnershipControlsNotFoundError", BucketName=ctx.bucket_name)
    return xml_response(ownership.ROOT, (ownership.elements(bucket.ownership),))

"""GetObjectLockConfiguration: GET /bucket?object-lock."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    bucket = await ctx.bucket()
    if not bucket.is_locked:
        raise S3Error("ObjectLockConfigurationNotFoundError", BucketName=ctx.bucket_name)
    return xml_response("ObjectLockConfiguration", lock.configuration(bucket.retention))

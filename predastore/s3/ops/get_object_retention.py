"""GetObjectRetention: GET /bucket/key?retention."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    version = await ctx.object()
    lock.check_bucket(version.bucket)
    retention = version.row.retention
    if not retention.mode:
        raise S3Error("NoSuchObjectLockConfiguration", Key=ctx.key)
    return xml_response("Retention", lock.retention_elements(retention))

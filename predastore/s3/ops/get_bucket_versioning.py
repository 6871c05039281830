"""GetBucketVersioning: GET /bucket?versioning. Never enabled, which S3 says with no Status."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.access import Need
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    await ctx.bucket(Need.WRITE)
    return xml_response("VersioningConfiguration", ())

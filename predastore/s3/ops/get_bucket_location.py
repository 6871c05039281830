"""GetBucketLocation: GET /bucket?location. us-east-1 is written as nothing, as Amazon does."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.xml_write import escape, xml_response


async def run(ctx: Context) -> Response:
    bucket = await ctx.bucket()
    region = "" if bucket.region == "us-east-1" else escape(bucket.region)
    return xml_response("LocationConstraint", (region,))

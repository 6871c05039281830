"""GetObjectTagging: GET /bucket/key?tagging."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import tags
from predastore.s3.context import Context
from predastore.s3.versions import read_fields
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    version = await ctx.object(tells_marker=True)
    return xml_response("Tagging", (tags.element(version.row.tags),), read_fields(version))

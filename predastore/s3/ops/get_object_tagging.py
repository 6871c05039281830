"""GetObjectTagging: GET /bucket/key?tagging. Objects can not be tagged, so there are no tags.

Clients ask before they copy a large object in parts; an empty set is the truth, and lets them.
"""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.access import Need
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    await ctx.object(Need.WRITE)
    return xml_response("Tagging", ("<TagSet></TagSet>",))

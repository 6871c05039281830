"""GetObjectLegalHold: GET /bucket/key?legal-hold. OFF also where none was ever asked for."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.access import Need
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response


async def run(ctx: Context) -> Response:
    version = await ctx.object(Need.WRITE)
    lock.check_bucket(version.bucket)
    status = "ON" if version.row.legal_hold else "OFF"
    return xml_response("LegalHold", (tag("Status", status),))

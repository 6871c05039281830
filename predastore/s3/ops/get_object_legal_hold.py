"""GetObjectLegalHold: GET /bucket/key?legal-hold. 404 where none was ever asked for."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response


async def run(ctx: Context) -> Response:
    version = await ctx.object()
    lock.check_bucket(version.bucket)
    legal_hold = version.row.legal_hold
    if legal_hold is None:
        raise S3Error("NoSuchObjectLockConfiguration", Key=ctx.key)
    return xml_response("LegalHold", (tag("Status", lock.hold_name(legal_hold)),))

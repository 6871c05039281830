"""GetBucketVersioning: GET /bucket?versioning. Never enabled, which S3 says with no Status."""

from __future__ import annotations

from typing import Final

from predastore.catalog.rows import Versioning
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response

STATUS: Final = {Versioning.ENABLED: "Enabled", Versioning.SUSPENDED: "Suspended"}


async def run(ctx: Context) -> Response:
    status = STATUS.get((await ctx.bucket()).versioning)
    return xml_response("VersioningConfiguration", (tag("Status", status),) if status else ())

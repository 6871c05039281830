"""GetObjectAcl: GET /bucket/key?acl."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import acl_effect
from predastore.s3.access import with_public
from predastore.s3.acl_xml import elements
from predastore.s3.context import Context
from predastore.s3.versions import read_fields
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    version = await ctx.object()
    acl = acl_effect.shown(version.bucket, version.owner, version.acl)
    told = elements(with_public(acl, version.bucket))
    return xml_response("AccessControlPolicy", told, read_fields(version))

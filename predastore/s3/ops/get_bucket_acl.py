"""GetBucketAcl: GET /bucket?acl."""

from __future__ import annotations

from predastore.catalog.buckets import ACL
from predastore.httpd.message import Response
from predastore.s3 import acl_effect
from predastore.s3.access import with_public
from predastore.s3.acl_xml import elements
from predastore.s3.context import Context
from predastore.s3.xml_write import xml_response


async def run(ctx: Context) -> Response:
    bucket = await ctx.bucket()
    stored = await ctx.catalog.document(bucket, ACL)
    acl = acl_effect.shown(bucket, bucket.owner, stored)
    return xml_response("AccessControlPolicy", elements(with_public(acl, bucket)))

"""ListTagsForResource: GET /v20180820/tags/<ARN of a bucket>, a call of S3 Control."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import resource_tags, tags
from predastore.s3.context import Context
from predastore.s3.xml_write import CONTROL_NAMESPACE, xml_response


async def run(ctx: Context) -> Response:
    told = await resource_tags.of(ctx, await resource_tags.addressed(ctx))
    parts = (tags.element(told, "Tags"),)
    return xml_response("ListTagsForResourceResult", parts, namespace=CONTROL_NAMESPACE)

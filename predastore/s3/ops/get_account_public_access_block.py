"""GetPublicAccessBlock of an account: GET /v20180820/configuration/publicAccessBlock, a call of S3
Control."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import account_block, public_access
from predastore.s3.context import Context
from predastore.s3.xml_write import CONTROL_NAMESPACE, xml_response


async def run(ctx: Context) -> Response:
    block = await account_block.of(ctx, account_block.addressed(ctx))
    if block is None:
        raise S3Error("NoSuchPublicAccessBlockConfiguration")
    told = (public_access.elements(block),)
    return xml_response(public_access.ROOT, told, namespace=CONTROL_NAMESPACE)

"""PutPublicAccessBlock of an account: PUT /v20180820/configuration/publicAccessBlock, a call of S3
Control."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import account_block, public_access
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    account = account_block.addressed(ctx)
    wanted = await ctx.said(public_access.ROOT, public_access.parse_block)
    document = public_access.to_document(wanted)
    await ctx.catalog.change_account(account, public_access.BLOCK, document)
    return Response(201)

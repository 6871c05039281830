"""DeletePublicAccessBlock of an account: DELETE /v20180820/configuration/publicAccessBlock, a call
of S3 Control."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import account_block, public_access
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    account = account_block.addressed(ctx)
    await ctx.catalog.change_account(account, public_access.BLOCK, None)
    return Response(204)

"""PutPublicAccessBlock: PUT /bucket?publicAccessBlock."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import public_access
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    wanted = await ctx.said(public_access.ROOT, public_access.parse_block)
    await ctx.catalog.change_access(permit, block=(wanted,))
    return Response(200)

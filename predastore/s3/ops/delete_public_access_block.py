"""DeletePublicAccessBlock: DELETE /bucket?publicAccessBlock."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    if permit.row.block is not None:
        await ctx.catalog.change_access(permit, block=())
    return Response(204)

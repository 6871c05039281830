"""DeleteBucketOwnershipControls: DELETE /bucket?ownershipControls. Writers own what they write
then."""

from __future__ import annotations

from predastore.catalog.rows import ObjectOwnership
from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    if permit.row.ownership:
        await ctx.catalog.change_access(permit, ownership=ObjectOwnership.NONE)
    return Response(204)

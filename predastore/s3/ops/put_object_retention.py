"""PutObjectRetention: PUT /bucket/key?retention. Longer, or, of GOVERNANCE, with leave to
bypass it, shorter or none."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.amendments import amend
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    ctx.signer()
    permit = await ctx.permit(check=lock.check_bucket)
    return await amend(ctx, permit, retention=await ctx.said("Retention", lock.retention_of))

"""PutObjectLegalHold: PUT /bucket/key?legal-hold."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.amendments import amend
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    ctx.signer()
    permit = await ctx.permit(check=lock.check_bucket)
    return await amend(ctx, permit, legal_hold=await ctx.said("LegalHold", lock.legal_hold_of))

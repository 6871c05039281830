"""HeadObject: HEAD /bucket/key. As GetObject, without reading a byte."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.representation import represent


async def run(ctx: Context) -> Response:
    version = await ctx.object(needs_bytes="partNumber" in ctx.query)
    answer, _ = await represent(ctx, version)
    return answer

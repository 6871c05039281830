"""PutBucketCors: PUT /bucket?cors. In place of all rules that there were."""

from __future__ import annotations

from predastore.catalog.buckets import CORS
from predastore.httpd.message import Response
from predastore.s3 import cors
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    document = cors.to_document(await ctx.said(cors.ROOT, cors.of_xml))
    await ctx.catalog.change_bucket(permit, document=(CORS, document))
    return Response(200)

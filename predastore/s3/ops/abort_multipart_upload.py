"""AbortMultipartUpload: DELETE /bucket/key?uploadId=id."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    upload_id = ctx.query["uploadId"]
    upload = await ctx.catalog.upload(ctx.bucket_name, ctx.key, upload_id, permit=permit)
    await ctx.catalog.abort(upload)
    return Response(204)

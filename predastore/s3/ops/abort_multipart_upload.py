"""AbortMultipartUpload: DELETE /bucket/key?uploadId=id."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    upload_id = ctx.query["uploadId"]
    upload = await ctx.objects.upload(ctx.bucket_name, ctx.key, upload_id, permit=permit)
    await ctx.objects.abort(upload, permit=permit)
    return Response(204)

"""AbortMultipartUpload: DELETE /bucket/key?uploadId=id."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.access import Need
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await ctx.bucket(Need.WRITE)
    upload = await ctx.objects.upload(ctx.bucket_name, ctx.key, ctx.query["uploadId"])
    await ctx.objects.abort(upload)
    return Response(204)

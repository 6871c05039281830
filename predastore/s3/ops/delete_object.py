"""DeleteObject: DELETE /bucket/key. Deleting what is not there succeeds."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.target import check_version


async def run(ctx: Context) -> Response:
    if "versionId" in ctx.query:
        check_version(ctx.query["versionId"])
    condition = ctx.write_condition()
    permit = await ctx.permit()
    await ctx.objects.delete(ctx.bucket_name, ctx.key, condition, permit=permit)
    return Response(204)

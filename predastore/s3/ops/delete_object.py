"""DeleteObject: DELETE /bucket/key. Deleting what is not there succeeds.

In a bucket that has versions, a request that names none makes a delete marker.
"""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import lock
from predastore.s3.context import Context
from predastore.s3.errors import not_implemented
from predastore.s3.versions import deleted_fields


async def run(ctx: Context) -> Response:
    version_id = ctx.version_id
    condition = ctx.write_condition()
    if condition.if_none_match is not None:
        raise not_implemented("If-None-Match asks to delete what is not there")
    permit = await ctx.permit(lock.check_bypass(ctx.headers))
    deleted = await ctx.catalog.delete(
        ctx.bucket_name,
        ctx.key,
        version_id,
        condition,
        bypass=await ctx.bypasses_governance(),
        permit=permit,
    )
    return Response(204, deleted_fields(deleted, version_id))

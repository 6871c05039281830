"""PutBucketOwnershipControls: PUT /bucket?ownershipControls. A bucket whose ACL is not private can
not be made one where no ACL counts."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.buckets import ACL
from predastore.catalog.errors import Contended
from predastore.catalog.rows import BucketRow, ObjectOwnership
from predastore.httpd.message import Response
from predastore.s3 import ownership
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    await ctx.permit()
    wanted = await ctx.said(ownership.ROOT, ownership.parse_controls)
    for _ in range(limits.S3_READ_TRIES_MAX):
        try:
            await _put(ctx, wanted)
        except Contended:
            continue
        return Response(200)
    raise S3Error("ConditionalRequestConflict")


async def _put(ctx: Context, wanted: ObjectOwnership) -> None:
    """Contended: the bucket was changed after its ACL was looked at."""
    looked: list[int] = []

    def as_looked_at(bucket: BucketRow) -> None:
        if looked and looked != [bucket.generation]:
            raise Contended

    permit = await ctx.permit(check=as_looked_at)
    looked.append(permit.row.generation)
    is_enforced = wanted is ObjectOwnership.BUCKET_OWNER_ENFORCED
    if is_enforced and await ctx.catalog.document(permit.row, ACL) is not None:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    await ctx.catalog.change_access(permit, ownership=wanted)

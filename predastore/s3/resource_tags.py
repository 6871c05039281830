"""The tags of a bucket one by one, as S3 Control changes them: some are set or removed, and the
others stay. What is there is read before; the commit finds the bucket as it was then, or all is
done again."""

from __future__ import annotations

from collections.abc import Callable

from predastore.base import limits
from predastore.base.errors import PredastoreError, S3Error
from predastore.catalog.buckets import TAGS
from predastore.catalog.rows import BucketRow, Tags
from predastore.s3 import control, tags
from predastore.s3.context import Context


async def addressed(ctx: Context) -> BucketRow:
    """The bucket, which must be the named account's; AccessDenied."""
    row = await ctx.bucket()
    if ctx.headers.get(control.ACCOUNT_FIELD) != row.owner:
        raise S3Error("AccessDenied")
    return row


async def of(ctx: Context, row: BucketRow) -> Tags:
    stored = await ctx.catalog.document(row, TAGS)
    return () if stored is None else tags.of_stored(stored)


async def change(ctx: Context, changed: Callable[[Tags], Tags]) -> None:
    """`changed` makes of the tags that are there those that shall be; it raises what is wrong with
    them. ConditionalRequestConflict where others go on changing the bucket."""
    for _ in range(limits.S3_READ_TRIES_MAX):
        row = await addressed(ctx)
        there = await of(ctx, row)
        wanted = changed(there)
        if wanted == there:
            return
        try:
            permit = await ctx.permit(_same(row))
            document = tags.to_document(wanted) if wanted else None
            await ctx.catalog.change_bucket(permit, document=(TAGS, document))
            return
        except _Moved:
            continue
    raise S3Error("ConditionalRequestConflict")


class _Moved(PredastoreError):
    """The bucket is not as it was when its tags were read."""


def _same(row: BucketRow) -> Callable[[BucketRow], None]:
    def check(now: BucketRow) -> None:
        if (now.id, now.generation) != (row.id, row.generation):
            raise _Moved

    return check

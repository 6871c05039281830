"""GetObject: GET /bucket/key.

The record is read first, then the bytes. Where another version has taken its place in between
and its bytes are gone already, the record is read again: the answer is always one version whole.
"""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import ObjectReplaced, S3Error
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.representation import represent


async def run(ctx: Context) -> Response:
    for _ in range(limits.S3_READ_TRIES_MAX):
        with ctx.objects.looking(ctx.bucket_name, ctx.key) as look:
            record = await ctx.object()
            answer, span = represent(ctx, record)
            if span.end == span.start:
                return answer
            try:
                answer.body = await ctx.objects.open_read(record, span.start, span.end, look)
            except ObjectReplaced:
                continue
            return answer
    raise S3Error("SlowDown", "The object is being replaced faster than it can be read.")

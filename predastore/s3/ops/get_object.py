"""GetObject: GET /bucket/key.

The version is looked up first, then its bytes are read. Where another one has taken its place in
between and its bytes are gone already, it is looked up again: the answer is always one version
whole.
"""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import ObjectReplaced, S3Error
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.representation import represent


async def run(ctx: Context) -> Response:
    for _ in range(limits.S3_READ_TRIES_MAX):
        with ctx.catalog.looking(ctx.bucket_name, ctx.key) as look:
            version = await ctx.object(needs_bytes=True)
            answer, span = await represent(ctx, version)
            if span.end == span.start:
                return answer
            if (body := ctx.catalog.at_hand(version, span.start, span.end)) is not None:
                answer.body = body
                return answer
            try:
                answer.body = await ctx.catalog.open_read(version, span.start, span.end, look)
            except ObjectReplaced:
                continue
            return answer
    raise S3Error("SlowDown", "The object is being replaced faster than it can be read.")

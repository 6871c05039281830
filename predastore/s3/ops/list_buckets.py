"""ListBuckets: GET /. The signer's own buckets, in byte order, a page at a time; of these, such in
which its policy allows that."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.xml_write import optional, owner, tag, xml_response

_SCOPE = "buckets"
_LIST = "s3:ListAllMyBuckets"


async def run(ctx: Context) -> Response:
    account = ctx.signer()
    prefix = ctx.query.get("prefix", "")
    most = limits.S3_BUCKETS_PAGE_MAX
    page = ctx.count("max-buckets", most, most)
    if page == 0:
        raise S3Error("InvalidArgument", "max-buckets must be at least 1")
    after = ""
    if token := ctx.query.get("continuation-token", ""):
        after = ctx.services.tokens.open(token, _SCOPE, account, prefix)
    region = ctx.query.get("bucket-region", ctx.services.region)
    found = [
        bucket
        for bucket in await ctx.catalog.buckets(account)
        if bucket.name > after
        and bucket.name.startswith(prefix)
        and bucket.region == region
        and ctx.access.decide_own(_LIST, bucket.name).allowed
    ]
    found.sort(key=lambda bucket: bucket.name)
    shown, more = found[:page], len(found) > page
    entries = "".join(
        f"<Bucket>{tag('Name', bucket.name)}"
        f"<CreationDate>{iso8601(bucket.created_ms)}</CreationDate>"
        f"{tag('BucketRegion', bucket.region)}</Bucket>"
        for bucket in shown
    )
    next_token = ctx.services.tokens.make(shown[-1].name, _SCOPE, account, prefix) if more else None
    return xml_response(
        "ListAllMyBucketsResult",
        (
            owner(account),
            f"<Buckets>{entries}</Buckets>",
            optional("Prefix", prefix or None),
            optional("ContinuationToken", next_token),
        ),
    )

"""ListObjectsV2: GET /bucket?list-type=2. A page after `start-after` or a continuation token."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.values import ObjectListing
from predastore.httpd.message import Response
from predastore.s3 import listing
from predastore.s3.context import Context
from predastore.s3.listing import Parameters
from predastore.s3.xml_write import optional, tag, xml_response

_SCOPE = "objects"


async def _page_after(ctx: Context, asked: Parameters, key: str, most: int) -> ObjectListing:
    """The page that `start-after` begins: where that key lies within a common prefix, so may keys
    that come after it, and then the prefix is still to be told of. (A marker passes over it.)"""
    catalog, bucket = ctx.catalog, ctx.bucket_name
    common = asked.common_prefix(key)
    if not (common and most and (await catalog.list(bucket, common, "", key, 1)).entries):
        return await catalog.list(bucket, asked.prefix, asked.delimiter, key, most)
    rest = await catalog.list(bucket, asked.prefix, asked.delimiter, common, max(most - 1, 1))
    if most == 1:
        return ObjectListing([], [common], bool(rest.entries or rest.prefixes), common)
    return ObjectListing(rest.entries, [common, *rest.prefixes], rest.truncated, rest.next)


async def run(ctx: Context) -> Response:
    if ctx.query["list-type"] != "2":
        raise S3Error(
            "InvalidArgument",
            "Invalid List Type specified in Request",
            ArgumentName="list-type",
            ArgumentValue=ctx.query["list-type"],
        )
    asked = listing.parameters(ctx)
    most = listing.max_keys(ctx)
    scope = (_SCOPE, ctx.bucket_name, asked.prefix, asked.delimiter)
    start_after = ctx.query.get("start-after")
    token = ctx.query.get("continuation-token")
    permit = await ctx.permit()
    if token is not None:
        after = ctx.services.tokens.open(token, *scope)
        page = await ctx.catalog.list(
            ctx.bucket_name, asked.prefix, asked.delimiter, after, most, permit=permit
        )
    else:
        page = await _page_after(ctx, asked, start_after or "", most)
    encode = asked.encode
    with_owner = ctx.query.get("fetch-owner", "").lower() == "true"
    parts = [
        tag("Name", ctx.bucket_name),
        f"<Prefix>{encode(asked.prefix)}</Prefix>",
        tag("KeyCount", len(page.entries) + len(page.prefixes)),
        tag("MaxKeys", most),
        asked.encoding_element,
        tag("IsTruncated", page.truncated),
        optional("ContinuationToken", token),
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    if start_after is not None:
        parts.append(f"<StartAfter>{encode(start_after)}</StartAfter>")
    if page.truncated:
        parts.append(tag("NextContinuationToken", ctx.services.tokens.make(page.next, *scope)))
    parts += [
        listing.contents(key, about, encode, with_owner=with_owner) for key, about in page.entries
    ]
    parts.append(listing.common_prefixes(page.prefixes, encode))
    return xml_response("ListBucketResult", parts)

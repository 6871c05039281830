"""ListObjects (V1): GET /bucket. A page after `marker`."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import listing
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response


async def run(ctx: Context) -> Response:
    asked = listing.parameters(ctx)
    most = listing.max_keys(ctx)
    marker = ctx.query.get("marker", "")
    permit = await ctx.permit()
    page = await ctx.catalog.list(
        ctx.bucket_name, asked.prefix, asked.delimiter, marker, most, permit=permit
    )
    if page.truncated:
        asked.check_marker(page.next)
    encode = asked.encode
    parts = [
        tag("Name", ctx.bucket_name),
        f"<Prefix>{encode(asked.prefix)}</Prefix>",
        f"<Marker>{encode(marker)}</Marker>",
        tag("MaxKeys", most),
        asked.encoding_element,
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
        if page.truncated:  # without a delimiter, S3 lets the last key be the marker
            parts.append(f"<NextMarker>{encode(page.next)}</NextMarker>")
    parts.append(tag("IsTruncated", page.truncated))
    parts += [listing.contents(key, about, encode, with_owner=True) for key, about in page.entries]
    parts.append(listing.common_prefixes(page.prefixes, encode))
    return xml_response("ListBucketResult", parts)

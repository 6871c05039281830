"""ListObjectVersions: GET /bucket?versions. A bucket never had versions: each object is its own
only one, the latest, called "null"."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import listing
from predastore.s3.access import Need
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response

_NULL = "null"
_LATEST = f"<VersionId>{_NULL}</VersionId><IsLatest>true</IsLatest>"


def _check_markers(ctx: Context) -> None:
    """A version is after the others of a key, and there is only one."""
    version = ctx.query.get("version-id-marker")
    if version is None:
        return
    why = ""
    if "key-marker" not in ctx.query:
        why = "A version-id marker cannot be specified without a key marker."
    elif not version:
        why = "A version-id marker cannot be empty."
    elif version != _NULL:
        why = "Invalid version id specified"
    if why:
        raise S3Error(
            "InvalidArgument", why, ArgumentName="version-id-marker", ArgumentValue=version
        )


async def run(ctx: Context) -> Response:
    asked = listing.parameters(ctx)
    most = listing.max_keys(ctx)
    _check_markers(ctx)
    marker = ctx.query.get("key-marker", "")
    permit = await ctx.permit(Need.LIST)
    page = await ctx.objects.list(
        ctx.bucket_name, asked.prefix, asked.delimiter, marker, most, permit=permit
    )
    encode = asked.encode
    parts = [
        tag("Name", ctx.bucket_name),
        f"<Prefix>{encode(asked.prefix)}</Prefix>",
        f"<KeyMarker>{encode(marker)}</KeyMarker>",
        tag("VersionIdMarker", ctx.query.get("version-id-marker", "")),
        tag("MaxKeys", most),
        asked.encoding_element,
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    if page.truncated:
        asked.check_marker(page.next)
        parts.append(f"<NextKeyMarker>{encode(page.next)}</NextKeyMarker>")
        if page.entries and page.entries[-1][0] == page.next:  # and not a common prefix
            parts.append(tag("NextVersionIdMarker", _NULL))
    parts.append(tag("IsTruncated", page.truncated))
    parts += [
        listing.contents(key, about, encode, with_owner=True, element="Version", version=_LATEST)
        for key, about in page.entries
    ]
    parts.append(listing.common_prefixes(page.prefixes, encode))
    return xml_response("ListVersionsResult", parts)

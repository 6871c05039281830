"""ListObjectVersions: GET /bucket?versions. By key, of each the newest first; delete markers are
among them. In a bucket that never had versions, each object is its own only one, called "null"."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.values import VersionEntry
from predastore.httpd.message import Response
from predastore.s3 import listing
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.listing import Parameters
from predastore.s3.versions import check_version_id
from predastore.s3.xml_write import owner, tag, xml_response

_MARKER = "version-id-marker"


def _marker(ctx: Context) -> str:
    """The version after which the page begins, or ""."""
    version_id = ctx.query.get(_MARKER)
    if version_id is None:
        return ""
    why = ""
    if "key-marker" not in ctx.query:
        why = "A version-id marker cannot be specified without a key marker."
    elif not version_id:
        why = "A version-id marker cannot be empty."
    if why:
        raise S3Error("InvalidArgument", why, ArgumentName=_MARKER, ArgumentValue=version_id)
    return check_version_id(version_id, _MARKER)


def _entry(entry: VersionEntry, asked: Parameters) -> str:
    version = tag("VersionId", entry.version_id) + tag("IsLatest", entry.is_newest)
    about = entry.summary
    if not entry.is_marker:
        return listing.contents(
            entry.key, about, asked.encode, with_owner=True, element="Version", version=version
        )
    return (
        f"<DeleteMarker><Key>{asked.encode(entry.key)}</Key>{version}"
        f"<LastModified>{iso8601(about.modified_ms)}</LastModified>{owner(about.owner)}"
        "</DeleteMarker>"
    )


async def run(ctx: Context) -> Response:
    asked = listing.parameters(ctx)
    most = listing.max_keys(ctx)
    version_id = _marker(ctx)
    marker = ctx.query.get("key-marker", "")
    common = asked.common_prefix(marker)  # a marker within one passes over the whole of it
    permit = await ctx.permit()
    page = await ctx.catalog.list_versions(
        permit,
        asked.prefix,
        asked.delimiter,
        common or marker,
        "" if common else version_id,
        most,
    )
    encode = asked.encode
    parts = [
        tag("Name", ctx.bucket_name),
        f"<Prefix>{encode(asked.prefix)}</Prefix>",
        f"<KeyMarker>{encode(marker)}</KeyMarker>",
        tag("VersionIdMarker", version_id),
        tag("MaxKeys", most),
        asked.encoding_element,
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    if page.truncated:
        asked.check_marker(page.next_key)
        parts.append(f"<NextKeyMarker>{encode(page.next_key)}</NextKeyMarker>")
        if page.next_version_id:
            parts.append(tag("NextVersionIdMarker", page.next_version_id))
    parts.append(tag("IsTruncated", page.truncated))
    parts += [_entry(entry, asked) for entry in page.versions]
    parts.append(listing.common_prefixes(page.prefixes, encode))
    return xml_response("ListVersionsResult", parts)

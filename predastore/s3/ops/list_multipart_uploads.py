"""ListMultipartUploads: GET /bucket?uploads."""

from __future__ import annotations

from collections.abc import Callable

from predastore.base import limits
from predastore.catalog.rows import UploadRow
from predastore.httpd.message import Response
from predastore.s3 import listing
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.xml_write import optional, owner, tag, xml_response


def _upload(upload: UploadRow, encode: Callable[[str], str]) -> str:
    return (
        f"<Upload><Key>{encode(upload.key)}</Key>{tag('UploadId', upload.upload_id)}"
        f"{owner(upload.owner, 'Initiator')}{owner(upload.owner)}"
        f"{tag('StorageClass', listing.storage_class(upload))}"
        f"<Initiated>{iso8601(upload.created_ms)}</Initiated>"
        f"{optional('ChecksumAlgorithm', upload.checksum_algorithm.upper() or None)}"
        f"{optional('ChecksumType', upload.checksum_type or None)}</Upload>"
    )


async def run(ctx: Context) -> Response:
    asked = listing.parameters(ctx)
    most = ctx.count("max-uploads", limits.S3_PAGE_MAX, limits.S3_PAGE_MAX)
    key_marker = ctx.query.get("key-marker", "")
    id_marker = ctx.query.get("upload-id-marker", "") if key_marker else ""
    bucket = await ctx.bucket()
    page = await ctx.catalog.list_uploads(
        bucket, asked.prefix, asked.delimiter, key_marker, id_marker, most
    )
    encode = asked.encode
    parts = [
        tag("Bucket", ctx.bucket_name),
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>",
        tag("UploadIdMarker", id_marker),
        f"<Prefix>{encode(asked.prefix)}</Prefix>",
        tag("MaxUploads", most),
        asked.encoding_element,
        tag("IsTruncated", page.truncated),
    ]
    if asked.delimiter:
        parts.append(f"<Delimiter>{encode(asked.delimiter)}</Delimiter>")
    if page.truncated:
        asked.check_marker(page.next_key)
        parts.append(f"<NextKeyMarker>{encode(page.next_key)}</NextKeyMarker>")
        parts.append(tag("NextUploadIdMarker", page.next_upload_id))
    parts += [_upload(upload, encode) for upload in page.uploads]
    parts.append(listing.common_prefixes(page.prefixes, encode))
    return xml_response("ListMultipartUploadsResult", parts)

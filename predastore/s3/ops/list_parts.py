"""ListParts: GET /bucket/key?uploadId=id."""

from __future__ import annotations

from predastore.base import limits
from predastore.catalog.rows import PartRow
from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.listing import storage_class
from predastore.s3.xml_write import optional, owner, tag, xml_response


def _part(part: PartRow) -> str:
    return (
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{iso8601(part.modified_ms)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag>"
        f"{checksums.answer_elements(part.checksums, with_type=False)}"
        f"<Size>{part.size}</Size></Part>"
    )


async def run(ctx: Context) -> Response:
    most = ctx.count("max-parts", limits.S3_PAGE_MAX, limits.S3_PAGE_MAX)
    after = ctx.count("part-number-marker", 0, limits.S3_PARTS_MAX)
    permit = await ctx.permit()
    upload_id = ctx.query["uploadId"]
    upload = await ctx.catalog.upload(ctx.bucket_name, ctx.key, upload_id, permit=permit)
    page = await ctx.catalog.list_parts(upload, after, most)
    row = upload.row
    return xml_response(
        "ListPartsResult",
        (
            tag("Bucket", ctx.bucket_name),
            tag("Key", ctx.key),
            tag("UploadId", row.upload_id),
            owner(row.owner, "Initiator"),
            owner(row.owner),
            tag("StorageClass", storage_class(row)),
            tag("PartNumberMarker", after),
            tag("NextPartNumberMarker", page.next),
            tag("MaxParts", most),
            tag("IsTruncated", page.truncated),
            optional("ChecksumAlgorithm", row.checksum_algorithm.upper() or None),
            optional("ChecksumType", row.checksum_type or None),
            *map(_part, page.parts),
        ),
    )

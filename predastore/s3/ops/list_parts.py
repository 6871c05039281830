"""ListParts: GET /bucket/key?uploadId=id."""

from __future__ import annotations

from predastore.base import limits
from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.listing import storage_class
from predastore.s3.xml_write import optional, owner, tag, xml_response
from predastore.storage.records import PartRecord


def _part(part: PartRecord) -> str:
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
    upload = await ctx.objects.upload(ctx.bucket_name, ctx.key, upload_id, permit=permit)
    page = await ctx.objects.list_parts(upload, after, most)
    return xml_response(
        "ListPartsResult",
        (
            tag("Bucket", ctx.bucket_name),
            tag("Key", ctx.key),
            tag("UploadId", upload.upload_id),
            owner(upload.owner, "Initiator"),
            owner(upload.owner),
            tag("StorageClass", storage_class(upload)),
            tag("PartNumberMarker", after),
            tag("NextPartNumberMarker", page.next),
            tag("MaxParts", most),
            tag("IsTruncated", page.truncated),
            optional("ChecksumAlgorithm", upload.checksum_algorithm.upper() or None),
            optional("ChecksumType", upload.checksum_type or None),
            *map(_part, page.parts),
        ),
    )

"""CreateMultipartUpload: POST /bucket/key?uploads."""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3 import acl_change, acl_request, checksums, lock
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response


async def run(ctx: Context) -> Response:
    acl = acl_request.of_headers(ctx.headers)
    attributes = ctx.attributes(acl)
    algorithm, kind = checksums.parse_upload_checksum(ctx.headers)
    permit = await acl_change.permit_for(ctx, acl, lock.check_of(ctx.headers))
    upload = await ctx.catalog.create_upload(
        ctx.bucket_name, ctx.key, attributes, algorithm, kind, permit=permit
    )
    fields = []
    if algorithm:
        fields = [
            ("x-amz-checksum-algorithm", algorithm.upper()),
            ("x-amz-checksum-type", kind),
        ]
    return xml_response(
        "InitiateMultipartUploadResult",
        (tag("Bucket", ctx.bucket_name), tag("Key", ctx.key), tag("UploadId", upload.upload_id)),
        fields,
    )

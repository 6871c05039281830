"""UploadPart: PUT /bucket/key?partNumber=n&uploadId=id."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3 import checksums, lock
from predastore.s3.context import Context


def _check_algorithm(given: frozenset[str], wanted: str) -> None:
    """A part's checksum must be of the upload's kind, if the upload has one."""
    if wanted and given and wanted not in given:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {wanted}, "
            f"actual checksum Type: {min(given)}",
        )


async def run(ctx: Context) -> Response:
    number = ctx.part_number()
    size = ctx.body_size()
    expectation = ctx.expectation()
    permit = await ctx.permit()
    upload_id = ctx.query["uploadId"]
    upload = await ctx.catalog.upload(ctx.bucket_name, ctx.key, upload_id, permit=permit)
    lock.check_part(ctx.headers, upload.row, upload.permit.row)
    _check_algorithm(expectation.compute, upload.row.checksum_algorithm)
    part = await ctx.catalog.put_part(upload, number, ctx.request.body, size, expectation)
    fields = [("ETag", f'"{part.etag}"')]
    fields += checksums.answer_headers(part.checksums, with_type=False)
    return Response(200, fields)

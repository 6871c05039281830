"""CompleteMultipartUpload: POST /bucket/key?uploadId=id. One commit; no bytes are copied.

A client whose answer was lost asks again: what an upload has made is remembered for a day, and the
answer is the same again.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.errors import NoSuchUpload
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.rows import Checksum, UploadRow
from predastore.catalog.values import Stored
from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.context import Context
from predastore.s3.listing import url_encode
from predastore.s3.target import host_bucket
from predastore.s3.versions import stored_fields
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import tag, xml_response

_NUMBER_DIGITS_MAX = 5
_BY_ELEMENT = {element: name for name, element in checksums.ELEMENTS.items()}
_PART_ELEMENTS = ("PartNumber", "ETag", *_BY_ELEMENT)
_PARTS_A_TURN = 250  # made between two turns of the event loop, about 1 ms


def _part(element: Element) -> CompletedPart:
    fields = element.only(*_PART_ELEMENTS)
    number, etag = fields.get("PartNumber", "").strip(), fields.get("ETag", "").strip().strip('"')
    if not (number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX):
        raise S3Error("MalformedXML")
    if not 1 <= int(number) <= limits.S3_PARTS_MAX:
        raise S3Error("InvalidArgument", "PartNumber must be >= 1 and <= 10000")
    if not etag:
        raise S3Error("MalformedXML")
    digests = tuple(
        Checksum(algorithm, checksums.parse_digest(algorithm, text))
        for element_name, text in fields.items()
        if (algorithm := _BY_ELEMENT.get(element_name))
    )
    return CompletedPart(int(number), etag, digests)


async def _parts(document: Element) -> list[CompletedPart]:
    if not 1 <= len(document.children) <= limits.S3_PARTS_MAX:
        raise S3Error("MalformedXML")
    if any(child.name != "Part" for child in document.children):
        raise S3Error("MalformedXML")
    parts: list[CompletedPart] = []
    for start in range(0, len(document.children), _PARTS_A_TURN):
        parts += map(_part, document.children[start : start + _PARTS_A_TURN])
        await asyncio.sleep(0)
    return parts


async def _wanted(ctx: Context, data: bytes) -> list[CompletedPart]:
    """`_parts` of the body."""
    if not data:
        raise S3Error("InvalidRequest", "You must specify at least one part")
    async with ctx.services.documents.tree(data, "CompleteMultipartUpload") as document:
        return await _parts(document)


def _expected(ctx: Context, upload: UploadRow, part_count: int) -> dict[str, bytes]:
    """The whole object's checksum, if the request gives it, raw."""
    kind = ctx.headers.get("x-amz-checksum-type", "").upper()
    if kind and kind != (upload.checksum_type or checksums.FULL_OBJECT):
        raise S3Error(
            "InvalidRequest", f"The upload was created using the {upload.checksum_type} type."
        )
    given = checksums.declared(ctx.headers)
    if given is None:
        return {}
    algorithm, value = given
    if algorithm != upload.checksum_algorithm:
        raise S3Error("InvalidRequest", f"The upload does not have a {algorithm} checksum.")
    value, dash, count = value.partition("-")
    if dash and (upload.checksum_type != checksums.COMPOSITE or count != str(part_count)):
        raise S3Error("BadDigest")
    return {algorithm: checksums.parse_digest(algorithm, value)}


def _expected_size(ctx: Context) -> int | None:
    text = ctx.headers.get("x-amz-mp-object-size")
    if text is None:
        return None
    if not (
        text.isascii() and text.isdigit() and len(text) <= len(str(limits.S3_OBJECT_BYTES_MAX))
    ):
        raise S3Error("InvalidArgument", "x-amz-mp-object-size is not a size.")
    return int(text)


async def _complete(
    ctx: Context, permit: Permit, parts: list[CompletedPart], condition: Condition
) -> Stored:
    where = (ctx.bucket_name, ctx.key, ctx.query["uploadId"])
    try:
        upload = await ctx.catalog.upload(*where, permit=permit)
        if any(after.number <= before.number for before, after in pairwise(parts)):
            raise S3Error("InvalidPartOrder")
        return await ctx.catalog.complete(
            upload,
            parts,
            condition,
            expected_checksums=_expected(ctx, upload.row, len(parts)),
            expected_size=_expected_size(ctx),
        )
    except NoSuchUpload:
        return await ctx.catalog.completed(*where, permit=permit)


def _location(ctx: Context) -> str:
    """The object's URL, in the style in which it was asked for."""
    scheme = "https" if ctx.request.secure else "http"
    host = ctx.headers.get("host", "")
    bucket = "" if host_bucket(host, ctx.services.domains) else f"{ctx.bucket_name}/"
    return f"{scheme}://{host}/{bucket}{url_encode(ctx.key)}"


async def run(ctx: Context) -> Response:
    condition = ctx.write_condition()
    permit = await ctx.permit()
    async with (
        ctx.document(limits.S3_COMPLETE_XML_BYTES_MAX, checksum_is_bodys=False) as data,
        ctx.services.documents.assembly(data),
    ):
        stored = await _complete(ctx, permit, await _wanted(ctx, data), condition)
    return xml_response(
        "CompleteMultipartUploadResult",
        (
            tag("Location", _location(ctx)),
            tag("Bucket", ctx.bucket_name),
            tag("Key", ctx.key),
            f"<ETag>&quot;{stored.etag}&quot;</ETag>",
            checksums.answer_elements(stored.checksums, with_type=True),
        ),
        stored_fields(stored),
    )

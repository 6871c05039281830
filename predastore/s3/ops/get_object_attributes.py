"""GetObjectAttributes: GET /bucket/key?attributes. Those that x-amz-object-attributes names."""

from __future__ import annotations

from typing import Final

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.values import ObjectVersion, PlacedPart
from predastore.coding import checksum
from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.access import GET_OBJECT, OF_A_VERSION
from predastore.s3.context import Context
from predastore.s3.dates import http_date
from predastore.s3.versions import read_fields
from predastore.s3.xml_write import tag, xml_response

_WANTED: Final = "x-amz-object-attributes"
_MOST: Final = "x-amz-max-parts"
_AFTER: Final = "x-amz-part-number-marker"
_NAMES: Final = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


def _wanted(ctx: Context) -> set[str]:
    listed = ",".join(ctx.headers.get_all(_WANTED))
    wanted = {name.strip() for name in listed.split(",")} - {""}
    if not wanted:
        raise S3Error(
            "InvalidRequest",
            f"The {_WANTED} header specifying the attributes to be retrieved is either missing or "
            "empty",
        )
    if not wanted <= _NAMES:
        raise S3Error(
            "InvalidArgument",
            "Invalid attribute name specified.",
            ArgumentName=_WANTED,
            ArgumentValue=listed,
        )
    return wanted


def _part(version: ObjectVersion, placed: PlacedPart) -> str:
    part, shown = placed.part, ""
    if part.checksum:
        name = checksums.ELEMENTS[version.checksums[0].algorithm]
        shown = tag(name, checksum.encode(part.checksum))
    return f"<Part>{tag('PartNumber', part.number)}{tag('Size', part.size)}{shown}</Part>"


async def _parts(ctx: Context, version: ObjectVersion) -> str:
    """As with S3, parts are listed of an object that has a checksum; else there is their count."""
    count = tag("PartsCount", version.part_count)
    if not version.checksums:
        return f"<ObjectParts>{count}</ObjectParts>"
    most = ctx.field_count(_MOST, limits.S3_PAGE_MAX, limits.S3_PAGE_MAX)
    after = ctx.field_count(_AFTER, 0, limits.S3_PARTS_MAX)
    found, more = await ctx.catalog.parts(version, after, most)
    last = found[-1].part.number if found else after
    about = (
        tag("PartNumberMarker", after),
        tag("NextPartNumberMarker", last),
        tag("MaxParts", most),
        tag("IsTruncated", more),
    )
    listed = "".join(_part(version, each) for each in found)
    return f"<ObjectParts>{count}{''.join(about)}{listed}</ObjectParts>"


async def run(ctx: Context) -> Response:
    wanted = _wanted(ctx)
    action = OF_A_VERSION[GET_OBJECT] if ctx.version_id else GET_OBJECT
    ctx.access.require(action)
    version = await ctx.object(needs_bytes="ObjectParts" in wanted)
    parts = []
    if "ETag" in wanted:
        parts.append(tag("ETag", version.etag))
    if "Checksum" in wanted and version.checksums:
        shown = checksums.answer_elements(version.checksums, with_type=True)
        parts.append(f"<Checksum>{shown}</Checksum>")
    if "ObjectParts" in wanted and version.part_count:
        parts.append(await _parts(ctx, version))
    if "StorageClass" in wanted:
        parts.append(tag("StorageClass", version.storage_class or "STANDARD"))
    if "ObjectSize" in wanted:
        parts.append(tag("ObjectSize", version.size))
    fields = [("Last-Modified", http_date(version.modified_ms)), *read_fields(version)]
    return xml_response("GetObjectAttributesResponse", parts, fields)

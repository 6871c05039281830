"""DeleteObjects: POST /bucket?delete. Up to 1,000 keys, each with an answer of its own."""

from __future__ import annotations

from typing import Final, NamedTuple

from predastore.base import limits
from predastore.base.errors import PredastoreError, S3Error, anew
from predastore.catalog.permits import Permit
from predastore.httpd.message import Response
from predastore.s3 import checksums
from predastore.s3.access import GET_OBJECT, OF_A_VERSION
from predastore.s3.context import Context
from predastore.s3.errors import message_of, not_implemented, translate
from predastore.s3.target import check_key
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import optional, tag, xml_response
from predastore.storage.interface import Condition

_DENIED: Final = S3Error("AccessDenied")


class _Doomed(NamedTuple):
    """An entry of the request. `version`: "null" where the client named it."""

    key: str
    version: str | None
    etag: str | None
    error: S3Error | None


def _entry(element: Element) -> _Doomed:
    fields = element.only("Key", "VersionId", "ETag", "LastModifiedTime", "Size")
    key = fields.get("Key", "")
    if not key:
        raise S3Error("MalformedXML")
    version = fields.get("VersionId") or None
    error: S3Error | None = None
    try:
        check_key(key)
    except S3Error as too_long:
        error = too_long
    if version not in (None, "null"):
        error = S3Error("NoSuchVersion")
    elif "LastModifiedTime" in fields or "Size" in fields:
        error = not_implemented("a condition on an object's size or time")
    etag = fields.get("ETag")
    return _Doomed(key, version, etag.strip().strip('"') if etag else None, error)


def _entries(document: Element) -> tuple[list[_Doomed], bool]:
    """The keys, and whether only failures are to be told of."""
    doomed: list[_Doomed] = []
    quiet = False
    for child in document.children:
        if child.name == "Object":
            doomed.append(_entry(child))
        elif child.name == "Quiet":
            quiet = child.text.strip().lower() == "true"
        else:
            raise S3Error("MalformedXML")
    if not 1 <= len(doomed) <= limits.S3_PAGE_MAX:
        raise S3Error("MalformedXML")
    return doomed, quiet


async def _asked(ctx: Context, data: bytes) -> tuple[list[_Doomed], bool]:
    """`_entries` of the body, those with an error that the policy does not allow."""
    if not data:
        raise S3Error("MissingRequestBodyError")
    async with ctx.services.documents.tree(data, "Delete") as document:
        doomed, quiet = _entries(document)
    return [one if _may(ctx, one) else one._replace(error=_DENIED) for one in doomed], quiet


def _may(ctx: Context, one: _Doomed) -> bool:
    """Whether what the entry asks for beyond s3:DeleteObject is allowed."""
    bucket = ctx.bucket_name
    by_version = one.version is None or ctx.may(OF_A_VERSION["s3:DeleteObject"], bucket)
    return by_version and (one.etag in (None, "*") or ctx.may(GET_OBJECT, bucket))


def _check_protected(ctx: Context) -> None:
    """S3 wants this body, of all bodies, to carry a digest."""
    names = ("content-md5", "x-amz-trailer")
    if not any(name in ctx.headers for name in names) and checksums.declared(ctx.headers) is None:
        raise S3Error(
            "InvalidRequest",
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        )


async def _delete(
    ctx: Context, doomed: list[_Doomed], permit: Permit
) -> list[PredastoreError | None]:
    """What became of each: one commit for all that have no condition."""
    plain = list(dict.fromkeys(one.key for one in doomed if not one.error and one.etag is None))
    outcome: dict[str, PredastoreError | None] = {}
    if plain:
        outcome = await ctx.objects.delete_many(ctx.bucket_name, plain, permit=permit)
    results: list[PredastoreError | None] = []
    for one in doomed:
        result: PredastoreError | None = one.error
        if result is None and one.etag is None:
            result = outcome.get(one.key)
        elif result is None:
            try:
                condition = Condition(if_match=one.etag)
                await ctx.objects.delete(ctx.bucket_name, one.key, condition, permit=permit)
            except PredastoreError as error:
                result = anew(error)
        results.append(result)
    return results


def _told(one: _Doomed, error: PredastoreError | None) -> str:
    version = optional("VersionId", one.version)
    if error is None:
        return f"<Deleted>{tag('Key', one.key)}{version}</Deleted>"
    shown = translate(error)
    return (
        f"<Error>{tag('Key', one.key)}{version}{tag('Code', shown.s3_code)}"
        f"{tag('Message', message_of(shown))}</Error>"
    )


async def run(ctx: Context) -> Response:
    ctx.signer()
    _check_protected(ctx)
    permit = await ctx.permit()
    async with ctx.document(limits.S3_DELETE_XML_BYTES_MAX) as data:
        doomed, quiet = await _asked(ctx, data)
        results = await _delete(ctx, doomed, permit)
        told = [
            _told(one, error)
            for one, error in zip(doomed, results, strict=True)
            if error is not None or not quiet
        ]
    return xml_response("DeleteResult", told)

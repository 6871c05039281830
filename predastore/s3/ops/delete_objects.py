"""DeleteObjects: POST /bucket?delete. Up to 1,000 keys and versions, each with its own answer.
They are one commit, and two where GOVERNANCE may be bypassed for some of the keys alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from predastore.base import limits
from predastore.base.errors import PredastoreError, S3Error
from predastore.catalog.permits import Permit
from predastore.catalog.values import Deleted, Wanted
from predastore.httpd.message import Response
from predastore.s3 import audited, checksums, lock
from predastore.s3.access import GET_OBJECT, OF_A_VERSION
from predastore.s3.context import Context
from predastore.s3.errors import message_of, not_implemented, translate
from predastore.s3.target import check_key
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import optional, tag, xml_response

_DENIED: Final = S3Error("AccessDenied")


class _Doomed(NamedTuple):
    """An entry of the request; `error`: why it is not done."""

    wanted: Wanted
    error: S3Error | None = None


def _entry(element: Element) -> _Doomed:
    fields = element.only("Key", "VersionId", "ETag", "LastModifiedTime", "Size")
    key, etag = fields.get("Key", ""), fields.get("ETag")
    if not key:
        raise S3Error("MalformedXML")
    wanted = Wanted(key, fields.get("VersionId", ""), etag.strip().strip('"') if etag else None)
    try:
        check_key(key)
    except S3Error as too_long:
        return _Doomed(wanted, too_long)
    if "LastModifiedTime" in fields or "Size" in fields:
        return _Doomed(wanted, not_implemented("a condition on an object's size or time"))
    return _Doomed(wanted)


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
    if not all(_may(ctx, one.wanted) for one in doomed):
        await ctx.bucket()  # what refuses it may be of a moment ago
    return [_decided(ctx, one) for one in doomed], quiet


def _decided(ctx: Context, doomed: _Doomed) -> _Doomed:
    """With an error, if it is not allowed; else it is looked at again if the bucket changes before
    the commit."""
    if not _may(ctx, doomed.wanted):
        return doomed._replace(error=_DENIED)
    for action in _actions(doomed.wanted):
        ctx.access.require(action, doomed.wanted.key)
    return doomed


def _actions(wanted: Wanted) -> list[str]:
    """All that the entry asks for."""
    action = "s3:DeleteObject"
    actions = [OF_A_VERSION[action] if wanted.version_id else action]
    if wanted.if_match not in (None, "*"):
        actions.append(GET_OBJECT)
    return actions


def _may(ctx: Context, wanted: Wanted) -> bool:
    return all(ctx.may(one, wanted.key) for one in _actions(wanted))


def _check_protected(ctx: Context) -> None:
    """S3 wants this body, of all bodies, to carry a digest."""
    if not checksums.has_digest(ctx.headers):
        raise S3Error(
            "InvalidRequest",
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        )


async def _delete(
    ctx: Context, doomed: list[_Doomed], permit: Permit
) -> list[Deleted | PredastoreError]:
    """What became of each."""
    wanted = [one.wanted for one in doomed if one.error is None]
    bypassed = await ctx.bypassed(*dict.fromkeys(one.key for one in wanted)) if wanted else ()
    done: dict[bool, Iterator[Deleted | PredastoreError]] = {}
    for bypass in (False, True):
        some = [one for one in wanted if (one.key in bypassed) is bypass]
        outcomes: list[Deleted | PredastoreError] = []
        if some:
            outcomes = await ctx.catalog.delete_many(
                ctx.bucket_name, some, bypass=bypass, permit=permit
            )
        done[bypass] = iter(outcomes)
    return [one.error or next(done[one.wanted.key in bypassed]) for one in doomed]


def _told(wanted: Wanted, outcome: Deleted | PredastoreError) -> str:
    name = tag("Key", wanted.key) + optional("VersionId", wanted.version_id or None)
    if isinstance(outcome, PredastoreError):
        shown = translate(outcome)
        said = message_of(shown, wanted.key + wanted.version_id)
        return f"<Error>{name}{tag('Code', shown.s3_code)}{tag('Message', said)}</Error>"
    marker = ""
    if outcome.is_marker:
        marker = tag("DeleteMarker", True) + tag("DeleteMarkerVersionId", outcome.version_id)
    return f"<Deleted>{name}{marker}</Deleted>"


async def run(ctx: Context) -> Response:
    _check_protected(ctx)
    permit = await ctx.permit(lock.check_bypass(ctx.headers))
    async with ctx.document(limits.S3_DELETE_XML_BYTES_MAX) as data:
        doomed, quiet = await _asked(ctx, data)
        outcomes = await _delete(ctx, doomed, permit)
        for one, outcome in zip(doomed, outcomes, strict=True):
            audited.note_deleted(ctx, one.wanted, outcome)
        told = [
            _told(one.wanted, outcome)
            for one, outcome in zip(doomed, outcomes, strict=True)
            if isinstance(outcome, PredastoreError) or not quiet
        ]
    return xml_response("DeleteResult", told)

"""CopyObject: PUT /bucket/key with x-amz-copy-source.

Where the store lets versions share their bytes, none is moved: the copy has the source's ETag, its
checksums and its parts. Else, or where another checksum is asked for, it is read and written here.
"""

from __future__ import annotations

from dataclasses import replace

from predastore.base import limits
from predastore.base.errors import ObjectReplaced, S3Error
from predastore.catalog.errors import BucketChanged, LayoutGone
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import Condition
from predastore.catalog.values import Attributes, Expectation, ObjectVersion, Stored
from predastore.httpd.message import Response
from predastore.s3 import acl_change, acl_request, checksums, conditions, lock
from predastore.s3.access import OF_A_VERSION
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.target import CopySource, parse_copy_source
from predastore.s3.versions import SOURCE_VERSION_ID, read_fields, stored_fields
from predastore.s3.xml_write import xml_response

_REDIRECT = "x-amz-website-redirect-location"
_CHANGES = (_REDIRECT, "x-amz-checksum-algorithm", "x-amz-storage-class")


def check_source(ctx: Context, version: ObjectVersion) -> None:
    """The conditions on the source, and its size; shared with UploadPartCopy."""
    failed = conditions.failed(
        ctx.headers, conditions.COPY_SOURCE, version.etag, version.modified_ms
    )
    if failed:
        raise S3Error("PreconditionFailed", Condition=conditions.shown(failed))


def _replaces(ctx: Context, what: str) -> bool:
    """Whether the request's own metadata, or tags, take the place of the source's."""
    name = f"x-amz-{what}-directive"
    directive = (ctx.headers.get(name) or "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            f"Unknown {what} directive.",
            ArgumentName=name,
            ArgumentValue=directive,
        )
    return directive == "REPLACE"


def _attributes(ctx: Context, said: Attributes, version: ObjectVersion) -> Attributes:
    """What is said of the copy; `said`: by the request. A redirect is never copied, nor is a lock
    or an ACL: they are the request's or none."""
    if not _replaces(ctx, "tagging"):
        said = replace(said, tags=version.row.tags)
    if _replaces(ctx, "metadata"):
        return said
    detail = version.detail
    kept = {name: value for name, value in detail.headers.items() if name != _REDIRECT}
    if _REDIRECT in said.headers:
        kept[_REDIRECT] = said.headers[_REDIRECT]
    return replace(said, content_type=detail.content_type, headers=kept, user=detail.user)


async def _check_tags(ctx: Context, source: CopySource, version: ObjectVersion) -> None:
    """Who may not read or write tags can not copy what has some."""
    if version.row.tags and not _replaces(ctx, "tagging"):
        action = "s3:GetObjectTagging"
        await ctx.check_source(version, OF_A_VERSION[action] if source.version else action)
        ctx.access.gives(version.row.tags)
        ctx.access.require("s3:PutObjectTagging")
        await ctx.permit()


def _algorithms(ctx: Context, version: ObjectVersion) -> frozenset[str]:
    """What to compute of the copy: the algorithm asked for, else those of the source."""
    wanted = checksums.parse_copy_algorithm(ctx.headers)
    if wanted:
        return frozenset({wanted})
    return frozenset(one.algorithm for one in version.checksums)


def _check_changes_something(ctx: Context, version: ObjectVersion) -> None:
    """A copy of an object onto itself has to change what is said about it, or to bring an older
    version back."""
    where = (version.bucket.name, version.key)
    onto_itself = version.is_newest and where == (ctx.bucket_name, ctx.key)
    changed = _replaces(ctx, "metadata") or any(ctx.headers.get(name) for name in _CHANGES)
    if onto_itself and not changed:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location "
            "or encryption attributes.",
        )


async def _copy(
    ctx: Context, source: CopySource, said: Attributes, condition: Condition, permit: Permit
) -> tuple[Stored, ObjectVersion]:
    """The copy, and of what it was made. ObjectReplaced, LayoutGone: the source was replaced or
    deleted, before it could be read."""
    where = ctx.bucket_name, ctx.key
    with ctx.catalog.looking(source.bucket, source.key) as look:
        version = await ctx.copy_source(source)
        check_source(ctx, version)
        _check_changes_something(ctx, version)
        if version.size > limits.S3_PUT_BYTES_MAX:
            raise S3Error(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy "
                f"source: {limits.S3_PUT_BYTES_MAX}",
            )
        await _check_tags(ctx, source, version)
        attributes = _attributes(ctx, said, version)
        wanted = _algorithms(ctx, version)
        has = frozenset(each.algorithm for each in version.checksums)
        shares = wanted == has and ctx.catalog.can_share(version)
        if not shares:
            body = await ctx.catalog.open_source(version, 0, version.size, look)
    if shares:
        stored = await ctx.catalog.copy(version, *where, attributes, condition, permit=permit)
        return stored, version
    expectation = Expectation(compute=wanted)
    async with body:
        stored = await ctx.catalog.put(
            *where, body, version.size, attributes, expectation, condition, permit=permit
        )
    return stored, version


async def run(ctx: Context) -> Response:
    source = parse_copy_source(ctx.headers.get("x-amz-copy-source", ""))
    acl = acl_request.of_headers(ctx.headers)
    said = ctx.attributes(acl)
    condition = ctx.write_condition()
    permit = await acl_change.permit_for(ctx, acl, lock.check_of(ctx.headers))
    for _ in range(limits.S3_READ_TRIES_MAX):
        try:
            copied, version = await _copy(ctx, source, said, condition, permit)
        except (ObjectReplaced, LayoutGone, BucketChanged):
            continue
        return xml_response(
            "CopyObjectResult",
            (
                f"<LastModified>{iso8601(copied.modified_ms)}</LastModified>",
                f"<ETag>&quot;{copied.etag}&quot;</ETag>",
                checksums.answer_elements(copied.checksums, with_type=True),
            ),
            [*stored_fields(copied), *read_fields(version, SOURCE_VERSION_ID)],
        )
    raise S3Error("SlowDown", "The source is being replaced faster than it can be read.")

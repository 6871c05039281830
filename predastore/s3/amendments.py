"""Changing what stands beside a version's bytes: its tags, its ACL, its retention and hold."""

from __future__ import annotations

from collections.abc import Awaitable

from predastore.catalog.errors import IsDeleteMarker, NoSuchKey, NoSuchVersion
from predastore.catalog.permits import Permit
from predastore.catalog.rows import Retention, Tags
from predastore.catalog.values import Finding
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.errors import translate
from predastore.s3.versions import amended_fields


async def amend(
    ctx: Context,
    permit: Permit,
    *,
    tags: Tags | None = None,
    retention: Retention | None = None,
    legal_hold: bool | None = None,
    status: int = 200,
) -> Response:
    """Changes what is not None of the version that the request names, or the current one, and
    answers with its id. NoSuchKey, NoSuchVersion, AccessDenied where a retention may not be changed
    so."""
    work = ctx.catalog.amend(
        ctx.bucket_name,
        ctx.key,
        ctx.version_id,
        tags=tags,
        retention=retention,
        legal_hold=legal_hold,
        bypass=await ctx.bypasses_governance(),
        permit=permit,
    )
    return await changed(ctx, permit, work, status=status)


async def changed(
    ctx: Context, permit: Permit, work: Awaitable[str], *, status: int = 200
) -> Response:
    """The answer with the id that `work` returns once it has changed the version that the request
    names, or the current one."""
    version_id = ctx.version_id
    try:
        amended = await work
    except (NoSuchKey, NoSuchVersion):
        raise ctx.absent(ctx.key, Finding(permit.row), version_id) from None
    except IsDeleteMarker as error:
        shown = translate(error)
        shown.extra |= {"Method": ctx.request.method, "ResourceType": "DeleteMarker"}
        raise shown from None
    return Response(status, amended_fields(amended, version_id))

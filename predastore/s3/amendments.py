"""Changing what stands beside a version's bytes: its tags, its retention, its legal hold."""

from __future__ import annotations

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
    version_id = ctx.version_id
    where = ctx.bucket_name, ctx.key
    try:
        amended = await ctx.catalog.amend(
            *where,
            version_id,
            tags=tags,
            retention=retention,
            legal_hold=legal_hold,
            bypass=ctx.bypasses_governance(),
            permit=permit,
        )
    except (NoSuchKey, NoSuchVersion):
        raise ctx.absent(*where, Finding(permit.row), version_id) from None
    except IsDeleteMarker as error:
        shown = translate(error)
        shown.extra |= {"Method": ctx.request.method, "ResourceType": "DeleteMarker"}
        raise shown from None
    return Response(status, amended_fields(amended, version_id))

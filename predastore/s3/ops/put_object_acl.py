"""PutObjectAcl: PUT /bucket/key?acl, with a canned ACL, with grants in fields, or with a document.

The ACL is made for the version's owner, and put in the place of the ACL that was seen: where
another came first, both are looked at anew.
"""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.errors import AclChanged
from predastore.catalog.permits import Permit
from predastore.httpd.message import Response
from predastore.s3 import acl_change, acl_effect
from predastore.s3.acl_request import AclRequest, acl_in
from predastore.s3.amendments import changed
from predastore.s3.context import Context


async def run(ctx: Context) -> Response:
    ctx.signer()
    asked = await acl_change.asked_of(ctx)
    permit = await acl_change.permit_for(ctx, asked)
    for _ in range(limits.S3_READ_TRIES_MAX):
        try:
            return await _put(ctx, asked, permit)
        except AclChanged:
            continue
    raise S3Error("ConditionalRequestConflict")


async def _put(ctx: Context, asked: AclRequest, permit: Permit) -> Response:
    where = ctx.bucket_name, ctx.key, ctx.version_id
    version = (await ctx.catalog.find(*where, needs_bytes=False)).version
    seen, owner = ("", b""), permit.row.owner
    if version is not None:
        ctx.check_anew(version)
        seen = (version.owner, version.acl)
        owner = acl_effect.object_owner(version.bucket, version.owner)
        if asked.owner not in ("", owner):
            raise S3Error("AccessDenied")
    work = ctx.catalog.set_acl(*where, acl_in(asked, owner), seen, permit=permit)
    return await changed(ctx, permit, work)

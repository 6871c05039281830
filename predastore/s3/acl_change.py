"""What PutBucketAcl and PutObjectAcl have in common with each other, and with requests that make
what has an ACL."""

from __future__ import annotations

from collections.abc import Callable

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.permits import Permit
from predastore.catalog.rows import BucketRow
from predastore.s3 import account_block, acl_request
from predastore.s3.acl_request import AclRequest, check_in
from predastore.s3.acl_xml import no_such_id, parse_acl
from predastore.s3.context import Context


async def asked_of(ctx: Context, *, of_bucket: bool = False) -> AclRequest:
    """What a request asks whose subject is an ACL: by fields or by its body. UnexpectedContent for
    both, MissingSecurityHeader for neither."""
    asked = acl_request.of_headers(ctx.headers, of_bucket=of_bucket)
    async with ctx.document(limits.S3_CONFIG_XML_BYTES_MAX) as data:
        if data and asked.is_asked:
            raise S3Error("UnexpectedContent")
        if data:
            asked = await _said(ctx, data)
    if not asked.is_asked:
        raise S3Error("MissingSecurityHeader", MissingHeaderName=acl_request.HEADER)
    return asked


async def check_accounts(ctx: Context, asked: AclRequest, owner: str) -> None:
    """InvalidArgument for a grant to an account that is not there. `owner`: has the bucket."""
    for account in sorted(asked.accounts - {owner, ctx.account}):
        if not await ctx.services.is_account(account):
            raise no_such_id(account, "CanonicalUser/ID" if asked.owner else "id")


async def _said(ctx: Context, data: bytes) -> AclRequest:
    """By the body; what is no such document is MalformedACLError, whatever else it is."""
    try:
        async with ctx.services.documents.tree(data, "AccessControlPolicy") as document:
            acl = parse_acl(document)
    except S3Error as error:
        if error.s3_code == "MalformedXML":
            raise S3Error("MalformedACLError") from None
        raise
    return AclRequest(given=acl.grants, owner=acl.owner)


async def permit_for(
    ctx: Context, asked: AclRequest, check: Callable[[BucketRow], object] | None = None
) -> Permit:
    """Leave to give that ACL to the bucket, or to an object in it. `check`: as in
    `Context.permit`."""

    def fit(bucket: BucketRow) -> None:
        if check is not None:
            check(bucket)
        check_in(asked, bucket)

    permit = await ctx.permit(check=fit)
    if asked.is_asked:
        await check_accounts(ctx, asked, permit.row.owner)
        await check_public(ctx, asked, permit.row.owner)
    return permit


async def check_public(ctx: Context, asked: AclRequest, owner: str) -> None:
    """AccessDenied where the public access block of `owner`, who has the bucket, refuses it."""
    if asked.is_public:
        block = await account_block.of(ctx, owner)
        if block is not None and block.block_acls:
            raise S3Error("AccessDenied")

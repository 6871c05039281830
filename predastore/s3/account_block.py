"""The public access block of an account: whose it is in a request, and how it is read."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.catalog.rows import PublicBlock
from predastore.s3.context import Context
from predastore.s3.control import ACCOUNT_FIELD
from predastore.s3.public_access import BLOCK, of_document


def addressed(ctx: Context) -> str:
    """The account that the request names, which must be the signer's own; AccessDenied."""
    account = ctx.signer()
    if ctx.headers.get(ACCOUNT_FIELD) != account:
        raise S3Error("AccessDenied")
    return account


async def of(ctx: Context, account: str) -> PublicBlock | None:
    """None where the account has none."""
    return of_document(await ctx.catalog.account_document(account, BLOCK))

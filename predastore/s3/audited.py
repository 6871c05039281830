"""Which operations have a line of the audit, and what it names.

Those that change who may do what, what is kept, or what browsers may; and those that ask to remove
what GOVERNANCE keeps. DeleteObjects has a line for itself, and one for each version that it names.
An object's ACL, retention or hold that come with its bytes have none: they are of the PUT.
"""

from __future__ import annotations

from typing import Final

from predastore.base.errors import PredastoreError
from predastore.catalog.values import Deleted, Wanted
from predastore.httpd.message import Headers
from predastore.iam import audit
from predastore.s3 import lock, ownership
from predastore.s3.access import resource_of
from predastore.s3.acl_request import FIELDS
from predastore.s3.context import Context
from predastore.s3.errors import translate

# The names of routes.
ALWAYS: Final = frozenset(
    {
        *("PutBucketPolicy", "DeleteBucketPolicy", "PutBucketAcl", "PutObjectAcl"),
        *("PutBucketOwnershipControls", "DeleteBucketOwnershipControls"),
        *("PutPublicAccessBlock", "DeletePublicAccessBlock"),
        *("PutAccountPublicAccessBlock", "DeleteAccountPublicAccessBlock"),
        *("PutObjectLockConfiguration", "PutObjectRetention", "PutObjectLegalHold"),
        *("PutBucketVersioning", "PutBucketCors", "DeleteBucketCors"),
    }
)
# The name of a route -> header fields; with any of these it has a line.
WITH_A_FIELD: Final = {
    "CreateBucket": (
        *(name.decode() for name in sorted(FIELDS)),
        *(ownership.HEADER, "x-amz-bucket-object-lock-enabled"),
    ),
    "DeleteObject": (lock.BYPASS,),
    "DeleteObjects": (lock.BYPASS,),
}


def is_audited(operation: str, headers: Headers) -> bool:
    """Whether a request for it has a line."""
    return operation in ALWAYS or any(name in headers for name in WITH_A_FIELD.get(operation, ()))


def note(ctx: Context, outcome: str) -> None:
    """The line of a request. `outcome`: audit.DONE, or S3's code of why not."""
    _note(ctx, ctx.key, ctx.query.get("versionId", ""), outcome)


def note_deleted(ctx: Context, wanted: Wanted, outcome: Deleted | PredastoreError) -> None:
    """The line of one entry of DeleteObjects; none, unless it names a version and the request asks
    to remove what GOVERNANCE keeps."""
    if wanted.version_id and is_audited(ctx.request.operation, ctx.headers):
        said = translate(outcome).s3_code if isinstance(outcome, PredastoreError) else audit.DONE
        _note(ctx, wanted.key, wanted.version_id, said)


def _note(ctx: Context, key: str, version_id: str, outcome: str) -> None:
    operation = ctx.request.operation
    target = resource_of("", ctx.bucket_name, key) if ctx.bucket_name else ctx.account or ""
    if version_id:
        target += f"?versionId={version_id}"
    attempt = audit.Attempt(f"s3:{operation}", target, ctx.access.last, outcome)
    audit.note(ctx.request, ctx.access.credential, attempt)

"""Who may do what.

Each credential belongs to an account. An account may do everything in its own buckets and
nothing in those of others, except what everybody may: read and list a bucket that is public, as it
is now. What was there before, its versions, is for its own account.
An anonymous request has no account. Whether a bucket is there is no secret: NoSuchBucket comes
before AccessDenied, as with Amazon S3.

A credential with a policy may do of this what its policy allows, and nothing else: neither what
everybody may, nor learn whether a key is there that it may not list. `check_policy` is asked for
the action of the request's route before its operation begins, and for each further action of it
(the source of a copy) before that is done.
"""

from __future__ import annotations

import enum
from typing import Final

from predastore.base.errors import S3Error
from predastore.catalog.rows import BucketRow
from predastore.httpd.message import Headers
from predastore.s3.identified import Rights


class Need(enum.Enum):
    """What an operation does to a bucket."""

    READ = "read"  # an object's bytes and metadata
    LIST = "list"  # the names of objects
    VERSIONS = "versions"  # a version by its id; the names of all
    WRITE = "write"  # everything else: changes, uploads, configuration


_PUBLIC = frozenset({Need.READ, Need.LIST})

GET_OBJECT: Final = "s3:GetObject"
LIST_BUCKET: Final = "s3:ListBucket"
BYPASS_GOVERNANCE: Final = "s3:BypassGovernanceRetention"

# What takes the place of an action where a request names a version.
OF_A_VERSION: Final = {
    GET_OBJECT: "s3:GetObjectVersion",
    "s3:GetObjectAcl": "s3:GetObjectVersionAcl",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
    "s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
    "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
    "s3:PutObjectTagging": "s3:PutObjectVersionTagging",
}


def is_allowed(policy: Rights | None, action: str, bucket: str) -> bool:
    """Whether a credential with this policy may do that in the bucket, as far as its account may.
    `bucket`: "" for an action that is of no bucket."""
    if policy is None:
        return True
    return policy.allows(action, bucket) if bucket else policy.allows_somewhere(action)


def check_policy(policy: Rights | None, action: str, bucket: str) -> None:
    """AccessDenied unless `is_allowed`."""
    if not is_allowed(policy, action, bucket):
        where = f" in {bucket}" if bucket else ""
        raise S3Error(
            "AccessDenied", f"The policy of this access key does not allow {action}{where}."
        )


def check_account(account: str | None) -> str:
    """The account; AccessDenied for an anonymous request."""
    if account is None:
        raise S3Error("AccessDenied")
    return account


def check_bucket(
    bucket: BucketRow | None,
    name: str,
    account: str | None,
    need: Need,
    headers: Headers,
    *,
    owner_header: str = "x-amz-expected-bucket-owner",
) -> BucketRow:
    """The bucket, if the account may do that in it and it belongs to whom the client expects."""
    if bucket is None:
        if account is None and need not in _PUBLIC:
            raise S3Error("AccessDenied")
        raise S3Error("NoSuchBucket", BucketName=name)
    if bucket.owner != account and not (bucket.public and need in _PUBLIC):
        raise S3Error("AccessDenied")
    expected = headers.get(owner_header)
    if expected and expected != bucket.owner:
        raise S3Error("AccessDenied")
    return bucket

"""Who may do what.

Each credential belongs to an account. An account may do everything in its own buckets and
nothing in those of others, except what everybody may: read and list a bucket that is public.
An anonymous request has no account. Whether a bucket is there is no secret: NoSuchBucket comes
before AccessDenied, as with Amazon S3.
"""

from __future__ import annotations

import enum

from predastore.backend.records import BucketRecord
from predastore.errors import S3Error
from predastore.httpd.message import Headers


class Need(enum.Enum):
    """What an operation does to a bucket."""

    READ = "read"  # an object's bytes and metadata
    LIST = "list"  # the names of objects
    WRITE = "write"  # everything else: changes, uploads, configuration


_PUBLIC = frozenset({Need.READ, Need.LIST})


def check_account(account: str | None) -> str:
    """The account; AccessDenied for an anonymous request."""
    if account is None:
        raise S3Error("AccessDenied")
    return account


def check_bucket(
    bucket: BucketRecord | None,
    name: str,
    account: str | None,
    need: Need,
    headers: Headers,
    *,
    owner_header: str = "x-amz-expected-bucket-owner",
) -> BucketRecord:
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

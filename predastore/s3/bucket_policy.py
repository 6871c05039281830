"""The policy of a bucket: as a client sends it, as it is stored, and as it is applied.

A client gets back the very text that it put. It is read before it is stored, as a policy of this
bucket: what would not be understood in full is MalformedPolicy, and nothing is stored.
"""

from __future__ import annotations

import msgspec

from predastore.base import limits
from predastore.base.errors import CorruptData, S3Error
from predastore.catalog.rows import BucketRow
from predastore.policy import PolicyDocument, PolicyError, PolicyKind, parse
from predastore.storage.formats import decode, encode

_NAME = "resource-based policy"  # as AWS's errors call it


class StoredPolicy(msgspec.Struct, frozen=True, array_like=True):
    """The document POLICY of a bucket. `bucket`: of whose policy `text` is."""

    bucket: str
    text: bytes


def check_home(account: str, bucket: BucketRow, method: str) -> None:
    """MethodNotAllowed: the policy of a bucket is for those of its account alone, whomever else it
    allows it. (API reference, PutBucketPolicy.)"""
    if account != bucket.owner:
        raise S3Error("MethodNotAllowed", Method=method, ResourceType="BUCKETPOLICY")


def read(text: bytes, bucket: str) -> PolicyDocument:
    """MalformedPolicy with what is wrong, and where."""
    if len(text) > limits.POLICY_DOCUMENT_BYTES_MAX:
        raise S3Error(
            "MalformedPolicy",
            f"Policies of buckets have at most {limits.POLICY_DOCUMENT_BYTES_MAX} bytes",
        )
    try:
        return parse(text, PolicyKind.BUCKET, name=_NAME, bucket=bucket)
    except PolicyError as error:
        raise S3Error("MalformedPolicy", str(error)) from None


def to_stored(text: bytes, bucket: str) -> bytes:
    """What the catalog keeps."""
    return encode(StoredPolicy(bucket, text))


def text_of(stored: bytes) -> bytes:
    """As the client sent it."""
    return decode(StoredPolicy, stored).text


def of_stored(stored: bytes) -> PolicyDocument:
    """What a stored policy means; CorruptData, UnsupportedFormat."""
    row = decode(StoredPolicy, stored)
    try:
        return parse(row.text, PolicyKind.BUCKET, name=_NAME, bucket=row.bucket)
    except PolicyError as error:
        raise CorruptData(f"the policy of {row.bucket} can not be read: {error}") from error

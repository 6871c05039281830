"""S3 Control on the port of S3: which requests are for it, and what they are about.

A request is for S3 Control by its path, where it names an account (x-amz-account-id); any other one
with such a path is about a key in a bucket. It is about the account itself, or about a bucket that
its path names by ARN. Errors stand in an element of their own, as SDKs expect it of S3 Control.
"""

from __future__ import annotations

from typing import Final

from predastore.base.errors import S3Error
from predastore.httpd.message import Request
from predastore.s3.names import check_bucket_name
from predastore.s3.target import percent_decode

ACCOUNT_FIELD: Final = "x-amz-account-id"
BLOCK_PATH: Final = b"/v20180820/configuration/publicAccessBlock"
TAGS_PATH: Final = b"/v20180820/tags/"
TAG_KEYS: Final = "tagKeys"

_RESOURCE: Final = "arn:aws:s3:::"


def is_for_control(request: Request) -> bool:
    path = request.raw_path
    is_known = path == BLOCK_PATH or path.startswith(TAGS_PATH)
    return is_known and ACCOUNT_FIELD in request.headers


def bucket_of(request: Request) -> str:
    """The bucket that a request for S3 Control is about; "": the account. InvalidRequest for what
    else has tags with Amazon S3, InvalidBucketName."""
    if request.raw_path == BLOCK_PATH:
        return ""
    arn = percent_decode(request.raw_path.removeprefix(TAGS_PATH))
    name = arn.removeprefix(_RESOURCE)
    if name == arn or "/" in name:
        raise S3Error("InvalidRequest", "The resource is not the ARN of a bucket.")
    check_bucket_name(name)
    return name


def once(raw_query: bytes) -> bytes:
    """The query without the names of tags but the first: they are a list."""
    pairs = raw_query.split(b"&")
    named = [pair for pair in pairs if _is_tag_key(pair)]
    return b"&".join([*named[:1], *(pair for pair in pairs if not _is_tag_key(pair))])


def tag_keys(raw_query: bytes) -> frozenset[str]:
    """All names of tags in a query."""
    pairs = (pair for pair in raw_query.split(b"&") if _is_tag_key(pair))
    return frozenset(
        percent_decode(pair.partition(b"=")[2].replace(b"+", b"%20")) for pair in pairs
    )


def _is_tag_key(pair: bytes) -> bool:
    return pair.partition(b"=")[0] == TAG_KEYS.encode()

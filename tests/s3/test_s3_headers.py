"""Metadata that is stored, and header fields that ask for what is not implemented."""

from __future__ import annotations

import pytest

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.httpd.message import Headers
from predastore.s3.headers import (
    DEFAULT_CONTENT_TYPE,
    STORAGE_CLASSES,
    check_unimplemented,
    parse_metadata,
)


def code_of(call, *args, **kwargs) -> str:
    with pytest.raises(S3Error) as caught:
        call(*args, **kwargs)
    return caught.value.s3_code


def test_metadata() -> None:
    said = parse_metadata(
        Headers.of(
            [
                ("Content-Type", "text/plain"),
                ("Cache-Control", "no-cache"),
                ("Content-Encoding", "aws-chunked,gzip"),
                ("Expires", "Thu, 01 Dec 1994 16:00:00 GMT"),
                ("x-amz-meta-Colour", "red"),
                ("x-amz-meta-utf8", "€".encode().decode("latin-1")),
                ("x-amz-meta-twice", "a"),
                ("x-amz-meta-twice", "b"),
                ("x-amz-website-redirect-location", "/else"),
                ("x-other", "ignored"),
            ]
        )
    )
    assert said.content_type == "text/plain"
    assert said.headers == {
        "cache-control": "no-cache",
        "content-encoding": "gzip",
        "expires": "Thu, 01 Dec 1994 16:00:00 GMT",
        "x-amz-website-redirect-location": "/else",
    }
    assert said.user == {"colour": "red", "utf8": "€", "twice": "a,b"}


def test_defaults() -> None:
    said = parse_metadata(Headers.of([("content-encoding", "aws-chunked")]))
    assert said == (DEFAULT_CONTENT_TYPE, {}, {}, "")


def test_user_metadata_is_bounded() -> None:
    fits = limits.S3_USER_METADATA_BYTES_MAX - 1
    parse_metadata(Headers.of([("x-amz-meta-a", "v" * fits)]))
    too_large = Headers.of([("x-amz-meta-a", "v" * (fits + 1))])
    assert code_of(parse_metadata, too_large) == "MetadataTooLarge"


def test_stored_fields_are_bounded() -> None:
    long = Headers.of([("cache-control", "v" * limits.S3_STORED_HEADERS_BYTES_MAX)])
    assert code_of(parse_metadata, long) == "RequestHeaderSectionTooLarge"


def test_a_redirect_goes_to_a_path_or_a_url() -> None:
    wrong = Headers.of([("x-amz-website-redirect-location", "javascript:1")])
    assert code_of(parse_metadata, wrong) == "InvalidArgument"


ACCEPTED = frozenset(
    {b"x-amz-acl", b"x-amz-storage-class", b"x-amz-tagging", b"x-amz-tagging-directive"}
)


def check(name: str, value: str, *, mutating: bool = True) -> None:
    fields = Headers.of([("host", "h"), (name, value)])
    check_unimplemented(fields, ACCEPTED, mutating=mutating)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-date", "20260101T000000Z"),
        ("x-amz-meta-anything", "1"),
        ("x-amz-acl", "private"),
        ("x-amz-acl", "public-read"),
        ("x-amz-tagging", ""),
        ("x-amz-tagging", "a=b"),
        ("x-amz-tagging-directive", "COPY"),
        # asks for nothing, or for nothing that this operation could do: S3 ignores it, too
        ("x-amz-api-version", "2006-03-01"),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-mp-object-size", "5"),
        ("x-amz-something-of-tomorrow", "1"),
        # no value asks for nothing
        ("x-amz-storage-class", ""),
        ("x-amz-acl", ""),
        ("x-amz-server-side-encryption", ""),
        ("x-amz-grant-read", ""),
        *(("x-amz-storage-class", name) for name in sorted(STORAGE_CLASSES)),
        ("x-amzn-trace-id", "Root=1"),
        ("amz-sdk-request", "attempt=1"),
    ],
)
def test_understood_fields_pass(name: str, value: str) -> None:
    check(name, value)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-tagging-directive", "KEEP", "InvalidArgument"),
        ("x-amz-grant-read", 'id="1"', "NotImplemented"),
        ("x-amz-storage-class", "CHEAP", "InvalidStorageClass"),
        ("x-amz-storage-class", "glacier", "InvalidStorageClass"),
        ("x-amz-storage-class", "STANDARD ", "InvalidStorageClass"),
        ("x-amz-server-side-encryption", "AES256", "NotImplemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "NotImplemented"),
        ("x-amz-copy-source", "a/b", "NotImplemented"),
        ("x-amz-write-offset-bytes", "10", "NotImplemented"),
        ("x-amz-copy-source-range", "bytes=0-1", "NotImplemented"),
        ("x-amz-copy-source-if-match", "1", "NotImplemented"),
        ("x-amz-copy-source-server-side-encryption-customer-key", "1", "NotImplemented"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true", "NotImplemented"),
        ("x-amz-object-lock-legal-hold", "ON", "NotImplemented"),
        ("x-amz-grant-full-control", 'id="1"', "NotImplemented"),
        ("x-amz-if-match-size", "1", "NotImplemented"),
        ("x-amz-rename-source", "a/b", "NotImplemented"),
    ],
)
def test_fields_that_ask_for_more_are_refused(name: str, value: str, code: str) -> None:
    assert code_of(check, name, value) == code


def test_reads_are_refused_only_what_would_change_their_meaning() -> None:
    check("x-amz-something-of-tomorrow", "1", mutating=False)
    name = "x-amz-server-side-encryption-customer-key"
    assert code_of(check, name, "k", mutating=False) == "NotImplemented"

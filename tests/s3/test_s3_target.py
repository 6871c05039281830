"""Bucket, key and query out of a raw request target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.s3.target import (
    Target,
    host_bucket,
    parse_copy_source,
    parse_query,
    parse_target,
    percent_decode,
)

KEY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=200)


def code_of(call, *args) -> str:
    with pytest.raises(S3Error) as caught:
        call(*args)
    return caught.value.s3_code


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", Target("", "")),
        (b"/bucket", Target("bucket", "")),
        (b"/bucket/", Target("bucket", "")),
        (b"/bucket/key", Target("bucket", "key")),
        (b"/bucket//key", Target("bucket", "/key")),
        (b"/bucket/a//b/", Target("bucket", "a//b/")),
        (b"/bucket/./x", Target("bucket", "./x")),
        (b"/bucket/../../etc/passwd", Target("bucket", "../../etc/passwd")),
        (b"/bucket/%2E%2e%2Fx", Target("bucket", "../x")),
        (b"/bucket/a+b%20c", Target("bucket", "a+b c")),
        (b"/bucket/%E2%82%AC", Target("bucket", "€")),
        (b"/bucket/\xe2\x82\xac", Target("bucket", "€")),
        (b"/bucket/%0A%1f%7f", Target("bucket", "\n\x1f\x7f")),
    ],
)
def test_path_style(path: bytes, expected: Target) -> None:
    assert parse_target(path, "s3.example.com", ()) == expected


@pytest.mark.parametrize(
    "path",
    [b"", b"bucket", b"*", b"/bucket/%", b"/bucket/%4", b"/bucket/%zz", b"/bucket/%00", b"/b/\xff",
     b"/bucket/%C3", b"/bucket/%ED%A0%80", b"/bucket/%C0%AF"],
)  # fmt: skip
def test_what_is_no_path_is_refused(path: bytes) -> None:
    assert code_of(parse_target, path, "h", ()) == "InvalidURI"


def test_a_path_without_a_bucket_is_refused() -> None:
    assert code_of(parse_target, b"//key", "h", ()) == "InvalidBucketName"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("bucket.s3.example.com", Target("bucket", "a/b")),
        ("bucket.s3.example.com:8443", Target("bucket", "a/b")),
        ("My.Bucket.S3.Example.com", Target("my.bucket", "a/b")),
        ("s3.example.com", Target("a", "b")),
        (".s3.example.com", Target("a", "b")),
        ("evils3.example.com", Target("a", "b")),
        ("[::1]:8443", Target("a", "b")),
        ("", Target("a", "b")),
    ],
)
def test_virtual_host_style(host: str, expected: Target) -> None:
    assert parse_target(b"/a/b", host, ("s3.example.com",)) == expected


@pytest.mark.parametrize(
    "domains",
    [
        ("example.com", "s3.example.com", "eu.s3.example.com"),
        ("eu.s3.example.com", "s3.example.com", "example.com"),
    ],
)
@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("example.com", ""),
        ("s3.example.com", ""),
        ("eu.s3.example.com:443", ""),
        ("b.eu.s3.example.com", "b"),
        ("b.s3.example.com", "b"),
        ("b.example.com", "b"),
        ("b.c.s3.example.com", "b.c"),
    ],
)
def test_of_domains_below_domains_the_longest_counts(
    host: str, bucket: str, domains: tuple[str, ...]
) -> None:
    assert host_bucket(host, domains) == bucket


def test_a_key_may_have_1024_bytes_and_no_more() -> None:
    for character in ("k", "é", "€", "😀"):
        fits = limits.S3_KEY_BYTES_MAX // len(character.encode())
        key = character * fits
        assert parse_target(b"/b/" + key.encode(), "", ()).key == key
        long = b"/b/" + (character * (fits + 1)).encode()
        assert code_of(parse_target, long, "", ()) == "KeyTooLongError"


@given(KEY)
@settings(max_examples=200)
def test_every_encoded_key_comes_back(key: str) -> None:
    encoded = b"".join(b"%%%02X" % byte for byte in key.encode())
    assert percent_decode(encoded) == key


def test_query() -> None:
    assert parse_query(b"") == {}
    assert parse_query(b"acl") == {"acl": ""}
    assert parse_query(b"a=1&b=x%20y+z&c=&&d") == {"a": "1", "b": "x y z", "c": "", "d": ""}
    assert parse_query(b"prefix=a%26b%3Dc") == {"prefix": "a&b=c"}


def test_an_ambiguous_or_endless_query_is_refused() -> None:
    assert code_of(parse_query, b"a=1&a=2") == "InvalidArgument"
    assert code_of(parse_query, b"a=%zz") == "InvalidURI"
    many = b"&".join(b"p%d=1" % n for n in range(limits.S3_QUERY_PARAMETERS_MAX + 1))
    assert code_of(parse_query, many) == "InvalidURI"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bucket/key", Target("bucket", "key")),
        ("/bucket/a/b%3Fc", Target("bucket", "a/b?c")),
        ("bucket%2Fa%2Fb", Target("bucket", "a/b")),
        ("bucket/a+b", Target("bucket", "a+b")),
        ("bucket//a", Target("bucket", "/a")),
        ("bucket/key?versionId=null", Target("bucket", "key")),
        ("bucket/€".encode().decode("latin-1"), Target("bucket", "€")),
    ],
)
def test_copy_source(value: str, expected: Target) -> None:
    version = "null" if value.endswith("?versionId=null") else ""
    assert parse_copy_source(value) == (*expected, version)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "InvalidArgument"),
        ("bucket", "InvalidArgument"),
        ("bucket/", "InvalidArgument"),
        ("bucket/key?versionId=1", "InvalidArgument"),
        ("bucket/key?acl", "InvalidArgument"),
        ("bucket/%zz", "InvalidURI"),
        ("bucket/" + "k" * 1025, "KeyTooLongError"),
    ],
)
def test_bad_copy_source(value: str, code: str) -> None:
    assert code_of(parse_copy_source, value) == code

"""The route table: every request has one operation, or changes nothing."""

from __future__ import annotations

import pytest

from predastore.base.errors import S3Error
from predastore.httpd.message import Headers
from predastore.s3.routes import (
    ACCOUNT,
    BUCKET,
    OBJECT,
    ROUTES,
    SERVICE,
    SUBRESOURCES,
    hoisted_headers,
    select,
)
from predastore.s3.target import parse_query

NONE = Headers.of([])
COPY = Headers.of([("x-amz-copy-source", "a/b")])


def operation(method: str, level: int, query: str = "", headers: Headers = NONE) -> str:
    route = select(method, level, parse_query(query.encode()), headers)
    return route.operation.__module__.rpartition(".")[2]


def refusal(method: str, level: int, query: str = "", headers: Headers = NONE) -> str:
    with pytest.raises(S3Error) as caught:
        operation(method, level, query, headers)
    return caught.value.s3_code


@pytest.mark.parametrize(
    ("method", "level", "query", "headers", "expected"),
    [
        ("GET", SERVICE, "", NONE, "list_buckets"),
        ("GET", SERVICE, "x-id=ListBuckets", NONE, "list_buckets"),
        ("GET", BUCKET, "", NONE, "list_objects"),
        ("GET", BUCKET, "prefix=a&max-keys=3&marker=x", NONE, "list_objects"),
        ("GET", BUCKET, "list-type=2&prefix=a&fetch-owner=true", NONE, "list_objects_v2"),
        ("GET", BUCKET, "location", NONE, "get_bucket_location"),
        ("GET", BUCKET, "location=", NONE, "get_bucket_location"),
        ("GET", BUCKET, "uploads&prefix=p", NONE, "list_multipart_uploads"),
        ("GET", BUCKET, "versioning", NONE, "get_bucket_versioning"),
        ("GET", BUCKET, "acl", NONE, "get_bucket_acl"),
        ("PUT", BUCKET, "acl", NONE, "put_bucket_acl"),
        ("GET", OBJECT, "acl&versionId=null", NONE, "get_object_acl"),
        ("PUT", OBJECT, "acl", NONE, "put_object_acl"),
        ("PUT", BUCKET, "publicAccessBlock", NONE, "put_public_access_block"),
        ("DELETE", BUCKET, "ownershipControls", NONE, "delete_bucket_ownership_controls"),
        ("GET", ACCOUNT, "", NONE, "get_account_public_access_block"),
        ("HEAD", BUCKET, "", NONE, "head_bucket"),
        ("PUT", BUCKET, "", NONE, "create_bucket"),
        ("DELETE", BUCKET, "", NONE, "delete_bucket"),
        ("POST", BUCKET, "delete", NONE, "delete_objects"),
        ("POST", BUCKET, "", NONE, "post_object"),
        ("GET", OBJECT, "", NONE, "get_object"),
        ("GET", OBJECT, "x-id=GetObject&response-expires=0", NONE, "get_object"),
        ("GET", OBJECT, "utm_source=mail", NONE, "get_object"),
        ("GET", OBJECT, "X-Amz-Signature=1&X-Amz-Algorithm=A", NONE, "get_object"),
        ("GET", OBJECT, "uploadId=1", NONE, "list_parts"),
        ("GET", OBJECT, "tagging", NONE, "get_object_tagging"),
        ("HEAD", OBJECT, "partNumber=1", NONE, "head_object"),
        ("PUT", OBJECT, "", NONE, "put_object"),
        ("PUT", OBJECT, "x-id=PutObject", NONE, "put_object"),
        ("PUT", OBJECT, "", COPY, "copy_object"),
        ("PUT", OBJECT, "partNumber=1&uploadId=2", NONE, "upload_part"),
        ("PUT", OBJECT, "partNumber=1&uploadId=2", COPY, "upload_part_copy"),
        ("POST", OBJECT, "uploads", NONE, "create_multipart_upload"),
        ("POST", OBJECT, "uploadId=2", NONE, "complete_multipart_upload"),
        ("DELETE", OBJECT, "", NONE, "delete_object"),
        ("DELETE", OBJECT, "versionId=null", NONE, "delete_object"),
        ("DELETE", OBJECT, "uploadId=2", NONE, "abort_multipart_upload"),
    ],
)
def test_operations(method: str, level: int, query: str, headers: Headers, expected: str) -> None:
    assert operation(method, level, query, headers) == expected


PICKED = {(route.method, route.level, name) for route in ROUTES for name in route.by}
KNOWN = {(route.method, route.level, name) for route in ROUTES for name in route.query}


@pytest.mark.parametrize("level", [SERVICE, BUCKET, OBJECT])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
def test_every_sub_resource_that_is_not_in_the_table_is_501(method: str, level: int) -> None:
    for name in sorted(SUBRESOURCES):
        if (method, level, name) in PICKED | KNOWN:
            continue
        assert refusal(method, level, name) == "NotImplemented", name
        assert refusal(method, level, f"{name}=1") == "NotImplemented", name


@pytest.mark.parametrize(
    ("method", "level"),
    [("PUT", BUCKET), ("POST", BUCKET), ("DELETE", BUCKET), ("PUT", OBJECT), ("DELETE", OBJECT)],
)
def test_an_unknown_parameter_never_reaches_a_changing_operation(method: str, level: int) -> None:
    assert refusal(method, level, "frobnicate") == "NotImplemented"
    assert refusal(method, level, "frobnicate=1") == "InvalidArgument"
    assert refusal(method, level, "prefix=a") == "InvalidArgument"


def test_two_sub_resources_at_once_are_refused() -> None:
    assert refusal("GET", BUCKET, "location&acl") == "NotImplemented"
    assert refusal("POST", OBJECT, "uploads&restore") == "NotImplemented"
    assert refusal("PUT", OBJECT, "partNumber=1") == "NotImplemented"


def test_a_parameter_without_value_is_a_sub_resource_even_on_a_read() -> None:
    assert refusal("GET", OBJECT, "brand-new") == "NotImplemented"


def test_methods_without_operations() -> None:
    assert refusal("PATCH", OBJECT) == "MethodNotAllowed"
    assert refusal("DELETE", SERVICE) == "MethodNotAllowed"
    assert refusal("POST", SERVICE) == "MethodNotAllowed"
    assert refusal("POST", OBJECT) == "MethodNotAllowed"


def test_headers_are_checked_against_the_operation() -> None:
    lock = Headers.of([("x-amz-object-lock-mode", "GOVERNANCE")])
    assert refusal("PUT", OBJECT, "partNumber=1&uploadId=1", lock) == "NotImplemented"
    event_hold = Headers.of([("x-amz-object-lock-event-hold", "ON")])
    assert refusal("PUT", OBJECT, "", event_hold) == "NotImplemented"
    bucket_lock = Headers.of([("x-amz-bucket-object-lock-enabled", "perhaps")])
    assert refusal("PUT", BUCKET, "", bucket_lock) == "InvalidArgument"
    assert refusal("POST", OBJECT, "uploads", COPY) == "NotImplemented"


def test_fields_in_a_presigned_query_count_as_fields() -> None:
    query = parse_query(b"x-amz-acl=public-read&X-Amz-Signature=1&X-Amz-Meta-A=b")
    headers = hoisted_headers(query, NONE)
    assert headers.get("x-amz-acl") == "public-read"
    assert headers.get("x-amz-meta-a") == "b"
    assert query == {"X-Amz-Signature": "1"}
    assert operation("PUT", OBJECT, "", headers) == "put_object"
    assert refusal("PUT", OBJECT, "tagging", headers_of_grants()) == "NotImplemented"
    for wrong in (
        b"x-amz-meta-a=1%0D%0AX-Evil:2",
        b"x-amz-meta-a%20b:%20c=v",
        b"x-amz-meta-%C3%A4=v",
    ):
        with pytest.raises(S3Error):
            hoisted_headers(parse_query(wrong), NONE)


def headers_of_grants() -> Headers:
    return hoisted_headers(parse_query(b"X-Amz-Grant-Read=id%3D1"), NONE)


EMPTY_SUMS = {
    "crc32": "AAAAAA%3D%3D",
    "crc32c": "AAAAAA%3D%3D",
    "crc64nvme": "AAAAAAAAAAA%3D",
    "sha1": "2jmj7l5rSw0yVb%2FvlWAYkK%2FYBwk%3D",
    "sha256": "47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D",
}


@pytest.mark.parametrize("algorithm", EMPTY_SUMS)
def test_the_digest_of_no_bytes_in_a_presigned_query_says_nothing(algorithm: str) -> None:
    raw = (
        f"x-amz-checksum-{algorithm}={EMPTY_SUMS[algorithm]}"
        f"&x-amz-sdk-checksum-algorithm={algorithm.upper()}&x-id=PutObject"
    )
    query = parse_query(raw.encode())
    assert len(hoisted_headers(query, NONE)) == 0
    assert query == {"x-id": "PutObject"}


@pytest.mark.parametrize("algorithm", EMPTY_SUMS)
def test_any_other_digest_in_a_presigned_query_is_a_field(algorithm: str) -> None:
    name, value = f"x-amz-checksum-{algorithm}", "B" + EMPTY_SUMS[algorithm][1:]
    query = parse_query(f"{name}={value}&x-amz-checksum-type=FULL_OBJECT".encode())
    headers = hoisted_headers(query, NONE)
    assert headers.get(name) == value.replace("%3D", "=").replace("%2F", "/").replace("%2B", "+")
    assert headers.get("x-amz-checksum-type") == "FULL_OBJECT"
    assert query == {}

"""The SigV4 kernel: equal to its plain twin, to botocore and to what AWS documents."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import sigv4
from reference import sigv4 as twin

SECRET = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
STAMP = b"20130524T000000Z"
SCOPE = b"20130524/us-east-1/s3/aws4_request"
EMPTY = hashlib.sha256(b"").hexdigest().encode()


@pytest.fixture(params=sigv4.paths())
def code_path(request: pytest.FixtureRequest) -> Iterator[str]:
    sigv4.force_path(request.param)
    yield request.param
    sigv4.force_path(None)


def aws_key() -> bytes:
    return sigv4.signing_key(SECRET, b"20130524", b"us-east-1", b"s3")


def aws_headers(*more: tuple[bytes, bytes], payload: bytes = EMPTY) -> list[tuple[bytes, bytes]]:
    return [
        (b"host", b"examplebucket.s3.amazonaws.com"),
        *more,
        (b"x-amz-content-sha256", payload),
        (b"x-amz-date", STAMP),
    ]


@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 70_001])
def test_hashes_are_those_of_the_standard_library(code_path: str, size: int) -> None:
    data = bytes(i * 31 & 255 for i in range(size))
    assert sigv4.path() == code_path
    assert sigv4.sha256(data) == hashlib.sha256(data).digest()
    expected = hmac.digest(data[:90], data, "sha256").hex().encode()
    assert sigv4.text_signature(data[:90], data) == expected


def test_a_path_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        sigv4.force_path("sha3")


# The four examples of "Signature Calculations for the Authorization Header" (Amazon S3).
@pytest.mark.parametrize(
    ("method", "path", "query", "more", "payload", "signature"),
    [
        (
            b"GET",
            b"/test.txt",
            b"",
            [(b"range", b"bytes=0-9")],
            EMPTY,
            b"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            b"PUT",
            b"/test%24file.text",
            b"",
            [
                (b"date", b"Fri, 24 May 2013 00:00:00 GMT"),
                (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
            ],
            b"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            b"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            b"GET",
            b"/",
            b"lifecycle",
            [],
            EMPTY,
            b"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            b"GET",
            b"/",
            b"prefix=J&max-keys=2",
            [],
            EMPTY,
            b"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_documented_header_examples(
    code_path: str,
    method: bytes,
    path: bytes,
    query: bytes,
    more: list[tuple[bytes, bytes]],
    payload: bytes,
    signature: bytes,
) -> None:
    headers = aws_headers(*more, payload=payload)
    signed = b";".join(sorted(name for name, _ in headers))
    found = sigv4.request_signature(
        aws_key(), STAMP, SCOPE, method, path, query, headers, signed, payload
    )
    assert found == signature


def test_documented_presigned_example() -> None:
    query = (
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F"
        b"us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
        b"&X-Amz-SignedHeaders=host&X-Amz-Signature="
    )
    signature = b"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    headers = [(b"host", b"examplebucket.s3.amazonaws.com")]
    found = sigv4.request_signature(
        aws_key(),
        STAMP,
        SCOPE,
        b"GET",
        b"/test.txt",
        query + signature,
        headers,
        b"host",
        b"UNSIGNED-PAYLOAD",
        True,
    )
    assert found == signature


TEXT = st.binary(max_size=40) | st.sampled_from([b"", b"%", b"%4", b"%zz", b"%2f%2F", b"a+b%20~"])
NAME = st.sampled_from([b"a", b"b", b"A", b"a-b", b"%61", b"X-Amz-Signature", b"\xc3\xa9", b"a%3d"])
VALUE = st.binary(max_size=20).filter(lambda v: not set(v) & set(b"\r\n\x0b\x0c\x1c\x1d\x1e\x1f"))
HEADER_NAME = st.sampled_from([b"host", b"x-amz-date", b"x-amz-meta-a", b"range", b"content-type"])


@settings(max_examples=300, deadline=None)
@given(
    path=TEXT,
    query=st.lists(st.tuples(NAME, st.none() | TEXT), max_size=6),
    headers=st.lists(st.tuples(HEADER_NAME, VALUE), max_size=8),
    signed=st.lists(HEADER_NAME, min_size=1, unique=True),
    presigned=st.booleans(),
)
def test_canonical_requests_are_those_of_the_twin(
    path: bytes,
    query: list[tuple[bytes, bytes | None]],
    headers: list[tuple[bytes, bytes]],
    signed: list[bytes],
    presigned: bool,
) -> None:
    raw = b"&".join(n if v is None else n + b"=" + v.replace(b"&", b"") for n, v in query)
    names = b";".join(sorted(signed))
    arguments = (b"PUT", path, raw, headers, names, b"UNSIGNED-PAYLOAD", presigned)
    assert sigv4.canonical_request(*arguments) == twin.canonical_request(*arguments)
    key = sigv4.signing_key(SECRET, b"20130524", b"eu", b"s3")
    assert key == twin.signing_key(SECRET, b"20130524", b"eu", b"s3")
    assert sigv4.request_signature(key, STAMP, SCOPE, *arguments) == twin.request_signature(
        key, STAMP, SCOPE, *arguments
    )
    assert sigv4.unsigned_header(headers, names) == twin.unsigned_header(headers, names)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=100), keep_slash=st.booleans())
def test_uri_encoding_is_that_of_the_twin(data: bytes, keep_slash: bool) -> None:
    assert sigv4.uri_encode(data, keep_slash) == twin.uri_encode(data, keep_slash)


@settings(max_examples=100, deadline=None)
@given(
    key=st.text(min_size=1, max_size=30),
    params=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=5),
    meta=st.text("abc \t~+,;=", max_size=20),
)
def test_botocore_signs_the_same(key: str, params: dict[str, str], meta: str) -> None:
    path = "/bucket/" + twin.uri_encode(key.encode("utf-8", "surrogatepass"), True).decode()
    query = "&".join(
        (twin.uri_encode(n.encode()) + b"=" + twin.uri_encode(v.encode())).decode()
        for n, v in params.items()
    )
    url = f"http://localhost:8443{path}" + ("?" + query if query else "")
    request = AWSRequest("GET", url, headers={"x-amz-meta-m": meta})
    S3SigV4Auth(Credentials("AK", SECRET.decode()), "s3", "us-east-1").add_auth(request)
    fields = dict(
        part.strip().split("=", 1)
        for part in request.headers["Authorization"].split(" ", 1)[1].split(",")
    )
    stamp = request.headers["X-Amz-Date"].encode()
    headers = [(n.lower().encode(), v.encode()) for n, v in request.headers.items()]
    headers.append((b"host", b"localhost:8443"))
    assert (
        sigv4.request_signature(
            sigv4.signing_key(SECRET, stamp[:8], b"us-east-1", b"s3"),
            stamp,
            stamp[:8] + b"/us-east-1/s3/aws4_request",
            b"GET",
            path.encode(),
            query.encode(),
            headers,
            fields["SignedHeaders"].encode(),
            EMPTY,
        )
        == fields["Signature"].encode()
    )


@pytest.mark.parametrize("signed", [b"", b"host;", b";host", b"b;a", b"a;a", b"a;;b"])
def test_signed_headers_out_of_order_are_refused(signed: bytes) -> None:
    with pytest.raises(ValueError, match="signed headers"):
        sigv4.canonical_request(b"GET", b"/", b"", [], signed, EMPTY)


def test_a_query_of_many_pairs_is_sorted() -> None:
    raw = b"&".join(b"k%d=%d" % (i * 7919 % 2000, i) for i in range(2000))
    assert sigv4.canonical_request(b"GET", b"/", raw, [], b"host", EMPTY) == (
        twin.canonical_request(b"GET", b"/", raw, [], b"host", EMPTY)
    )

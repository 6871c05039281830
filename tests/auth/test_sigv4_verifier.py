"""The verifier: what botocore signs is accepted, and nothing that was changed afterwards."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import sigv4 as kernel
from predastore.auth.authorization import parse_stamp
from predastore.auth.payload import verify_payload
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential, Verified, Verifier
from predastore.base.errors import SignatureError
from predastore.httpd.message import BytesBody, Headers, Request

ALICE = Credential("AKALICE", "alice-secret/+", "1001")
REGION = "eu-north-1"
EMPTY = kernel.sha256(b"").hex()


def verifier(region: str = REGION, service: str = "s3", ahead_s: float = 0.0) -> Verifier:
    return Verifier(
        {ALICE.access_key_id: ALICE}.get,
        region=region,
        service=service,
        now=lambda: time.time() + ahead_s,
    )


def request_of(signed: AWSRequest, *more: tuple[str, str]) -> Request:
    """The request that botocore would have sent."""
    url = urlsplit(signed.url)
    headers = [("Host", url.netloc), *signed.headers.items(), *more]
    query = url.query.encode()
    if signed.params:
        query = "&".join(f"{k}={v}" for k, v in signed.params.items()).encode()
    body = signed.data or b""
    return Request(
        signed.method, url.path.encode(), query, Headers.of(headers), BytesBody(body), bool(body)
    )


def botocore_signed(
    method: str = "PUT",
    url: str = "http://h:1/bucket/a%20key?partNumber=1&uploadId=x%2By",
    body: bytes = b"content",
    *more: tuple[str, str],
    headers: dict[str, str] | None = None,
    credential: Credential = ALICE,
    presign_s: int | None = None,
    region: str = REGION,
    service: str = "s3",
) -> Request:
    data = body if presign_s is None else b""  # botocore would take it for parameters
    request = AWSRequest(method, url, headers=headers or {}, data=data)
    keys = Credentials(credential.access_key_id, credential.secret_access_key)
    if presign_s is None:
        botocore.auth.S3SigV4Auth(keys, service, region).add_auth(request)
    else:
        auth = botocore.auth.S3SigV4QueryAuth(keys, service, region, expires=presign_s)
        auth.add_auth(request)
    return request_of(request, *more)


def refused(request: Request, by: Verifier | None = None) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        (by or verifier()).verify(request)
    return caught.value


def changed_header(request: Request, name: str, change: Callable[[str], str]) -> Request:
    items = [(n, change(v) if n == name else v) for n, v in request.headers.items()]
    assert items != list(request.headers.items())
    return replace(request, headers=Headers.of(items))


def without(request: Request, name: str) -> Request:
    return replace(
        request, headers=Headers.of([(n, v) for n, v in request.headers.items() if n != name])
    )


# --- what is accepted


def test_a_signed_request_is_its_signers() -> None:
    verified = verifier().verify(botocore_signed())
    assert verified.credential == ALICE
    assert not verified.presigned
    verify_payload(b"content", verified.payload_sha256)
    with pytest.raises(SignatureError) as caught:
        verify_payload(b"Content", verified.payload_sha256)
    assert caught.value.s3_code == "XAmzContentSHA256Mismatch"


def test_a_presigned_request_is_its_signers() -> None:
    verified = verifier().verify(botocore_signed("GET", presign_s=60))
    assert (verified.credential, verified.presigned) == (ALICE, True)
    assert verified.payload_sha256 is None


def test_the_time_may_be_in_date_instead() -> None:
    request = botocore_signed(headers={"Date": "botocore puts its own here"})
    assert request.headers.get("x-amz-date") is None
    assert verifier().verify(request).credential == ALICE
    older = changed_header(request, "date", lambda _: formatdate(time.time() - 60, usegmt=True))
    assert refused(older).s3_code == "SignatureDoesNotMatch"
    for none in ("", "yesterday", "Tue, 99 Nov 2026 00:00:00 GMT"):
        code = refused(changed_header(request, "date", lambda _, none=none: none)).s3_code
        assert code == "AccessDenied"


def test_a_request_without_a_signature_is_anonymous() -> None:
    request = Request("GET", b"/b/k", b"prefix=X", Headers.of([("host", "h")]), BytesBody())
    assert verifier().verify(request) == Verified(None, None)
    digest = ("x-amz-content-sha256", kernel.sha256(b"abc").hex())
    request.headers = Headers.of([("host", "h"), digest])
    request.body = BytesBody(b"abc")
    assert verifier().verify(request).payload_sha256 == kernel.sha256(b"abc")


@settings(max_examples=100, deadline=None)
@given(
    path=st.binary(min_size=1, max_size=60),
    query=st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.binary(max_size=9)), max_size=4),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    body=st.none() | st.binary(max_size=50),
)
def test_what_our_own_client_signs_is_accepted(
    path: bytes, query: list[tuple[bytes, bytes]], value: str, body: bytes | None
) -> None:
    raw_path = b"/" + kernel.uri_encode(path, True)
    raw_query = b"&".join(kernel.uri_encode(n) + b"=" + kernel.uri_encode(v) for n, v in query)
    headers = sign_request(
        ALICE,
        method="POST",
        raw_path=raw_path,
        raw_query=raw_query,
        headers=[("host", "h"), ("x-thing", value.strip())],
        payload=body,
        region=REGION,
        service="s3db",
    )
    stored = BytesBody(body or b"")
    request = Request("POST", raw_path, raw_query, Headers.of(headers), stored)
    verified = verifier(service="s3db").verify(request)
    assert verified.credential == ALICE
    if body is not None:
        verify_payload(body, verified.payload_sha256)


# --- what was changed after signing


CHANGES: dict[str, Callable[[Request], Request]] = {
    "method": lambda r: replace(r, method="DELETE"),
    "path": lambda r: replace(r, raw_path=r.raw_path + b"x"),
    "path normalised": lambda r: replace(r, raw_path=b"/bucket/./a%20key"),
    "path slashes": lambda r: replace(r, raw_path=b"/bucket//a%20key"),
    "query": lambda r: replace(r, raw_query=r.raw_query + b"&x"),
    "query value": lambda r: replace(r, raw_query=r.raw_query.replace(b"=1", b"=2")),
    "host": lambda r: changed_header(r, "host", lambda v: "other"),
    "metadata": lambda r: changed_header(r, "x-amz-meta-a", lambda v: "other"),
    "metadata twice": lambda r: replace(
        r, headers=Headers.of([*r.headers.items(), ("x-amz-meta-a", "more")])
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("presign_s", [None, 60])
def test_any_change_after_signing_is_refused(change: str, presign_s: int | None) -> None:
    request = botocore_signed(headers={"x-amz-meta-a": "1"}, presign_s=presign_s)
    assert verifier().verify(request).credential == ALICE
    assert refused(CHANGES[change](request)).s3_code == "SignatureDoesNotMatch"


def test_a_wrong_secret_or_an_unknown_key_is_refused() -> None:
    wrong = replace(ALICE, secret_access_key="guess")
    for presign_s in (None, 60):
        error = refused(botocore_signed(credential=wrong, presign_s=presign_s))
        assert error.s3_code == "SignatureDoesNotMatch"
        assert "alice-secret" not in str(error) + repr(error.extra)
        unknown = replace(ALICE, access_key_id="AKBOB")
        error = refused(botocore_signed(credential=unknown, presign_s=presign_s))
        assert error.s3_code == "InvalidAccessKeyId"
    assert "alice-secret" not in repr(ALICE)


@pytest.mark.parametrize("presign_s", [None, 60])
@pytest.mark.parametrize(
    "header",
    [
        ("x-amz-copy-source", "/other/secret"),
        ("x-amz-meta-evil", "1"),
        ("X-Amz-Acl", "public-read"),
    ],
)
def test_an_unsigned_amz_header_is_refused(header: tuple[str, str], presign_s: int | None) -> None:
    error = refused(botocore_signed("PUT", "http://h/b/k", b"", header, presign_s=presign_s))
    assert error.s3_code == "AccessDenied"
    assert str(error) == "There were headers present in the request which were not signed"
    assert error.extra["HeadersNotSigned"] == header[0].lower()


def test_an_unsigned_host_is_refused() -> None:
    request = botocore_signed("GET", "http://h/b/k", b"")
    request = changed_header(request, "authorization", lambda v: v.replace("=host;", "="))
    assert refused(request).extra["HeadersNotSigned"] == "host"


def test_an_ordinary_header_need_not_be_signed() -> None:
    more = ("User-Agent", "changed by a proxy")
    assert verifier().verify(botocore_signed("GET", "http://h/b/k", b"", more)).credential


# --- scope and time


def test_a_foreign_region_or_service_is_refused() -> None:
    error = refused(botocore_signed(region="us-west-1"))
    assert error.s3_code == "AuthorizationHeaderMalformed"
    assert (REGION in str(error), error.extra["Region"]) == (True, REGION)
    error = refused(botocore_signed(region="us-west-1", presign_s=60))
    assert error.s3_code == "AuthorizationQueryParametersError"
    assert refused(botocore_signed(service="ec2")).s3_code == "AuthorizationHeaderMalformed"
    assert refused(botocore_signed(service="s3"), verifier(service="s3db")).s3_code == (
        "AuthorizationHeaderMalformed"
    )


def test_clock_skew_is_bounded_both_ways() -> None:
    for ahead_s in (-880, 880):
        assert verifier(ahead_s=ahead_s).verify(botocore_signed()).credential
    for ahead_s in (-920, 920, 10**9):
        error = refused(botocore_signed(), verifier(ahead_s=ahead_s))
        assert error.s3_code == "RequestTimeTooSkewed"
        now = time.strptime(error.extra["ServerTime"], "%Y-%m-%dT%H:%M:%SZ")
        assert abs(calendar.timegm(now) - ahead_s - time.time()) < 60


def test_a_presigned_request_ends_at_its_time() -> None:
    request = botocore_signed("GET", presign_s=3600)
    assert verifier(ahead_s=3590).verify(request).credential
    assert str(refused(request, verifier(ahead_s=3610))) == "Request has expired"
    assert refused(request, verifier(ahead_s=3610)).s3_code == "AccessDenied"
    assert refused(request, verifier(ahead_s=-920)).s3_code == "AccessDenied"


@pytest.mark.parametrize("expires", ["0", "-1", "604801", "", "1e3", "99999999999", "\u0663"])
def test_expiry_is_within_a_week(expires: str) -> None:
    request = botocore_signed("GET", "http://h/b/k", b"", presign_s=60)
    encoded = kernel.uri_encode(expires.encode())
    request.raw_query = request.raw_query.replace(b"X-Amz-Expires=60", b"X-Amz-Expires=" + encoded)
    assert refused(request).s3_code == "AuthorizationQueryParametersError"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_stamps_are_read_as_the_calendar_has_them(time_s: int) -> None:
    text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time_s))
    assert parse_stamp(text) == time_s == calendar.timegm(time.gmtime(time_s))


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "20250101",
        "2025-01-01T00:00:00Z",
        "20251301T000000Z",
        "20250230T000000Z",
        "20250101T240000Z",
        "20250101T006000Z",
        "20250101T000000",
        "20250101 000000Z",
        "2025010\u0661T000000Z",
    ],
)
def test_a_stamp_that_is_none_is_refused(stamp: str) -> None:
    assert parse_stamp(stamp) is None


# --- malformed claims


AUTHORIZATIONS = {
    "": "InvalidArgument",
    "Basic YWxpY2U6c2VjcmV0": "InvalidArgument",
    "AWS AKALICE:c2lnbmF0dXJl": "InvalidRequest",
    "AWS4-ECDSA-P256-SHA256 Credential=a/b": "NotImplemented",
    "AWS4-HMAC-SHA256": "AuthorizationHeaderMalformed",
    "AWS4-HMAC-SHA256 Credential=AKALICE": "AuthorizationHeaderMalformed",
    "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=0": (
        "AuthorizationHeaderMalformed"
    ),
    "AWS4-HMAC-SHA256 Credential=a/20250101/r/s3/aws4_request, A=host, Signature=0": (
        "AuthorizationHeaderMalformed"
    ),
    "AWS4-HMAC-SHA256 Credential=a/2025x101/r/s3/aws4_request, SignedHeaders=host, Signature=0": (
        "AuthorizationHeaderMalformed"
    ),
}


@pytest.mark.parametrize("header", AUTHORIZATIONS)
def test_a_malformed_authorization_is_refused(header: str) -> None:
    request = botocore_signed("GET", "http://h/b/k", b"")
    request = changed_header(request, "authorization", lambda v: header)
    assert refused(request).s3_code == AUTHORIZATIONS[header]


@pytest.mark.parametrize("end", ["0" * 64, "", "0" * 63, "\xff" * 64])
def test_a_made_up_signature_is_refused(end: str) -> None:
    request = botocore_signed()
    request = changed_header(request, "authorization", lambda v: v[:-64] + end)
    assert refused(request).s3_code == "SignatureDoesNotMatch"


def test_signed_headers_must_be_in_order() -> None:
    request = botocore_signed("GET", "http://h/b/k", b"")
    request = changed_header(
        request, "authorization", lambda v: v.replace("=host;", "=x-amz-date;host;")
    )
    assert refused(request).s3_code == "AuthorizationHeaderMalformed"


def test_date_and_payload_headers_are_required() -> None:
    request = botocore_signed()
    assert refused(without(request, "x-amz-date")).s3_code == "AccessDenied"
    assert refused(without(request, "x-amz-content-sha256")).s3_code == "InvalidRequest"
    changed = changed_header(request, "x-amz-date", lambda v: "19700101T000000Z")
    assert refused(changed).s3_code == "AuthorizationHeaderMalformed"


@pytest.mark.parametrize(
    "name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"]
)
def test_a_presigned_query_is_complete_and_says_things_once(name: str) -> None:
    request = botocore_signed("GET", "http://h/b/k", b"", presign_s=60)
    pairs = request.raw_query.split(b"&")
    field = f"X-Amz-{name}=".encode()
    rest = [pair for pair in pairs if not pair.startswith(field)]
    assert len(rest) == len(pairs) - 1
    incomplete = replace(request, raw_query=b"&".join(rest))
    assert refused(incomplete).s3_code == "AuthorizationQueryParametersError"
    twice = replace(request, raw_query=request.raw_query + b"&" + field + b"x")
    assert refused(twice).s3_code == "AuthorizationQueryParametersError"


def test_other_mechanisms_and_mixtures_are_refused() -> None:
    request = botocore_signed("GET", "http://h/b/k", b"", presign_s=60)
    query = request.raw_query.replace(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA1")
    assert refused(replace(request, raw_query=query)).s3_code == (
        "AuthorizationQueryParametersError"
    )
    query = b"AWSAccessKeyId=AKALICE&Expires=99999999999&Signature=x"
    assert refused(replace(request, raw_query=query), verifier(service="s3db")).s3_code == (
        "InvalidRequest"
    )
    signed = botocore_signed("GET", "http://h/b/k", b"")
    assert refused(replace(signed, raw_query=request.raw_query)).s3_code == "InvalidArgument"
    many = b"&".join(b"X-Amz-%d=" % i for i in range(600))
    assert refused(replace(request, raw_query=many)).s3_code == (
        "AuthorizationQueryParametersError"
    )


def test_a_security_token_is_refused() -> None:
    request = botocore_signed("GET", headers={"x-amz-security-token": "t"})
    assert refused(request).s3_code == "InvalidToken"


# --- payload


def signed_payload(payload: str, body: bytes = b"abc", **extra: Any) -> Request:
    headers = sign_request(
        ALICE,
        method="PUT",
        raw_path=b"/b/k",
        raw_query=b"",
        headers=[("host", "h"), *extra.items()],
        payload=payload,
        region=REGION,
        service="s3",
    )
    return Request("PUT", b"/b/k", b"", Headers.of(headers), BytesBody(body))


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("0" * 63, "InvalidArgument"),
        ("g" * 64, "InvalidArgument"),
        ("unsigned-payload", "InvalidArgument"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", "NotImplemented"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "MissingContentLength"),
    ],
)
def test_an_unknown_kind_of_payload_is_refused(payload: str, code: str) -> None:
    assert refused(signed_payload(payload)).s3_code == code


def test_the_digest_of_a_body_that_is_not_there_is_checked_at_once() -> None:
    request = signed_payload(kernel.sha256(b"abc").hex(), b"")
    assert refused(request).s3_code == "XAmzContentSHA256Mismatch"
    assert verifier().verify(signed_payload(EMPTY, b"")).credential


@pytest.mark.parametrize("length", ["-1", "x", "", "1" * 19, "+3"])
def test_a_decoded_length_that_is_no_number_is_refused(length: str) -> None:
    request = signed_payload(
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER", **{"x-amz-decoded-content-length": length}
    )
    assert refused(request).s3_code == "InvalidArgument"


def test_an_anonymous_request_can_not_have_signed_chunks() -> None:
    headers = [("host", "h"), ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")]
    request = Request("PUT", b"/b/k", b"", Headers.of(headers), BytesBody(b"abc"))
    assert refused(request).s3_code == "AccessDenied"


@pytest.mark.parametrize(
    ("signed", "sent", "good"),
    [
        ("h.example", "h.example:443", True),
        ("h.example", "h.example:80", True),
        ("h.example:443", "h.example", True),
        ("h.example:80", "h.example", True),
        ("[::1]", "[::1]:443", True),
        ("[::1]:80", "[::1]", True),
        ("h.example", "h.example:8443", False),
        ("h.example:8443", "h.example", False),
        ("h.example:8443", "h.example:443", False),
        ("h.example", "other.example:443", False),
        ("h.example:443", "other.example", False),
    ],
)
@pytest.mark.parametrize("presign_s", [None, 60])
def test_the_default_port_is_signed_or_not(
    signed: str, sent: str, good: bool, presign_s: int | None
) -> None:
    request = botocore_signed(
        "GET", "http://here/b/k", b"", headers={"Host": signed}, presign_s=presign_s
    )
    fields = [(name, value) for name, value in request.headers.items() if name != "host"]
    request = replace(request, headers=Headers.of([("Host", sent), *fields]))
    if good:
        assert verifier().verify(request).credential == ALICE
    else:
        assert refused(request).s3_code == "SignatureDoesNotMatch"


def test_no_other_field_is_read_in_two_ways() -> None:
    request = botocore_signed("GET", "http://h/b/k", b"", headers={"x-amz-meta-a": "h"})
    fields = [(n, "h:443" if n == "x-amz-meta-a" else v) for n, v in request.headers.items()]
    assert refused(replace(request, headers=Headers.of(fields))).s3_code == "SignatureDoesNotMatch"

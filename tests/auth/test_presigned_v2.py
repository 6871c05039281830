"""Version 2 presigned URLs, as boto3 makes them by default in us-east-1."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from predastore.auth.sigv4 import Credential, Verifier
from predastore.base.errors import SignatureError
from predastore.httpd.message import BytesBody, Headers, Request

CREDENTIAL = Credential("KEYID", "the secret", "1")


def verifier(now_s: float | None = None) -> Verifier:
    known = {"KEYID": CREDENTIAL}
    now = time.time if now_s is None else lambda: now_s
    return Verifier(known.get, region="us-east-1", now=now)


def presigned(operation: str = "get_object", **parameters: Any) -> str:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1",
        region_name="us-east-1",
        aws_access_key_id="KEYID",
        aws_secret_access_key="the secret",
        config=Config(signature_version="s3", s3={"addressing_style": "path"}),
    )
    values = {"Bucket": "bucket", "Key": "a b/ü+c", **parameters}
    url: str = client.generate_presigned_url(operation, Params=values, ExpiresIn=600)
    return url


def request(url: str, method: str = "GET", **headers: str) -> Request:
    parts = urlsplit(url)
    fields = {"host": "127.0.0.1", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Request(
        method, parts.path.encode(), parts.query.encode(), Headers.of(fields.items()), BytesBody()
    )


def refused(made: Request, now_s: float | None = None) -> str:
    with pytest.raises(SignatureError) as caught:
        verifier(now_s).verify(made)
    return caught.value.s3_code


@pytest.mark.parametrize(
    "parameters",
    [{}, {"ResponseContentType": "text/x y", "PartNumber": 3}, {"ResponseExpires": "2030-01-01"}],
)
def test_what_botocore_signs_is_good(parameters: dict[str, Any]) -> None:
    verified = verifier().verify(request(presigned(**parameters)))
    assert verified.credential == CREDENTIAL
    assert verified.presigned


def test_a_put_covers_its_content_type_and_amz_headers() -> None:
    url = presigned("put_object")
    verifier().verify(request(url, "PUT"))
    assert refused(request(url, "PUT", content_type="text/plain")) == "SignatureDoesNotMatch"
    assert refused(request(url, "PUT", x_amz_acl="private")) == "SignatureDoesNotMatch"
    assert refused(request(url, "GET")) == "SignatureDoesNotMatch"


def test_tampering_is_found() -> None:
    url = presigned()
    assert refused(request(url.replace("bucket", "other"))) == "SignatureDoesNotMatch"
    assert refused(request(url.replace("KEYID", "NOBODY"))) == "InvalidAccessKeyId"
    assert refused(request(url + "&acl")) == "SignatureDoesNotMatch"


def test_a_parameter_that_is_not_covered_is_not_obeyed() -> None:
    assert refused(request(presigned() + "&list-type=2")) == "AccessDenied"
    for added in ("x-amz-acl=public-read", "X-Amz-Meta-A=b", "content-type=a/b", "Content-MD5=x"):
        assert refused(request(presigned() + "&" + added)) == "SignatureDoesNotMatch", added


FIELDS = {
    "ContentType": "text/plain; charset=utf-8",
    "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg==",
    "ACL": "private",
    "Metadata": {"colour": "red and blue+green", "b": "%41"},
    "StorageClass": "GLACIER",
    "ChecksumAlgorithm": "SHA256",
}


def test_fields_may_stand_in_the_query() -> None:
    url = presigned("put_object", **FIELDS)
    assert "content-type=text" in url
    verifier().verify(request(url, "PUT"))
    # or in the header too, if they say the same
    told = {"content_type": FIELDS["ContentType"], "x_amz_acl": "private"}
    verifier().verify(request(url, "PUT", **told))


@pytest.mark.parametrize(
    ("name", "value"),
    [("content_type", "text/html"), ("content_md5", "other"), ("x_amz_acl", "public-read"),
     ("x_amz_meta_colour", "green"), ("x_amz_meta_new", "x")],
)  # fmt: skip
def test_a_header_never_says_another_thing_than_the_query(name: str, value: str) -> None:
    url = presigned("put_object", **FIELDS)
    assert refused(request(url, "PUT", **{name: value})) == "SignatureDoesNotMatch"


def test_fields_of_the_query_are_signed() -> None:
    url = presigned("put_object", **FIELDS)
    for sent, forged in (
        ("text%2Fplain", "text%2Fhtml"),
        ("x-amz-acl=private", "x-amz-acl=public-read"),
        ("x-amz-storage-class=GLACIER", "x-amz-storage-class=STANDARD"),
        ("x-amz-meta-colour=red", "x-amz-meta-colour=blue"),
        ("%2Bgreen", "+green"),
        ("&x-amz-acl=private", ""),
    ):
        assert sent in url
        assert refused(request(url.replace(sent, forged), "PUT")) == "SignatureDoesNotMatch", sent


def test_a_field_is_in_the_query_once_at_most() -> None:
    twice = presigned("put_object", ACL="private") + "&X-Amz-Acl=public-read"
    assert refused(request(twice, "PUT")) == "InvalidArgument"


def test_temporary_credentials_are_refused_as_such() -> None:
    token = "x-amz-security-token"
    assert refused(request(f"{presigned()}&{token}=t")) == "InvalidToken"
    assert refused(request(presigned(), x_amz_security_token="t")) == "InvalidToken"


def test_the_bodys_digest_may_stand_in_the_query() -> None:
    made = AWSRequest("PUT", "http://127.0.0.1/b/k", headers={"x-amz-content-sha256": "ab" * 32})
    HmacV1QueryAuth(Credentials("KEYID", "the secret")).add_auth(made)
    assert f"x-amz-content-sha256={'ab' * 32}" in made.url
    assert refused(request(made.url, "PUT")) == "XAmzContentSHA256Mismatch"  # there is no body


def test_it_expires_and_can_not_live_for_years() -> None:
    url = presigned()
    assert refused(request(url), time.time() + 601) == "AccessDenied"
    assert refused(request(url), time.time() - 8 * 86_400) == "AccessDenied"


def test_half_a_query_is_refused() -> None:
    assert refused(request("http://x/b/k?AWSAccessKeyId=KEYID&Expires=9")) == "AccessDenied"


def test_other_services_have_no_version_2() -> None:
    other = Verifier({"KEYID": CREDENTIAL}.get, region="us-east-1", service="s3db")
    with pytest.raises(SignatureError, match="Version 2 is not supported"):
        other.verify(request(presigned()))


def test_the_bucket_may_stand_in_the_host() -> None:
    made = request(presigned().replace("/bucket/", "/"))
    verified = verifier().verify(made, "bucket")
    assert verified.credential == CREDENTIAL
    with pytest.raises(SignatureError):
        verifier().verify(made, "other")

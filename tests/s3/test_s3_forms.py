"""Browser-based uploads: what a form makes is what it says, byte for byte, on both backends."""

from __future__ import annotations

import base64
import os
import urllib.request
import uuid
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.client import BaseClient

from predastore.base.limits import KIB, MIB
from reference.multipart import encode
from support.forms import BOUNDARY, CONTENT_TYPE, Form
from support.s3raw import conversation, exchange, request_bytes
from support.s3server import DOMAIN, S3Server

TAGGING = (
    "<Tagging><TagSet><Tag><Key>a b</Key><Value>\u00e4=+</Value></Tag>"
    "<Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>"
)


def get(s3: BaseClient, bucket: str, key: str = "k") -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.fixture(params=["s3v4", "s3"])
def signing(server: S3Server, request: pytest.FixtureRequest) -> BaseClient:
    """boto3 that signs forms by Version 4, and by Version 2, as it does in us-east-1."""
    return server.client(signature_version=request.param)


def send(url: str, fields: dict[str, str], data: bytes, filename: str) -> tuple[int, bytes]:
    """As a client of the standard library alone would."""
    parts: list[tuple[str, bytes, str | None]] = [
        (name, value.encode(), None) for name, value in fields.items()
    ]
    body = encode(BOUNDARY, [*parts, ("file", data, filename)], b"\r\n")
    request = urllib.request.Request(url, body, {"Content-Type": CONTENT_TYPE})
    with urllib.request.urlopen(request) as answer:
        return answer.status, answer.read()


@pytest.mark.parametrize("size", [0, 5, 1_500, 70 * KIB, 3 * MIB + 1])
def test_boto3s_presigned_posts_are_taken(
    signing: BaseClient, s3: BaseClient, bucket: str, size: int
) -> None:
    data = os.urandom(size)
    made = signing.generate_presigned_post(
        bucket,
        "up/${filename}",
        Fields={"acl": "private", "Content-Type": "image/png", "x-amz-meta-who": "me"},
        Conditions=[
            {"acl": "private"},
            ["starts-with", "$Content-Type", "image/"],
            {"x-amz-meta-who": "me"},
            ["content-length-range", 0, size],
        ],
    )
    status, body = send(made["url"], made["fields"], data, "C:\\my files\\\u00e4 b.png")
    assert (status, body) == (204, b"")
    found = s3.get_object(Bucket=bucket, Key="up/\u00e4 b.png")
    assert (found["Body"].read(), found["ContentType"]) == (data, "image/png")
    assert found["Metadata"] == {"who": "me"}


@pytest.mark.parametrize("size", [0, 100, 64 * KIB, 64 * KIB + 1, MIB, 3 * MIB, 4 * MIB + 7])
def test_a_file_is_stored_exactly_whatever_follows_it(
    server: S3Server, s3: BaseClient, bucket: str, size: int
) -> None:
    data = os.urandom(size)
    for behind in ({}, {"submit": "Upload"}, {"submit": "Upload", "more": "x" * 60_000}):
        answer = Form(bucket, data=data, behind=behind).post(server)
        assert answer.status == 204
        assert get(s3, bucket) == data
        assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == size


def test_a_form_may_end_without_a_line_end_or_with_an_epilogue(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    body = Form(bucket, data=b"d" * 100_000).body()
    for whole in (body[:-2], body, body + b"an epilogue"):
        assert Form(bucket).post(server, whole).status == 204
        assert get(s3, bucket) == b"d" * 100_000


def test_everything_that_a_form_may_say_of_an_object(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    fields = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "max-age=5",
        "Content-Disposition": 'attachment; filename="\u00e4.txt"',
        "Content-Encoding": "gzip",
        "Content-Language": "de",
        "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-amz-meta-Name": "${filename} \u20ac",
        "X-Amz-Storage-Class": "STANDARD_IA",
        "x-amz-website-redirect-location": "/elsewhere",
        "tagging": TAGGING,
        "acl": "bucket-owner-full-control",
        "x-amz-checksum-algorithm": "CRC32",
        "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode(),
        "x-ignore-this": "anything",
        "unknown": "nothing that S3 knows",
    }
    answer = Form(bucket, fields).post(server)
    assert answer.status == 204
    found = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert found["Body"].read() == b"hello"
    assert answer.headers["etag"] == found["ETag"]
    assert answer.headers["x-amz-checksum-crc32"] == fields["x-amz-checksum-crc32"]
    assert found["ChecksumCRC32"] == fields["x-amz-checksum-crc32"]
    assert found["ContentType"] == fields["Content-Type"]
    assert found["CacheControl"] == "max-age=5"
    disposition = found["ContentDisposition"].encode("latin-1").decode()
    assert disposition == fields["Content-Disposition"]
    assert (found["ContentEncoding"], found["ContentLanguage"]) == ("gzip", "de")
    assert found["ResponseMetadata"]["HTTPHeaders"]["expires"] == fields["Expires"]
    assert found["WebsiteRedirectLocation"] == "/elsewhere"
    assert found["StorageClass"] == "STANDARD_IA"
    assert found["Metadata"] == {"name": "=?UTF-8?Q?a.txt_=E2=82=AC?="}
    tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "a b", "Value": "\u00e4=+"}, {"Key": "c", "Value": ""}]


def test_the_header_of_the_request_says_nothing_of_the_object(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    """It is covered by no policy."""
    headers = {"x_amz_meta_a": "b", "x_amz_storage_class": "GLACIER", "cache_control": "no-store"}
    assert Form(bucket).post(server, None, **headers).status == 204
    found = s3.get_object(Bucket=bucket, Key="k")
    assert (found["Metadata"], found.get("StorageClass")) == ({}, None)
    assert found.get("CacheControl") is None
    assert found["ContentType"] == "binary/octet-stream"


@pytest.mark.parametrize(
    ("asked", "status"), [("", 204), ("200", 200), ("201", 201), ("204", 204), ("404", 204)]
)
def test_the_status_that_a_form_asks_for(
    server: S3Server, bucket: str, asked: str, status: int
) -> None:
    answer = Form(bucket, {"key": "a b/\u00e4&", "success_action_status": asked}).post(server)
    assert answer.status == status
    where = f"{server.url}/{bucket}/a%20b/%C3%A4%26"
    assert answer.headers["location"] == where
    if status != 201:
        assert answer.body == b""
        return
    told = {child.tag: child.text for child in ET.fromstring(answer.body)}
    etag = answer.headers["etag"]
    assert told == {"Location": where, "Bucket": bucket, "Key": "a b/\u00e4&", "ETag": etag}


@pytest.mark.parametrize("name", ["success_action_redirect", "redirect"])
def test_a_browser_is_sent_on(server: S3Server, bucket: str, name: str) -> None:
    target = "https://example.com/done?a=1#top"
    answer = Form(bucket, {"key": "a&b", name: target, "success_action_status": "201"}).post(server)
    assert (answer.status, answer.body) == (303, b"")
    to = urlsplit(answer.headers["location"])
    assert (to.scheme, to.netloc, to.path, to.fragment) == ("https", "example.com", "/done", "top")
    said = {"a": ["1"], "bucket": [bucket], "key": ["a&b"], "etag": [answer.headers["etag"]]}
    assert parse_qs(to.query) == said


@pytest.mark.parametrize(
    "target",
    ["", "nowhere", "/a/path", "javascript:alert(1)", "ftp://a/b", "http://", "http://[", "//a/b",
     "https://a/b c", "https://a/b\r\nSet-Cookie: c=d", "https://\u00e4/"],
)  # fmt: skip
def test_what_is_no_address_is_as_if_it_were_not_there(
    server: S3Server, bucket: str, target: str
) -> None:
    answer = Form(bucket, {"success_action_redirect": target}).post(server)
    assert answer.status == 204
    assert "set-cookie" not in answer.headers


def test_virtual_host_style(server: S3Server, s3: BaseClient, bucket: str) -> None:
    host = f"{bucket}.{DOMAIN}:{server.port}"
    answer = Form(bucket, {"key": "a/b"}).post(server, host=host)
    assert (answer.status, answer.headers["location"]) == (204, f"http://{host}/a/b")
    assert get(s3, bucket, "a/b") == b"hello"


def test_versions_and_conditions(server: S3Server, s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = Form(bucket).post(server).headers["x-amz-version-id"]
    second = Form(bucket, data=b"2").post(server).headers["x-amz-version-id"]
    assert first != second
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"hello"
    for answer in (
        Form(bucket).post(server, if_none_match="*"),
        Form(bucket, {"If-None-Match": "*"}).post(server),
    ):
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert get(s3, bucket) == b"2"


def test_object_lock(server: S3Server, s3: BaseClient) -> None:
    name = f"locked-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    fields = {
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": until,
        "x-amz-object-lock-legal-hold": "ON",
    }
    assert Form(name, fields).post(server).code == "InvalidRequest"  # without a digest
    fields["Content-MD5"] = "XUFAKrxLKna5cZ2REBfFkg=="
    assert Form(name, fields).post(server).status == 204
    found = s3.head_object(Bucket=name, Key="k")
    assert (found["ObjectLockMode"], found["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON")


def test_many_forms_on_one_connection(server: S3Server, s3: BaseClient, bucket: str) -> None:
    bodies = [Form(bucket, {"key": f"k{n}"}, data=b"%d" % n * 30_000).body() for n in range(5)]
    fields = {"host": f"127.0.0.1:{server.port}", "content-type": CONTENT_TYPE}
    data = b"".join(
        request_bytes(
            "POST", f"/{bucket}", "", [*fields.items(), ("content-length", str(len(body)))], body
        )
        for body in bodies
    )
    answers = conversation(server.address, data, ["POST"] * 5)
    assert [answer.status for answer in answers] == [204] * 5
    assert get(s3, bucket, "k3") == b"3" * 30_000


@pytest.fixture
def limited(server: S3Server, bucket: str) -> Iterator[Any]:
    """A form of a key that may do just that in the bucket."""

    def made(actions: str, fields: dict[str, str]) -> Form:
        return Form(bucket, fields, who=server.limited((bucket, actions)))

    return made


def test_a_form_may_do_what_the_key_that_signed_it_may(
    server: S3Server, s3: BaseClient, bucket: str, limited: Any
) -> None:
    tagged = {"tagging": TAGGING}
    with server.unchanged():
        assert limited("s3:GetObject", {}).post(server).code == "AccessDenied"
        assert limited("s3:PutObject", tagged).post(server).code == "AccessDenied"
        locked = {"x-amz-object-lock-legal-hold": "ON"}
        assert limited("s3:PutObject", locked).post(server).code == "AccessDenied"
    assert limited("s3:PutObject s3:PutObjectTagging", tagged).post(server).status == 204
    assert get(s3, bucket) == b"hello"


def test_a_form_on_an_address_of_an_object_is_none(server: S3Server, bucket: str) -> None:
    body = Form(bucket).body()
    fields = [("host", "h"), ("content-type", CONTENT_TYPE), ("content-length", str(len(body)))]
    answer = exchange(server.address, "POST", f"/{bucket}/k", "", fields, body)
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")

"""Reads at their edges: what conditions carry, ends of nothing, parts' checksums, and metadata."""

from __future__ import annotations

import base64
import email.header
import hashlib
import time
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.base.limits import MIB, S3_USER_METADATA_BYTES_MAX
from predastore.s3.dates import http_date
from support.s3raw import Answer, Raw
from support.s3refusals import refused
from support.s3server import S3Server

DATA = b"0123456789"


@pytest.fixture
def where(s3: BaseClient, bucket: str) -> dict[str, str]:
    """An object with all that a cache cares for."""
    found = {"Bucket": bucket, "Key": "k"}
    s3.put_object(
        **found,
        Body=DATA,
        CacheControl="max-age=60",
        Expires="Thu, 01 Dec 2094 16:00:00 GMT",
        ContentType="text/plain",
        Metadata={"a": "b"},
    )
    return found


def ask(
    server: S3Server, where: dict[str, str], query: str = "", method: str = "GET", **fields: str
) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    path = f"/{where['Bucket']}/{where['Key']}"
    return server.signer().send(Raw(method, path, query, headers=headers))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_304_has_what_a_cache_needs(
    server: S3Server, s3: BaseClient, where: dict[str, str], method: str
) -> None:
    head = ask(server, where, method="HEAD").headers
    for fields in ({"if_none_match": head["etag"]}, {"if_modified_since": head["last-modified"]}):
        answer = ask(server, where, method=method, **fields)
        assert (answer.status, answer.body) == (304, b"")
        for name in ("etag", "last-modified", "cache-control", "expires"):
            assert answer.headers[name] == head[name]
        for name in ("x-amz-request-id", "x-amz-id-2", "date"):
            assert answer.headers[name]
        assert not {"content-type", "x-amz-meta-a"} & answer.headers.keys()
    query = "response-cache-control=no-store&response-expires=0"
    answer = ask(server, where, query, method, if_none_match="*")
    assert (answer.headers["cache-control"], answer.headers["expires"]) == ("no-store", "0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({"if_match": '"x"'}, "If-Match"),
        ({"if_unmodified_since": "Thu, 01 Jan 1970 00:00:00 GMT"}, "If-Unmodified-Since"),
    ],
)
def test_a_412_says_which_condition(
    server: S3Server, where: dict[str, str], method: str, fields: dict[str, str], condition: str
) -> None:
    head = ask(server, where, method="HEAD").headers
    answer = ask(server, where, method=method, **fields)
    assert answer.status == 412
    for name in ("etag", "last-modified"):
        assert answer.headers[name] == head[name]
    if method == "GET":
        error = ET.fromstring(answer.body)
        assert error.findtext("Condition") == condition
        assert error.findtext("Message") == (
            "At least one of the pre-conditions you specified did not hold "
            f"(Condition: {condition})"
        )
    else:
        assert answer.body == b""


@pytest.mark.parametrize(
    ("option", "value", "condition"),
    [
        ("CopySourceIfMatch", '"x"', "x-amz-copy-source-If-Match"),
        ("CopySourceIfNoneMatch", "*", "x-amz-copy-source-If-None-Match"),
        ("CopySourceIfUnmodifiedSince", "1999-01-01", "x-amz-copy-source-If-Unmodified-Since"),
    ],
)
def test_so_does_that_of_a_copy(
    s3: BaseClient, where: dict[str, str], option: str, value: str, condition: str
) -> None:
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=where["Bucket"], Key="copy", CopySource=where, **{option: value})
    assert caught.value.response["Error"]["Condition"] == condition


def test_a_time_that_has_not_come_is_ignored(
    server: S3Server, s3: BaseClient, where: dict[str, str]
) -> None:
    later = http_date(int((time.time() + 86_400) * 1000))
    assert ask(server, where, if_modified_since=later).status == 200
    assert ask(server, where, if_unmodified_since=later).status == 200
    s3.copy_object(
        Bucket=where["Bucket"], Key="copy", CopySource=where, CopySourceIfModifiedSince=later
    )


def test_a_condition_comes_before_a_range(server: S3Server, where: dict[str, str]) -> None:
    beyond = "bytes=100-200"
    assert ask(server, where, range=beyond, if_match='"x"').status == 412
    assert ask(server, where, range=beyond, if_none_match="*").status == 304
    answer = ask(server, where, range=beyond)
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.headers["content-range"] == "bytes */10"
    error = ET.fromstring(answer.body)
    assert (error.findtext("RangeRequested"), error.findtext("ActualObjectSize")) == (beyond, "10")


@pytest.mark.parametrize(
    ("value", "status", "body"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=9-", 206, b"9"),
        ("bytes=-1", 206, b"9"),
        ("bytes=-10", 206, DATA),
        ("bytes=-11", 206, DATA),
        ("bytes=0-9", 206, DATA),
        ("bytes=0-10", 206, DATA),
        ("bytes=5-4", 200, DATA),
        ("bytes=invalid", 200, DATA),
        ("bytes=0-1,3-4", 200, DATA),
        ("lines=0-1", 200, DATA),
    ],
)
def test_ranges(
    server: S3Server, where: dict[str, str], value: str, status: int, body: bytes
) -> None:
    answer = ask(server, where, range=value)
    assert (answer.status, answer.body) == (status, body)
    assert ("content-range" in answer.headers) == (status == 206)
    assert ask(server, where, method="HEAD", range=value).status == status


@pytest.mark.parametrize(
    ("value", "status"),
    [("bytes=-1", 200), ("bytes=-1000", 200), ("bytes=-0", 416), ("bytes=0-", 416),
     ("bytes=0-0", 416), ("bytes=1-0", 200), ("bytes=x", 200)],
)  # fmt: skip
def test_ranges_of_an_object_without_bytes(
    server: S3Server, s3: BaseClient, bucket: str, value: str, status: int
) -> None:
    where = {"Bucket": bucket, "Key": "empty"}
    s3.put_object(**where, Body=b"")
    answer = ask(server, where, range=value)
    assert answer.status == status
    if status == 200:
        assert (answer.body, answer.headers["content-length"]) == (b"", "0")
        assert "content-range" not in answer.headers


# --- parts ------------------------------------------------------------------------------------


def complete(s3: BaseClient, where: dict[str, str], kind: str, algorithm: str, *sizes: int) -> Any:
    """The parts of a completed upload, as their answers told of them."""
    made = s3.create_multipart_upload(
        **where, ChecksumAlgorithm=algorithm, **({"ChecksumType": kind} if kind else {})
    )
    upload = {**where, "UploadId": made["UploadId"]}
    sums, parts = [], []
    for number, size in enumerate(sizes, 1):
        body = bytes([number]) * size
        told = s3.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        name = f"Checksum{algorithm}"
        sums.append(told[name])
        parts.append({"PartNumber": number, "ETag": told["ETag"], name: told[name]})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return sums


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32", "CRC32C"])
def test_a_part_of_a_composite_checksum_has_its_own(
    s3: BaseClient, bucket: str, algorithm: str
) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    sums = complete(s3, where, "COMPOSITE", algorithm, 5 * MIB, 7)
    for number, value in enumerate(sums, 1):
        asked = {**where, "PartNumber": number, "ChecksumMode": "ENABLED"}
        got, head = s3.get_object(**asked), s3.head_object(**asked)
        assert got["Body"].read()[:1] == bytes([number])  # boto3 compares the digest
        for answer in (got, head):
            assert answer[f"Checksum{algorithm}"] == value
            assert answer["ChecksumType"] == "COMPOSITE"
            assert answer["PartsCount"] == 2
    whole = s3.head_object(**where, ChecksumMode="ENABLED")
    assert whole[f"Checksum{algorithm}"].endswith("-2")
    assert f"Checksum{algorithm}" not in s3.head_object(**where, PartNumber=1)
    ranged = s3.head_object(**where, Range="bytes=0-9", ChecksumMode="ENABLED")
    assert f"Checksum{algorithm}" not in ranged


def test_the_only_part_is_not_told_of_by_the_composite_one(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    (value,) = complete(s3, where, "", "SHA256", 7)
    assert value == base64.b64encode(hashlib.sha256(b"\1" * 7).digest()).decode()
    got = s3.get_object(**where, PartNumber=1, ChecksumMode="ENABLED")
    assert (got["ChecksumSHA256"], got["Body"].read()) == (value, b"\1" * 7)
    assert s3.head_object(**where, ChecksumMode="ENABLED")["ChecksumSHA256"].endswith("-1")


def test_parts_of_a_full_objects_checksum_have_none(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    complete(s3, where, "FULL_OBJECT", "CRC64NVME", 5 * MIB, 7)
    head = s3.head_object(**where, PartNumber=2, ChecksumMode="ENABLED")
    assert "ChecksumCRC64NVME" not in head
    where["Key"] = "one"
    (value,) = complete(s3, where, "FULL_OBJECT", "CRC64NVME", 7)
    head = s3.head_object(**where, PartNumber=1, ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (value, "FULL_OBJECT")


def test_an_object_that_was_put_whole_is_its_own_part(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    told = s3.put_object(**where, Body=DATA, ChecksumAlgorithm="SHA256")
    got = s3.get_object(**where, PartNumber=1, ChecksumMode="ENABLED")
    assert got["ChecksumSHA256"] == told["ChecksumSHA256"]
    assert (got["ContentRange"], got["Body"].read()) == ("bytes 0-9/10", DATA)
    assert "PartsCount" not in got
    with pytest.raises(ClientError) as caught:
        s3.get_object(**where, PartNumber=2)
    error = caught.value.response["Error"]
    assert (error["Code"], error["ActualPartCount"], error["PartNumberRequested"]) == (
        *("InvalidPartNumber", "1", "2"),
    )
    assert refused(s3.get_object, **where, PartNumber=1, Range="bytes=0-1")[0] == "InvalidRequest"


# --- metadata ---------------------------------------------------------------------------------

TEXT = "gr\u00fc\u00dfe, \u4e16\u754c"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (TEXT.encode().decode("latin-1"), TEXT),  # UTF-8
        ("gr\u00fc\u00dfe", "gr\u00fc\u00dfe"),  # Latin-1
        (f"=?UTF-8?B?{base64.b64encode(TEXT.encode()).decode()}?=", TEXT),
        ("=?ISO-8859-1?Q?gr=FC=DFe?=", "gr\u00fc\u00dfe"),
        ("plain =?x?= text", "plain =?x?= text"),
    ],
)
def test_metadata_is_taken_in_all_forms_and_told_in_one(
    server: S3Server, s3: BaseClient, bucket: str, sent: str, text: str
) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    made = Raw("PUT", f"/{bucket}/k", body=DATA, headers={"x-amz-meta-a": sent})
    assert server.signer().send(made).status == 200
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where)
    for key in ("k", "copy"):
        for method in ("GET", "HEAD"):
            value = ask(server, {**where, "Key": key}, method=method).headers["x-amz-meta-a"]
            assert value.isascii()
            assert str(email.header.make_header(email.header.decode_header(value))) == text


def test_metadata_can_not_break_out_of_its_field(server: S3Server, bucket: str) -> None:
    evil = base64.b64encode(b"a\r\nX-Evil: 1\r\n\r\n<script>").decode()
    made = Raw("PUT", f"/{bucket}/k", headers={"x-amz-meta-a": f"=?UTF-8?B?{evil}?="})
    assert server.signer().send(made).status == 200
    answer = ask(server, {"Bucket": bucket, "Key": "k"})
    assert "x-evil" not in answer.headers
    assert answer.headers["x-amz-meta-a"] == f"=?UTF-8?B?{evil}?="


def test_metadata_is_bounded_in_utf_8(server: S3Server, bucket: str) -> None:
    signer = server.signer()

    def put(text: str) -> int:
        value = base64.b64encode(text.encode()).decode()
        headers = {"x-amz-meta-a": f"=?UTF-8?B?{value}?="}
        return signer.send(Raw("PUT", f"/{bucket}/k", headers=headers)).status

    fits = (S3_USER_METADATA_BYTES_MAX - 1) // 2
    assert put("\u00fc" * fits + "x" * (S3_USER_METADATA_BYTES_MAX - 1 - 2 * fits)) == 200
    assert put("\u00fc" * (fits + 1)) == 400

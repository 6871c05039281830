"""Put, get, head and delete, through boto3."""

from __future__ import annotations

import hashlib
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3refusals import refused
from support.s3server import S3Server

DATA = os.urandom(3 * 1024 * 1024 + 17)


def read(s3: BaseClient, bucket: str, key: str, **options: Any) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()


@pytest.mark.parametrize("size", [0, 1, 4096, len(DATA)])
def test_what_is_put_is_got(s3: BaseClient, bucket: str, size: int) -> None:
    data = DATA[:size]
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    assert s3.put_object(Bucket=bucket, Key="k", Body=data)["ETag"] == etag
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert got["ETag"] == etag
    assert got["ContentLength"] == size
    assert got["AcceptRanges"] == "bytes"
    assert got["ContentType"] == "binary/octet-stream"
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"]) == (etag, size)
    assert head["LastModified"] == got["LastModified"]
    assert abs(head["LastModified"].timestamp() - time.time()) < 60


def test_metadata_and_headers_come_back(s3: BaseClient, bucket: str) -> None:
    said = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "Expires": datetime(2030, 1, 1, tzinfo=UTC),
        "WebsiteRedirectLocation": "/other",
        "Metadata": {"colour": "red", "empty": "", "with space": "a  b"},
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **{**said, "Metadata": {"colour": "red"}})
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        for name in said.keys() - {"Metadata", "Expires"}:
            assert answer[name] == said[name], name
        assert answer["ExpiresString"] == "Tue, 01 Jan 2030 00:00:00 GMT"
        assert answer["Metadata"] == {"colour": "red"}


def test_missing_things(s3: BaseClient, bucket: str) -> None:
    assert refused(s3.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)
    assert refused(s3.get_object, Bucket="no-such-bucket", Key="k") == ("NoSuchBucket", 404)
    assert refused(s3.put_object, Bucket="no-such-bucket", Key="k", Body=b"x") == (
        "NoSuchBucket",
        404,
    )
    assert refused(s3.delete_object, Bucket="no-such-bucket", Key="k") == ("NoSuchBucket", 404)
    s3.delete_object(Bucket=bucket, Key="k")  # is no error


def test_overwrite_and_delete_are_seen_at_once(s3: BaseClient, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number)
        assert read(s3, bucket, "k") == b"%d" % number
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    s3.delete_object(Bucket=bucket, Key="k")
    assert refused(s3.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


ODD_KEYS = [
    "a", "a/b", "a//b", "a/", "./x", "../x", "/lead", "//", ".", "..", "a/../../b", "a/./b", "~",
    "with space", " lead and trail ", "plus+plus", "percent%41%", "quote\"'`", "a?b=c&d", "#hash",
    "semi;colon:at@", "back\\slash", "new\nline", "tab\there", "\x01\x1f\x7f", "<xml>&amp;",
    "é", "e\u0301", "日本語/キー", "😀", "\u200bzero", "\ufeffbom", "CASE", "case", "*", "|", "[x]",
    "k" * 1024, "é" * 512, "d/" * 512, "x" * 255 + "/" + "y" * 256 + "/z", "con", "nul.txt", "$(x)",
]  # fmt: skip


def test_every_legal_odd_key(s3: BaseClient, bucket: str) -> None:
    for key in ODD_KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in ODD_KEYS:
        assert read(s3, bucket, key) == key.encode(), key
    expected = sorted(ODD_KEYS, key=str.encode)
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [one["Key"] for one in listed] == expected
    deleted = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ODD_KEYS if key.isprintable()]}
    )
    assert "Errors" not in deleted
    for key in ODD_KEYS:
        s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.delete_bucket(Bucket=bucket)


def test_a_key_below_a_key(s3: BaseClient, bucket: str) -> None:
    for key in ("a/b", "a", "a/b/c"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.delete_object(Bucket=bucket, Key="a")
    assert read(s3, bucket, "a/b") == b"a/b"
    assert read(s3, bucket, "a/b/c") == b"a/b/c"


def test_a_key_of_1025_bytes_is_too_long(s3: BaseClient, bucket: str) -> None:
    for key in ("k" * 1025, "é" * 513):
        assert refused(s3.put_object, Bucket=bucket, Key=key) == ("KeyTooLongError", 400)


@pytest.mark.parametrize(
    ("wanted", "expected", "shown"),
    [
        ("bytes=0-9", DATA[:10], "bytes 0-9"),
        ("bytes=1048570-1048590", DATA[1048570:1048591], "bytes 1048570-1048590"),
        ("bytes=3145700-", DATA[3145700:], f"bytes 3145700-{len(DATA) - 1}"),
        ("bytes=-5", DATA[-5:], f"bytes {len(DATA) - 5}-{len(DATA) - 1}"),
        (f"bytes=0-{len(DATA) * 2}", DATA, f"bytes 0-{len(DATA) - 1}"),
    ],
)
def test_ranges(s3: BaseClient, bucket: str, wanted: str, expected: bytes, shown: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    got = s3.get_object(Bucket=bucket, Key="k", Range=wanted)
    assert got["Body"].read() == expected
    assert got["ContentRange"] == f"{shown}/{len(DATA)}"
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    head = s3.head_object(Bucket=bucket, Key="k", Range=wanted)
    assert head["ContentLength"] == len(expected)
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_unsatisfiable_and_ignored_ranges(s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
    answer = caught.value.response
    assert answer["Error"]["Code"] == "InvalidRange"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 416
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-range"] == "bytes */10"
    for wanted in ("bytes=0-1,4-5", "bytes=5-2", "lines=1-2"):
        got = s3.get_object(Bucket=bucket, Key="k", Range=wanted)
        assert got["Body"].read() == b"0123456789"
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_part_number_of_a_plain_object(s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert got["Body"].read() == b"0123456789"
    assert "PartsCount" not in got
    assert refused(s3.get_object, Bucket=bucket, Key="k", PartNumber=2) == (
        "InvalidPartNumber",
        416,
    )
    assert refused(s3.get_object, Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1") == (
        "InvalidRequest",
        400,
    )


def test_conditions_on_reads(s3: BaseClient, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    for call in (s3.get_object, s3.head_object):
        where = {"Bucket": bucket, "Key": "k"}
        call(**where, IfMatch=etag)
        call(**where, IfNoneMatch='"other"')
        call(**where, IfModifiedSince=modified - timedelta(seconds=1))
        call(**where, IfUnmodifiedSince=modified)
        assert refused(call, **where, IfMatch='"other"')[1] == 412
        assert refused(call, **where, IfNoneMatch=etag)[1] == 304
        assert refused(call, **where, IfModifiedSince=modified)[1] == 304
        assert refused(call, **where, IfUnmodifiedSince=modified - timedelta(seconds=1))[1] == 412


def test_a_delete_says_which_condition_fails(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    for body, code, field in (
        (None, "NoSuchKey", {"Key": "k"}),
        (b"1", "PreconditionFailed", {"Condition": "If-Match"}),
    ):
        if body is not None:
            s3.put_object(**where, Body=body)
        with pytest.raises(ClientError) as caught:
            s3.delete_object(**where, IfMatch='"x"')
        assert caught.value.response["Error"].items() >= {"Code": code, **field}.items()


def test_conditions_on_writes(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    assert refused(s3.put_object, **where, Body=b"0", IfMatch='"x"') == ("NoSuchKey", 404)
    etag = s3.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, **where, Body=b"2", IfNoneMatch="*") == (
        "PreconditionFailed",
        412,
    )
    assert refused(s3.put_object, **where, Body=b"2", IfMatch='"x"') == ("PreconditionFailed", 412)
    assert read(s3, bucket, "k") == b"1"
    newer = s3.put_object(**where, Body=b"3", IfMatch=etag)["ETag"]
    assert refused(s3.delete_object, **where, IfMatch=etag) == ("PreconditionFailed", 412)
    assert read(s3, bucket, "k") == b"3"
    s3.delete_object(**where, IfMatch=newer)
    assert refused(s3.get_object, **where) == ("NoSuchKey", 404)
    for condition in (newer, "*"):
        with pytest.raises(ClientError) as caught:
            s3.delete_object(**where, IfMatch=condition)
        error = caught.value.response["Error"]
        assert (error["Code"], error["Key"]) == ("NoSuchKey", "k")


def at_once(server: S3Server, count: int, **options: Any) -> list[int]:
    """The statuses of so many PUTs under one condition, sent at the same time."""

    def put(number: int) -> int:
        client = server.client()
        try:
            # Bodies differ between rounds too: an equal one has the ETag that If-Match asks for.
            client.put_object(Body=b"%d %s" % (number, os.urandom(8)), **options)
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        finally:
            client.close()
        return 200

    with ThreadPoolExecutor(count) as pool:
        return sorted(pool.map(put, range(count)))


def test_of_many_conditional_writes_one_wins(server: S3Server, s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    statuses = at_once(server, 6, **where, IfNoneMatch="*")
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {409, 412}
    etag = s3.head_object(**where)["ETag"]
    statuses = at_once(server, 6, **where, IfMatch=etag)
    assert statuses[:2] in ([200, 409], [200, 412])


def test_conditions_that_are_not_offered(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    assert refused(s3.put_object, **where, IfNoneMatch='"x"') == ("NotImplemented", 501)
    assert refused(s3.get_object, **where) == ("NoSuchKey", 404)


def test_response_overrides(server: S3Server, s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", CacheControl="no-store")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="text/html",
        ResponseCacheControl="max-age=1",
        ResponseContentDisposition="inline; filename*=UTF-8''%E2%82%AC",
        ResponseContentLanguage="fr",
        ResponseContentEncoding="identity",
        ResponseExpires=datetime(2031, 1, 1, tzinfo=UTC),
    )
    assert got["ContentType"] == "text/html"
    assert got["CacheControl"] == "max-age=1"
    assert got["ContentDisposition"] == "inline; filename*=UTF-8''%E2%82%AC"
    assert got["ContentLanguage"] == "fr"
    assert refused(s3.get_object, Bucket=bucket, Key="k", ResponseContentType="a\r\nX-Evil: 1")


ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "XXHASH64", "XXHASH3",
              "XXHASH128"]  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksums_are_verified_stored_and_returned(
    s3: BaseClient, bucket: str, algorithm: str
) -> None:
    name = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=DATA, ChecksumAlgorithm=algorithm)
    assert put["ChecksumType"] == "FULL_OBJECT"
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[name] == put[name]
    assert name not in s3.head_object(Bucket=bucket, Key="k")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == DATA  # boto3 checks the digest as well
    assert got[name] == put[name]
    part = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", Range="bytes=0-1")
    assert part["Body"].read() == DATA[:2]
    assert name not in part
    (listed,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert listed["ChecksumAlgorithm"] == [algorithm]
    assert listed["ChecksumType"] == "FULL_OBJECT"
    wrong = {name: put[name]}
    assert refused(s3.put_object, Bucket=bucket, Key="other", Body=b"x", **wrong) == (
        "BadDigest",
        400,
    )
    assert refused(s3.head_object, Bucket=bucket, Key="other") == ("404", 404)


def test_content_md5(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    for value, code in (("1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"), ("nonsense", "InvalidDigest")):
        assert refused(s3.put_object, **where, Body=b"x", ContentMD5=value) == (code, 400)
    assert read(s3, bucket, "k") == b""


@pytest.mark.parametrize("signing", ["s3v4", "unsigned-trailer", "stream"])
def test_ways_to_send_a_body(server: S3Server, bucket: str, signing: str) -> None:
    config: dict[str, Any] = {}
    if signing == "unsigned-trailer":
        config = {"s3": {"addressing_style": "path", "payload_signing_enabled": False}}
    client = server.client(**config)
    body: Any = io.BytesIO(DATA) if signing == "stream" else DATA
    client.put_object(Bucket=bucket, Key="k", Body=body, ContentLength=len(DATA))
    assert read(client, bucket, "k") == DATA
    client.close()


def test_user_metadata_is_bounded(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k", "Body": b""}
    s3.put_object(**where, Metadata={"a": "v" * 2047})
    assert refused(s3.put_object, **where, Metadata={"a": "v" * 2048}) == ("MetadataTooLarge", 400)


@pytest.mark.parametrize(
    "options",
    [{"ServerSideEncryption": "AES256"},
     {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, {"WriteOffsetBytes": 1}],
)  # fmt: skip
def test_what_an_object_can_not_be_asked_for(
    server: S3Server, s3: BaseClient, bucket: str, options: dict[str, Any]
) -> None:
    if "SSECustomerKey" in options:  # boto3 sends no such key over plain HTTP
        options = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "x"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"new", **options) == (
        "NotImplemented",
        501,
    )
    assert read(s3, bucket, "k") == b"old"
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"new", ACL="private", StorageClass="STANDARD", Tagging=""
    )


def test_sub_resources_of_objects_are_refused_and_change_nothing(
    s3: BaseClient, bucket: str
) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"safe")
    refusals = [
        (s3.restore_object, {"RestoreRequest": {"Days": 1}}),
        (s3.get_object_torrent, {}),
    ]
    for call, options in refusals:
        assert refused(call, **where, **options) == ("NotImplemented", 501), call
    assert read(s3, bucket, "k") == b"safe"
    assert s3.get_object_tagging(**where)["TagSet"] == []
    assert len(s3.get_object_acl(**where)["Grants"]) == 1


def test_versions(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"x")
    assert read(s3, bucket, "k", VersionId="null") == b"x"
    for call in (s3.get_object, s3.delete_object):
        assert refused(call, **where, VersionId="abc") == ("InvalidArgument", 400)
        assert refused(call, **where, VersionId="") == ("InvalidArgument", 400)
    assert refused(s3.get_object, **where, VersionId="0" * 32) == ("NoSuchVersion", 404)
    s3.delete_object(**where, VersionId="0" * 32)
    s3.delete_object(**where, VersionId="null")
    assert refused(s3.get_object, **where) == ("NoSuchKey", 404)


def test_delete_objects(s3: BaseClient, bucket: str) -> None:
    keys = [f"k{number}" for number in range(10)]
    etags = {key: s3.put_object(Bucket=bucket, Key=key, Body=b"x")["ETag"] for key in keys}
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={
            "Objects": [
                {"Key": "k0"},
                {"Key": "never-was"},
                {"Key": "k1", "VersionId": "null"},
                {"Key": "k2", "VersionId": "abc"},
                {"Key": "k3", "ETag": etags["k3"]},
                {"Key": "k4", "ETag": '"other"'},
                {"Key": "k5", "Size": 1},
                {"Key": "x" * 1025},
            ]
        },
    )
    assert [one["Key"] for one in answer["Deleted"]] == ["k0", "never-was", "k1", "k3"]
    assert [(one["Key"][:2], one["Code"]) for one in answer["Errors"]] == [
        ("k2", "NoSuchVersion"),
        ("k4", "PreconditionFailed"),
        ("k5", "NotImplemented"),
        ("xx", "KeyTooLongError"),
    ]
    quiet = s3.delete_objects(
        Bucket=bucket, Delete={"Quiet": True, "Objects": [{"Key": key} for key in keys]}
    )
    assert "Deleted" not in quiet
    assert "Errors" not in quiet
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_delete_objects_takes_a_thousand(s3: BaseClient, bucket: str) -> None:
    many = [{"Key": f"k{number}"} for number in range(1001)]
    assert refused(s3.delete_objects, Bucket=bucket, Delete={"Objects": many}) == (
        "MalformedXML",
        400,
    )
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": many[:1000]})["Deleted"]) == 1000

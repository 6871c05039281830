"""CopyObject and UploadPartCopy, through boto3."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.catalog.errors import LayoutGone
from support.s3refusals import refused
from support.s3server import BOB, S3Server

DATA = os.urandom(6 * 1024 * 1024)


@pytest.fixture
def source(s3: BaseClient, bucket: str) -> dict[str, str]:
    s3.put_object(
        Bucket=bucket,
        Key="from/€ +%",
        Body=DATA,
        ContentType="text/plain",
        CacheControl="no-cache",
        Metadata={"colour": "red"},
        WebsiteRedirectLocation="/there",
        ChecksumAlgorithm="SHA256",
    )
    return {"Bucket": bucket, "Key": "from/€ +%"}


def test_a_copy_has_the_bytes_and_the_metadata(
    s3: BaseClient, bucket: str, source: dict[str, str]
) -> None:
    answer = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)["CopyObjectResult"]
    assert answer["ETag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
    copied = s3.get_object(Bucket=bucket, Key="to", ChecksumMode="ENABLED")
    assert copied["Body"].read() == DATA
    assert copied["ContentType"] == "text/plain"
    assert copied["CacheControl"] == "no-cache"
    assert copied["Metadata"] == {"colour": "red"}
    assert copied["ChecksumSHA256"] == answer["ChecksumSHA256"]
    assert "WebsiteRedirectLocation" not in copied


def test_a_copy_with_other_metadata(s3: BaseClient, bucket: str, source: dict[str, str]) -> None:
    answer = s3.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/html",
        Metadata={"shape": "round"},
        ChecksumAlgorithm="CRC32C",
    )
    assert "ChecksumCRC32C" in answer["CopyObjectResult"]
    head = s3.head_object(Bucket=bucket, Key="to")
    assert head["ContentType"] == "text/html"
    assert head["Metadata"] == {"shape": "round"}
    assert "CacheControl" not in head


def test_a_copy_onto_itself(s3: BaseClient, bucket: str, source: dict[str, str]) -> None:
    key = source["Key"]
    assert refused(s3.copy_object, Bucket=bucket, Key=key, CopySource=source) == (
        "InvalidRequest",
        400,
    )
    s3.copy_object(
        Bucket=bucket, Key=key, CopySource=source, MetadataDirective="REPLACE", Metadata={"a": "b"}
    )
    again = s3.get_object(Bucket=bucket, Key=key)
    assert again["Body"].read() == DATA
    assert again["Metadata"] == {"a": "b"}


def test_conditions(s3: BaseClient, bucket: str, source: dict[str, str]) -> None:
    head = s3.head_object(**source)
    earlier = head["LastModified"] - timedelta(seconds=5)
    where = {"Bucket": bucket, "Key": "to", "CopySource": source}
    failing: list[dict[str, Any]] = [
        {"CopySourceIfMatch": '"x"'},
        {"CopySourceIfNoneMatch": head["ETag"]},
        {"CopySourceIfModifiedSince": head["LastModified"]},
        {"CopySourceIfUnmodifiedSince": earlier},
    ]
    for options in failing:
        assert refused(s3.copy_object, **where, **options) == ("PreconditionFailed", 412)
    assert refused(s3.head_object, Bucket=bucket, Key="to")[1] == 404
    s3.copy_object(**where, CopySourceIfMatch=head["ETag"], CopySourceIfUnmodifiedSince=earlier)
    s3.copy_object(**where, CopySourceIfNoneMatch='"x"', CopySourceIfModifiedSince=earlier)


def test_sources_that_are_not_there_or_not_ours(
    server: S3Server, s3: BaseClient, bucket: str, source: dict[str, str]
) -> None:
    where = {"Bucket": bucket, "Key": "to"}
    missing = {"Bucket": bucket, "Key": "missing"}
    assert refused(s3.copy_object, **where, CopySource=missing) == ("NoSuchKey", 404)
    nowhere = {"Bucket": "no-such-bucket", "Key": "k"}
    assert refused(s3.copy_object, **where, CopySource=nowhere) == ("NoSuchBucket", 404)
    bob = server.client(BOB)
    bob.create_bucket(Bucket=f"bobs-{bucket}")
    assert refused(bob.copy_object, Bucket=f"bobs-{bucket}", Key="to", CopySource=source) == (
        "AccessDenied",
        403,
    )
    assert refused(bob.copy_object, **where, CopySource=source) == ("AccessDenied", 403)
    assert refused(
        s3.copy_object, **where, CopySource=source, ExpectedSourceBucketOwner="222222222222"
    ) == ("AccessDenied", 403)
    bob.close()


def test_part_copy(s3: BaseClient, bucket: str, source: dict[str, str]) -> None:
    where = {"Bucket": bucket, "Key": "to"}
    upload = s3.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")["UploadId"]
    ranges = ["bytes=0-5242879", f"bytes=5242880-{len(DATA) - 1}"]
    parts = []
    for number, wanted in enumerate(ranges, 1):
        answer = s3.upload_part_copy(
            **where,
            UploadId=upload,
            PartNumber=number,
            CopySource=source,
            CopySourceRange=wanted,
        )["CopyPartResult"]
        assert "ChecksumCRC32" in answer
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    for wrong in ("bytes=0-6291456", "bytes=0-", "0-5"):
        assert refused(
            s3.upload_part_copy,
            **where,
            UploadId=upload,
            PartNumber=3,
            CopySource=source,
            CopySourceRange=wrong,
        ) == ("InvalidArgument", 400)
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(**where)["Body"].read() == DATA


def test_a_whole_object_as_a_part(s3: BaseClient, bucket: str, source: dict[str, str]) -> None:
    where = {"Bucket": bucket, "Key": "to"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    answer = s3.upload_part_copy(**where, UploadId=upload, PartNumber=1, CopySource=source)
    part = {"PartNumber": 1, "ETag": answer["CopyPartResult"]["ETag"]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": [part]})
    assert s3.get_object(**where)["Body"].read() == DATA


# --- copies that share bytes ----------------------------------------------------------------------


def shares(server: S3Server, where: dict[str, str]) -> bool:
    """Whether the store lets a copy of this object share its bytes."""
    found = server.run(server.catalog.find(where["Bucket"], where["Key"]))
    assert found.version is not None
    return server.catalog.can_share(found.version)


def test_a_copy_of_parts_keeps_them_where_no_bytes_move(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    where = {"Bucket": bucket, "Key": "parts"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    etags = [
        s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
        for number, body in ((1, DATA), (3, b"end"))
    ]
    parts = [{"PartNumber": n, "ETag": etag} for n, etag in zip((1, 3), etags, strict=True)]
    whole = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["ETag"]
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource=where)["CopyObjectResult"]
    to = {"Bucket": bucket, "Key": "to"}
    if shares(server, where):
        assert copied["ETag"] == whole
        assert s3.head_object(**to, PartNumber=3)["ContentLength"] == 3
    else:
        assert copied["ETag"] == f'"{hashlib.md5(DATA + b"end").hexdigest()}"'
    s3.delete_object(**where)
    assert s3.get_object(**to)["Body"].read() == DATA + b"end"


def test_another_checksum_is_made_of_the_bytes(
    server: S3Server, s3: BaseClient, bucket: str, source: dict[str, str]
) -> None:
    same = s3.copy_object(Bucket=bucket, Key="a", CopySource=source, ChecksumAlgorithm="SHA256")
    other = s3.copy_object(Bucket=bucket, Key="b", CopySource=source, ChecksumAlgorithm="CRC32")
    assert "ChecksumSHA256" in same["CopyObjectResult"]
    assert "ChecksumCRC32" in other["CopyObjectResult"]
    assert s3.get_object(Bucket=bucket, Key="b")["Body"].read() == DATA


@pytest.mark.parametrize("times", [1, 1000])
def test_a_source_whose_bytes_are_gone_is_looked_up_again(
    server: S3Server,
    s3: BaseClient,
    bucket: str,
    source: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    if not shares(server, source):
        pytest.skip("this store shares nothing")
    copy, left = server.catalog.copy, times

    async def gone_at_first(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise LayoutGone
        return await copy(*arguments, **more)

    monkeypatch.setattr(server.catalog, "copy", gone_at_first)
    call = {"Bucket": bucket, "Key": "to", "CopySource": source}
    if times == 1:
        s3.copy_object(**call)
        assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == DATA
    else:
        assert refused(s3.copy_object, **call) == ("SlowDown", 503)

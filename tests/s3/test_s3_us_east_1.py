"""What is so in us-east-1 alone: buckets made twice, and boto3 that presigns by Version 2."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.client import BaseClient

from support.s3raw import Answer, Raw, exchange
from support.s3refusals import refused
from support.s3server import BOB, S3Server, filesystem_catalog, running

DATA = b"0123456789"
MD5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    path = tmp_path_factory.mktemp("s3")
    with running(filesystem_catalog, path, region="us-east-1") as started:
        yield started


def send(url: str, method: str = "PUT", body: bytes = DATA, **fields: str) -> Answer:
    """A request with these fields and no others."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    sent = {"host": parts.netloc, "content-length": str(len(body))}
    sent |= {name.replace("_", "-"): value for name, value in fields.items()}
    address = (parts.hostname, parts.port)
    return exchange(address, method, parts.path, parts.query, sent.items(), body)


def test_a_bucket_that_one_owns_is_made_again(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    assert s3.create_bucket(Bucket=bucket)["Location"] == f"/{bucket}"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == DATA
    with_lock = {"Bucket": bucket, "ObjectLockEnabledForBucket": True}
    assert refused(s3.create_bucket, **with_lock) == ("BucketAlreadyOwnedByYou", 409)
    tagged = b"<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"
    body = b"<CreateBucketConfiguration>" + tagged + b"</CreateBucketConfiguration>"
    again = server.signer().send(Raw("PUT", f"/{bucket}", body=body))
    assert (again.status, again.code) == (409, "BucketAlreadyOwnedByYou")
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == ("NoSuchTagSet", 404)
    bob = server.client(BOB)
    assert refused(bob.create_bucket, Bucket=bucket) == ("BucketAlreadyExists", 409)
    bob.close()


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}),
        ({"ContentType": "text/plain; charset=utf-8"}, {}),
        ({"ContentType": "text/plain"}, {"content_type": "text/plain"}),
        ({"ContentMD5": MD5}, {}),
        ({"ContentMD5": MD5}, {"content_md5": MD5}),
        ({"ACL": "private"}, {}),
        ({"Metadata": {"a": "b c+d", "e": "f"}}, {"x_amz_meta_a": "b c+d"}),
        ({"StorageClass": "GLACIER"}, {}),
        ({"ChecksumAlgorithm": "SHA256"}, {}),
        ({"Tagging": ""}, {}),
    ],
)
def test_boto3s_default_presigned_put_is_obeyed(
    s3: BaseClient, bucket: str, options: dict[str, Any], fields: dict[str, str]
) -> None:
    where = {"Bucket": bucket, "Key": "a b/ü"}
    url = s3.generate_presigned_url("put_object", {**where, **options})
    assert "AWSAccessKeyId=" in url
    answer = send(url, **fields)
    assert answer.status == 200, answer.body
    got = s3.get_object(**where)
    assert got["Body"].read() == DATA
    assert got["ContentType"] == options.get("ContentType", "binary/octet-stream")
    assert got["Metadata"] == options.get("Metadata", {})
    assert got.get("StorageClass") == options.get("StorageClass")


def test_what_the_query_says_is_not_overlooked(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}

    def refusal(body: bytes = DATA, **options: str) -> tuple[str, int]:
        answer = send(s3.generate_presigned_url("put_object", {**where, **options}), body=body)
        return answer.code, answer.status

    assert refusal(b"another", ContentMD5=MD5) == ("BadDigest", 400)
    assert refusal(ACL="public") == ("InvalidArgument", 400)
    assert refusal(ServerSideEncryption="AES256") == ("NotImplemented", 501)
    assert refusal(StorageClass="CHEAP") == ("InvalidStorageClass", 400)
    assert refusal(ContentMD5="x") == ("InvalidDigest", 400)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_other_calls_are_presigned_by_default_too(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    made = s3.generate_presigned_url(
        "create_multipart_upload", {**where, "ContentType": "a/b", "Metadata": {"a": "b"}}
    )
    assert send(made, "POST", b"").status == 200
    upload = s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["UploadId"]
    part = s3.generate_presigned_url(
        "upload_part", {**where, "UploadId": upload, "PartNumber": 1, "ContentMD5": MD5}
    )
    tag = send(part).headers["etag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    got = send(s3.generate_presigned_url("get_object", where), "GET", b"")
    assert (got.body, got.headers["content-type"]) == (DATA, "a/b")
    copy = s3.generate_presigned_url(
        "copy_object", {"Bucket": bucket, "Key": "copy", "CopySource": where}
    )
    assert send(copy, body=b"").status == 200
    for looked in ("get_bucket_replication", "get_bucket_accelerate_configuration"):
        url = s3.generate_presigned_url(looked, {"Bucket": bucket})
        assert send(url, "GET", b"").status in (200, 404), looked
    assert send(s3.generate_presigned_url("delete_object", where), "DELETE", b"").status == 204

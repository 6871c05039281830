"""GetObjectAttributes: what an object is, without its bytes."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.base.limits import S3_PART_BYTES_MIN
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import S3Server

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
BODIES = (b"a" * S3_PART_BYTES_MIN, b"b" * S3_PART_BYTES_MIN, b"c")
NUMBERS = (2, 5, 9)


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def assembled(s3: BaseClient, bucket: str, **options: Any) -> str:
    """An object of three parts; its ETag."""
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where, **options)["UploadId"]}
    given = {"ChecksumAlgorithm": options["ChecksumAlgorithm"]} if options else {}
    parts = []
    for number, body in zip(NUMBERS, BODIES, strict=True):
        part = s3.upload_part(**upload, PartNumber=number, Body=body, **given)
        named = {name: text for name, text in part.items() if name == "ChecksumSHA256"}
        parts.append({"PartNumber": number, "ETag": part["ETag"], **named})
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return str(done["ETag"])


def test_of_an_object_that_was_put_whole(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    put = s3.put_object(**where, Body=b"x", ChecksumAlgorithm="SHA256", StorageClass="GLACIER")
    head = s3.head_object(**where)
    found = s3.get_object_attributes(**where, ObjectAttributes=ALL)
    assert found["ETag"] == put["ETag"].strip('"')
    assert found["Checksum"] == {"ChecksumSHA256": sha256(b"x"), "ChecksumType": "FULL_OBJECT"}
    assert (found["StorageClass"], found["ObjectSize"]) == ("GLACIER", 1)
    assert found["LastModified"] == head["LastModified"]
    assert "ObjectParts" not in found
    only = s3.get_object_attributes(**where, ObjectAttributes=["ObjectSize"])
    assert {*only} == {"ResponseMetadata", "LastModified", "ObjectSize"}


def test_parts_with_a_checksum_come_in_pages(s3: BaseClient, bucket: str) -> None:
    etag = assembled(s3, bucket, ChecksumAlgorithm="SHA256")
    where = {"Bucket": bucket, "Key": "k"}
    found = s3.get_object_attributes(**where, ObjectAttributes=ALL, MaxParts=2)
    assert found["ETag"] == etag.strip('"')
    assert found["Checksum"]["ChecksumType"] == "COMPOSITE"
    parts = found["ObjectParts"]
    assert (parts["TotalPartsCount"], parts["MaxParts"], parts["IsTruncated"]) == (3, 2, True)
    assert (parts["PartNumberMarker"], parts["NextPartNumberMarker"]) == (0, 5)
    rest = s3.get_object_attributes(
        **where, ObjectAttributes=["ObjectParts"], PartNumberMarker=parts["NextPartNumberMarker"]
    )["ObjectParts"]
    assert rest["IsTruncated"] is False
    assert parts["Parts"] + rest["Parts"] == [
        {"PartNumber": number, "Size": len(body), "ChecksumSHA256": sha256(body)}
        for number, body in zip(NUMBERS, BODIES, strict=True)
    ]


def test_parts_without_a_checksum_are_counted(server: S3Server, bucket: str) -> None:
    plain = server.client(request_checksum_calculation="when_required")
    assembled(plain, bucket)
    where = {"Bucket": bucket, "Key": "k"}
    found = plain.get_object_attributes(**where, ObjectAttributes=ALL)
    assert found["ObjectParts"] == {"TotalPartsCount": 3}
    assert "Checksum" not in found
    plain.close()


def test_of_a_version(s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    where = {"Bucket": bucket, "Key": "k"}
    first = s3.put_object(**where, Body=b"1")["VersionId"]
    s3.put_object(**where, Body=b"22")
    wanted = {"ObjectAttributes": ["ObjectSize"]}
    found = s3.get_object_attributes(**where, VersionId=first, **wanted)
    assert (found["ObjectSize"], found["VersionId"]) == (1, first)
    s3.delete_object(**where)
    with pytest.raises(ClientError) as caught:
        s3.get_object_attributes(**where, **wanted)
    answer = caught.value.response
    assert answer["Error"]["Code"] == "NoSuchKey"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"


def test_what_is_no_attribute_is_refused(server: S3Server, s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"x")
    unknown = refused(s3.get_object_attributes, **where, ObjectAttributes=["Colour"])
    assert unknown == ("InvalidArgument", 400)
    answer = server.signer().send(Raw("GET", f"/{bucket}/k", "attributes"))
    assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_whoever_may_not_read_the_object_is_told_nothing(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"x")
    limited = server.client(server.limited((bucket, "s3:GetObjectAttributes")))
    asked = refused(limited.get_object_attributes, **where, ObjectAttributes=ALL)
    assert asked == ("AccessDenied", 403)
    limited.close()

"""Storage classes are kept and told, and change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.s3.headers import STORAGE_CLASSES
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import S3Server


def listed(s3: BaseClient, bucket: str, key: str) -> str:
    classes = set()
    for operation, element in (
        (s3.list_objects, "Contents"),
        (s3.list_objects_v2, "Contents"),
        (s3.list_object_versions, "Versions"),
    ):
        found = {one["Key"]: one for one in operation(Bucket=bucket)[element]}
        classes.add(found[key]["StorageClass"])
    assert len(classes) == 1
    return str(classes.pop())


@pytest.mark.parametrize("name", sorted(STORAGE_CLASSES))
def test_each_is_taken_kept_and_told(s3: BaseClient, bucket: str, name: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"data", StorageClass=name)
    got = s3.get_object(**where)
    assert got["Body"].read() == b"data"
    # S3 does not name the standard one here
    told = None if name == "STANDARD" else name
    assert got.get("StorageClass") == told
    assert s3.head_object(**where).get("StorageClass") == told
    assert listed(s3, bucket, "k") == name


def test_a_multipart_upload_has_one(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    upload = s3.create_multipart_upload(**where, StorageClass="ONEZONE_IA")["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x")
    assert s3.list_parts(**where, UploadId=upload)["StorageClass"] == "ONEZONE_IA"
    uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [one["StorageClass"] for one in uploads] == ["ONEZONE_IA"]
    s3.complete_multipart_upload(
        **where,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert s3.head_object(**where)["StorageClass"] == "ONEZONE_IA"
    assert listed(s3, bucket, "k") == "ONEZONE_IA"


def test_a_copy_has_its_own(s3: BaseClient, bucket: str) -> None:
    source = {"Bucket": bucket, "Key": "source"}
    s3.put_object(**source, Body=b"data", StorageClass="GLACIER")
    s3.copy_object(Bucket=bucket, Key="plain", CopySource=source)
    assert "StorageClass" not in s3.head_object(Bucket=bucket, Key="plain")
    s3.copy_object(Bucket=bucket, Key="cold", CopySource=source, StorageClass="STANDARD_IA")
    assert s3.head_object(Bucket=bucket, Key="cold")["StorageClass"] == "STANDARD_IA"
    # onto itself: that is how a class is changed
    s3.copy_object(**source, CopySource=source, StorageClass="DEEP_ARCHIVE")
    assert s3.head_object(**source)["StorageClass"] == "DEEP_ARCHIVE"
    assert refused(s3.copy_object, **source, CopySource=source) == ("InvalidRequest", 400)


@pytest.mark.parametrize("name", ["CHEAP", "standard", "GLACIER,STANDARD"])
def test_an_unknown_one_is_refused(server: S3Server, bucket: str, name: str) -> None:
    signer = server.signer()
    headers = {"x-amz-storage-class": name}
    for raw in (
        Raw("PUT", f"/{bucket}/k", headers=headers),
        Raw("POST", f"/{bucket}/k", "uploads", headers=headers),
        Raw("PUT", f"/{bucket}/k", headers={**headers, "x-amz-copy-source": f"{bucket}/k"}),
    ):
        answer = signer.send(raw)
        assert (answer.status, answer.code) == (400, "InvalidStorageClass")


def test_an_empty_field_is_as_none_for_every_operation(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    empty: dict[str, Any] = {"headers": {"x-amz-storage-class": "", "x-amz-acl": ""}}
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = f"uploadId={upload}&partNumber=1"
    signer = server.signer()
    copied = {"headers": {**empty["headers"], "x-amz-copy-source": f"{bucket}/k"}}
    for raw in (
        Raw("PUT", f"/{bucket}/k", body=b"x", **empty),
        Raw("PUT", f"/{bucket}/copy", **copied),
        Raw("GET", f"/{bucket}/k", **empty),
        Raw("HEAD", f"/{bucket}/k", **empty),
        Raw("POST", f"/{bucket}/k", "uploads", **empty),
        Raw("PUT", f"/{bucket}/k", part, body=b"x", **empty),
        Raw("PUT", f"/{bucket}/k", part, **copied),
        Raw("DELETE", f"/{bucket}/k", f"uploadId={upload}", **empty),
        Raw("DELETE", f"/{bucket}/k", **empty),
        Raw("GET", f"/{bucket}", "list-type=2", **empty),
        Raw("PUT", "/bucket-of-an-empty-field", **empty),
        Raw("DELETE", "/bucket-of-an-empty-field", **empty),
    ):
        assert signer.send(raw).status in (200, 204), raw

"""Versions and delete markers as clients meet them: ids, headers, listings, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import S3Server

SIZES = [4, 5000]  # in the metadata, where that takes bodies; on nodes


def turn(s3: BaseClient, bucket: str, status: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


@pytest.fixture
def versioned(s3: BaseClient, bucket: str) -> str:
    turn(s3, bucket, "Enabled")
    return bucket


def put(s3: BaseClient, bucket: str, body: bytes, key: str = "k", **more: Any) -> str:
    version = s3.put_object(Bucket=bucket, Key=key, Body=body, **more)["VersionId"]
    assert isinstance(version, str)
    return version


def read(s3: BaseClient, bucket: str, key: str = "k", **more: Any) -> bytes:
    data = s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()
    assert isinstance(data, bytes)
    return data


def listed(s3: BaseClient, bucket: str, **more: Any) -> list[tuple[str, str, bool]]:
    """(key, version, whether it is the latest) of the versions, and of the delete markers."""
    answer = s3.list_object_versions(Bucket=bucket, **more)
    entries = answer.get("Versions", []) + answer.get("DeleteMarkers", [])
    return [(one["Key"], one["VersionId"], one["IsLatest"]) for one in entries]


def test_a_bucket_says_whether_it_has_versions(s3: BaseClient, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert "VersionId" not in s3.get_object(Bucket=bucket, Key="k")
    for status in ("Enabled", "Suspended", "Enabled"):
        turn(s3, bucket, status)
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
        assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == "null"


@pytest.mark.parametrize(
    ("inner", "code", "status"),
    [
        ("<Status>Off</Status>", "MalformedXML", 400),
        ("<Status>enabled</Status>", "MalformedXML", 400),
        ("<Other>Enabled</Other>", "MalformedXML", 400),
        ("", "IllegalVersioningConfigurationException", 400),
        ("<MfaDelete>Enabled</MfaDelete><Status>Enabled</Status>", "AccessDenied", 403),
    ],
)
def test_a_state_that_there_is_not_is_refused(
    server: S3Server, bucket: str, inner: str, code: str, status: int
) -> None:
    body = f"<VersioningConfiguration>{inner}</VersioningConfiguration>".encode()
    answer = server.signer().send(Raw("PUT", f"/{bucket}", "versioning", body))
    assert (answer.code, answer.status) == (code, status)
    said = server.signer().send(Raw("GET", f"/{bucket}", "versioning"))
    assert b"Status" not in said.body


@pytest.mark.parametrize("size", SIZES)
def test_each_version_stays_under_its_id(s3: BaseClient, versioned: str, size: int) -> None:
    bodies = [bytes([number]) * size for number in range(3)]
    versions = [put(s3, versioned, body) for body in bodies]
    assert len(set(versions)) == 3
    for version, body in zip(versions, bodies, strict=True):
        where = {"Bucket": versioned, "Key": "k", "VersionId": version}
        assert read(s3, versioned, VersionId=version) == body
        assert s3.head_object(**where)["VersionId"] == version
        assert read(s3, versioned, VersionId=version, Range="bytes=1-2") == body[1:3]
    assert read(s3, versioned) == bodies[-1]
    assert listed(s3, versioned) == [("k", v, v == versions[-1]) for v in reversed(versions)]


def test_deleting_makes_a_marker_that_404_tells_of(
    server: S3Server, s3: BaseClient, versioned: str
) -> None:
    version = put(s3, versioned, b"kept")
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    marker = deleted["VersionId"]
    assert deleted["DeleteMarker"] is True
    for method in ("GET", "HEAD"):
        answer = server.signer().send(Raw(method, f"/{versioned}/k"))
        assert answer.status == 404
        assert answer.headers["x-amz-delete-marker"] == "true"
        assert answer.headers["x-amz-version-id"] == marker
        named = server.signer().send(Raw(method, f"/{versioned}/k", f"versionId={marker}"))
        assert named.status == 405
        assert named.headers["x-amz-delete-marker"] == "true"
        assert named.headers["allow"] == "DELETE"
        assert named.headers["last-modified"].endswith("GMT")
    assert read(s3, versioned, VersionId=version) == b"kept"
    assert listed(s3, versioned) == [("k", version, False), ("k", marker, True)]
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)


def test_deleting_the_marker_brings_the_object_back(s3: BaseClient, versioned: str) -> None:
    put(s3, versioned, b"kept")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, marker)
    assert read(s3, versioned) == b"kept"


def test_deleting_the_newest_version_makes_the_next_one_current(
    s3: BaseClient, versioned: str
) -> None:
    first, second = put(s3, versioned, b"first"), put(s3, versioned, b"second")
    gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=second)
    assert gone["VersionId"] == second
    assert "DeleteMarker" not in gone
    assert read(s3, versioned) == b"first"
    absent = refused(s3.get_object, Bucket=versioned, Key="k", VersionId=second)
    assert absent == ("NoSuchVersion", 404)
    again = s3.delete_object(Bucket=versioned, Key="k", VersionId=second)
    assert again["VersionId"] == second
    s3.delete_object(Bucket=versioned, Key="k", VersionId=first)
    assert refused(s3.get_object, Bucket=versioned, Key="k") == ("NoSuchKey", 404)
    s3.delete_bucket(Bucket=versioned)


def test_a_suspended_bucket_has_one_null_version(s3: BaseClient, versioned: str) -> None:
    kept = put(s3, versioned, b"kept")
    turn(s3, versioned, "Suspended")
    assert put(s3, versioned, b"null") == "null"
    assert put(s3, versioned, b"newer null") == "null"
    assert read(s3, versioned, VersionId="null") == b"newer null"
    marker = s3.delete_object(Bucket=versioned, Key="k")
    assert (marker["DeleteMarker"], marker["VersionId"]) == (True, "null")
    assert listed(s3, versioned) == [("k", kept, False), ("k", "null", True)]
    assert refused(s3.get_object, Bucket=versioned, Key="k") == ("NoSuchKey", 404)
    s3.delete_object(Bucket=versioned, Key="k", VersionId="null")
    assert read(s3, versioned) == b"kept"


def test_a_bucket_with_versions_or_markers_is_not_empty(s3: BaseClient, versioned: str) -> None:
    s3.delete_object(Bucket=versioned, Key="never-there")
    assert refused(s3.delete_bucket, Bucket=versioned) == ("BucketNotEmpty", 409)


@pytest.mark.parametrize("size", SIZES)
def test_a_version_can_be_copied_also_onto_its_own_key(
    s3: BaseClient, versioned: str, size: int
) -> None:
    first = put(s3, versioned, b"1" * size, Metadata={"a": "b"})
    second = put(s3, versioned, b"2" * size)
    source = {"Bucket": versioned, "Key": "k", "VersionId": first}
    back = s3.copy_object(Bucket=versioned, Key="k", CopySource=source)
    assert back["CopySourceVersionId"] == first
    assert back["VersionId"] not in (first, second)
    assert read(s3, versioned) == b"1" * size
    assert s3.head_object(Bucket=versioned, Key="k")["Metadata"] == {"a": "b"}
    itself = {**source, "VersionId": back["VersionId"]}
    same = refused(s3.copy_object, Bucket=versioned, Key="k", CopySource=itself)
    assert same == ("InvalidRequest", 400)
    s3.delete_object(Bucket=versioned, Key="k", VersionId=first)
    assert read(s3, versioned) == b"1" * size


def test_a_marker_is_no_source_of_a_copy(s3: BaseClient, versioned: str) -> None:
    put(s3, versioned, b"kept")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    source = {"Bucket": versioned, "Key": "k"}
    where = {"Bucket": versioned, "Key": "copy"}
    assert refused(s3.copy_object, **where, CopySource=source) == ("NoSuchKey", 404)
    with pytest.raises(ClientError, match="may not specifically refer to a delete marker"):
        s3.copy_object(**where, CopySource={**source, "VersionId": marker})


def test_a_part_may_come_from_a_version(s3: BaseClient, versioned: str) -> None:
    first = put(s3, versioned, b"first")
    put(s3, versioned, b"second")
    where = {"Bucket": versioned, "Key": "whole"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    source = {"Bucket": versioned, "Key": "k", "VersionId": first}
    part = s3.upload_part_copy(**upload, PartNumber=1, CopySource=source)
    assert part["CopySourceVersionId"] == first
    named = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    done = s3.complete_multipart_upload(**upload, MultipartUpload=named)
    assert read(s3, versioned, "whole", VersionId=done["VersionId"]) == b"first"


def test_a_list_deletes_versions_and_makes_markers(s3: BaseClient, versioned: str) -> None:
    first, second = put(s3, versioned, b"first"), put(s3, versioned, b"second")
    other = put(s3, versioned, b"other", "other")
    objects = [
        {"Key": "k", "VersionId": first},
        {"Key": "k", "VersionId": "not-an-id"},
        {"Key": "other"},
        {"Key": "other", "ETag": '"another"'},
    ]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": objects})
    named, marked = answer["Deleted"]
    assert named == {"Key": "k", "VersionId": first}
    assert marked["DeleteMarker"] is True
    assert "VersionId" not in marked
    errors = [(one["Key"], one["Code"]) for one in answer["Errors"]]
    assert errors == [("k", "NoSuchVersion"), ("other", "NoSuchKey")]
    marker = {"Key": "other", "VersionId": marked["DeleteMarkerVersionId"]}
    gone = s3.delete_objects(Bucket=versioned, Delete={"Objects": [marker]})["Deleted"]
    expected = {**marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker["VersionId"]}
    assert gone == [expected]
    assert listed(s3, versioned) == [("k", second, True), ("other", other, True)]


def test_a_version_is_deleted_only_if_it_matches(
    server: S3Server, s3: BaseClient, versioned: str
) -> None:
    first = put(s3, versioned, b"first")
    etag = s3.head_object(Bucket=versioned, Key="k")["ETag"]
    put(s3, versioned, b"second")
    where = {"Bucket": versioned, "Key": "k"}
    failed = refused(s3.delete_object, **where, IfMatch=etag)
    assert failed == ("PreconditionFailed", 412)
    s3.delete_object(**where, VersionId=first, IfMatch=etag)
    s3.delete_object(**where)
    for condition in (etag, "*"):  # what is current is a delete marker, and none is made above it
        absent = refused(s3.delete_object, **where, IfMatch=condition)
        assert absent == ("NoSuchKey", 404)
    raw = Raw("DELETE", f"/{versioned}/k", headers={"if-none-match": "*"})
    assert server.signer().send(raw).code == "NotImplemented"
    assert first not in [version for _, version, _ in listed(s3, versioned)]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_versions_come_in_pages(s3: BaseClient, versioned: str, size: int) -> None:
    for key in ("a", "d/1", "d/2", "\u00e9"):
        for number in range(2):
            put(s3, versioned, bytes([number]), key)
        s3.delete_object(Bucket=versioned, Key=key)
    expected = sorted(listed(s3, versioned))
    assert len(expected) == 12
    found = []
    marker: dict[str, str] = {}
    while True:
        page = s3.list_object_versions(Bucket=versioned, MaxKeys=size, **marker)
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        assert len(entries) <= size
        found += [(one["Key"], one["VersionId"], one["IsLatest"]) for one in entries]
        if not page["IsTruncated"]:
            break
        marker = {
            "KeyMarker": page["NextKeyMarker"],
            "VersionIdMarker": page["NextVersionIdMarker"],
        }
    assert sorted(found) == expected
    grouped = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [one["Prefix"] for one in grouped["CommonPrefixes"]] == ["d/"]
    assert {one["Key"] for one in grouped["DeleteMarkers"]} == {"a", "\u00e9"}


@pytest.mark.parametrize("call", ["get_object", "head_object", "delete_object",
                                  "get_object_tagging", "get_object_acl"])  # fmt: skip
def test_what_can_be_no_id_is_refused(s3: BaseClient, versioned: str, call: str) -> None:
    put(s3, versioned, b"x")
    for version in ("abc", "3HL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY", "0" * 31, "F" * 32):
        with pytest.raises(ClientError) as caught:
            getattr(s3, call)(Bucket=versioned, Key="k", VersionId=version)
        answer = caught.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
        if call != "head_object":
            assert answer["Error"]["Code"] == "InvalidArgument"
            assert answer["Error"]["Message"].startswith("Invalid version id specified")

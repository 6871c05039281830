"""Object lock as clients meet it: what is kept, who may let it go, and what is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import S3Server

DENIED = ("AccessDenied", 403)
NO_CONFIGURATION = "Bucket is missing Object Lock Configuration"
_NUMBERS = itertools.count(1)


def in_days(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=123_000) + timedelta(days=days)


def retention(mode: str, days: float) -> dict[str, Any]:
    """The fields of a PUT."""
    return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": in_days(days)}


def said(mode: str, days: float) -> dict[str, Any]:
    """The document."""
    return {"Mode": mode, "RetainUntilDate": in_days(days)}


@pytest.fixture
def locked(s3: BaseClient) -> str:
    name = f"locked-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def where(locked: str) -> dict[str, str]:
    return {"Bucket": locked, "Key": "k"}


def test_a_bucket_with_lock_is_versioned_for_ever(s3: BaseClient, locked: str) -> None:
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
    assert found == {"ObjectLockEnabled": "Enabled"}
    with pytest.raises(ClientError, match="the versioning state cannot be changed") as caught:
        s3.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Suspended"})
    answer = caught.value.response
    assert answer["Error"]["Code"] == "InvalidBucketState"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"


def test_a_versioned_bucket_gets_lock_later(s3: BaseClient, bucket: str) -> None:
    configuration = {"ObjectLockEnabled": "Enabled"}
    asked = {"Bucket": bucket, "ObjectLockConfiguration": configuration}
    assert refused(s3.put_object_lock_configuration, **asked) == ("InvalidBucketState", 409)
    absent = refused(s3.get_object_lock_configuration, Bucket=bucket)
    assert absent == ("ObjectLockConfigurationNotFoundError", 404)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(**asked)
    found = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    assert found == configuration
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ObjectLockLegalHoldStatus="ON")


@pytest.mark.parametrize("period", [{"Days": 3}, {"Years": 2}])
def test_the_buckets_default_is_what_a_new_version_gets(
    s3: BaseClient, where: dict[str, str], period: dict[str, int]
) -> None:
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", **period}}
    configuration: dict[str, Any] = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    put = s3.put_object_lock_configuration
    put(Bucket=where["Bucket"], ObjectLockConfiguration=configuration)
    found = s3.get_object_lock_configuration(Bucket=where["Bucket"])
    assert found["ObjectLockConfiguration"] == configuration
    version = s3.put_object(**where, Body=b"x")["VersionId"]
    head = s3.head_object(**where)
    until = in_days(3 if "Days" in period else 730.5)
    assert head["ObjectLockMode"] == "GOVERNANCE"
    assert abs(head["ObjectLockRetainUntilDate"] - until) < timedelta(days=1.5)
    assert refused(s3.delete_object, **where, VersionId=version) == DENIED
    own = s3.put_object(**where, Body=b"y", **retention("COMPLIANCE", 9))["VersionId"]
    assert s3.head_object(**where, VersionId=own)["ObjectLockMode"] == "COMPLIANCE"
    put(Bucket=where["Bucket"], ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    s3.put_object(**where, Body=b"z")
    assert "ObjectLockMode" not in s3.head_object(**where)


def test_governance_is_kept_unless_it_may_be_bypassed(
    server: S3Server, s3: BaseClient, where: dict[str, str]
) -> None:
    asked = retention("GOVERNANCE", 1)
    version = s3.put_object(**where, Body=b"kept", **asked)["VersionId"]
    head = s3.head_object(**where)
    until = asked["ObjectLockRetainUntilDate"].replace(microsecond=0)  # as boto3 writes a field
    assert head["ObjectLockRetainUntilDate"] == until
    marker = s3.delete_object(**where)
    assert marker["DeleteMarker"] is True
    with pytest.raises(ClientError, match="object protected by object lock"):
        s3.delete_object(**where, VersionId=version)
    limited = server.client(server.limited((where["Bucket"], "s3:DeleteObject*")))
    named = {**where, "VersionId": version, "BypassGovernanceRetention": True}
    assert refused(limited.delete_object, **named) == DENIED
    limited.close()
    assert s3.get_object(**where, VersionId=version)["Body"].read() == b"kept"
    s3.delete_object(**named)
    absent = refused(s3.get_object, **where, VersionId=version)
    assert absent == ("NoSuchVersion", 404)


def test_compliance_is_never_shorter_nor_anything_else(
    s3: BaseClient, where: dict[str, str]
) -> None:
    asked = retention("COMPLIANCE", 2)
    version = s3.put_object(**where, Body=b"kept", **asked)["VersionId"]
    bypass = {"BypassGovernanceRetention": True}
    assert refused(s3.delete_object, **where, VersionId=version, **bypass) == DENIED
    for wanted in (said("COMPLIANCE", 1), said("GOVERNANCE", 3), {}):
        call = {**where, "Retention": wanted, **bypass}
        assert refused(s3.put_object_retention, **call) == DENIED
    longer = said("COMPLIANCE", 3)
    s3.put_object_retention(**where, Retention=longer)
    assert s3.get_object_retention(**where)["Retention"] == longer


def test_a_retention_changes_as_its_mode_allows(s3: BaseClient, where: dict[str, str]) -> None:
    s3.put_object(**where, Body=b"x")
    none = refused(s3.get_object_retention, **where)
    assert none == ("NoSuchObjectLockConfiguration", 404)
    first, shorter = said("GOVERNANCE", 2), said("GOVERNANCE", 1)
    s3.put_object_retention(**where, Retention=first)
    assert refused(s3.put_object_retention, **where, Retention=shorter) == DENIED
    assert s3.get_object_retention(**where)["Retention"] == first
    bypass = {"BypassGovernanceRetention": True}
    s3.put_object_retention(**where, Retention=shorter, **bypass)
    assert s3.get_object_retention(**where)["Retention"] == shorter
    s3.put_object_retention(**where, Retention={}, **bypass)
    assert refused(s3.get_object_retention, **where) == none


def test_a_legal_hold_keeps_whatever_the_retention(s3: BaseClient, where: dict[str, str]) -> None:
    version = s3.put_object(**where, Body=b"x", ObjectLockLegalHoldStatus="ON")["VersionId"]
    assert s3.head_object(**where)["ObjectLockLegalHoldStatus"] == "ON"
    assert s3.get_object_legal_hold(**where)["LegalHold"] == {"Status": "ON"}
    named = {**where, "VersionId": version}
    assert refused(s3.delete_object, **named, BypassGovernanceRetention=True) == DENIED
    s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(**where)["LegalHold"] == {"Status": "OFF"}
    assert s3.head_object(**where)["ObjectLockLegalHoldStatus"] == "OFF"
    s3.delete_object(**named)


def test_a_legal_hold_that_nobody_asked_for_is_none(s3: BaseClient, where: dict[str, str]) -> None:
    s3.put_object(**where, Body=b"x")
    none = ("NoSuchObjectLockConfiguration", 404)
    assert refused(s3.get_object_legal_hold, **where) == none
    assert "ObjectLockLegalHoldStatus" not in s3.head_object(**where)
    s3.put_object_tagging(**where, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert refused(s3.get_object_legal_hold, **where) == none
    s3.put_object(**where, Body=b"x", ObjectLockLegalHoldStatus="OFF")
    assert s3.get_object_legal_hold(**where)["LegalHold"] == {"Status": "OFF"}


def test_a_change_of_a_lock_names_the_version(s3: BaseClient, where: dict[str, str]) -> None:
    version = s3.put_object(**where, Body=b"x")["VersionId"]
    for call, asked in (
        (s3.put_object_legal_hold, {"LegalHold": {"Status": "OFF"}}),
        (s3.put_object_retention, {"Retention": said("GOVERNANCE", 1)}),
    ):
        fields = call(**where, **asked)["ResponseMetadata"]["HTTPHeaders"]
        assert fields["x-amz-version-id"] == version


def test_of_a_list_only_what_is_kept_stays(s3: BaseClient, where: dict[str, str]) -> None:
    kept = s3.put_object(**where, Body=b"kept", **retention("GOVERNANCE", 1))["VersionId"]
    loose = s3.put_object(**where, Body=b"loose")["VersionId"]
    objects = [{"Key": "k", "VersionId": version} for version in (kept, loose)]
    wanted = {"Bucket": where["Bucket"], "Delete": {"Objects": objects}}
    answer = s3.delete_objects(**wanted)
    assert [one["VersionId"] for one in answer["Deleted"]] == [loose]
    (error,) = answer["Errors"]
    assert (error["VersionId"], error["Code"]) == (kept, "AccessDenied")
    assert error["Message"] == "Access Denied because object protected by object lock."
    again = s3.delete_objects(**wanted, BypassGovernanceRetention=True)
    assert [one["VersionId"] for one in again["Deleted"]] == [kept, loose]


def test_copies_and_uploads_have_a_lock_of_their_own(s3: BaseClient, where: dict[str, str]) -> None:
    bucket = where["Bucket"]
    s3.put_object(**where, Body=b"x", **retention("GOVERNANCE", 1))
    s3.copy_object(Bucket=bucket, Key="plain", CopySource=where)
    assert "ObjectLockMode" not in s3.head_object(Bucket=bucket, Key="plain")
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=where, ObjectLockLegalHoldStatus="ON")
    assert s3.head_object(Bucket=bucket, Key="kept")["ObjectLockLegalHoldStatus"] == "ON"
    whole = {"Bucket": bucket, "Key": "whole"}
    begun = s3.create_multipart_upload(**whole, **retention("COMPLIANCE", 1))
    upload = {**whole, "UploadId": begun["UploadId"]}
    etag = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    named = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    done = s3.complete_multipart_upload(**upload, MultipartUpload=named)
    assert s3.head_object(**whole)["ObjectLockMode"] == "COMPLIANCE"
    assert refused(s3.delete_object, **whole, VersionId=done["VersionId"]) == DENIED


# --- refusals ---------------------------------------------------------------------------------


def test_a_bucket_without_lock_takes_none(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"old")
    for call, options in (
        (s3.put_object, {"Body": b"new", **retention("GOVERNANCE", 1)}),
        (s3.put_object, {"Body": b"new", "ObjectLockLegalHoldStatus": "ON"}),
        (s3.create_multipart_upload, retention("GOVERNANCE", 1)),
        (s3.copy_object, {"CopySource": where, **retention("GOVERNANCE", 1)}),
        (s3.put_object_retention, {"Retention": said("GOVERNANCE", 1)}),
        (s3.put_object_legal_hold, {"LegalHold": {"Status": "ON"}}),
        (s3.get_object_retention, {}),
        (s3.get_object_legal_hold, {}),
    ):
        with pytest.raises(ClientError, match=NO_CONFIGURATION) as caught:
            call(**where, **options)
        assert caught.value.response["Error"]["Code"] == "InvalidRequest"
    assert s3.get_object(**where)["Body"].read() == b"old"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"mode": "GOVERNANCE"}, "must both be supplied"),
        ({"retain-until-date": "2999-01-01T00:00:00Z"}, "must both be supplied"),
        ({"mode": "governance", "retain-until-date": "2999-01-01T00:00:00Z"}, "Unknown wormMode"),
        ({"mode": "GOVERNANCE", "retain-until-date": "2001-01-01T00:00:00Z"}, "in the future!"),
        ({"mode": "GOVERNANCE", "retain-until-date": "2999-01-01T00:00:00"}, "ISO 8601"),
        ({"mode": "GOVERNANCE", "retain-until-date": "tomorrow"}, "ISO 8601"),
        ({"legal-hold": "on"}, "Legal Hold must be either of"),
    ],
)
def test_fields_that_can_not_be_meant_are_refused(
    server: S3Server, s3: BaseClient, locked: str, fields: dict[str, str], why: str
) -> None:
    headers = {f"x-amz-object-lock-{name}": value for name, value in fields.items()}
    raw = Raw("PUT", f"/{locked}/k", body=b"", headers={**headers, "content-md5": "x" * 24})
    answer = server.signer().send(raw)
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert why in answer.body.decode()
    assert "Versions" not in s3.list_object_versions(Bucket=locked)


def test_a_locked_put_comes_with_a_digest(server: S3Server, s3: BaseClient, locked: str) -> None:
    headers = {"x-amz-object-lock-legal-hold": "ON"}
    answer = server.signer().send(Raw("PUT", f"/{locked}/k", body=b"x", headers=headers))
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert b"Content-MD5 OR x-amz-checksum-" in answer.body
    plain = Raw("PUT", f"/{locked}/k", body=b"x")
    assert server.signer().send(plain).status == 200
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=configuration)
    assert server.signer().send(plain).code == "InvalidRequest"
    s3.put_object(Bucket=locked, Key="k", Body=b"x")


@pytest.mark.parametrize("asked", [{}, {"ObjectLockLegalHoldStatus": "ON"}, "by the bucket"])
def test_a_part_of_what_is_locked_comes_with_a_digest(
    server: S3Server, s3: BaseClient, locked: str, asked: Any
) -> None:
    own = asked if isinstance(asked, dict) else {}
    upload = s3.create_multipart_upload(Bucket=locked, Key="k", **own)["UploadId"]
    if asked == "by the bucket":
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        configuration: dict[str, Any] = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=configuration)
    raw = Raw("PUT", f"/{locked}/k", f"partNumber=1&uploadId={upload}", b"x")
    answer = server.signer().send(raw)
    if not asked:
        assert answer.status == 200
        return
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert b"is required for Put Part requests with Object Lock parameters" in answer.body
    s3.upload_part(Bucket=locked, Key="k", UploadId=upload, PartNumber=1, Body=b"x")


ENABLED = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"


def rule(inner: str) -> str:
    return f"{ENABLED}<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("", "MalformedXML"),
        ("<ObjectLockEnabled>Disabled</ObjectLockEnabled>", "MalformedXML"),
        (f"{ENABLED}<Rule/>", "MalformedXML"),
        (f"{ENABLED}{ENABLED}", "MalformedXML"),
        (f"{ENABLED}<Other/>", "MalformedXML"),
        (rule("<Mode>GOVERNANCE</Mode>"), "MalformedXML"),
        (rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), "MalformedXML"),
        (rule("<Mode>NONE</Mode><Days>1</Days>"), "MalformedXML"),
        (rule("<Mode>GOVERNANCE</Mode><Days>x</Days>"), "MalformedXML"),
        (rule("<Mode>GOVERNANCE</Mode><Days>0</Days>"), "InvalidRetentionPeriod"),
        (rule("<Mode>GOVERNANCE</Mode><Days>-1</Days>"), "InvalidRetentionPeriod"),
        (rule("<Mode>GOVERNANCE</Mode><Days>36501</Days>"), "InvalidRetentionPeriod"),
        (rule("<Mode>COMPLIANCE</Mode><Years>101</Years>"), "InvalidRetentionPeriod"),
    ],
)
def test_configurations_that_can_not_be_meant_are_refused(
    server: S3Server, s3: BaseClient, locked: str, inner: str, code: str
) -> None:
    body = f"<ObjectLockConfiguration>{inner}</ObjectLockConfiguration>".encode()
    answer = server.signer().send(Raw("PUT", f"/{locked}", "object-lock", body))
    assert (answer.status, answer.code) == (400, code)
    found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
    assert "Rule" not in found


def test_documents_that_can_not_be_meant_are_refused(
    server: S3Server, s3: BaseClient, where: dict[str, str]
) -> None:
    s3.put_object(**where, Body=b"x")
    path = f"/{where['Bucket']}/k"
    until = "<RetainUntilDate>2999-01-01T00:00:00Z</RetainUntilDate>"
    past = "<RetainUntilDate>2001-01-01T00:00:00Z</RetainUntilDate>"
    for query, root, inner, code in (
        ("retention", "Retention", "<Mode>GOVERNANCE</Mode>", "MalformedXML"),
        ("retention", "Retention", f"<Mode>governance</Mode>{until}", "MalformedXML"),
        ("retention", "Retention", f"<Mode>GOVERNANCE</Mode>{past}", "InvalidArgument"),
        ("legal-hold", "LegalHold", "", "MalformedXML"),
        ("legal-hold", "LegalHold", "<Status>abc</Status>", "MalformedXML"),
    ):
        body = f"<{root}>{inner}</{root}>".encode()
        answer = server.signer().send(Raw("PUT", path, query, body))
        assert (answer.status, answer.code) == (400, code)
    head = s3.head_object(**where)
    assert "ObjectLockMode" not in head


def test_locks_need_the_right_to_set_and_read_them(
    server: S3Server, s3: BaseClient, where: dict[str, str]
) -> None:
    limited = server.client(server.limited((where["Bucket"], "s3:PutObject s3:GetObject")))
    for options in (retention("GOVERNANCE", 1), {"ObjectLockLegalHoldStatus": "ON"}):
        assert refused(limited.put_object, **where, Body=b"x", **options) == DENIED
    s3.put_object(**where, Body=b"x", ObjectLockLegalHoldStatus="ON", **retention("GOVERNANCE", 1))
    head = limited.head_object(**where)
    assert not [name for name in head if name.startswith("ObjectLock")]
    limited.close()
    maker = server.client(server.limited(("*", "s3:CreateBucket")))
    made = refused(maker.create_bucket, Bucket="not-locked", ObjectLockEnabledForBucket=True)
    assert made == DENIED
    maker.close()

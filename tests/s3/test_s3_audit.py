"""Each change of who may do what, and of what is kept, has a line in the log, refused or not."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.s3.audited import ALWAYS, WITH_A_FIELD
from predastore.s3.routes import ROUTES
from support.s3refusals import refused
from support.s3server import ALICE, BOB, S3Server

# Changes of data, and of what describes it.
UNAUDITED = {
    *("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload"),
    *("AbortMultipartUpload", "PutObject", "PostObject", "CopyObject", "DeleteBucket"),
    *("PutBucketTagging", "DeleteBucketTagging", "PutObjectTagging", "DeleteObjectTagging"),
    *("TagResource", "UntagResource"),
}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """What the audit has said so far, each as its fields."""
    caplog.set_level(logging.INFO, "predastore.audit")

    def said() -> list[dict[str, Any]]:
        return [vars(one) for one in caplog.records if one.name == "predastore.audit"]

    return said


def told(lines: Any) -> list[tuple[str, str, str]]:
    return [(one["action"], one["target"], one["outcome"]) for one in lines()]


def until() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def test_each_route_that_changes_something_is_audited_or_known_not_to_be() -> None:
    absent = {route.name for route in ROUTES if route.called}
    changing = {route.name for route in ROUTES if route.mutating} - absent
    assert changing == ALWAYS | WITH_A_FIELD.keys() | UNAUDITED


def test_changes_of_a_bucket_say_who_what_and_from_where(
    s3: BaseClient, bucket: str, lines: Any
) -> None:
    where: dict[str, Any] = {"Bucket": bucket}
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": BOB.account_id},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/secret-folder/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cors = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["http://told.example"]}]}
    s3.put_bucket_policy(**where, Policy=policy)
    s3.delete_bucket_policy(**where)
    s3.put_bucket_acl(**where, ACL="private")
    s3.put_bucket_cors(**where, CORSConfiguration=cors)
    s3.delete_bucket_cors(**where)
    s3.put_public_access_block(**where, PublicAccessBlockConfiguration={"BlockPublicPolicy": True})
    s3.delete_public_access_block(**where)
    s3.put_bucket_ownership_controls(
        **where, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )
    s3.delete_bucket_ownership_controls(**where)
    s3.put_bucket_versioning(**where, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(
        **where, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    )
    s3.put_object(**where, Key="k", Body=b"x")
    s3.get_bucket_acl(**where)
    names = (
        *("PutBucketPolicy", "DeleteBucketPolicy", "PutBucketAcl", "PutBucketCors"),
        *("DeleteBucketCors", "PutPublicAccessBlock", "DeletePublicAccessBlock"),
        *("PutBucketOwnershipControls", "DeleteBucketOwnershipControls"),
        *("PutBucketVersioning", "PutObjectLockConfiguration"),
    )
    arn = f"arn:aws:s3:::{bucket}"
    assert told(lines) == [(f"s3:{name}", arn, "done") for name in names]
    for line in lines():
        assert line["principal"] == f"arn:aws:iam::{ALICE.account_id}:root"
        assert line["access_key_id"] == ALICE.access_key_id
        assert line["remote"] == "127.0.0.1"
        assert len(line["request_id"]) == 16
        assert line["decision"] == "allowed"
        said = str(line)
        assert "secret-folder" not in said
        assert "told.example" not in said
        assert ALICE.secret_access_key not in said


def test_a_refused_change_has_its_line_with_the_code(
    s3: BaseClient, bob: BaseClient, bucket: str, lines: Any
) -> None:
    empty = {"Bucket": bucket, "Policy": "{}"}
    assert refused(s3.put_bucket_policy, **empty) == ("MalformedPolicy", 400)
    assert refused(bob.put_bucket_policy, **empty) == ("AccessDenied", 403)
    assert refused(bob.put_bucket_acl, Bucket="no-such-box", ACL="private")[0] == "NoSuchBucket"
    arn = f"arn:aws:s3:::{bucket}"
    assert told(lines) == [
        ("s3:PutBucketPolicy", arn, "MalformedPolicy"),
        ("s3:PutBucketPolicy", arn, "AccessDenied"),
        ("s3:PutBucketAcl", "arn:aws:s3:::no-such-box", "NoSuchBucket"),
    ]
    assert lines()[1]["access_key_id"] == BOB.access_key_id
    assert lines()[1]["decision"] == "implicit deny"


def test_who_signs_nothing_is_anonymous_there(server: S3Server, bucket: str, lines: Any) -> None:
    nobody = server.client(None)
    assert refused(nobody.delete_bucket_policy, Bucket=bucket) == ("AccessDenied", 403)
    nobody.close()
    (line,) = lines()
    assert (line["principal"], line["access_key_id"]) == ("anonymous", "")


def test_a_bucket_that_is_made_public_or_locked_has_a_line_and_a_plain_one_has_none(
    s3: BaseClient, bucket: str, lines: Any
) -> None:
    s3.create_bucket(Bucket=f"{bucket}-plain")
    s3.create_bucket(Bucket=f"{bucket}-public", ACL="public-read")
    s3.create_bucket(Bucket=f"{bucket}-locked", ObjectLockEnabledForBucket=True)
    assert told(lines) == [
        ("s3:CreateBucket", f"arn:aws:s3:::{bucket}-public", "done"),
        ("s3:CreateBucket", f"arn:aws:s3:::{bucket}-locked", "done"),
    ]


def test_what_is_said_of_a_version_and_what_bypasses_its_lock_names_the_version(
    s3: BaseClient, bucket: str, lines: Any
) -> None:
    box = f"{bucket}-kept"
    s3.create_bucket(Bucket=box, ObjectLockEnabledForBucket=True)
    where = {"Bucket": box, "Key": "k"}
    one, two, three = (s3.put_object(**where, Body=b"x")["VersionId"] for _ in range(3))
    for version in (one, two):
        rule: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": until()}
        s3.put_object_retention(**where, VersionId=version, Retention=rule)
    strict: Any = {"Mode": "COMPLIANCE", "RetainUntilDate": until()}
    s3.put_object_retention(**where, VersionId=three, Retention=strict)
    s3.put_object_legal_hold(**where, LegalHold={"Status": "OFF"})
    before = len(lines())
    assert refused(s3.delete_object, **where, VersionId=one)[0] == "AccessDenied"
    assert len(lines()) == before
    s3.delete_object(**where, VersionId=one, BypassGovernanceRetention=True)
    entries: Any = [{"Key": "k", "VersionId": version} for version in (two, three)]
    s3.delete_objects(Bucket=box, Delete={"Objects": entries}, BypassGovernanceRetention=True)
    arn = f"arn:aws:s3:::{box}"
    assert told(lines)[1:] == [
        ("s3:PutObjectRetention", f"{arn}/k?versionId={one}", "done"),
        ("s3:PutObjectRetention", f"{arn}/k?versionId={two}", "done"),
        ("s3:PutObjectRetention", f"{arn}/k?versionId={three}", "done"),
        ("s3:PutObjectLegalHold", f"{arn}/k", "done"),
        ("s3:DeleteObject", f"{arn}/k?versionId={one}", "done"),
        ("s3:DeleteObjects", f"{arn}/k?versionId={two}", "done"),
        ("s3:DeleteObjects", f"{arn}/k?versionId={three}", "AccessDenied"),
        ("s3:DeleteObjects", arn, "done"),
    ]

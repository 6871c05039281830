"""ACLs of buckets and objects over HTTP: put, kept with their version, told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.s3.acl import GROUPS, Grantee
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import ALICE, BOB, REGION, S3Server

ALL_USERS, AUTHENTICATED = GROUPS[Grantee.ALL_USERS], GROUPS[Grantee.AUTHENTICATED_USERS]
LOG_DELIVERY = GROUPS[Grantee.LOG_DELIVERY]
OWN = (ALICE.account_id, "FULL_CONTROL")
CANNED = {
    "private": set(),
    "public-read": {(ALL_USERS, "READ")},
    "public-read-write": {(ALL_USERS, "READ"), (ALL_USERS, "WRITE")},
    "authenticated-read": {(AUTHENTICATED, "READ")},
}
OF_OBJECTS = {**CANNED, "bucket-owner-read": set(), "bucket-owner-full-control": set(),
              "aws-exec-read": set()}  # fmt: skip
OF_BUCKETS = {**CANNED, "log-delivery-write": {(LOG_DELIVERY, "WRITE"), (LOG_DELIVERY, "READ_ACP")}}


def told(answer: dict[str, Any]) -> set[tuple[str, str]]:
    assert answer["Owner"]["ID"] == ALICE.account_id
    found = [
        (one["Grantee"].get("ID") or one["Grantee"]["URI"], one["Permission"])
        for one in answer["Grants"]
    ]
    assert len(found) == len(set(found))
    return set(found)


def of_bucket(s3: BaseClient, bucket: str) -> set[tuple[str, str]]:
    return told(s3.get_bucket_acl(Bucket=bucket))


def of_object(s3: BaseClient, bucket: str, key: str = "k", **more: Any) -> set[tuple[str, str]]:
    return told(s3.get_object_acl(Bucket=bucket, Key=key, **more))


def document(*grants: tuple[str, str], owner: str = ALICE.account_id) -> dict[str, Any]:
    """An AccessControlPolicy of boto3's."""
    return {
        "Owner": {"ID": owner},
        "Grants": [
            {
                "Grantee": {"Type": "Group", "URI": who}
                if who.startswith("http")
                else {"Type": "CanonicalUser", "ID": who},
                "Permission": permission,
            }
            for who, permission in grants
        ],
    }


@pytest.fixture
def where(s3: BaseClient, bucket: str) -> dict[str, str]:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    return {"Bucket": bucket, "Key": "k"}


# --- buckets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_BUCKETS)
def test_a_bucket_has_a_canned_acl_from_its_creation_or_later(
    s3: BaseClient, bucket: str, name: str
) -> None:
    expected = {OWN, *OF_BUCKETS[name]}
    s3.create_bucket(Bucket=f"{bucket}-new", ACL=name)
    assert of_bucket(s3, f"{bucket}-new") == expected
    s3.put_bucket_acl(Bucket=bucket, ACL=name)
    assert of_bucket(s3, bucket) == expected
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    assert of_bucket(s3, bucket) == {OWN}


def test_a_bucket_has_the_grants_that_are_said(s3: BaseClient, bucket: str) -> None:
    grants = {
        "GrantRead": f'uri="{LOG_DELIVERY}"',
        "GrantWrite": f"id={BOB.account_id}",
        "GrantFullControl": f'id="{ALICE.account_id}", id="{BOB.account_id}"',
    }
    expected = {OWN, (LOG_DELIVERY, "READ"), (BOB.account_id, "WRITE"),
                (BOB.account_id, "FULL_CONTROL")}  # fmt: skip
    s3.create_bucket(Bucket=f"{bucket}-new", **grants)
    assert of_bucket(s3, f"{bucket}-new") == expected
    s3.put_bucket_acl(Bucket=bucket, **grants)
    assert of_bucket(s3, bucket) == expected


def test_an_acl_that_was_read_can_be_put(s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    found = s3.get_bucket_acl(Bucket=bucket)
    kept = {"Owner": found["Owner"], "Grants": found["Grants"][:2]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=kept)
    assert of_bucket(s3, bucket) == {OWN, (ALL_USERS, "READ")}


def test_an_owner_can_give_everything_away_and_take_it_back(s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=document())
    assert of_bucket(s3, bucket) == set()
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    assert of_bucket(s3, bucket) == {OWN}


def test_an_acl_goes_with_its_bucket(s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert of_bucket(s3, bucket) == {OWN}


def test_a_bucket_is_made_with_an_acl_and_tags_in_one_step(server: S3Server, bucket: str) -> None:
    tag = "<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"
    body = f"<CreateBucketConfiguration>{tag}</CreateBucketConfiguration>".encode()
    raw = Raw("PUT", f"/{bucket}-new", body=body, headers={"x-amz-acl": "public-read"})
    assert server.signer().send(raw).status == 200
    s3 = server.client()
    assert of_bucket(s3, f"{bucket}-new") == {OWN, (ALL_USERS, "READ")}
    assert s3.get_bucket_tagging(Bucket=f"{bucket}-new")["TagSet"] == [{"Key": "a", "Value": "b"}]


# --- objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_an_object_has_a_canned_acl_however_it_is_made(
    s3: BaseClient, where: dict[str, str], name: str
) -> None:
    bucket, expected = where["Bucket"], {OWN, *OF_OBJECTS[name]}
    s3.put_object(Bucket=bucket, Key="put", Body=b"x", ACL=name)
    assert of_object(s3, bucket, "put") == expected
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where, ACL=name)
    assert of_object(s3, bucket, "copy") == expected
    upload = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload, ACL=name)["UploadId"]
    etag = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    named = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=named)
    assert of_object(s3, bucket, "parts") == expected
    s3.put_object_acl(**where, ACL=name)
    assert of_object(s3, bucket) == expected


def test_an_object_has_the_grants_that_are_said(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(
        **where, Body=b"", GrantRead=f"id={BOB.account_id}", GrantReadACP=f'uri="{ALL_USERS}"'
    )
    assert of_object(s3, bucket) == {(BOB.account_id, "READ"), (ALL_USERS, "READ_ACP")}
    policy = document(OWN, (AUTHENTICATED, "WRITE_ACP"))
    s3.put_object_acl(**where, AccessControlPolicy=policy)
    assert of_object(s3, bucket) == {OWN, (AUTHENTICATED, "WRITE_ACP")}


def test_an_acl_is_neither_copied_nor_left_behind(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"", ACL="public-read")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where)
    assert of_object(s3, bucket, "copy") == {OWN}
    s3.put_object(**where, Body=b"new")
    assert of_object(s3, bucket) == {OWN}


def test_a_change_of_the_acl_changes_nothing_else(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"x" * 5000, Metadata={"a": "b"}, Tagging="c=d", ACL="public-read")
    before = s3.head_object(**where)
    s3.put_object_acl(**where, ACL="authenticated-read")
    after = s3.head_object(**where)
    same = ("LastModified", "ETag", "Metadata", "TagCount", "ContentLength")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert s3.get_object(**where)["Body"].read() == b"x" * 5000
    s3.put_object_tagging(**where, Tagging={"TagSet": []})
    assert of_object(s3, bucket) == {OWN, (AUTHENTICATED, "READ")}


def test_each_version_has_its_own(s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    where = {"Bucket": bucket, "Key": "k"}
    first = s3.put_object(**where, Body=b"1", ACL="public-read")["VersionId"]
    second = s3.put_object(**where, Body=b"2")["VersionId"]
    assert of_object(s3, bucket) == of_object(s3, bucket, VersionId=second) == {OWN}
    assert of_object(s3, bucket, VersionId=first) == {OWN, (ALL_USERS, "READ")}
    s3.put_object_acl(**where, VersionId=first, ACL="private")
    s3.put_object_acl(**where, ACL="authenticated-read")
    assert of_object(s3, bucket, VersionId=first) == {OWN}
    assert of_object(s3, bucket, VersionId=second) == {OWN, (AUTHENTICATED, "READ")}
    marker = s3.delete_object(**where)["VersionId"]
    assert refused(s3.get_object_acl, **where) == ("NoSuchKey", 404)
    for more in ({}, {"VersionId": marker}):
        with pytest.raises(ClientError) as caught:
            s3.put_object_acl(**where, **more, ACL="private")
        error = caught.value.response["Error"]
        assert (error["Code"], error["ResourceType"]) == ("MethodNotAllowed", "DeleteMarker")
    absent = {**where, "VersionId": "0" * 32}
    assert refused(s3.put_object_acl, **absent, ACL="private") == ("NoSuchVersion", 404)


def test_what_is_not_there_has_no_acl(s3: BaseClient, bucket: str) -> None:
    absent = {"Bucket": bucket, "Key": "absent"}
    assert refused(s3.get_object_acl, **absent) == ("NoSuchKey", 404)
    assert refused(s3.put_object_acl, **absent, ACL="private") == ("NoSuchKey", 404)
    assert refused(s3.put_bucket_acl, Bucket="not-there-at-all", ACL="private")[0] == "NoSuchBucket"


def test_private_costs_nothing(server: S3Server, s3: BaseClient, where: dict[str, str]) -> None:
    before = server.rows()
    s3.put_object_acl(**where, ACL="public-read")
    assert server.rows() != before
    s3.put_object_acl(**where, ACL="private")
    assert server.rows() == before
    s3.put_bucket_acl(Bucket=where["Bucket"], ACL="private")
    assert server.rows().keys() == before.keys()


def test_another_account_can_neither_read_nor_write_acls(
    bob: BaseClient, s3: BaseClient, where: dict[str, str]
) -> None:
    bucket = {"Bucket": where["Bucket"]}
    for call in (bob.get_bucket_acl, bob.get_object_acl):
        named = bucket if call == bob.get_bucket_acl else where
        assert refused(call, **named) == ("AccessDenied", 403)
    assert refused(bob.put_bucket_acl, **bucket, ACL="public-read") == ("AccessDenied", 403)
    assert refused(bob.put_object_acl, **where, ACL="public-read") == ("AccessDenied", 403)
    assert of_object(s3, where["Bucket"]) == of_bucket(s3, where["Bucket"]) == {OWN}


def test_an_acl_with_an_object_needs_the_right_to_put_acls(server: S3Server, bucket: str) -> None:
    writer = server.client(server.limited((bucket, "s3:PutObject")))
    where = {"Bucket": bucket, "Key": "k", "Body": b""}
    writer.put_object(**where)
    for more in ({"ACL": "public-read"}, {"GrantRead": f"id={BOB.account_id}"}):
        assert refused(writer.put_object, **where, **more) == ("AccessDenied", 403)
    writer.close()
    both = server.client(server.limited((bucket, "s3:PutObject s3:PutObjectAcl")))
    both.put_object(**where, ACL="public-read")
    both.close()


def test_a_bucket_with_an_acl_or_an_owner_needs_the_right_to_that(
    server: S3Server, bucket: str
) -> None:
    name = f"{bucket}-new"
    maker = server.client(server.limited((name, "s3:CreateBucket")))
    for more in ({"ACL": "public-read"}, {"ObjectOwnership": "BucketOwnerEnforced"}):
        assert refused(maker.create_bucket, Bucket=name, **more) == ("AccessDenied", 403)
    maker.close()


# --- AWS CLI ----------------------------------------------------------------------------------

AWS = str(Path(sys.executable).with_name("aws"))


def test_the_aws_cli_puts_and_gets_acls(
    server: S3Server, s3: BaseClient, where: dict[str, str], tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ALICE.access_key_id,
        "AWS_SECRET_ACCESS_KEY": ALICE.secret_access_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }

    def aws(*words: str) -> str:
        command = [AWS, "--endpoint-url", server.url, "s3api", *words, "--output", "text"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    bucket = where["Bucket"]
    named = ("--bucket", bucket, "--key", "k")
    aws("put-object-acl", *named, "--acl", "public-read")
    assert ALL_USERS in aws("get-object-acl", *named)
    aws("put-object-acl", *named, "--grant-read", f"id={BOB.account_id}")
    assert of_object(s3, bucket) == {(BOB.account_id, "READ")}
    aws("put-bucket-ownership-controls", "--bucket", bucket, "--ownership-controls",
        "Rules=[{ObjectOwnership=BucketOwnerPreferred}]")  # fmt: skip
    assert "BucketOwnerPreferred" in aws("get-bucket-ownership-controls", "--bucket", bucket)
    aws("put-public-access-block", "--bucket", bucket, "--public-access-block-configuration",
        "BlockPublicAcls=true,IgnorePublicAcls=false")  # fmt: skip
    told = aws("get-public-access-block", "--bucket", bucket)
    assert told.split()[1:] == ["True", "False", "False", "False"]

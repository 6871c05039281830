"""Operations on buckets, through boto3."""

from __future__ import annotations

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3refusals import refused
from support.s3server import ALICE, BOB, REGION, S3Server


def test_create_head_locate_delete(s3: BaseClient) -> None:
    made = s3.create_bucket(
        Bucket="cycle", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    assert made["Location"] == "/cycle"
    head = s3.head_bucket(Bucket="cycle")
    assert head["BucketRegion"] == REGION
    assert s3.get_bucket_location(Bucket="cycle")["LocationConstraint"] == REGION
    s3.delete_bucket(Bucket="cycle")
    assert refused(s3.head_bucket, Bucket="cycle") == ("404", 404)
    assert refused(s3.get_bucket_location, Bucket="cycle") == ("NoSuchBucket", 404)
    assert refused(s3.delete_bucket, Bucket="cycle") == ("NoSuchBucket", 404)


def test_a_bucket_is_made_once(server: S3Server, s3: BaseClient, bucket: str) -> None:
    assert refused(s3.create_bucket, Bucket=bucket) == ("BucketAlreadyOwnedByYou", 409)
    bob = server.client(BOB)
    assert refused(bob.create_bucket, Bucket=bucket) == ("BucketAlreadyExists", 409)
    bob.close()


@pytest.mark.parametrize(
    ("constraint", "code"),
    [
        ("eu-west-9", "IllegalLocationConstraintException"),
        ("us-east-1", "InvalidLocationConstraint"),
    ],
)
def test_a_bucket_of_another_region_is_refused(s3: BaseClient, constraint: str, code: str) -> None:
    configuration = {"LocationConstraint": constraint}
    assert refused(
        s3.create_bucket, Bucket="elsewhere", CreateBucketConfiguration=configuration
    ) == (code, 400)
    assert refused(s3.head_bucket, Bucket="elsewhere") == ("404", 404)


@pytest.mark.parametrize("name", ["Upper", "1.2.3.4", "a..b", "xn--abc", "dash-"])
def test_an_illegal_name_is_refused(s3: BaseClient, name: str) -> None:
    assert refused(s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400)


def test_what_a_bucket_can_not_be_asked_for(s3: BaseClient) -> None:
    for options, refusal in (
        ({"ACL": "public"}, ("InvalidArgument", 400)),
        ({"GrantRead": 'email="a@b"'}, ("InvalidArgument", 400)),
        ({"ObjectOwnership": "Nobody"}, ("InvalidArgument", 400)),
    ):
        assert refused(s3.create_bucket, Bucket="special", **options) == refusal
    assert refused(s3.head_bucket, Bucket="special") == ("404", 404)


def test_a_bucket_in_use_is_not_deleted(s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert refused(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("is_bobs", [False, True])
def test_a_buckets_uploads_go_with_it(
    server: S3Server, s3: BaseClient, bob: BaseClient, bucket: str, is_bobs: bool
) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"of a bucket that goes")
    named = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.delete_bucket(Bucket=bucket)
    assert refused(s3.upload_part, **upload, PartNumber=2, Body=b"") == ("NoSuchBucket", 404)
    owner = bob if is_bobs else s3
    owner.create_bucket(Bucket=bucket)
    assert "Uploads" not in owner.list_multipart_uploads(Bucket=bucket)
    gone = ("NoSuchUpload", 404)
    for client in (s3, bob):
        expected = gone if client is owner else ("AccessDenied", 403)
        assert refused(client.upload_part, **upload, PartNumber=2, Body=b"late") == expected
        assert refused(client.list_parts, **upload) == expected
        assert refused(client.abort_multipart_upload, **upload) == expected
        assert (
            refused(client.complete_multipart_upload, **upload, MultipartUpload=named) == expected
        )
    owner.put_object(**where, Body=b"source")
    copied = {**upload, "PartNumber": 2, "CopySource": where}
    assert refused(owner.upload_part_copy, **copied) == gone
    assert [one["Key"] for one in owner.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
    assert owner.get_object(**where)["Body"].read() == b"source"
    owner.delete_object(**where)
    owner.delete_bucket(Bucket=bucket)


def test_listing_buckets_by_account_and_page(server: S3Server, s3: BaseClient) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in reversed(names):
        s3.create_bucket(Bucket=name)
    bob = server.client(BOB)
    bob.create_bucket(Bucket="page-of-bob")
    assert [one["Name"] for one in bob.list_buckets()["Buckets"]] == ["page-of-bob"]
    bob.close()
    whole = s3.list_buckets(Prefix="page-")
    assert [one["Name"] for one in whole["Buckets"]] == names
    assert whole["Owner"]["ID"] == ALICE.account_id
    assert {one["BucketRegion"] for one in whole["Buckets"]} == {REGION}
    pages = list(s3.get_paginator("list_buckets").paginate(
        Prefix="page-", PaginationConfig={"PageSize": 2}
    ))  # fmt: skip
    assert [[one["Name"] for one in page["Buckets"]] for page in pages] == [
        names[0:2],
        names[2:4],
        names[4:],
    ]
    token = pages[0]["ContinuationToken"]
    assert refused(s3.list_buckets, Prefix="other-", ContinuationToken=token) == (
        "InvalidArgument",
        400,
    )
    assert s3.list_buckets(BucketRegion="eu-west-9")["Buckets"] == []


def test_what_is_asked_and_truthfully_answered(s3: BaseClient, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    acl = s3.get_bucket_acl(Bucket=bucket)
    assert acl["Owner"]["ID"] == ALICE.account_id
    assert [grant["Permission"] for grant in acl["Grants"]] == ["FULL_CONTROL"]


def test_errors_name_the_resource_and_the_request(s3: BaseClient) -> None:
    with pytest.raises(ClientError) as caught:
        s3.list_objects_v2(Bucket="not-there")
    answer = caught.value.response
    assert answer["Error"]["BucketName"] == "not-there"
    assert answer["Error"]["Resource"] == "/not-there"
    assert answer["Error"]["Message"] == "The specified bucket does not exist"
    assert len(answer["ResponseMetadata"]["RequestId"]) == 16
    assert len(answer["ResponseMetadata"]["HostId"]) == 44

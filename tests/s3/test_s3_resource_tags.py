"""Tags of a bucket by S3 Control: TagResource, UntagResource, ListTagsForResource."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.s3.control import TAGS_PATH
from support.s3control import control_client
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import ALICE, BOB, S3Server


@pytest.fixture
def control(server: S3Server) -> Iterator[BaseClient]:
    client = control_client(server, ALICE)
    yield client
    client.close()


def of(bucket: str) -> dict[str, str]:
    return {"AccountId": ALICE.account_id, "ResourceArn": f"arn:aws:s3:::{bucket}"}


def as_pairs(told: dict[str, Any], name: str) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in told[name]}


def test_tags_are_set_and_removed_one_by_one(
    control: BaseClient, s3: BaseClient, bucket: str
) -> None:
    assert control.list_tags_for_resource(**of(bucket))["Tags"] == []
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}, {"Key": "c d", "Value": ""}]
    control.tag_resource(**of(bucket), Tags=tags)
    control.tag_resource(**of(bucket), Tags=[{"Key": "b", "Value": "3"}])
    told = {"a": "1", "b": "3", "c d": ""}
    assert as_pairs(control.list_tags_for_resource(**of(bucket)), "Tags") == told
    assert as_pairs(s3.get_bucket_tagging(Bucket=bucket), "TagSet") == told
    control.untag_resource(**of(bucket), TagKeys=["a", "c d", "absent"])
    assert as_pairs(s3.get_bucket_tagging(Bucket=bucket), "TagSet") == {"b": "3"}
    control.untag_resource(**of(bucket), TagKeys=["b"])
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == ("NoSuchTagSet", 404)


def test_what_is_wrong_with_a_tag_is_said_and_changes_nothing(
    control: BaseClient, bucket: str
) -> None:
    control.tag_resource(**of(bucket), Tags=[{"Key": f"k{n}", "Value": ""} for n in range(50)])
    for name in ("one more", "aws:own", "<"):
        wanted = [{"Key": name, "Value": ""}]
        code, status = refused(control.tag_resource, **of(bucket), Tags=wanted)
        assert (code in ("BadRequest", "InvalidTag"), status) == (True, 400)
    assert len(control.list_tags_for_resource(**of(bucket))["Tags"]) == 50


def test_only_buckets_of_ones_own_have_tags(
    server: S3Server, control: BaseClient, bucket: str
) -> None:
    assert refused(control.list_tags_for_resource, **of(f"{bucket}-no")) == ("NoSuchBucket", 404)
    point = {**of(bucket), "ResourceArn": "arn:aws:s3:us-east-1:123456789012:accesspoint/a"}
    assert refused(control.list_tags_for_resource, **point) == ("InvalidRequest", 400)
    bob = control_client(server, BOB)
    theirs = {**of(bucket), "AccountId": BOB.account_id}
    assert refused(bob.list_tags_for_resource, **theirs) == ("AccessDenied", 403)
    bob.close()
    arn = f"{TAGS_PATH.decode()}arn%3Aaws%3As3%3A%3A%3A{bucket}"
    other = Raw("GET", arn, headers={"x-amz-account-id": BOB.account_id})
    assert server.signer(ALICE).send(other).code == "AccessDenied"


def test_tags_that_are_set_at_once_are_all_there(
    control: BaseClient, s3: BaseClient, bucket: str
) -> None:
    def tag(number: int) -> None:
        control.tag_resource(**of(bucket), Tags=[{"Key": f"k{number}", "Value": "1"}])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tag, range(4)))
    told = as_pairs(s3.get_bucket_tagging(Bucket=bucket), "TagSet")
    assert told.keys() == {f"k{number}" for number in range(4)}

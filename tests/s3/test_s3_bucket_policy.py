"""The policy of a bucket by boto3 and the AWS CLI; what is none, in S3's words; and policies that
are made to hurt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.base import limits
from support.iamserver import ROOT, Cloud, document, statement
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import REGION

AWS = str(Path(sys.executable).with_name("aws"))
QUICK_S = 2.0  # on a machine with other work; it takes some ms


def objects(bucket: str, pattern: str = "*") -> str:
    return f"arn:aws:s3:::{bucket}/{pattern}"


def public(bucket: str, **more: Any) -> str:
    return document(statement("s3:GetObject", objects(bucket), principal="*", **more))


def test_a_policy_comes_back_as_it_was_put(root: BaseClient, box: str) -> None:
    assert refused(root.get_bucket_policy, Bucket=box) == ("NoSuchBucketPolicy", 404)
    assert refused(root.get_bucket_policy_status, Bucket=box) == ("NoSuchBucketPolicy", 404)
    text = '{ "Version":"2012-10-17",\n "Id": "caf\u00e9",' + public(box)[1:].partition(",")[2]
    root.put_bucket_policy(Bucket=box, Policy=text)
    assert root.get_bucket_policy(Bucket=box)["Policy"] == text
    other = public(box, effect="Deny")
    root.put_bucket_policy(Bucket=box, Policy=other)
    assert root.get_bucket_policy(Bucket=box)["Policy"] == other
    answer = root.delete_bucket_policy(Bucket=box)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(root.get_bucket_policy, Bucket=box) == ("NoSuchBucketPolicy", 404)
    root.delete_bucket_policy(Bucket=box)


def test_a_policy_goes_with_its_bucket(root: BaseClient, box: str) -> None:
    root.put_bucket_policy(Bucket=box, Policy=public(box))
    root.delete_object(Bucket=box, Key="k")
    root.delete_bucket(Bucket=box)
    root.create_bucket(Bucket=box)
    assert refused(root.get_bucket_policy, Bucket=box) == ("NoSuchBucketPolicy", 404)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"effect": "Deny"}, False),
        ({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, False),
        ({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, True),
        ({"StringEquals": {"aws:username": "alice"}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": "111111111111"}}, False),
        ({"StringLike": {"aws:PrincipalAccount": "1111*"}}, True),
    ],
)
def test_whether_a_policy_is_public_is_told(
    root: BaseClient, box: str, more: dict[str, Any], expected: bool
) -> None:
    root.put_bucket_policy(Bucket=box, Policy=public(box, **more))
    status = root.get_bucket_policy_status(Bucket=box)["PolicyStatus"]
    assert status == {"IsPublic": expected}


def test_the_aws_cli_puts_and_gets_policies(cloud: Cloud, box: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ROOT.id,
        "AWS_SECRET_ACCESS_KEY": ROOT.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    url = "http://{}:{}".format(*cloud.address)

    def aws(*words: str, fails: bool = False) -> str:
        command = [AWS, "--endpoint-url", url, "s3api", *words, "--bucket", box]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stdout + done.stderr

    file = tmp_path / "policy.json"
    file.write_text(public(box))
    aws("put-bucket-policy", "--policy", f"file://{file}")
    told = json.loads(aws("get-bucket-policy", "--output", "json"))
    assert json.loads(told["Policy"]) == json.loads(public(box))
    told = json.loads(aws("get-bucket-policy-status", "--output", "json"))
    assert told == {"PolicyStatus": {"IsPublic": True}}
    aws("delete-bucket-policy")
    assert "(NoSuchBucketPolicy)" in aws("get-bucket-policy", fails=True)
    file.write_text(public("another"))
    assert "(MalformedPolicy)" in aws("put-bucket-policy", "--policy", f"file://{file}", fails=True)


# --- what is none -----------------------------------------------------------------------------


def changed(bucket: str, **fields: Any) -> str:
    """A good policy, with other fields of its statement; None leaves one out."""
    one = {**statement("s3:GetObject", objects(bucket), principal="*"), **fields}
    return document({name: value for name, value in one.items() if value is not None})


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": (lambda _: "no", "Policies must be valid JSON and the first byte must be '{'"),
    "a space before": (
        lambda b: " " + public(b),
        "Policies must be valid JSON and the first byte must be '{'",
    ),
    "no statement": (lambda _: "{}", "Missing required field Statement"),
    "a version": (
        lambda b: public(b).replace("2012-10-17", "2020-01-01"),
        "The policy must contain a valid version string",
    ),
    "an unknown field": (lambda b: changed(b, Efect="Allow"), "Unknown field Efect"),
    "no principal": (lambda b: changed(b, Principal=None), "Missing required field Principal"),
    "a principal": (lambda b: changed(b, Principal={"AWS": "me"}), "Invalid principal in policy"),
    "an action": (lambda b: changed(b, Action="s3:GetObjects"), "Policy has invalid action"),
    "another service's": (lambda b: changed(b, Action="iam:*"), "Policy has invalid action"),
    "another bucket": (lambda _: public("another"), "Policy has invalid resource"),
    "every bucket": (lambda b: changed(b, Resource="*"), "Policy has invalid resource"),
    "an action of buckets": (
        lambda b: changed(b, Action="s3:ListBucket"),
        "Action does not apply to any resource(s) in statement",
    ),
    "an effect": (lambda b: changed(b, Effect="allow"), "Invalid effect: allow"),
    "an operator": (
        lambda b: public(b, StringIs={"aws:username": "a"}),
        "Invalid Condition type : StringIs",
    ),
    "a key": (
        lambda b: public(b, StringEquals={"s3:nothing": "a"}),
        "Policy has an invalid condition key",
    ),
    "a key of another action": (
        lambda b: public(b, StringEquals={"s3:prefix": "a"}),
        "Conditions do not apply to combination of actions and resources in statement",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_policy_is_refused_in_s3s_words(
    cloud: Cloud, root: BaseClient, box: str, name: str
) -> None:
    make, words = BAD[name]
    root.put_bucket_policy(Bucket=box, Policy=public(box))
    with cloud.unchanged(), pytest.raises(ClientError) as caught:
        root.put_bucket_policy(Bucket=box, Policy=make(box))
    error = caught.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert error["Error"]["Code"] == "MalformedPolicy"
    assert words in error["Error"]["Message"]


def test_a_policy_is_what_the_body_says(cloud: Cloud, box: str) -> None:
    with cloud.unchanged():
        raw = Raw("PUT", f"/{box}", "policy=")
        assert cloud.send(raw).code == "MalformedPolicy"
        raw = Raw("PUT", f"/{box}", "policy=", public(box).encode(), payload="0" * 64)
        assert cloud.send(raw).code == "XAmzContentSHA256Mismatch"
        md5 = {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        raw = Raw("PUT", f"/{box}", "policy=", public(box).encode(), md5)
        assert cloud.send(raw).code == "BadDigest"


# --- policies that hurt -------------------------------------------------------------------------


def many(bucket: str, count: int, **more: Any) -> str:
    """Statements of one bucket, none of which is the others'."""
    own = [
        statement("s3:GetObject", objects(bucket, f"{number}*"), principal="*", **more)
        for number in range(count)
    ]
    return document(*own)


BOMBS: dict[str, Any] = {
    "too large": lambda b: public(b) + " " * limits.POLICY_DOCUMENT_BYTES_MAX,
    "deep lists": lambda _: '{"Statement":' + "[" * 10_000,
    "deep objects": lambda _: '{"a":' * 3_000,
    "many statements": lambda b: many(b, 400),
    "wildcards of actions": lambda b: changed(
        b, Action=[f"s3:*{chr(97 + n % 26)}*{n}*" for n in range(300)]
    ),
    "single wildcards": lambda b: changed(b, Resource=[objects(b, f"*?{n}*") for n in range(40)]),
    "variables": lambda b: changed(
        b, Resource=[objects(b, f"${{aws:username}}{n}") for n in range(200)]
    ),
    "digits": lambda _: '{"Version":' + "9" * 20_000 + "}",
    "zeros": lambda _: "{\0}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(cloud: Cloud, box: str, name: str) -> None:
    raw = Raw("PUT", f"/{box}", "policy=", BOMBS[name](box).encode())
    began_s = time.monotonic()
    with cloud.unchanged():
        answer = cloud.send(raw)
    assert (answer.status, answer.code) == (400, "MalformedPolicy"), answer.body
    assert len(answer.body) < 1000
    assert time.monotonic() - began_s < QUICK_S


def test_a_document_that_no_policy_can_be_is_not_read(cloud: Cloud, box: str) -> None:
    body = b"{" + b" " * limits.S3_CONFIG_XML_BYTES_MAX
    with cloud.unchanged():
        assert cloud.send(Raw("PUT", f"/{box}", "policy=", body)).status == 400


def test_the_worst_policy_that_is_taken_holds_nobody_up(cloud: Cloud, box: str) -> None:
    stars = "*a" * 400
    own = [
        statement(
            "s3:Get*", objects(box, f"{stars}{number}"), principal="*",
            StringNotLike={"aws:UserAgent": stars},
        )
        for number in range(10)
    ]  # fmt: skip
    cloud.set_policy(box, *own)
    key, agent = "a" * 1000, {"user-agent": "a" * 4000}
    began_s = time.monotonic()
    for _ in range(20):
        assert cloud.send(Raw("GET", f"/{box}/{key}", headers=agent), None).status == 403
    assert time.monotonic() - began_s < 20 * QUICK_S / 10

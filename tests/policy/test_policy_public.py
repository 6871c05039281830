"""What is public, as Amazon documents it for BlockPublicPolicy and GetBucketPolicyStatus."""

from __future__ import annotations

import json
from typing import Any

import pytest

from predastore.policy import PolicyDocument, PolicyKind, is_public, parse

S3 = "arn:aws:s3:::"
HOME = "111122223333"


def policy(*statements: dict[str, Any]) -> PolicyDocument:
    plain = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{S3}photos/*"}
    found = [{**plain, **one} for one in statements]
    text = json.dumps({"Version": "2012-10-17", "Statement": found})
    return parse(text.encode(), PolicyKind.BUCKET, bucket="photos")


def with_condition(op: str, key: str, *named: str) -> PolicyDocument:
    return policy({"Principal": "*", "Condition": {op: {key: list(named)}}})


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": ["*", HOME]}])
def test_everybody_is_public(principal: Any) -> None:
    assert is_public(policy({"Principal": principal}))
    assert not is_public(policy({"Principal": principal, "Effect": "Deny"}))


def test_everybody_but_some_is_public() -> None:
    assert is_public(policy({"NotPrincipal": {"AWS": HOME}}))


@pytest.mark.parametrize(
    "principal",
    [
        {"AWS": HOME},
        {"AWS": f"arn:aws:iam::{HOME}:user/bob"},
        {"Service": "logging.s3.amazonaws.com"},
        {"CanonicalUser": "ab" * 32},
    ],
)
def test_who_is_named_is_not_public(principal: Any) -> None:
    assert not is_public(policy({"Principal": principal}))


def test_one_public_statement_makes_it_public() -> None:
    assert is_public(policy({"Principal": {"AWS": HOME}}, {"Principal": "*"}))


@pytest.mark.parametrize(
    ("op", "key", "named"),
    [
        ("StringEquals", "aws:SourceVpc", ["vpc-91237329"]),
        ("StringEquals", "aws:SourceVpce", ["vpce-1", "vpce-2"]),
        ("StringLike", "aws:SourceAccount", [HOME]),
        ("ArnEquals", "aws:SourceArn", [f"arn:aws:iam::{HOME}:user/bob"]),
        ("ArnLike", "aws:PrincipalArn", [f"arn:aws:iam::{HOME}:role/ops"]),
        ("StringEquals", "aws:PrincipalOrgID", ["o-1"]),
        ("StringEqualsIgnoreCase", "aws:userid", ["AIDAB"]),
        ("ForAnyValue:StringEquals", "aws:PrincipalOrgPaths", ["o-1/r-1/"]),
        ("IpAddress", "aws:SourceIp", ["203.0.113.0/24"]),
        ("IpAddress", "aws:SourceIp", ["8.0.0.0/8", "2001:db8::/32"]),
        ("IpAddress", "aws:SourceIp", ["172.16.0.0/12"]),
        ("ArnLike", "s3:DataAccessPointArn", [f"arn:aws:s3:us-east-1:{HOME}:accesspoint/*"]),
    ],
)
def test_fixed_values_are_not_public(op: str, key: str, named: list[str]) -> None:
    assert not is_public(with_condition(op, key, *named))


@pytest.mark.parametrize(
    ("op", "key", "named"),
    [
        ("StringLike", "aws:SourceVpc", ["vpc-*"]),
        ("StringLike", "aws:SourceVpc", ["vpc-1", "vpc-?"]),
        ("StringLike", "aws:userid", ["AROAX:*"]),
        ("StringEquals", "aws:userid", ["${aws:userid}"]),
        ("StringNotEquals", "aws:SourceVpc", ["vpc-1"]),
        ("StringEqualsIfExists", "aws:SourceVpc", ["vpc-1"]),
        ("ForAllValues:StringEquals", "aws:PrincipalOrgPaths", ["o-1/r-1/"]),
        ("IpAddress", "aws:SourceIp", ["0.0.0.0/0"]),
        ("IpAddress", "aws:SourceIp", ["203.0.113.0/24", "0.0.0.0/1"]),
        ("IpAddress", "aws:SourceIp", ["2000::/3"]),
        ("NotIpAddress", "aws:SourceIp", ["203.0.113.0/24"]),
        ("StringEquals", "aws:UserAgent", ["curl"]),
        ("StringLike", "aws:referer", ["https://www.example.com/x"]),
        ("StringEquals", "s3:ExistingObjectTag/public", ["yes"]),
        ("ArnLike", "s3:DataAccessPointArn", ["arn:aws:s3:*:*:accesspoint/x"]),
        ("Null", "aws:SourceVpc", ["false"]),
    ],
)
def test_what_is_not_fixed_is_public(op: str, key: str, named: list[str]) -> None:
    assert is_public(with_condition(op, key, *named))


def test_one_fixed_condition_is_enough() -> None:
    both = {"StringLike": {"aws:referer": "*"}, "IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
    assert not is_public(policy({"Principal": "*", "Condition": both}))


def test_a_policy_of_an_identity_is_never_public() -> None:
    text = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    assert not is_public(parse(text.encode(), PolicyKind.IDENTITY))

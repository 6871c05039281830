"""Each operator, as Amazon documents it: present, absent, many values, IfExists, ForAll, ForAny."""

from __future__ import annotations

import json
from typing import Any

import pytest

from predastore.policy import (
    AccessRequest,
    Policies,
    PolicyKind,
    Principal,
    PrincipalKind,
    decide,
    parse,
)

OWNER = "111122223333"
USER = Principal(
    PrincipalKind.USER, OWNER, f"arn:aws:iam::{OWNER}:user/bob", user_id="AIDAB", name="bob"
)
TAG = "s3:ExistingObjectTag/Team"
MANY = "s3:RequestObjectTagKeys"


def holds(op: str, key: str, named: Any, *values: str, effect: str = "Allow", **more: Any) -> bool:
    """Whether a statement with this one condition applies to a request with these values of the
    key; without any, the key is absent."""
    statement = {
        "Effect": effect,
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {op: {key: named}},
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    keys = {key: values or None, **more}
    asked = AccessRequest("s3:GetObject", "arn:aws:s3:::b/k", USER, OWNER, keys.get)
    decision = decide(asked, Policies((parse(text.encode(), PolicyKind.IDENTITY),)))
    return decision.statement == "[0]"


@pytest.mark.parametrize(
    ("op", "named", "fitting", "others"),
    [
        ("StringEquals", "Bob", ["Bob"], ["bob", "Bobby", ""]),
        ("StringEquals", "B*", ["B*"], ["Bob"]),
        ("StringEquals", ["a", "b"], ["a", "b"], ["c"]),
        ("StringEquals", "${aws:username}", ["bob"], ["${aws:username}"]),
        ("StringEquals", 5, ["5"], ["5.0"]),
        ("StringEquals", True, ["true"], ["True"]),
        ("StringNotEquals", ["a", "b"], ["c", "A"], ["a", "b"]),
        ("StringEqualsIgnoreCase", "Bob", ["bob", "BOB"], ["bobby"]),
        ("StringNotEqualsIgnoreCase", "Bob", ["x"], ["bob", "BOB"]),
        ("StringEqualsIgnoreCase", "${aws:username}", ["BOB"], ["x"]),
        ("StringLike", "h?me/*", ["home/", "hame/x/y"], ["home", "hme/"]),
        ("StringLike", "home/${aws:username}/*", ["home/bob/x"], ["home/al/x"]),
        ("StringNotLike", "home/*", ["x"], ["home/", "home/x"]),
        ("BinaryEquals", "Ym9i", ["bob"], ["Ym9i", "x"]),
        ("NumericEquals", "5", ["5", "5.0", "05"], ["6", "five", ""]),
        ("NumericNotEquals", 5, ["6", "five"], ["5", "5.00"]),
        ("NumericLessThan", "5", ["4.9", "-1"], ["5", "6", "x"]),
        ("NumericLessThanEquals", "5", ["5", "4"], ["5.01"]),
        ("NumericGreaterThan", ["5", "3"], ["4", "6"], ["3", "2"]),
        ("NumericGreaterThanEquals", "5", ["5"], ["4.99"]),
        ("DateEquals", "2026-01-02T00:00:00Z", ["2026-01-02", "1767312000"], ["2026-01-03"]),
        ("DateNotEquals", "2026-01-02", ["2026-01-03"], ["2026-01-02T00:00:00Z"]),
        ("DateLessThan", "2026-01-02T01:00:00+01:00", ["2026-01-01"], ["2026-01-02T00:00:00Z"]),
        ("DateLessThanEquals", "2026-01-02", ["2026-01-02"], ["2026-01-02T00:00:00.1Z"]),
        ("DateGreaterThan", "2026", ["2026-01-01T00:00:01Z"], ["2026-01-01", "soon"]),
        ("DateGreaterThanEquals", "1767312000", ["2026-01-02T00:00:00Z"], ["2026-01-01"]),
        ("Bool", "true", ["true", "True"], ["false", "1", ""]),
        ("Bool", False, ["false"], ["true"]),
        (
            "IpAddress",
            "203.0.113.0/24",
            ["203.0.113.9", "::ffff:203.0.113.9"],
            ["203.0.114.1", "x"],
        ),
        ("IpAddress", "2001:db8::/32", ["2001:db8::1"], ["2001:db9::1", "1.2.3.4"]),
        ("IpAddress", "203.0.113.7", ["203.0.113.7"], ["203.0.113.8"]),
        ("NotIpAddress", ["10.0.0.0/8", "11.0.0.0/8"], ["12.0.0.1", "x"], ["10.1.1.1", "11.1.1.1"]),
        ("ArnEquals", "arn:aws:iam::*:user/b*", ["arn:aws:iam::1:user/bob"], ["arn:aws:s3:::b"]),
        (
            "ArnLike",
            "arn:aws:*:*:*:user/*",
            ["arn:aws:iam::1:user/bob"],
            ["arn:aws:iam::1:role/x:user/"],
        ),
        (
            "ArnNotLike",
            "arn:aws:iam::1:user/?",
            ["arn:aws:iam::1:user/bob"],
            ["arn:aws:iam::1:user/x"],
        ),
        ("ArnNotEquals", "arn:aws:iam::1:root", ["arn:aws:iam::2:root"], ["arn:aws:iam::1:root"]),
    ],
)
def test_an_operator_compares(op: str, named: Any, fitting: list[str], others: list[str]) -> None:
    assert [holds(op, TAG, named, value) for value in fitting] == [True] * len(fitting)
    assert [holds(op, TAG, named, value) for value in others] == [False] * len(others)


@pytest.mark.parametrize(
    ("op", "named", "negated"),
    [
        ("StringEquals", "a", False),
        ("StringLike", "*", False),
        ("StringNotEquals", "a", True),
        ("StringNotLike", "*", True),
        ("NumericEquals", "5", False),
        ("NumericNotEquals", "5", True),
        ("DateGreaterThan", "2000", False),
        ("DateNotEquals", "2000", True),
        ("Bool", "false", False),
        ("IpAddress", "0.0.0.0/0", False),
        ("NotIpAddress", "0.0.0.0/0", True),
        ("ArnLike", "*", False),
        ("ArnNotLike", "*", True),
        ("BinaryEquals", "", False),
    ],
)
def test_what_an_absent_key_means(op: str, named: str, negated: bool) -> None:
    assert holds(op, TAG, named) is negated
    assert holds(f"{op}IfExists", TAG, named)
    assert holds(f"ForAllValues:{op}", TAG, named)
    assert not holds(f"ForAnyValue:{op}", TAG, named)
    assert holds(f"ForAnyValue:{op}IfExists", TAG, named)


def test_null_tells_whether_a_key_is_there() -> None:
    assert holds("Null", TAG, "true")
    assert holds("Null", TAG, False, "x")
    assert not holds("Null", TAG, "true", "x")
    assert not holds("Null", TAG, "false")


@pytest.mark.parametrize(
    ("op", "values", "expected"),
    [
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAllValues:StringNotEquals", ("c", "d"), True),
        ("ForAllValues:StringNotEquals", ("a", "d"), False),
        ("ForAnyValue:StringEquals", ("a", "c"), True),
        ("ForAnyValue:StringEquals", ("c", "d"), False),
        ("ForAnyValue:StringNotEquals", ("a", "c"), True),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
        ("StringEquals", ("a", "c"), True),
        ("StringNotEquals", ("a", "c"), False),
        ("StringNotEquals", ("c", "d"), True),
    ],
)
def test_several_values_of_a_request(op: str, values: tuple[str, ...], expected: bool) -> None:
    assert holds(op, MANY, ["a", "b"], *values) is expected


def test_a_variable_without_a_value_opens_nothing() -> None:
    assert not holds("StringEquals", TAG, "${aws:SourceVpc}", "x")
    assert not holds("StringNotEquals", TAG, "${aws:SourceVpc}", "x")
    assert not holds("StringNotLike", TAG, ["${aws:SourceVpc}*", "y"], "x")
    assert holds("StringNotEquals", TAG, "${aws:SourceVpc}", "x", effect="Deny")
    assert holds("StringNotEquals", TAG, "${aws:SourceVpc, 'v'}", "x")


def test_all_conditions_of_a_statement_have_to_hold() -> None:
    def both(first: str, second: str) -> bool:
        block = {
            "StringEquals": {TAG: "a", "aws:UserAgent": "b"},
            "Bool": {"aws:SecureTransport": True},
        }
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": block}
        keys = {TAG: (first,), "aws:UserAgent": (second,), "aws:SecureTransport": ("true",)}
        asked = AccessRequest("s3:GetObject", "arn:aws:s3:::b/k", USER, OWNER, keys.get)
        text = json.dumps({"Statement": statement}).encode()
        return decide(asked, Policies((parse(text, PolicyKind.IDENTITY),))).allowed

    assert both("a", "b")
    assert not both("a", "x")
    assert not both("x", "b")


def test_keys_are_asked_for_in_their_one_spelling() -> None:
    asked: list[str] = []

    def lookup(key: str) -> tuple[str, ...] | None:
        asked.append(key)
        return None

    block = {
        "Null": {
            "AWS:sourceip": "true",
            "S3:EXISTINGOBJECTTAG/teaM": "true",
            "s3:versionid": "true",
        }
    }
    text = json.dumps(
        {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": block}}
    )
    document = parse(text.encode(), PolicyKind.IDENTITY)
    request = AccessRequest("s3:GetObject", "arn:aws:s3:::b/k", USER, OWNER, lookup)
    assert decide(request, Policies((document,))).allowed
    assert asked == ["aws:SourceIp", "s3:ExistingObjectTag/teaM", "s3:VersionId"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("aws:username", "bob"),
        ("aws:userid", "AIDAB"),
        ("aws:PrincipalArn", f"arn:aws:iam::{OWNER}:user/bob"),
        ("aws:PrincipalAccount", OWNER),
        ("aws:PrincipalType", "User"),
        ("s3:ResourceAccount", OWNER),
        ("aws:ResourceAccount", OWNER),
    ],
)
def test_what_the_principal_tells_no_lookup_can_change(key: str, value: str) -> None:
    assert holds("StringEquals", key, value, "forged")
    assert not holds("StringEquals", key, "forged", "forged")

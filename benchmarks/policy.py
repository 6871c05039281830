"""Decisions of the policy evaluator, in microseconds, beside the check of a `policy` of [[auth]].

`usual`: a user with an identity policy of three statements, in a bucket with a policy of three;
variables and conditions are among them. `public`: an anonymous read that a bucket's policy allows.
`long`: 200 statements in 20 KiB, each about folders of its own, none of which applies but the last.
`alike`: as many that no index tells apart, each with a wildcard to try. `parse`: that policy, read
and compiled. `hostile`: as many characters of pieces that take `str.find` longest, against a key of
1,024 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Row, paired, row
from predastore.base.config.policy import Policy, Rule
from predastore.base.limits import POLICY_DOCUMENT_BYTES_MAX
from predastore.policy import (
    ANONYMOUS,
    AccessRequest,
    Policies,
    PolicyKind,
    Principal,
    PrincipalKind,
    decide,
    parse,
)

OWNER = "111122223333"
S3 = "arn:aws:s3:::"
USER = Principal(
    PrincipalKind.USER, OWNER, f"arn:aws:iam::{OWNER}:user/bob", user_id="AIDAB", name="bob"
)
KEYS = {
    "aws:SecureTransport": ("true",),
    "aws:SourceIp": ("203.0.113.9",),
    "s3:prefix": ("home/bob/",),
}
STATEMENTS = 200
KEY_CHARACTERS = 1024


def rows() -> list[Row]:
    rules = Policy((Rule("photos", ("s3:get*", "s3:putobject")),))

    def yardstick() -> bool:
        return rules.allows("s3:GetObject", "photos")

    found = [
        _row(name, _decides(request, policies), yardstick)
        for name, (request, policies) in {
            "policy.usual": _usual(),
            "policy.public": _public(),
            "policy.long": _long(),
            "policy.alike": _alike(),
            "policy.hostile": _hostile(),
        }.items()
    ]
    text = _text(_numbered(f"{S3}photos/{{}}/*"))
    found.append(
        _row("policy.parse", lambda: parse(text, PolicyKind.BUCKET, bucket="photos"), yardstick)
    )
    return found


def _row(name: str, fn: Callable[[], object], yardstick: Callable[[], object]) -> Row:
    mine, other = paired(fn, yardstick)
    return row(
        name,
        mine.median_s * 1e6,
        "us",
        spread=mine.spread,
        yardstick="a rule of [[auth]]",
        yardstick_value=other.median_s * 1e6,
    )


def _decides(request: AccessRequest, policies: Policies) -> Callable[[], object]:
    if not decide(request, policies).allowed:
        raise RuntimeError("the request of a row is denied")
    return lambda: decide(request, policies)


def _text(statements: list[dict[str, Any]]) -> bytes:
    value = {"Version": "2012-10-17", "Statement": statements}
    text = json.dumps(value, separators=(",", ":")).encode()
    if len(text) > POLICY_DOCUMENT_BYTES_MAX:
        raise RuntimeError(f"a policy of {len(text)} bytes")
    return text


def _asked(principal: Principal, key: str) -> AccessRequest:
    return AccessRequest("s3:GetObject", f"{S3}photos/{key}", principal, OWNER, KEYS.get)


def _usual() -> tuple[AccessRequest, Policies]:
    identity: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"{S3}photos",
            "Condition": {"StringLike": {"s3:prefix": ["home/${aws:username}/*"]}},
        },
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            "Resource": f"{S3}photos/home/${{aws:username}}/*",
        },
        {
            "Effect": "Deny",
            "Action": "s3:*",
            "Resource": "*",
            "Condition": {"NotIpAddress": {"aws:SourceIp": ["203.0.113.0/24", "10.0.0.0/8"]}},
        },
    ]
    both = [f"{S3}photos", f"{S3}photos/*"]
    bucket: list[dict[str, Any]] = [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": both,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        {
            "Effect": "Allow",
            "Principal": {"AWS": "444455556666"},
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": both,
        },
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"{S3}photos/public/*",
        },
    ]
    policies = Policies(
        identity=(parse(_text(identity), PolicyKind.IDENTITY),),
        resource=parse(_text(bucket), PolicyKind.BUCKET, bucket="photos"),
    )
    return _asked(USER, "home/bob/2026/a.jpg"), policies


def _public() -> tuple[AccessRequest, Policies]:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"{S3}photos/*",
    }
    document = parse(_text([statement]), PolicyKind.BUCKET, bucket="photos")
    return _asked(ANONYMOUS, "a.jpg"), Policies(resource=document)


def _numbered(resource: str) -> list[dict[str, Any]]:
    """As many statements as there are to be, in as little room as they take."""
    return [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:Get*",
            "Resource": resource.format(number),
        }
        for number in range(STATEMENTS)
    ]


def _long() -> tuple[AccessRequest, Policies]:
    document = parse(_text(_numbered(f"{S3}photos/{{}}/*")), PolicyKind.BUCKET, bucket="photos")
    return _asked(ANONYMOUS, f"{STATEMENTS - 1}/a.jpg"), Policies(resource=document)


def _alike() -> tuple[AccessRequest, Policies]:
    document = parse(_text(_numbered(f"{S3}photos/*{{}}x")), PolicyKind.BUCKET, bucket="photos")
    return _asked(ANONYMOUS, f"2026/a{STATEMENTS - 1}x"), Policies(resource=document)


def _hostile() -> tuple[AccessRequest, Policies]:
    piece = "a" * (KEY_CHARACTERS // 2) + "ba"
    count = POLICY_DOCUMENT_BYTES_MAX // (len(piece) + len(S3) + 20)
    resources = [f"{S3}photos/*{'a' * n}{piece}*" for n in range(count - 1)]
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": [*resources, f"{S3}photos/*a"],
    }
    document = parse(_text([statement]), PolicyKind.BUCKET, bucket="photos")
    return _asked(ANONYMOUS, "a" * KEY_CHARACTERS), Policies(resource=document)

"""Policies and requests at random, from words few enough that they meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from predastore.policy import (
    ANONYMOUS,
    AccessRequest,
    Policies,
    PolicyDocument,
    PolicyKind,
    Principal,
    PrincipalKind,
    Side,
    parse,
)
from reference.policy_model import Named, Papers

Json = dict[str, Any]
HOME, ABROAD = "111122223333", "444455556666"
BUCKET = "photos"
S3 = "arn:aws:s3:::"
IAM, STS = "arn:aws:iam::", "arn:aws:sts::"
CANONICAL = "ab" * 32
PROVIDER = f"{IAM}{HOME}:oidc-provider/id.example.com"

PRINCIPALS = [
    ANONYMOUS,
    Principal(PrincipalKind.ROOT, HOME, f"{IAM}{HOME}:root", user_id=HOME, canonical_id=CANONICAL),
    Principal(PrincipalKind.ROOT, ABROAD, f"{IAM}{ABROAD}:root", user_id=ABROAD),
    *(
        Principal(PrincipalKind.USER, account, f"{IAM}{account}:user/bob", "", "AIDAB", "bob")
        for account in (HOME, HOME, ABROAD)
    ),
    Principal(
        PrincipalKind.USER, HOME, f"{IAM}{HOME}:user/a/al*ce", "", "AIDAA", "al*ce", CANONICAL
    ),
    *(
        Principal(
            PrincipalKind.ROLE,
            account,
            f"{STS}{account}:assumed-role/ops/s1",
            f"{IAM}{account}:role/ops",
            "AROAX:s1",
        )
        for account in (HOME, HOME, ABROAD)
    ),
    Principal(PrincipalKind.FEDERATED, provider=PROVIDER, user_id="sub"),
]
NAMED: list[Any] = [
    "*",
    {"AWS": "*"},
    {"AWS": HOME},
    {"AWS": [f"{IAM}{ABROAD}:root"]},
    {"AWS": [ABROAD, f"{IAM}{HOME}:user/bob"]},
    {"AWS": f"{IAM}{HOME}:user/a/alice"},
    {"AWS": f"{IAM}{HOME}:role/ops"},
    {"AWS": f"{STS}{HOME}:assumed-role/ops/s1"},
    {"AWS": [f"{IAM}{ABROAD}:user/bob", f"{IAM}{ABROAD}:role/ops"]},
    {"CanonicalUser": CANONICAL},
    {"Federated": PROVIDER, "Service": "logging.s3.amazonaws.com"},
    {"AWS": [HOME], "CanonicalUser": [CANONICAL], "Federated": [PROVIDER]},
]
ACTIONS = ["s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:ListBucket"]
ACTIONS += ["s3:GetBucketPolicy"]
ACTION_PATTERNS = ["*", "s3:*", "s3:Get*", "s3:get?bject", "s3:*Object*", "S3:PutObject"]
ACTION_PATTERNS += ["s3:ListBucket", "s3:List*", "s3:GetObject", "s3:*Policy", "s3:*t*e*o*"]
RESOURCES = [S3 + BUCKET, *(f"{S3}{BUCKET}/{key}" for key in ("a", "home/bob/x", "home/al*ce/"))]
RESOURCES += [f"{S3}{BUCKET}/{key}" for key in ("a:b", "home//x", "aab", "abab", "éa", "$?*", "")]
IN_BUCKET = ["", "*", "/*", "/a", "/a*", "/?", "/home/${aws:username}/*", "/home/al${*}ce/*"]
IN_BUCKET += ["/home/${aws:username, 'bob'}/?", "/*a?b*", "/*ab", "/${$}${?}${*}", "/*/", "/?a"]
IN_BUCKET += ["/a*a*b", "/${s3:prefix}", "/*${aws:userid}*", "/home/*/x"]
ANYWHERE = ["*", "arn:aws:s3:::*", "arn:*:s3:::photos/*", "arn:aws:s3*", "arn:aws:s?:*::*/a"]
ANYWHERE += ["arn:aws:s3:::*/${aws:username}/*", "arn:aws:s3:*:*:photos*", "arn:aws:iam::*:user/*"]

TEXTS = ["bob", "BOB", "b*", "?ob", "${aws:username}", "${aws:username, 'Bob'}", "home/", "", "*"]
TEXTS += ["home/${aws:username}/*", "${s3:VersionId}", "al${*}ce", "a$b", "é"]
ARNS = [
    f"{IAM}{HOME}:user/bob",
    f"{IAM}*:role/ops",
    "arn:aws:iam::*:*",
    "*",
    f"{IAM}{HOME}:user/?*",
]
ARNS += [f"arn:aws:iam::{HOME}:user/${{aws:username}}"]
NUMBERS = ["5", 5, "5.0", "-1", "1000", "10.25"]
DATES = [
    "2026-01-02T03:04:05Z",
    "2026-01-02",
    "1767323045",
    "2026-01-02T04:04:05+01:00",
    "1767323046",
]
NETWORKS = ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "8.0.0.0/7", "203.0.113.0/24"]
ADDRESSES = ["10.1.2.3", "11.0.0.1", "2001:db8::1", "203.0.113.9", "nonsense"]
BINARY = ["Ym9i", "w6k=", ""]

CONDITIONS: list[tuple[tuple[str, ...], tuple[str, ...], list[Any]]] = [
    (
        (
            "StringEquals",
            "StringNotEquals",
            "StringLike",
            "StringNotLike",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
        ),
        (
            "aws:username",
            "aws:UserAgent",
            "AWS:REFERER",
            "s3:RequestObjectTagKeys",
            "aws:userid",
            "s3:ExistingObjectTag/Team",
            "aws:PrincipalType",
            "s3:VersionId",
        ),
        TEXTS,
    ),
    (("ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"), ("aws:PrincipalArn",), ARNS),
    (
        (
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThan",
            "NumericLessThanEquals",
            "NumericGreaterThan",
            "NumericGreaterThanEquals",
        ),
        ("s3:signatureAge", "s3:ExistingObjectTag/Size"),
        NUMBERS,
    ),
    (
        (
            "DateEquals",
            "DateNotEquals",
            "DateLessThan",
            "DateLessThanEquals",
            "DateGreaterThan",
            "DateGreaterThanEquals",
        ),
        ("aws:CurrentTime", "aws:EpochTime"),
        DATES,
    ),
    (("Bool",), ("aws:SecureTransport",), ["true", "false", True, False, "TRUE"]),
    (("IpAddress", "NotIpAddress"), ("aws:SourceIp",), NETWORKS),
    (("BinaryEquals",), ("aws:UserAgent",), BINARY),
]
VALUES = {
    "aws:UserAgent": ["bob", "Bob", "é", "al*ce", "home/bob/x", "", "a$b"],
    "aws:referer": ["bob", "home/", "*"],
    "s3:VersionId": ["bob", "v1"],
    "s3:prefix": ["a", "home/bob/"],
    "s3:ExistingObjectTag/Team": ["bob", "BOB", "home/bob/"],
    "s3:ExistingObjectTag/Size": ["5", "5.0", "6", "-1", "many"],
    "s3:signatureAge": ["5", "4.99", "1000"],
    "aws:CurrentTime": ["2026-01-02T03:04:05Z", "2026-01-02T00:00:00Z", "2026-01-02T03:04:05.5Z"],
    "aws:EpochTime": ["1767323045", "1767312000", "5000000000"],
    "aws:SecureTransport": ["true", "false"],
    "aws:SourceIp": ADDRESSES,
}


def one_or_list(random: Random, pool: list[Any], most: int = 3) -> Any:
    found = random.sample(pool, random.randint(1, most))
    return found[0] if len(found) == 1 and random.random() < 0.5 else found


def condition(random: Random) -> Json:
    found: Json = {}
    for _ in range(random.choice((1, 1, 2))):
        names, keys, pool = random.choice(CONDITIONS)
        name, key = random.choice(names), random.choice(keys)
        if random.random() < 0.1:
            found["Null"] = {key: random.choice(("true", False))}
            continue
        if "TagKeys" in key or random.random() < 0.15:
            name = random.choice(("ForAllValues:", "ForAnyValue:")) + name
        if random.random() < 0.2:
            name += "IfExists"
        found.setdefault(name, {})[key] = one_or_list(random, pool, 2)
    return found


def statement(random: Random, kind: PolicyKind) -> Json:
    found: Json = {"Effect": "Deny" if random.random() < 0.2 else "Allow"}
    if random.random() < 0.2:
        found["Sid"] = f"Sid{random.getrandbits(40)}"
    if kind is PolicyKind.BUCKET:
        negated = random.random() < 0.15
        found["NotPrincipal" if negated else "Principal"] = random.choice(NAMED)
    negated = random.random() < 0.1
    found["NotAction" if negated else "Action"] = one_or_list(random, ACTION_PATTERNS)
    in_bucket = [f"{S3}{BUCKET}{behind}" for behind in IN_BUCKET]
    pool = in_bucket if kind is PolicyKind.BUCKET else in_bucket + ANYWHERE
    resources = one_or_list(random, pool)
    negated = random.random() < 0.15
    if kind is PolicyKind.BUCKET and not negated:
        # Each action needs a resource that it can be done to.
        both = [S3 + BUCKET, f"{S3}{BUCKET}/a"]
        resources = [*(resources if isinstance(resources, list) else [resources]), *both]
    found["NotResource" if negated else "Resource"] = resources
    if random.random() < 0.5:
        found["Condition"] = condition(random)
    return found


def document(random: Random, kind: PolicyKind, name: str) -> tuple[PolicyDocument, Named]:
    raw = {"Statement": [statement(random, kind) for _ in range(random.choice((1, 2, 2, 3, 6)))]}
    if random.random() < 0.9:
        raw["Version"] = random.choice(("2012-10-17", "2012-10-17", "2012-10-17", "2008-10-17"))
    bucket = BUCKET if kind is PolicyKind.BUCKET else ""
    return parse(json.dumps(raw).encode(), kind, name=name, bucket=bucket), (name, raw)


def policies(random: Random) -> tuple[Policies, Papers]:
    """The same, compiled and plain."""
    identity = [document(random, PolicyKind.IDENTITY, f"i{n}") for n in range(random.randint(0, 2))]
    boundary = document(random, PolicyKind.IDENTITY, "b") if random.random() < 0.25 else None
    session = None
    if random.random() < 0.25:
        session = [
            document(random, PolicyKind.SESSION, f"s{n}") for n in range(random.randint(0, 2))
        ]
    resource = document(random, PolicyKind.BUCKET, "r") if random.random() < 0.7 else None
    acl = random.choice((Side.NONE, Side.NONE, Side.ACCOUNT, Side.PRINCIPAL))
    restrict = random.random() < 0.2
    return (
        Policies(
            tuple(compiled for compiled, _ in identity),
            boundary and boundary[0],
            None if session is None else tuple(compiled for compiled, _ in session),
            resource and resource[0],
            acl,
            restrict,
        ),
        Papers(
            [plain for _, plain in identity],
            boundary and boundary[1],
            None if session is None else [plain for _, plain in session],
            resource and resource[1],
            int(acl),
            restrict,
        ),
    )


def keys(random: Random) -> Json:
    found: Json = {
        key: (random.choice(values),) for key, values in VALUES.items() if random.random() < 0.7
    }
    if random.random() < 0.5:
        found["s3:RequestObjectTagKeys"] = tuple(
            random.sample(["bob", "BOB", "x"], random.randint(0, 3))
        )
    return found


def request(random: Random, values: Json) -> AccessRequest:
    return AccessRequest(
        random.choice(ACTIONS),
        random.choice(RESOURCES),
        random.choice(PRINCIPALS),
        random.choice((HOME, HOME, HOME, ABROAD)),
        values.get,
        random.choice(("", "", "", "", HOME, ABROAD)),
    )


def cases(
    seed: int, sets: int, each: int
) -> Iterator[tuple[AccessRequest, Json, Policies, Papers]]:
    random = Random(seed)
    for _ in range(sets):
        compiled, plain = policies(random)
        for _ in range(each):
            values = keys(random)
            yield request(random, values), values, compiled, plain

"""What a policy may say, and how what is not understood is refused: with a text and a place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from predastore.base import limits
from predastore.policy import PolicyDocument, PolicyError, PolicyKind, parse
from predastore.policy.keys import ALL_NAMES

S3 = "arn:aws:s3:::"
BUCKET = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": f"{S3}photos/*",
}
IDENTITY = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
TRUST = {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}
STATEMENTS = {
    PolicyKind.BUCKET: BUCKET,
    PolicyKind.IDENTITY: IDENTITY,
    PolicyKind.SESSION: IDENTITY,
    PolicyKind.TRUST: TRUST,
}
ABSENT = object()


def read(value: Any, kind: PolicyKind = PolicyKind.BUCKET) -> PolicyDocument:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse(text, kind, bucket="photos" if kind is PolicyKind.BUCKET else "")


def changed(kind: PolicyKind, **fields: Any) -> dict[str, Any]:
    """A document of one statement, with these fields changed."""
    statement = {**STATEMENTS[kind], **fields}
    kept = {name: value for name, value in statement.items() if value is not ABSENT}
    return {"Version": "2012-10-17", "Statement": [kept]}


def accepts(kind: PolicyKind, **fields: Any) -> None:
    read(changed(kind, **fields), kind)


def refusal(value: Any, kind: PolicyKind = PolicyKind.BUCKET) -> tuple[str, str]:
    with pytest.raises(PolicyError) as raised:
        read(value, kind)
    return raised.value.message, raised.value.where


@pytest.mark.parametrize("kind", PolicyKind)
def test_the_plain_document_of_each_kind_is_taken(kind: PolicyKind) -> None:
    accepts(kind)
    read({"Id": "x", "Version": "2008-10-17", "Statement": STATEMENTS[kind]}, kind)
    read({"Statement": [{**STATEMENTS[kind], "Sid": "A"}, {**STATEMENTS[kind], "Sid": "B"}]}, kind)


@pytest.mark.parametrize("kind", [PolicyKind.IDENTITY, PolicyKind.TRUST])
def test_space_before_a_document_is_taken_by_iam_alone(kind: PolicyKind) -> None:
    read(b"\n  " + json.dumps(changed(kind)).encode(), kind)
    assert refusal(b" " + json.dumps(changed(PolicyKind.BUCKET)).encode())[0].startswith("Policies")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "Policies must be valid JSON and the first byte must be '{'"),
        (b"[]", "Policies must be valid JSON and the first byte must be '{'"),
        (b'"x"', "Policies must be valid JSON and the first byte must be '{'"),
        (b"{", "Policies must be valid JSON: "),
        (b'{"a": NaN}', "Policies must be valid JSON: NaN"),
        (b'{"a": "\xff"}', "Policies must be valid JSON: not UTF-8"),
        (rb'{"Id": "\ud800", "Statement": []}', "Policies must be valid JSON: not UTF-8"),
        (b"{} {}", "Policies must be valid JSON: "),
        (b"{}", "Missing required field Statement"),
        (b'{"Statement": []}', "Could not parse the policy: Statement is empty!"),
        (b'{"Statement": "x"}', "Invalid policy syntax."),
        (b'{"Statement": [1]}', "Invalid policy syntax."),
        (b'{"Statement": [[]]}', "Invalid policy syntax."),
        (b'{"Statement": null}', "Invalid policy syntax."),
        (b'{"Version": "2012-10-18", "Statement": []}', "The policy must contain a valid version"),
        (b'{"Version": 2012, "Statement": []}', "The policy must contain a valid version string"),
        (
            b'{"Version": ["2012-10-17"], "Statement": []}',
            "The policy must contain a valid version",
        ),
        (b'{"Id": 5, "Statement": []}', "Invalid policy syntax."),
        (b'{"version": "2012-10-17"}', "Unknown field version"),
        (b'{"Id": "a", "Id": "b"}', "Invalid policy syntax. The field Id stands twice"),
    ],
)
def test_what_is_no_document_is_refused(value: bytes, message: str) -> None:
    assert refusal(value)[0].startswith(message)


REFUSED: list[tuple[PolicyKind, dict[str, Any], str, str]] = [
    (PolicyKind.BUCKET, {"Principal": ABSENT}, "Missing required field Principal", ""),
    (PolicyKind.TRUST, {"Principal": ABSENT}, "Missing required field Principal", ""),
    (PolicyKind.BUCKET, {"Effect": ABSENT}, "Missing required field Effect", ""),
    (PolicyKind.BUCKET, {"Action": ABSENT}, "Missing required field Action", ""),
    (PolicyKind.BUCKET, {"Resource": ABSENT}, "Missing required field Resource", ""),
    (PolicyKind.IDENTITY, {"Resource": ABSENT}, "Missing required field Resource", ""),
    (PolicyKind.IDENTITY, {"Principal": "*"}, "Has prohibited field Principal", ""),
    (PolicyKind.SESSION, {"NotPrincipal": "*"}, "Has prohibited field NotPrincipal", ""),
    (PolicyKind.TRUST, {"Resource": "*"}, "Has prohibited field Resource", ""),
    (PolicyKind.BUCKET, {"Foo": 1}, "Unknown field Foo", ""),
    (PolicyKind.BUCKET, {"Sid": 1}, "Invalid policy syntax. Sid is a string", ".Sid"),
    (PolicyKind.BUCKET, {"Effect": "allow"}, "Invalid effect: allow", ".Effect"),
    (PolicyKind.BUCKET, {"Effect": ["Allow"]}, "Invalid effect: no string", ".Effect"),
    (PolicyKind.BUCKET, {"NotAction": "s3:*"}, "Invalid policy syntax. Action and NotAction", ""),
    (PolicyKind.BUCKET, {"NotPrincipal": "*"}, "Invalid policy syntax. Principal and", ""),
    (PolicyKind.BUCKET, {"NotResource": "*"}, "Invalid policy syntax. Resource and", ""),
    (PolicyKind.BUCKET, {"Principal": "bob"}, "Invalid principal in policy", ".Principal"),
    (PolicyKind.BUCKET, {"Principal": {}}, "Invalid principal in policy", ".Principal"),
    (PolicyKind.BUCKET, {"Principal": []}, "Invalid principal in policy", ".Principal"),
    *(
        (
            PolicyKind.BUCKET,
            {"Principal": {"AWS": one}},
            "Invalid principal in policy",
            ".Principal.AWS",
        )
        for one in (
            "bob",
            "11112222333",
            "arn:aws:iam::111122223333:user/*",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:group/admins",
            "arn:aws:s3:::photos",
            "arn:aws:iam::*:root",
            "",
            [],
            ["*", "x"],
        )
    ),
    (PolicyKind.BUCKET, {"Principal": {"AWS": 5}}, "Invalid policy syntax.", ".Principal.AWS"),
    (PolicyKind.BUCKET, {"Principal": {"Google": "x"}}, "Invalid principal", ".Principal.Google"),
    (PolicyKind.BUCKET, {"Principal": {"Service": "x"}}, "Invalid principal", ".Principal.Service"),
    (PolicyKind.TRUST, {"Principal": {"Federated": "x y"}}, "Invalid", ".Principal.Federated"),
    *(
        (PolicyKind.BUCKET, {"Action": one}, "Policy has invalid action", ".Action")
        for one in (
            "GetObject",
            "s3:",
            "s3:GetObjekt",
            "s3:Foo*",
            "ec2:*",
            "iam:GetUser",
            "*:*",
            "s3:Get Object",
        )
    ),
    (PolicyKind.BUCKET, {"Action": []}, "Policy statement must contain actions.", ".Action"),
    (PolicyKind.BUCKET, {"Action": {}}, "Invalid policy syntax.", ".Action"),
    (PolicyKind.BUCKET, {"Action": [["s3:*"]]}, "Invalid policy syntax.", ".Action"),
    (PolicyKind.IDENTITY, {"Action": "ec2:RunInstances"}, "Policy has invalid action", ".Action"),
    (PolicyKind.TRUST, {"Action": "*"}, "Policy has invalid action", ".Action"),
    (PolicyKind.TRUST, {"Action": "s3:*"}, "Policy has invalid action", ".Action"),
    *(
        (PolicyKind.BUCKET, {"Resource": one}, "Policy has invalid resource", ".Resource")
        for one in (
            "*",
            f"{S3}*",
            f"{S3}other/*",
            f"{S3}photos-2/*",
            f"{S3}photo*",
            f"{S3}photos?",
            f"{S3}${{aws:username}}/*",
            "photos/*",
            "",
            f"{S3}photos/${{x}}",
            f"{S3}photos/${{aws:username",
            f"{S3}photos/${{aws:TagKeys}}",
        )
    ),
    (PolicyKind.BUCKET, {"Resource": []}, "Policy statement must contain resources.", ".Resource"),
    (
        PolicyKind.IDENTITY,
        {"Resource": "photos"},
        "Resource photos must be in ARN format",
        ".Resource",
    ),
    (
        PolicyKind.IDENTITY,
        {"Resource": "arn:foo:s3:::x"},
        "Resource arn:foo:s3:::x must",
        ".Resource",
    ),
    (
        PolicyKind.IDENTITY,
        {"Resource": "arn:aws:s3:::"},
        "Resource arn:aws:s3::: must",
        ".Resource",
    ),
    (
        PolicyKind.BUCKET,
        {"Action": "s3:ListBucket"},
        "Action does not apply to any resource(s) in statement",
        ".Action",
    ),
    (
        PolicyKind.BUCKET,
        {"Action": ["s3:GetObject", "s3:ListBucket"], "Resource": f"{S3}photos"},
        "Action does not apply to any resource(s) in statement",
        ".Action",
    ),
    (
        PolicyKind.BUCKET,
        {"Action": "s3:ListAllMyBuckets", "Resource": f"{S3}photos*"},
        "Action does not apply to any resource(s) in statement",
        ".Action",
    ),
    (
        PolicyKind.BUCKET,
        {"Condition": {"StringEquals": {"s3:prefix": "a"}}},
        "Conditions do not apply to combination of actions and resources in statement",
        ".Condition.StringEquals.s3:prefix",
    ),
    (PolicyKind.BUCKET, {"Condition": []}, "Invalid policy syntax. Condition", ".Condition"),
    (
        PolicyKind.BUCKET,
        {"Condition": {"StringIs": {"aws:username": "a"}}},
        "Invalid Condition type : StringIs",
        ".Condition",
    ),
    *(
        (
            PolicyKind.BUCKET,
            {"Condition": {op: {"aws:username": "true"}}},
            "Invalid Condition type",
            ".Condition",
        )
        for op in (
            "NullIfExists",
            "ForAllValues:Null",
            "stringequals",
            "ForSome:StringEquals",
            "",
            "IfExists",
            "StringNotEqualsNot",
            "NotStringEquals",
            "ForAllValues:",
        )
    ),
    *(
        (
            PolicyKind.BUCKET,
            {"Condition": {"StringEquals": {key: "a"}}},
            "Policy has an invalid condition key",
            ".Condition.StringEquals",
        )
        for key in (
            "username",
            "aws:user",
            "s3:ExistingObjectTag",
            "s3:ExistingObjectTag/",
            "ec2:Region",
            "s3:prefix/x",
            "id.example.com:aud",
        )
    ),
    *(
        (
            PolicyKind.BUCKET,
            {"Condition": {op: {key: "5"}}},
            "Invalid Condition type",
            f".Condition.{op}.{key}",
        )
        for op, key in (
            ("IpAddress", "aws:username"),
            ("NumericEquals", "aws:SourceIp"),
            ("Bool", "aws:CurrentTime"),
            ("DateEquals", "s3:signatureAge"),
            ("ArnLike", "aws:UserAgent"),
        )
    ),
    *(
        (
            PolicyKind.BUCKET,
            {"Condition": {op: {key: value}}},
            "Invalid policy syntax.",
            f".Condition.{op}.{key}",
        )
        for op, key, value in (
            ("IpAddress", "aws:SourceIp", "10.0.0.0/33"),
            ("IpAddress", "aws:SourceIp", "10.*"),
            ("NumericEquals", "s3:signatureAge", "1e9"),
            ("NumericEquals", "s3:signatureAge", "five"),
            ("DateEquals", "aws:CurrentTime", "2026-13-01"),
            ("DateEquals", "aws:CurrentTime", "now"),
            ("Bool", "aws:SecureTransport", "yes"),
            ("Null", "aws:username", "maybe"),
            ("BinaryEquals", "aws:UserAgent", "???"),
            ("ArnLike", "aws:PrincipalArn", "bob"),
            ("StringEquals", "aws:username", []),
            ("StringEquals", "aws:username", None),
            ("StringEquals", "aws:username", {}),
            ("StringEquals", "aws:username", [["a"]]),
            ("StringEquals", "aws:username", "${aws:nothing}"),
            ("StringLike", "aws:username", "${aws:userid"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "fields", "message", "where"), REFUSED)
def test_a_fault_is_named_with_its_place(
    kind: PolicyKind, fields: dict[str, Any], message: str, where: str
) -> None:
    found, place = refusal(changed(kind, **fields), kind)
    assert found.startswith(message)
    assert place == f"Statement[0]{where}"


def test_the_place_names_the_statement_that_is_at_fault() -> None:
    fault = {**BUCKET, "Condition": {"StringEquals": {"aws:nobody": "x"}}}
    assert (
        refusal({"Statement": [BUCKET, BUCKET, fault]})[1] == "Statement[2].Condition.StringEquals"
    )
    assert refusal({"Statement": fault})[1] == "Statement.Condition.StringEquals"


def test_the_text_of_an_error_has_the_place() -> None:
    with pytest.raises(PolicyError, match=r"^Invalid effect: no \(Statement\[0\]\.Effect\)$"):
        read(changed(PolicyKind.BUCKET, Effect="no"))


def test_sids_stand_once() -> None:
    found = refusal({"Statement": [{**BUCKET, "Sid": "A"}, BUCKET, {**BUCKET, "Sid": "A"}]})
    assert found == ("Statement IDs (SID) in a single policy must be unique.", "Statement[2].Sid")


@pytest.mark.parametrize(
    "principal",
    [
        "*",
        {"AWS": "*"},
        {"AWS": "111122223333"},
        {"AWS": ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/a/b/bob"]},
        {"AWS": "arn:aws:iam::111122223333:role/ops"},
        {"AWS": "arn:aws:sts::111122223333:assumed-role/ops/session@x"},
        {"CanonicalUser": "ab" * 32},
        {"Service": ["logging.s3.amazonaws.com"], "AWS": "*"},
        {"Federated": "arn:aws:iam::111122223333:oidc-provider/id.example.com/realm"},
    ],
)
def test_principals_are_taken_in_all_their_forms(principal: Any) -> None:
    accepts(PolicyKind.BUCKET, Principal=principal)
    accepts(PolicyKind.TRUST, Principal=principal)
    accepts(PolicyKind.BUCKET, Principal=ABSENT, NotPrincipal=principal)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("*", f"{S3}photos"),
        ("s3:*", f"{S3}photos"),
        ("S3:getobject", f"{S3}photos/*"),
        ("s3:Get*", f"{S3}photos"),
        ("s3:G?tObject", f"{S3}photos*"),
        (["s3:ListBucket", "s3:GetObject"], [f"{S3}photos", f"{S3}photos/a"]),
        (["s3:ListBucket", "s3:GetObject"], f"{S3}photos*"),
        ("s3:GetObject", f"{S3}photos/${{aws:username}}/*"),
    ],
)
def test_actions_need_a_resource_that_they_can_be_done_to(action: Any, resource: Any) -> None:
    accepts(PolicyKind.BUCKET, Action=action, Resource=resource)


@pytest.mark.parametrize(
    "resource",
    [
        "*",
        f"{S3}*",
        "arn:aws:s3*",
        "arn:aws:iam::111122223333:user/*",
        "arn:aws-cn:s3:::a",
        "arn:*:s3:::a",
    ],
)
def test_an_identity_may_be_given_any_resource(resource: str) -> None:
    accepts(PolicyKind.IDENTITY, Resource=resource)
    accepts(
        PolicyKind.SESSION, Resource=[resource], Action=["iam:*", "sts:AssumeRole", "s3:PutObject"]
    )


@pytest.mark.parametrize("key", ALL_NAMES)
def test_every_key_of_the_table_is_taken_in_any_case(key: str) -> None:
    name = f"{key}Team" if key.endswith("/") else key
    accepts(
        PolicyKind.IDENTITY,
        Condition={
            "StringEquals": {name: "x"},
            "Null": {key.upper() + ("x" if key.endswith("/") else ""): "true"},
        },
    )


def test_a_trust_policy_names_claims_of_identity_providers() -> None:
    accepts(
        PolicyKind.TRUST,
        Principal={"Federated": "id.example.com"},
        Action="sts:AssumeRoleWithWebIdentity",
        Condition={"StringEquals": {"id.example.com/realm:aud": "app"}},
    )


def test_variables_are_of_the_newer_version() -> None:
    text = {**IDENTITY, "Resource": f"{S3}b/${{no:such}}"}
    read({"Version": "2008-10-17", "Statement": text}, PolicyKind.IDENTITY)
    read({"Statement": text}, PolicyKind.IDENTITY)
    refusal({"Version": "2012-10-17", "Statement": text}, PolicyKind.IDENTITY)


def test_a_document_tells_whom_it_names() -> None:
    bob, ops = "arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:role/ops"
    found = read(changed(PolicyKind.BUCKET, Principal={"AWS": [ops, bob, "111122223333"]}))
    assert found.principals == (ops, bob)


def test_a_bucket_goes_with_the_policy_of_a_bucket_alone() -> None:
    with pytest.raises(ValueError, match="bucket"):
        parse(b"{}", PolicyKind.BUCKET)
    with pytest.raises(ValueError, match="bucket"):
        parse(b"{}", PolicyKind.TRUST, bucket="b")


def _with_resources(resources: Iterable[str]) -> bytes:
    return json.dumps(changed(PolicyKind.BUCKET, Resource=list(resources))).encode()


def hostile() -> dict[str, bytes]:
    most = limits.POLICY_DOCUMENT_BYTES_MAX
    actions = ",".join(f'"s3:*{chr(97 + n // 26)}*{chr(97 + n % 26)}*"' for n in range(26 * 26))
    return {
        "too large": b"{" + b" " * most,
        "brackets": b'{"Statement":' + b"[" * (most - 100),
        "braces": b'{"a":' * 4000,
        "escapes": b'{"' + rb"\"" * 9000,
        "escapes at the end": b'{"' + b"\\" * 18001,
        "quotes": b"{" + b'"' * 18001,
        "a long number": b'{"Id":' + b"9" * 19000 + b"}",
        "a large exponent": b'{"Version":1e' + b"9" * 19000 + b"}",
        "a long name": b'{"' + b"x" * 19000 + b'": 1}',
        "patterns": f'{{"Statement":{{"Effect":"Allow","Principal":"*","Action":[{actions}],'
        f'"Resource":"{S3}photos/*"}}}}'.encode(),
        "single wildcards": _with_resources(f"{S3}photos/*?{n}*" for n in range(33)),
        "variables": _with_resources(f"{S3}photos/${{aws:username}}{n}" for n in range(129)),
        "zeros": b"{\x00\x00}",
    }


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_document_is_refused_in_few_words(name: str) -> None:
    message, where = refusal(hostile()[name])
    assert len(message) + len(where) < 400
    message.encode("utf-8")


def test_a_number_as_large_as_fits_is_compared_not_computed() -> None:
    condition = {"NumericLessThan": {"s3:signatureAge": "9" * 40}}
    accepts(PolicyKind.BUCKET, Condition=condition)
    condition = {"NumericLessThan": {"s3:signatureAge": "9" * 41}}
    assert refusal(changed(PolicyKind.BUCKET, Condition=condition))[0].startswith("Invalid")

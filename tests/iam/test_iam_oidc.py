"""Roles for who shows a token of an identity provider, which may lie and stall."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iam.test_iam_access import statement
from predastore.base import limits
from predastore.base.config import Oidc
from support.iamserver import ROOT_ACCOUNT, Cloud, Keys, running
from support.idp import AUDIENCE, Idp, encoded, idp
from support.s3server import filesystem_catalog

ROLE = f"arn:aws:iam::{ROOT_ACCOUNT}:role/job"
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def provider() -> Iterator[Idp]:
    with idp() as made:
        yield made


@pytest.fixture
def federated(tmp_path: Path, provider: Idp) -> Iterator[Cloud]:
    """With a role for who has the group `staff`."""
    rows = (Oidc(provider.url, (AUDIENCE, "another")),)
    with running(filesystem_catalog, tmp_path, oidc=rows) as cloud:
        iam = cloud.client("iam")
        iam.create_role(RoleName="job", AssumeRolePolicyDocument=trust(provider, "staff"))
        iam.put_role_policy(
            RoleName="job", PolicyName="own", PolicyDocument=statement("Allow", "s3:*")
        )
        yield cloud


def trust(provider: Idp, group: str) -> str:
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:oidc-provider/{provider.host}"
    condition = {"ForAnyValue:StringEquals": {"127.0.0.1:groups": group}}
    one = {
        "Effect": "Allow",
        "Principal": {"Federated": arn},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": condition,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


def shown(cloud: Cloud, token: str) -> tuple[int, dict[str, str]]:
    form = {"RoleArn": ROLE, "RoleSessionName": "web", "WebIdentityToken": token}
    return cloud.call("sts", "AssumeRoleWithWebIdentity", None, **form)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_of_the_provider_begins_a_session(
    federated: Cloud, provider: Idp, algorithm: str
) -> None:
    status, answer = shown(federated, provider.token(algorithm, groups=["guests", "staff"]))
    assert status == 200, answer
    assert answer["SubjectFromWebIdentityToken"] == "alice"
    assert (answer["Audience"], answer["Provider"]) == (AUDIENCE, provider.url)
    session = Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])
    federated.client("s3", session).create_bucket(Bucket="box")


def test_boto3_takes_a_role_on_by_itself(federated: Cloud, provider: Idp) -> None:
    sts = federated.client("sts")
    token = provider.token(groups=["staff"])
    made = sts.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="web", WebIdentityToken=token
    )
    assert made["AssumedRoleUser"]["Arn"].endswith("assumed-role/job/web")


def test_who_is_not_in_the_group_is_denied(federated: Cloud, provider: Idp) -> None:
    for claims in ({}, {"groups": ["guests"]}, {"groups": "guests"}, {"groups": [["staff"]]}):
        status, answer = shown(federated, provider.token(**claims))
        assert (status, answer["Code"]) == (403, "AccessDenied")


BAD: dict[str, Callable[[Idp], str]] = {
    "nothing": lambda _: "x",
    "no JSON": lambda _: f"{encoded(b'{')}.{encoded(b'{')}.AAAA",
    "a bomb": lambda _: f"{encoded(b'[' * 5000)}.{encoded(b'[' * 5000)}.AAAA",
    "no signature": lambda of: of.token("none", groups=["staff"]),
    "HMAC with the public key": lambda of: of.token("HS256", of.rsa_id, groups=["staff"]),
    "another key's algorithm": lambda of: of.token("RS256", "ec-1", groups=["staff"]),
    "a key that is none": lambda of: of.token("RS256", "none", groups=["staff"]),
    "another issuer": lambda of: of.token(iss="https://evil.example", groups=["staff"]),
    "another audience": lambda of: of.token(aud=["evil"], groups=["staff"]),
    "no audience": lambda of: of.token(aud=None, groups=["staff"]),
    "no end": lambda of: of.token(exp=None, groups=["staff"]),
    "an end that is a text": lambda of: of.token(exp="9999999999", groups=["staff"]),
    "an end that is endless": lambda of: of.token(exp=float("inf"), groups=["staff"]),
    "ended": lambda of: of.token(exp=1_000_000_000, groups=["staff"]),
    "not begun": lambda of: of.token(nbf=9_999_999_999, groups=["staff"]),
    "no subject": lambda of: of.token(sub=None, groups=["staff"]),
    "changed": lambda of: changed(of.token(groups=["guests"])),
}


def changed(token: str) -> str:
    head, claims, signature = token.split(".")
    return ".".join((head, claims[:-4] + "AAAA", signature))


@pytest.mark.parametrize("name", BAD)
def test_a_token_that_lies_is_refused(federated: Cloud, provider: Idp, name: str) -> None:
    status, answer = shown(federated, BAD[name](provider))
    assert status == 400, answer
    assert answer["Code"] in ("InvalidIdentityToken", "ExpiredTokenException")


def test_keys_that_are_rotated_are_read_anew(federated: Cloud, provider: Idp) -> None:
    old = provider.token(groups=["staff"])
    assert shown(federated, old)[0] == 200
    provider.rotate()
    new = provider.token(groups=["staff"])
    assert shown(federated, new)[0] == 400  # it was asked a moment ago
    federated.clock.offset_s = limits.OIDC_RETRY_S + 1
    assert shown(federated, new)[0] == 200
    assert shown(federated, old)[0] == 400


def test_unknown_keys_do_not_make_us_ask_again_and_again(federated: Cloud, provider: Idp) -> None:
    for _ in range(20):
        shown(federated, provider.token(key_id="none"))
    assert provider.asked == {DISCOVERY: 1, "/keys": 1}


LIES: dict[str, tuple[str, Callable[[Idp], Callable[[], bytes]]]] = {
    "another issuer": (DISCOVERY, lambda _: lambda: b'{"issuer": "x", "jwks_uri": "http://x"}'),
    "no JSON": (DISCOVERY, lambda _: lambda: b"<html>"),
    "a file": (
        DISCOVERY,
        lambda of: lambda: json.dumps({"issuer": of.url, "jwks_uri": "file:///etc/x"}).encode(),
    ),
    "endless": ("/keys", lambda _: lambda: b" " * (limits.OIDC_DOCUMENT_BYTES_MAX + 200_000)),
    "no keys": ("/keys", lambda _: lambda: b'{"keys": 5}'),
    "keys that are none": ("/keys", lambda _: lambda: json.dumps({"keys": [1, {}, WEAK]}).encode()),
}
WEAK: dict[str, Any] = {"kty": "RSA", "kid": "rsa-1", "n": "AQAB", "e": "AQAB"}


@pytest.mark.parametrize("name", LIES)
def test_a_provider_that_lies_begins_no_session(federated: Cloud, provider: Idp, name: str) -> None:
    path, answer = LIES[name]
    provider.answers[path] = answer(provider)
    status, said = shown(federated, provider.token(groups=["staff"]))
    assert status in (400, 503), said


def test_a_provider_that_stalls_holds_nobody_up_for_long(
    federated: Cloud, provider: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predastore.iam.fetching.OIDC_TIMEOUT_S", 0.2)
    provider.answers["/keys"] = lambda: b"{}" if provider.released.wait(30) else b""
    status, answer = shown(federated, provider.token(groups=["staff"]))
    assert (status, answer["Code"]) == (503, "ServiceUnavailable")

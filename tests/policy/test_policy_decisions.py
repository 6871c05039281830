"""Who may do what: the rules of evaluation one by one, and what Amazon's own examples say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from predastore.policy import (
    ANONYMOUS,
    AccessRequest,
    Decision,
    Policies,
    PolicyDocument,
    PolicyKind,
    Principal,
    PrincipalKind,
    Side,
    Why,
    decide,
    parse,
)

HOME, ABROAD = "111122223333", "444455556666"
S3 = "arn:aws:s3:::"
OBJECT = f"{S3}photos/a"


def user(name: str = "bob", account: str = HOME) -> Principal:
    arn = f"arn:aws:iam::{account}:user/{name}"
    return Principal(PrincipalKind.USER, account, arn, user_id=f"AIDA{name}", name=name)


def root(account: str = HOME) -> Principal:
    arn = f"arn:aws:iam::{account}:root"
    return Principal(PrincipalKind.ROOT, account, arn, user_id=account, canonical_id=f"c{account}")


def session(role: str = "ops", account: str = HOME) -> Principal:
    return Principal(
        PrincipalKind.ROLE,
        account,
        f"arn:aws:sts::{account}:assumed-role/{role}/s1",
        f"arn:aws:iam::{account}:role/{role}",
        f"AROA{role}:s1",
    )


def bucket(*statements: dict[str, Any], name: str = "bucket policy") -> PolicyDocument:
    plain = {"Principal": "*", "Action": "s3:*", "Resource": [f"{S3}photos", f"{S3}photos/*"]}
    return document(PolicyKind.BUCKET, plain, statements, name, bucket="photos")


def identity(*statements: dict[str, Any], name: str = "identity") -> PolicyDocument:
    return document(PolicyKind.IDENTITY, {"Action": "s3:*", "Resource": "*"}, statements, name)


def document(
    kind: PolicyKind,
    plain: dict[str, Any],
    statements: tuple[dict[str, Any], ...],
    name: str,
    bucket: str = "",
) -> PolicyDocument:
    found = []
    for one in statements:
        excluded = {field.removeprefix("Not") for field in one if field.startswith("Not")}
        base = {field: value for field, value in plain.items() if field not in excluded}
        found.append({"Effect": "Allow", **base, **one})
    text = json.dumps({"Version": "2012-10-17", "Statement": found})
    return parse(text.encode(), kind, name=name, bucket=bucket)


ALLOW: dict[str, Any] = {}
DENY = {"Effect": "Deny"}


def ask(
    principal: Principal,
    action: str = "s3:GetObject",
    at: str = OBJECT,
    *,
    owner: str = HOME,
    object_account: str = "",
    keys: dict[str, str] | None = None,
    **policies: Any,
) -> Decision:
    """The decision on an action at an ARN."""
    values = {key: (value,) for key, value in (keys or {}).items()}
    request = AccessRequest(action, at, principal, owner, values.get, object_account)
    return decide(request, Policies(**policies))


def test_nothing_allows_nothing() -> None:
    for principal in (ANONYMOUS, user(), session(), user(account=ABROAD), root(ABROAD)):
        assert ask(principal).why is Why.IMPLICIT_DENY


def test_the_root_of_an_account_may_do_everything_there_but_what_is_denied() -> None:
    assert ask(root()).allowed
    denied = ask(root(), resource=bucket(DENY))
    assert denied == Decision(Why.EXPLICIT_DENY, "bucket policy", "[0]")


@pytest.mark.parametrize("action", ["GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"])
def test_the_owners_root_is_never_locked_out_of_the_policy(action: str) -> None:
    locked = bucket(DENY)
    assert ask(root(), f"s3:{action}", f"{S3}photos", resource=locked).allowed
    assert not ask(user(), f"s3:{action}", f"{S3}photos", resource=locked).allowed
    assert not ask(root(ABROAD), f"s3:{action}", f"{S3}photos", resource=locked).allowed
    assert not ask(root(), "s3:GetBucketAcl", f"{S3}photos", resource=locked).allowed


@pytest.mark.parametrize("place", ["identity", "boundary", "session", "resource"])
def test_an_explicit_deny_wins_wherever_it_stands(place: str) -> None:
    allow, deny = identity(ALLOW), identity(ALLOW, {**DENY, "Sid": "No"}, name="denies")
    policies: dict[str, Any] = {
        "identity": (allow,),
        "boundary": allow,
        "session": (allow,),
        "resource": bucket(ALLOW),
        "acl": Side.PRINCIPAL,
    }
    assert ask(user(), **policies).allowed
    if place == "resource":
        policies[place] = bucket(ALLOW, {**DENY, "Sid": "No"}, name="denies")
    else:
        policies[place] = deny if place == "boundary" else (allow, deny)
    assert ask(user(), **policies) == Decision(Why.EXPLICIT_DENY, "denies", "No")


def test_within_an_account_one_side_is_enough() -> None:
    assert ask(user(), identity=(identity(ALLOW),)) == Decision(Why.ALLOWED, "identity", "[0]")
    named = bucket({"Principal": {"AWS": user().arn}})
    assert ask(user(), resource=named) == Decision(Why.ALLOWED, "bucket policy", "[0]")
    assert ask(user(), resource=bucket(ALLOW)).allowed
    assert ask(user(), acl=Side.PRINCIPAL) == Decision(Why.ALLOWED, "ACL")
    assert not ask(user("alice"), resource=named).allowed


def test_across_accounts_both_sides_have_to_allow() -> None:
    stranger = user(account=ABROAD)
    both = (identity(ALLOW),)
    for named in ("*", {"AWS": ABROAD}, {"AWS": stranger.arn}):
        assert ask(stranger, identity=both, resource=bucket({"Principal": named})).allowed
        assert not ask(stranger, resource=bucket({"Principal": named})).allowed
    assert not ask(stranger, identity=both).allowed
    assert not ask(stranger, identity=both, resource=bucket({"Principal": {"AWS": HOME}})).allowed
    assert ask(stranger, identity=both, acl=Side.ACCOUNT).allowed
    assert ask(root(ABROAD), resource=bucket({"Principal": {"AWS": ABROAD}})).allowed


def test_what_an_account_is_given_its_identity_policies_pass_on() -> None:
    given = bucket({"Principal": {"AWS": HOME}})
    assert not ask(user(), resource=given).allowed
    assert not ask(user(), acl=Side.ACCOUNT).allowed
    assert ask(user(), resource=given, identity=(identity(ALLOW),)).allowed


def test_a_deny_to_an_account_is_a_deny_to_everyone_in_it() -> None:
    denies = bucket(ALLOW, {"Effect": "Deny", "Principal": {"AWS": HOME}})
    for principal in (root(), user(), session()):
        assert ask(principal, resource=denies).why is Why.EXPLICIT_DENY
    assert ask(ANONYMOUS, resource=denies).allowed


def test_anonymous_requests_get_what_everybody_gets() -> None:
    assert ask(ANONYMOUS, resource=bucket(ALLOW)).allowed
    assert ask(ANONYMOUS, resource=bucket({"Principal": {"AWS": "*"}})).allowed
    assert ask(ANONYMOUS, acl=Side.PRINCIPAL).allowed
    assert not ask(ANONYMOUS, acl=Side.ACCOUNT).allowed
    assert not ask(ANONYMOUS, resource=bucket({"Principal": {"AWS": HOME}})).allowed


def test_a_boundary_and_a_sessions_policies_limit_what_is_allowed() -> None:
    everything, puts = identity(ALLOW), identity({"Action": "s3:PutObject"})
    assert ask(user(), identity=(everything,), boundary=puts) == Decision(
        Why.IMPLICIT_DENY, "permissions boundary"
    )
    assert ask(user(), "s3:PutObject", identity=(everything,), boundary=puts).allowed
    assert ask(session(), identity=(everything,), session=(puts,)) == Decision(
        Why.IMPLICIT_DENY, "session policy"
    )
    assert ask(session(), identity=(everything,), session=(puts, everything)).allowed
    assert not ask(session(), identity=(everything,), session=()).allowed
    assert not ask(user(), boundary=everything).allowed, "a boundary gives nothing"
    assert not ask(session(), session=(everything,)).allowed, "nor does a session's policy"


def test_what_names_a_role_is_limited_and_what_names_its_session_is_not() -> None:
    nothing = identity({"Action": "s3:PutObject"})
    role = bucket({"Principal": {"AWS": session().role_arn}})
    named = bucket({"Principal": {"AWS": session().arn}})
    assert ask(session(), resource=role).allowed
    assert not ask(session(), resource=role, boundary=nothing).allowed
    assert not ask(session(), resource=role, session=(nothing,)).allowed
    assert ask(session(), resource=named, boundary=nothing, session=(nothing,)).allowed
    assert not ask(session("dev"), resource=role).allowed


def test_what_names_a_user_passes_by_a_boundary_and_not_by_a_sessions_policies() -> None:
    nothing = identity({"Action": "s3:PutObject"})
    named = bucket({"Principal": {"AWS": user().arn}})
    assert ask(user(), resource=named, boundary=nothing).allowed
    assert not ask(user(), resource=named, session=(nothing,)).allowed
    assert not ask(user(), resource=bucket(ALLOW), boundary=nothing).allowed


def test_everybody_but_those_named() -> None:
    others = {"NotPrincipal": {"AWS": [user().arn, ABROAD]}}
    denies = bucket({"Effect": "Deny", **others})
    policies: dict[str, Any] = {"identity": (identity(ALLOW),), "resource": denies}
    assert ask(user(), **policies).allowed
    assert ask(user("alice"), **policies).why is Why.EXPLICIT_DENY
    assert ask(root(), **policies).why is Why.EXPLICIT_DENY
    assert ask(ANONYMOUS, resource=bucket(others)).allowed
    assert not ask(user(), resource=bucket(others)).allowed


def test_a_policy_denies_and_does_not_allow_objects_of_other_accounts() -> None:
    foreign: dict[str, Any] = {"object_account": ABROAD}
    assert not ask(ANONYMOUS, resource=bucket(ALLOW), **foreign).allowed
    assert not ask(root(), **foreign).allowed
    assert ask(root(), acl=Side.ACCOUNT, **foreign).allowed
    assert ask(root(ABROAD), **foreign).allowed
    assert ask(root(ABROAD), resource=bucket(DENY), **foreign).why is Why.EXPLICIT_DENY


def test_a_restricted_public_policy_is_for_the_owners_account_alone() -> None:
    public = bucket(ALLOW, {"Principal": {"AWS": ABROAD}})
    shared = bucket({"Principal": {"AWS": ABROAD}})
    restricted: dict[str, Any] = {"restrict_public_buckets": True}
    assert not ask(ANONYMOUS, resource=public, **restricted).allowed
    assert not ask(root(ABROAD), resource=public, **restricted).allowed
    assert ask(user(), resource=public, **restricted).allowed
    assert ask(root(ABROAD), resource=shared, **restricted).allowed
    assert ask(ANONYMOUS, acl=Side.PRINCIPAL, resource=public, **restricted).allowed


def test_a_trust_policy_says_who_takes_on_a_role() -> None:
    provider = "arn:aws:iam::111122223333:oidc-provider/id.example.com"
    plain = {"Action": "sts:AssumeRole"}
    trust = document(
        PolicyKind.TRUST,
        plain,
        (
            {"Principal": {"AWS": user().arn}},
            {"Principal": {"AWS": ABROAD}, "Condition": {"StringEquals": {"sts:ExternalId": "x"}}},
            {
                "Principal": {"Federated": provider},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {"id.example.com:aud": "app"}},
            },
        ),
        "trust",
    )
    role = session().role_arn
    web = Principal(PrincipalKind.FEDERATED, provider=provider)
    assumes = (document(PolicyKind.IDENTITY, plain, ({"Resource": role},), "may assume"),)

    assert ask(user(), "sts:AssumeRole", role, resource=trust).allowed
    assert not ask(user("alice"), "sts:AssumeRole", role, resource=trust).allowed
    abroad: dict[str, Any] = {"resource": trust, "identity": assumes}
    external = {"sts:ExternalId": "x"}
    stranger = user(account=ABROAD)
    assert ask(stranger, "sts:AssumeRole", role, keys=external, **abroad).allowed
    assert not ask(stranger, "sts:AssumeRole", role, **abroad).allowed
    assert not ask(stranger, "sts:AssumeRole", role, keys=external, resource=trust).allowed
    claims = {"id.example.com:aud": "app"}
    by_web = "sts:AssumeRoleWithWebIdentity"
    assert ask(web, by_web, role, keys=claims, resource=trust).allowed
    assert not ask(web, by_web, role, keys={"id.example.com:aud": "x"}, resource=trust).allowed
    assert not ask(web, "sts:AssumeRole", role, keys=claims, resource=trust).allowed


# --- what the examples of Amazon's guides say, in the accounts of this test ---


def test_example_public_read_of_objects_is_no_listing() -> None:
    public = bucket({"Action": "s3:GetObject", "Resource": f"{S3}photos/*"})
    assert ask(ANONYMOUS, resource=public).allowed
    assert not ask(ANONYMOUS, "s3:ListBucket", f"{S3}photos", resource=public).allowed
    assert not ask(ANONYMOUS, "s3:PutObject", resource=public).allowed


def test_example_requests_without_tls_are_denied_to_all() -> None:
    secure = bucket(ALLOW, {**DENY, "Condition": {"Bool": {"aws:SecureTransport": "false"}}})
    for principal in (ANONYMOUS, root(), user()):
        plain, tls = {"aws:SecureTransport": "false"}, {"aws:SecureTransport": "true"}
        assert ask(principal, resource=secure, keys=plain).why is Why.EXPLICIT_DENY
        assert ask(principal, resource=secure, keys=tls).allowed


def test_example_a_range_of_addresses_with_an_exception() -> None:
    ranged = bucket(
        {
            "Condition": {
                "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
                "NotIpAddress": {"aws:SourceIp": "192.0.2.188/32"},
            }
        }
    )
    asked = {
        address: ask(ANONYMOUS, resource=ranged, keys={"aws:SourceIp": address}).allowed
        for address in ("192.0.2.1", "192.0.2.188", "198.51.100.1")
    }
    assert asked == {"192.0.2.1": True, "192.0.2.188": False, "198.51.100.1": False}
    assert not ask(ANONYMOUS, resource=ranged).allowed


def test_example_pages_of_a_website_are_read_from_it_alone() -> None:
    referred = bucket({"Condition": {"StringLike": {"aws:Referer": ["https://www.example.com/*"]}}})
    here, there = "https://www.example.com/x", "https://evil.example.net/"
    assert ask(ANONYMOUS, resource=referred, keys={"aws:referer": here}).allowed
    assert not ask(ANONYMOUS, resource=referred, keys={"aws:referer": there}).allowed
    assert not ask(ANONYMOUS, resource=referred).allowed


def test_example_each_user_has_a_folder_of_its_own() -> None:
    home = identity(
        {
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": f"{S3}photos/home/${{aws:username}}/*",
        },
        {
            "Action": "s3:ListBucket",
            "Resource": f"{S3}photos",
            "Condition": {"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}},
        },
    )
    policies: dict[str, Any] = {"identity": (home,)}
    assert ask(user(), at=f"{S3}photos/home/bob/x", **policies).allowed
    assert not ask(user("alice"), at=f"{S3}photos/home/bob/x", **policies).allowed
    listing = ("s3:ListBucket", f"{S3}photos")
    assert ask(user(), *listing, keys={"s3:prefix": "home/bob/a"}, **policies).allowed
    assert ask(user(), *listing, keys={"s3:prefix": ""}, **policies).allowed
    assert not ask(user(), *listing, keys={"s3:prefix": "home/alice/"}, **policies).allowed
    assert not ask(user(), *listing, **policies).allowed


def test_example_uploads_of_another_account_give_the_owner_full_control() -> None:
    shared = bucket(
        {
            "Principal": {"AWS": ABROAD},
            "Action": "s3:PutObject",
            "Resource": f"{S3}photos/*",
            "Condition": {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}},
        }
    )
    full = {"s3:x-amz-acl": "bucket-owner-full-control"}
    assert ask(root(ABROAD), "s3:PutObject", resource=shared, keys=full).allowed
    assert not ask(root(ABROAD), "s3:PutObject", resource=shared).allowed


def test_example_objects_are_read_by_their_tag() -> None:
    tagged = bucket(
        {
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "Resource": f"{S3}photos/*",
            "Condition": {"StringEquals": {"s3:ExistingObjectTag/environment": "production"}},
        }
    )
    key = "s3:ExistingObjectTag/environment"
    assert ask(ANONYMOUS, resource=tagged, keys={key: "production"}).allowed
    assert not ask(ANONYMOUS, resource=tagged, keys={key: "test"}).allowed
    assert not ask(ANONYMOUS, resource=tagged, keys={key.lower(): "production"}).allowed


def test_example_only_some_tags_may_be_set() -> None:
    limited = identity(
        {
            "Action": "s3:PutObjectTagging",
            "Condition": {"ForAllValues:StringLike": {"s3:RequestObjectTagKeys": ["Owner", "C*"]}},
        }
    )

    def put(*names: str) -> bool:
        keys = {"s3:RequestObjectTagKeys": names}
        request = AccessRequest("s3:PutObjectTagging", OBJECT, user(), HOME, keys.get)
        return decide(request, Policies(identity=(limited,))).allowed

    assert put("Owner", "CreationDate")
    assert not put("Owner", "Project")
    assert put()


def test_example_old_sessions_lose_everything() -> None:
    revoked = identity(
        ALLOW,
        {**DENY, "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2026-05-01T10:00:00Z"}}},
    )
    policies: dict[str, Any] = {"identity": (revoked,)}
    before, after = "2026-05-01T09:59:59Z", "2026-05-01T10:00:01Z"
    assert not ask(session(), keys={"aws:TokenIssueTime": before}, **policies).allowed
    assert ask(session(), keys={"aws:TokenIssueTime": after}, **policies).allowed


def test_example_everything_but_one_bucket() -> None:
    others = identity(ALLOW, {**DENY, "NotResource": [f"{S3}photos", f"{S3}photos/*"]})
    assert ask(user(), identity=(others,)).allowed
    elsewhere = ask(user(), at=f"{S3}other/a", identity=(others,))
    assert elsewhere == Decision(Why.EXPLICIT_DENY, "identity", "[1]")


def test_example_everything_but_some_actions() -> None:
    reads = identity({"NotAction": ["s3:Delete*", "s3:Put*"]})
    assert ask(user(), identity=(reads,)).allowed
    assert not ask(user(), "s3:DeleteObject", identity=(reads,)).allowed


def test_a_long_policy_names_the_first_statement_that_applies() -> None:
    statements = [{"Resource": f"{S3}photos/{number}/*"} for number in range(100)]
    many = bucket(*statements, {"Sid": "Late", "Resource": f"{S3}photos/7*"}, DENY_OTHER)
    assert ask(ANONYMOUS, at=f"{S3}photos/7/x", resource=many).statement == "[7]"
    assert ask(ANONYMOUS, at=f"{S3}photos/7x", resource=many).statement == "Late"
    assert not ask(ANONYMOUS, at=f"{S3}photos/x", resource=many).allowed
    assert ask(ANONYMOUS, at=f"{S3}photos/7/no", resource=many).why is Why.EXPLICIT_DENY


DENY_OTHER = {"Effect": "Deny", "Resource": f"{S3}photos/*/no"}

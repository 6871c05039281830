"""Every route under the policies of AWS: what a user, another account, everybody and the owner's
root may by policies of identities and of the bucket; and that there is no operation beside them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.client import BaseClient

from predastore.policy.actions import ACTIONS as KNOWN_ACTIONS
from predastore.policy.actions import Level
from predastore.s3 import ops
from predastore.s3.access import OF_A_VERSION
from predastore.s3.routes import ACCOUNT, BUCKET, OBJECT, RESOURCE, ROUTES, SERVICE, Route
from support.forms import Form
from support.iamserver import ROOT, ROOT_ACCOUNT, Cloud, Keys, statement
from support.s3raw import Answer, Raw
from support.s3routes import ACTIONS, FURTHER, NOTHING_THERE, by_name, is_denied, request_of

# In a bucket, and so to be allowed or denied by its policy.
IN_BUCKETS = [
    one for one in ROUTES if one.level in (BUCKET, RESOURCE, OBJECT) and one.name != "CreateBucket"
]
OF_THE_POLICY = {"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"}
# What changes a bucket, and what an object's owner decides about.
NEVER_ANONYMOUS = {
    *OF_THE_POLICY,
    *("PutObjectAcl", "PutObjectRetention", "PutObjectLegalHold"),
    *(one.name for one in IN_BUCKETS if one.level == BUCKET and one.method in ("PUT", "DELETE")),
    *("TagResource", "UntagResource"),
}


class Crowd:
    """`alice`: of the root's account; `eve`: of another; `tenant`: that one's root."""

    def __init__(self, cloud: Cloud) -> None:
        self.alice = cloud.user("alice")
        self.tenant = cloud.account("tenant")
        self.eve = cloud.user("eve", of=self.tenant)
        self.account = cloud.client("sts", self.tenant).get_caller_identity()["Account"]

    @property
    def eve_arn(self) -> str:
        return f"arn:aws:iam::{self.account}:user/eve"


@pytest.fixture(scope="module")
def crowd(cloud: Cloud) -> Crowd:
    return Crowd(cloud)


@pytest.fixture
def place(root: BaseClient, box: str, route: Route) -> str:
    """A bucket in which the route's request can be done."""
    if route.name == "DeleteBucket":
        root.delete_object(Bucket=box, Key="k")
    return box


def sent(cloud: Cloud, who: Keys | None, route: Route, raw: Raw) -> Answer:
    if route.name == "PostObject":  # what signs it is within
        return Form(raw.path[1:], who=who.credential if who else None).post(cloud)
    return cloud.send(raw, who)


def is_done(route: Route, answer: Answer) -> bool:
    """Whether it was allowed: done, or not for a reason that only who may is told."""
    if is_denied(answer):
        return False
    is_absent = bool(route.called) and answer.status in (400, 404)
    return answer.status < 300 or is_absent or answer.code == NOTHING_THERE.get(route.name)


def resource_of(route: Route, raw: Raw) -> str:
    """The ARN of exactly what the request is about."""
    if route.level in (SERVICE, ACCOUNT):
        return "*"
    if route.level == RESOURCE:
        return unquote(raw.path.rpartition("/")[2])
    if route.is_of_each:  # of the key that its body names
        return f"arn:aws:s3:::{raw.path[1:]}/k"
    return f"arn:aws:s3:::{raw.path[1:]}"


def just(route: Route, raw: Raw, **more: Any) -> list[dict[str, Any]]:
    """Statements that allow exactly what the request asks for."""
    own = [statement(route.action, resource_of(route, raw), **more)]
    if route.name in FURTHER:
        bucket = raw.path.split("/")[1]
        own.append(statement(FURTHER[route.name], f"arn:aws:s3:::{bucket}/k", **more))
    return own


def others_than(action: str, actions: Iterable[str] = ACTIONS) -> list[str]:
    return [one for one in actions if one != action]


def in_a_bucket() -> list[str]:
    """What a bucket's policy may speak of."""
    return [one for one in ACTIONS if KNOWN_ACTIONS[one.lower()] is not Level.ACCOUNT]


# --- one account ------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_a_user_may_exactly_what_its_policy_allows(
    cloud: Cloud, crowd: Crowd, root: BaseClient, place: str, route: Route
) -> None:
    raw = request_of(route, root, place, ROOT_ACCOUNT)
    elsewhere = "arn:aws:s3:::elsewhere"
    refused = [
        [],
        [statement(others_than(route.action))],
        [statement("s3:*"), statement(route.action, effect="Deny")],
    ]
    if route in IN_BUCKETS:
        refused.append([statement("s3:*", [elsewhere, f"{elsewhere}/*"])])
    with cloud.unchanged():
        for statements in refused:
            cloud.allow("alice", *statements)
            assert is_denied(sent(cloud, crowd.alice, route, raw)), statements
    cloud.allow("alice", *just(route, raw))
    answer = sent(cloud, crowd.alice, route, raw)
    assert is_done(route, answer), (answer.status, answer.body)


@pytest.mark.parametrize("route", IN_BUCKETS, ids=by_name)
def test_a_deny_of_the_bucket_binds_its_owners_root_but_for_the_policy_itself(
    cloud: Cloud, root: BaseClient, place: str, route: Route
) -> None:
    raw = request_of(route, root, place, ROOT_ACCOUNT)
    own = [f"arn:aws:s3:::{place}", f"arn:aws:s3:::{place}/*"]
    everything = statement(["s3:*"], own, effect="Deny", principal="*")
    cloud.set_policy(place, everything)
    if route.name in OF_THE_POLICY:
        assert sent(cloud, ROOT, route, raw).status < 300
        return
    with cloud.unchanged():
        assert is_denied(sent(cloud, ROOT, route, raw))
    cloud.set_policy(place)
    assert is_done(route, sent(cloud, ROOT, route, raw))


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.action in OF_A_VERSION and "versionId" in one.query],
    ids=by_name,
)  # fmt: skip
def test_a_version_needs_the_action_of_versions(
    cloud: Cloud, crowd: Crowd, root: BaseClient, box: str, route: Route
) -> None:
    raw = request_of(route, root, box, ROOT_ACCOUNT)
    raw.query = "&".join(filter(None, [raw.query, "versionId=null"]))
    of_version = OF_A_VERSION[route.action]
    further = FURTHER.get(route.name, "")
    with cloud.unchanged():
        cloud.allow("alice", statement(others_than(of_version)))
        assert cloud.send(raw, crowd.alice).status == 403
    own = [of_version, *([OF_A_VERSION[further]] if further else [])]
    cloud.allow("alice", statement(own, f"arn:aws:s3:::{box}/k"))
    assert cloud.send(raw, crowd.alice).status < 300


# --- another account --------------------------------------------------------------------------


@pytest.mark.parametrize("route", IN_BUCKETS, ids=by_name)
def test_another_accounts_user_needs_the_buckets_policy_and_its_own(
    cloud: Cloud, crowd: Crowd, root: BaseClient, place: str, route: Route
) -> None:
    raw = request_of(route, root, place, ROOT_ACCOUNT)
    own, given = just(route, raw), just(route, raw, principal=crowd.eve_arn)
    with cloud.unchanged():
        cloud.allow("eve", statement("s3:*"), of=crowd.tenant)
        assert is_denied(sent(cloud, crowd.eve, route, raw))
    cloud.allow("eve", of=crowd.tenant)
    cloud.set_policy(place, *given)
    with cloud.unchanged():
        assert is_denied(sent(cloud, crowd.eve, route, raw))
        cloud.allow("eve", statement(others_than(route.action)), of=crowd.tenant)
        assert is_denied(sent(cloud, crowd.eve, route, raw))
    cloud.allow("eve", *own, of=crowd.tenant)
    answer = sent(cloud, crowd.eve, route, raw)
    if route.name in OF_THE_POLICY:  # it belongs to the bucket's account alone
        assert (answer.status, answer.code) == (405, "MethodNotAllowed")
        return
    assert is_done(route, answer), (answer.status, answer.body)


def test_a_deny_of_either_side_wins_over_both_allows(cloud: Cloud, crowd: Crowd, box: str) -> None:
    raw = Raw("GET", f"/{box}/k")
    give = statement("s3:GetObject", f"arn:aws:s3:::{box}/*", principal=crowd.eve_arn)
    take = statement("s3:Get*", f"arn:aws:s3:::{box}/*", effect="Deny", principal=crowd.eve_arn)
    cloud.allow("eve", statement("s3:GetObject"), of=crowd.tenant)
    cloud.set_policy(box, give)
    assert cloud.send(raw, crowd.eve).status == 200
    cloud.set_policy(box, give, take)
    assert cloud.send(raw, crowd.eve).status == 403
    cloud.set_policy(box, give)
    deny = statement("s3:GetObject", f"arn:aws:s3:::{box}/k", effect="Deny")
    cloud.allow("eve", statement("s3:*"), deny, of=crowd.tenant)
    assert cloud.send(raw, crowd.eve).status == 403


def test_an_account_that_is_named_passes_it_on_to_its_users(
    cloud: Cloud, crowd: Crowd, box: str
) -> None:
    raw = Raw("GET", f"/{box}/k")
    for named in (crowd.account, f"arn:aws:iam::{crowd.account}:root"):
        cloud.set_policy(box, statement("s3:GetObject", f"arn:aws:s3:::{box}/*", principal=named))
        assert cloud.send(raw, crowd.tenant).status == 200
        cloud.allow("eve", of=crowd.tenant)
        assert cloud.send(raw, crowd.eve).status == 403
        cloud.allow("eve", statement("s3:GetObject"), of=crowd.tenant)
        assert cloud.send(raw, crowd.eve).status == 200
        assert cloud.send(raw, None).status == 403


# --- everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("route", IN_BUCKETS, ids=by_name)
def test_who_signs_nothing_may_exactly_what_everybody_may(
    cloud: Cloud, root: BaseClient, place: str, route: Route
) -> None:
    raw = request_of(route, root, place, ROOT_ACCOUNT)
    with cloud.unchanged():
        assert is_denied(sent(cloud, None, route, raw))
    own = [f"arn:aws:s3:::{place}", f"arn:aws:s3:::{place}/*"]
    cloud.set_policy(place, statement(others_than(route.action, in_a_bucket()), own, principal="*"))
    with cloud.unchanged():
        assert is_denied(sent(cloud, None, route, raw))
    cloud.set_policy(place, *just(route, raw, principal="*"))
    answer = sent(cloud, None, route, raw)
    if route.name in NEVER_ANONYMOUS:
        assert is_denied(answer)
    else:
        assert is_done(route, answer), (answer.status, answer.body)


@pytest.mark.parametrize("route", [one for one in ROUTES if one not in IN_BUCKETS], ids=by_name)
def test_what_is_of_an_account_is_nothing_for_who_has_none(
    cloud: Cloud, root: BaseClient, box: str, route: Route
) -> None:
    raw = request_of(route, root, box, ROOT_ACCOUNT)
    with cloud.unchanged():
        assert is_denied(sent(cloud, None, route, raw))


# --- the table itself -------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_each_action_is_known_to_policies_and_of_the_routes_level(route: Route) -> None:
    levels = {BUCKET: Level.BUCKET, RESOURCE: Level.BUCKET, OBJECT: Level.OBJECT}
    expected = Level.OBJECT if route.is_of_each else levels.get(route.level, Level.ACCOUNT)
    assert KNOWN_ACTIONS[route.action.lower()] is expected
    if route.action in OF_A_VERSION:
        assert KNOWN_ACTIONS[OF_A_VERSION[route.action].lower()] is Level.OBJECT


def test_each_operation_is_in_the_table() -> None:
    modules = {one.name for one in pkgutil.iter_modules(ops.__path__)}
    in_table = {route.operation.__module__.rpartition(".")[2] for route in ROUTES}
    assert in_table == modules


@pytest.mark.parametrize("path", ["/", "/{}", "/{}/k"])
def test_no_method_beside_the_table_does_anything(cloud: Cloud, box: str, path: str) -> None:
    level = {"/": SERVICE, "/{}": BUCKET, "/{}/k": OBJECT}[path]
    known = {route.method for route in ROUTES if route.level == level and not route.by}
    methods = {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "TRACE", "LINK", "COPY"}
    with cloud.unchanged():
        for method in sorted(methods - known):
            answer = cloud.send(Raw(method, path.format(box)), ROOT)
            assert answer.status in (405, 501), method

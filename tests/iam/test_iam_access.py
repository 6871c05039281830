"""Who may call what: each action is denied without permission, and a revoked right is gone at once,
through every gateway."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from predastore.iam.query.table import ACTIONS
from support.iamserver import ROOT_ACCOUNT, Cloud, Keys, code_of, credentials_of
from support.waiting import eventually

NEEDS_NOTHING = {"GetCallerIdentity", "GetSessionToken"}
ELSEWHERE = {"AssumeRole", "AssumeRoleWithWebIdentity"}  # decided by the role's trust policy
NOT_HERE = {"AssumeRoleWithSAML", "GetFederationToken"}
SOMEBODY = f"arn:aws:iam::{ROOT_ACCOUNT}:user/somebody"
POLICY = "arn:aws:iam::000000000000:policy/p"
# What some action needs before it asks.
FORM = {
    "UserName": "alice",
    "GroupName": "staff",
    "RoleName": "job",
    "PolicyName": "p",
    "PolicyArn": POLICY,
    "PolicySourceArn": f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice",
    "PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess",
    "PolicyDocument": "",
    "AssumeRolePolicyDocument": "",
    "AccessKeyId": "AKIDNONE",
    "Status": "Active",
    "VersionId": "v1",
    "AccountName": "tenant",
    "AccountId": "123456789012",
    "ActionNames.member.1": "s3:GetObject",
}


def statement(effect: str, actions: str | list[str], resource: str = "*") -> str:
    one = {"Effect": effect, "Action": actions, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


def trust(principal: str) -> str:
    one = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


def filled(action: str) -> dict[str, str]:
    form = {name: value for name, value in FORM.items() if value}
    form["PolicyDocument"] = statement("Allow", "s3:GetObject")
    form["AssumeRolePolicyDocument"] = trust(f"arn:aws:iam::{ROOT_ACCOUNT}:root")
    if action.startswith(("CreateUser", "CreateGroup", "CreateRole")):
        form = {**form, "UserName": "new", "GroupName": "new", "RoleName": "new"}
    return form


def test_every_action_is_denied_without_permission(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    nobody = cloud.user("nobody")
    iam.create_user(UserName="alice")
    iam.create_group(GroupName="staff")
    iam.create_role(RoleName="job", AssumeRolePolicyDocument=trust(SOMEBODY))
    iam.create_policy(PolicyName="p", PolicyDocument=statement("Allow", "s3:GetObject"))
    allowed = []
    for service, actions in ACTIONS.items():
        for action in actions:
            status, answer = cloud.call(service, action, nobody, **filled(action))
            if action in NOT_HERE:
                assert (status, answer["Code"]) == (501, "NotImplemented")
            elif (status, answer.get("Code")) != (403, "AccessDenied"):
                allowed.append(action)
    assert set(allowed) - ELSEWHERE == NEEDS_NOTHING


def test_an_action_needs_its_own_permission_on_what_it_is_about(cloud: Cloud) -> None:
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:user/staff/*"
    clerk = cloud.user("clerk", policy=statement("Allow", ["iam:CreateUser", "iam:Get*"], arn))
    iam = cloud.client("iam", clerk)
    iam.create_user(UserName="alice", Path="/staff/")
    assert iam.get_user(UserName="alice")["User"]["UserName"] == "alice"
    for call, arguments in (
        (iam.create_user, {"UserName": "eve"}),
        (iam.delete_user, {"UserName": "alice"}),
        (iam.get_user, {"UserName": "clerk"}),
        (iam.list_users, {}),
    ):
        with pytest.raises(ClientError) as failure:
            call(**arguments)
        assert code_of(failure.value) == ("AccessDenied", 403)
        assert f"user/clerk is not authorized to perform: iam:{name_of(call)}" in str(failure.value)


def name_of(call: Any) -> str:
    return call.__name__.title().replace("_", "")


def test_nobody_renames_a_user_into_a_path_that_is_not_theirs(cloud: Cloud) -> None:
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:user/staff/*"
    clerk = cloud.user("clerk", path="/staff/", policy=statement("Allow", "iam:UpdateUser", arn))
    with pytest.raises(ClientError, match="not authorized"):
        cloud.client("iam", clerk).update_user(UserName="clerk", NewPath="/admins/")


def test_a_boundary_bounds(cloud: Cloud) -> None:
    clerk = cloud.user("clerk", policy=statement("Allow", "iam:*"))
    iam = cloud.client("iam", clerk)
    iam.list_users()
    made = cloud.client("iam").create_policy(
        PolicyName="bound", PolicyDocument=statement("Allow", "iam:Get*")
    )
    cloud.client("iam").put_user_permissions_boundary(
        UserName="clerk", PermissionsBoundary=made["Policy"]["Arn"]
    )
    iam.get_user(UserName="clerk")
    with pytest.raises(ClientError, match="not authorized"):
        iam.list_users()


def revocations(cloud: Cloud) -> dict[str, Any]:
    """Ways to take from alice what she has, through the first gateway."""
    iam = cloud.client("iam")
    deny = statement("Deny", "*")
    return {
        "key": lambda alice: iam.update_access_key(
            UserName="alice", AccessKeyId=alice.id, Status="Inactive"
        ),
        "inline": lambda _: iam.put_user_policy(
            UserName="alice", PolicyName="own", PolicyDocument=deny
        ),
        "group": lambda _: iam.put_group_policy(
            GroupName="staff", PolicyName="deny", PolicyDocument=deny
        ),
        "version": lambda _: iam.create_policy_version(
            PolicyArn=POLICY, PolicyDocument=deny, SetAsDefault=True
        ),
        "deleted key": lambda alice: iam.delete_access_key(UserName="alice", AccessKeyId=alice.id),
        "boundary": lambda _: iam.put_user_permissions_boundary(
            UserName="alice", PermissionsBoundary="arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
        ),
    }


@pytest.mark.parametrize("how", ["key", "inline", "group", "version", "deleted key", "boundary"])
def test_what_is_revoked_is_gone_with_the_next_request_through_another_gateway(
    clouds: Cloud, how: str
) -> None:
    iam = clouds.client("iam")
    alice = clouds.user("alice", policy=statement("Allow", ["iam:*", "s3:*"]))
    iam.create_group(GroupName="staff")
    iam.add_user_to_group(GroupName="staff", UserName="alice")
    iam.create_policy(PolicyName="p", PolicyDocument=statement("Allow", "s3:*"))
    iam.attach_group_policy(GroupName="staff", PolicyArn=POLICY)
    theirs, objects = clouds.client("iam", alice, gateway=1), clouds.client("s3", alice, gateway=1)
    clouds.client("s3").create_bucket(Bucket="box")
    theirs.list_users()
    theirs.create_user(UserName="eve")
    objects.put_object(Bucket="box", Key="k", Body=b"x")
    revocations(clouds)[how](alice)
    with pytest.raises(ClientError):
        theirs.delete_user(UserName="eve")
    with pytest.raises(ClientError):
        theirs.list_users()
    with pytest.raises(ClientError):
        objects.put_object(Bucket="box", Key="k", Body=b"x")
    assert {one["UserName"] for one in iam.list_users()["Users"]} == {"alice", "eve"}


def test_a_right_that_is_given_is_there_with_the_next_request(clouds: Cloud) -> None:
    alice = clouds.user("alice")
    theirs = clouds.client("iam", alice, gateway=1)
    with pytest.raises(ClientError, match="not authorized"):
        theirs.list_users()
    clouds.client("iam").put_user_policy(
        UserName="alice", PolicyName="own", PolicyDocument=statement("Allow", "iam:ListUsers")
    )
    theirs.list_users()


def test_a_user_with_rights_to_objects_has_just_these(cloud: Cloud) -> None:
    owner = cloud.client("s3")
    owner.create_bucket(Bucket="box")
    owner.put_object(Bucket="box", Key="open/k", Body=b"x")
    owner.put_object(Bucket="box", Key="k", Body=b"x")
    reads = statement("Allow", "s3:GetObject", "arn:aws:s3:::box/open/*")
    theirs = cloud.client("s3", cloud.user("alice", policy=reads))
    assert theirs.get_object(Bucket="box", Key="open/k")["Body"].read() == b"x"
    for call, arguments in (
        (theirs.get_object, {"Key": "k"}),
        (theirs.put_object, {"Key": "open/k", "Body": b"y"}),
        (theirs.list_objects_v2, {}),
    ):
        with pytest.raises(ClientError) as failure:
            call(Bucket="box", **arguments)
        assert code_of(failure.value) == ("AccessDenied", 403)


# --- sessions -------------------------------------------------------------------------------------


def assumed(cloud: Cloud, who: Keys, role: str = "job", **more: Any) -> Keys:
    sts = cloud.client("sts", who)
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:role/{role}"
    return credentials_of(sts.assume_role(RoleArn=arn, RoleSessionName="night", **more))


def with_role(cloud: Cloud, policy: str) -> Keys:
    """Alice, who may take on the role `job`, which has this policy."""
    alice = cloud.user("alice")
    iam = cloud.client("iam")
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
    iam.create_role(RoleName="job", AssumeRolePolicyDocument=trust(arn))
    iam.put_role_policy(RoleName="job", PolicyName="own", PolicyDocument=policy)
    return alice


def test_a_role_is_taken_on_by_whom_it_trusts(cloud: Cloud) -> None:
    alice = with_role(cloud, statement("Allow", "iam:ListUsers"))
    session = assumed(cloud, alice)
    who = cloud.client("sts", session).get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{ROOT_ACCOUNT}:assumed-role/job/night"
    cloud.client("iam", session).list_users()
    with pytest.raises(ClientError, match="not authorized"):
        cloud.client("iam", session).list_groups()
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        assumed(cloud, cloud.user("bob", policy=statement("Allow", "s3:*")))
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        assumed(cloud, alice, "none")


def test_who_trusts_the_account_leaves_it_to_the_accounts_policies(cloud: Cloud) -> None:
    cloud.client("iam").create_role(
        RoleName="job", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{ROOT_ACCOUNT}:root")
    )
    with pytest.raises(ClientError, match="not authorized"):
        assumed(cloud, cloud.user("bob"))
    assumed(cloud, cloud.user("alice", policy=statement("Allow", "sts:AssumeRole")))


def test_an_external_id_is_asked_for(cloud: Cloud) -> None:
    document = json.loads(trust(f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"))
    document["Statement"][0]["Condition"] = {"StringEquals": {"sts:ExternalId": "42"}}
    alice = cloud.user("alice")
    cloud.client("iam").create_role(RoleName="job", AssumeRolePolicyDocument=json.dumps(document))
    with pytest.raises(ClientError, match="not authorized"):
        assumed(cloud, alice)
    assumed(cloud, alice, ExternalId="42")


def test_a_session_policy_bounds_the_session(cloud: Cloud) -> None:
    alice = with_role(cloud, statement("Allow", "iam:*"))
    session = assumed(cloud, alice, Policy=statement("Allow", ["iam:List*", "s3:*"]))
    iam = cloud.client("iam", session)
    iam.list_users()
    with pytest.raises(ClientError, match="not authorized"):
        iam.create_user(UserName="eve")
    with pytest.raises(ClientError, match="Denied"):
        cloud.client("s3", session).list_buckets()


def test_a_role_in_another_account_is_taken_on_with_both_sides_consent(cloud: Cloud) -> None:
    tenant = cloud.account("tenant")
    account = cloud.client("sts", tenant).get_caller_identity()["Account"]
    iam = cloud.client("iam", tenant)
    iam.create_role(
        RoleName="job", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice")
    )
    arn = f"arn:aws:iam::{account}:role/job"
    alice = cloud.user("alice")
    sts = cloud.client("sts", alice)
    with pytest.raises(ClientError, match="not authorized"):
        sts.assume_role(RoleArn=arn, RoleSessionName="night")
    cloud.client("iam").put_user_policy(
        UserName="alice", PolicyName="a", PolicyDocument=statement("Allow", "sts:AssumeRole", arn)
    )
    session = credentials_of(sts.assume_role(RoleArn=arn, RoleSessionName="night"))
    assert cloud.client("sts", session).get_caller_identity()["Account"] == account


def test_a_users_own_session_may_do_what_the_user_may_but_for_iam(cloud: Cloud) -> None:
    alice = cloud.user("alice", policy=statement("Allow", ["s3:*", "iam:*"]))
    session = credentials_of(cloud.client("sts", alice).get_session_token())
    who = cloud.client("sts", session).get_caller_identity()
    assert who["Arn"] == f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
    cloud.client("s3", session).create_bucket(Bucket="box")
    with pytest.raises(ClientError, match="temporary credentials"):
        cloud.client("iam", session).list_users()
    with pytest.raises(ClientError, match="session credentials"):
        cloud.client("sts", session).get_session_token()


def test_sessions_end(cloud: Cloud) -> None:
    alice = with_role(cloud, statement("Allow", "s3:*"))
    session = assumed(cloud, alice, DurationSeconds=900)
    cloud.client("s3", session).create_bucket(Bucket="box")
    cloud.clock.offset_s = 901
    status, answer = cloud.call("sts", "GetCallerIdentity", session)
    assert (status, answer["Code"]) == (403, "ExpiredToken")


@pytest.mark.parametrize("how", ["time", "role", "policy", "trust"])
def test_sessions_of_a_role_are_revoked(clouds: Cloud, how: str) -> None:
    alice = with_role(clouds, statement("Allow", "s3:*"))
    session = assumed(clouds, alice)
    objects = clouds.client("s3", session, gateway=1)
    objects.create_bucket(Bucket="box")
    iam = clouds.client("iam")
    if how == "time":
        assert clouds.call("iam", "RevokeSessions", RoleName="job")[0] == 200
    elif how == "role":
        iam.delete_role_policy(RoleName="job", PolicyName="own")
        iam.delete_role(RoleName="job")
    elif how == "policy":
        iam.delete_role_policy(RoleName="job", PolicyName="own")
    else:  # who has taken it on before goes on, as with AWS
        iam.update_assume_role_policy(RoleName="job", PolicyDocument=trust(SOMEBODY))
        objects.create_bucket(Bucket="crate")
        return
    with pytest.raises(ClientError):
        objects.create_bucket(Bucket="crate")


def test_a_user_that_is_made_anew_has_nothing_of_the_one_before(cloud: Cloud) -> None:
    alice = cloud.user("alice", policy=statement("Allow", "s3:*"))
    session = credentials_of(cloud.client("sts", alice).get_session_token())
    cloud.client("s3", session).create_bucket(Bucket="box")
    iam = cloud.client("iam")
    iam.delete_access_key(UserName="alice", AccessKeyId=alice.id)
    iam.delete_user_policy(UserName="alice", PolicyName="own")
    iam.delete_user(UserName="alice")
    cloud.user("alice", policy=statement("Allow", "s3:*"))
    for old in (session, alice):
        with pytest.raises(ClientError):
            cloud.client("s3", old).create_bucket(Bucket="crate")


def test_no_change_that_begins_after_a_right_was_revoked_is_made(clouds: Cloud) -> None:
    """Through another gateway, with changes under way all the time."""
    alice = clouds.user("alice", policy=statement("Allow", "iam:*"))
    theirs = [clouds.client("iam", alice, gateway=1) for _ in range(4)]
    begun, made, stop = [0.0] * 4, [0.0] * 4, threading.Event()

    def change(number: int) -> None:
        while not stop.is_set():
            at = time.monotonic()
            try:
                theirs[number].tag_user(UserName="alice", Tags=[{"Key": "k", "Value": str(at)}])
                made[number] = at
            except ClientError:
                begun[number] = at

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(change, number) for number in range(4)]
        eventually(lambda: all(made), within_s=30, what="changes")
        clouds.client("iam").delete_user_policy(UserName="alice", PolicyName="own")
        revoked = time.monotonic()
        eventually(lambda: all(one > revoked for one in begun), within_s=30, what="refusals")
        stop.set()
        for one in work:
            one.result()
    assert max(made) < revoked


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_presigned_url_of_a_session_works_until_the_session_ends(
    cloud: Cloud, version: str
) -> None:
    alice = cloud.user("alice", policy=statement("Allow", "s3:*"))
    session = credentials_of(cloud.client("sts", alice).get_session_token(DurationSeconds=900))
    objects = cloud.client("s3", session)
    objects.create_bucket(Bucket="box")
    objects.put_object(Bucket="box", Key="k", Body=b"x")
    signer = cloud.client("s3", session, signature_version=version)
    url = signer.generate_presigned_url("get_object", {"Bucket": "box", "Key": "k"}, ExpiresIn=3600)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"x"
    cloud.clock.offset_s = 901
    with pytest.raises(urllib.error.HTTPError) as failure:
        urllib.request.urlopen(url)
    with failure.value as answer:
        assert answer.code == 400
        assert b"<Code>ExpiredToken</Code>" in answer.read()


def test_what_nobody_can_have_here_is_empty_or_not_found(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="alice")
    assert iam.list_mfa_devices(UserName="alice")["MFADevices"] == []
    assert iam.list_account_aliases()["AccountAliases"] == []
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_login_profile(UserName="alice")

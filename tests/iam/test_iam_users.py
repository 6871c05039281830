"""Users, groups, roles, keys and policies by boto3: made, found, and refused as AWS does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.iamserver import LIMITED, ROOT_ACCOUNT, Cloud, code_of

READ = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Read", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
        ],
    }
)
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ROOT_ACCOUNT}:root"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as failure:
        call(**arguments)
    return code_of(failure.value)


def test_a_user_is_made_found_renamed_listed_and_deleted(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    made = iam.create_user(UserName="alice", Path="/staff/", Tags=[{"Key": "team", "Value": "a"}])
    assert made["User"]["Arn"] == f"arn:aws:iam::{ROOT_ACCOUNT}:user/staff/alice"
    assert iam.get_user(UserName="ALICE")["User"]["UserId"] == made["User"]["UserId"]
    assert refused(iam.create_user, UserName="Alice") == ("EntityAlreadyExists", 409)
    iam.update_user(UserName="alice", NewUserName="eve", NewPath="/")
    assert refused(iam.get_user, UserName="alice") == ("NoSuchEntity", 404)
    found = iam.get_user(UserName="eve")["User"]
    assert found["UserId"] == made["User"]["UserId"]
    assert found["Tags"] == [{"Key": "team", "Value": "a"}]
    assert [one["UserName"] for one in iam.list_users()["Users"]] == ["eve"]
    iam.delete_user(UserName="eve")
    assert iam.list_users()["Users"] == []


def test_the_root_is_told_who_it_is(cloud: Cloud) -> None:
    who = cloud.client("sts").get_caller_identity()
    assert (who["Arn"], who["Account"]) == (f"arn:aws:iam::{ROOT_ACCOUNT}:root", ROOT_ACCOUNT)
    assert cloud.client("iam").get_user()["User"]["Arn"] == who["Arn"]


def test_a_users_key_is_the_users(cloud: Cloud) -> None:
    alice = cloud.user("alice", path="/staff/")
    who = cloud.client("sts", alice).get_caller_identity()
    assert who["Arn"] == f"arn:aws:iam::{ROOT_ACCOUNT}:user/staff/alice"
    iam = cloud.client("iam")
    assert who["UserId"] == iam.get_user(UserName="alice")["User"]["UserId"]
    listed = iam.list_access_keys(UserName="alice")["AccessKeyMetadata"]
    assert [(one["AccessKeyId"], one["Status"]) for one in listed] == [(alice.id, "Active")]


def test_a_user_has_two_keys_at_most(cloud: Cloud) -> None:
    cloud.user("alice")
    cloud.key("alice")
    code = refused(cloud.client("iam").create_access_key, UserName="alice")
    assert code == ("LimitExceeded", 409)


def test_what_has_something_is_not_deleted(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    key = cloud.user("alice", policy=READ)
    iam.create_group(GroupName="staff")
    iam.add_user_to_group(GroupName="staff", UserName="alice")
    for gone in (
        lambda: iam.delete_access_key(UserName="alice", AccessKeyId=key.id),
        lambda: iam.delete_user_policy(UserName="alice", PolicyName="own"),
        lambda: iam.remove_user_from_group(GroupName="staff", UserName="alice"),
    ):
        assert refused(iam.delete_user, UserName="alice") == ("DeleteConflict", 409)
        gone()
    iam.delete_user(UserName="alice")
    iam.delete_group(GroupName="staff")


def test_groups_have_members(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_group(GroupName="staff")
    for name in ("alice", "bob"):
        iam.create_user(UserName=name)
        iam.add_user_to_group(GroupName="staff", UserName=name)
    members = iam.get_group(GroupName="staff")["Users"]
    assert {one["UserName"] for one in members} == {"alice", "bob"}
    groups = iam.list_groups_for_user(UserName="bob")["Groups"]
    assert [one["GroupName"] for one in groups] == ["staff"]
    assert refused(iam.delete_group, GroupName="staff") == ("DeleteConflict", 409)
    iam.remove_user_from_group(GroupName="staff", UserName="bob")
    assert iam.list_groups_for_user(UserName="bob")["Groups"] == []


def test_inline_policies_come_back_as_they_were_put(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="alice")
    iam.put_user_policy(UserName="alice", PolicyName="read", PolicyDocument=READ)
    assert iam.list_user_policies(UserName="alice")["PolicyNames"] == ["read"]
    found = iam.get_user_policy(UserName="alice", PolicyName="read")
    assert found["PolicyDocument"] == json.loads(READ)
    iam.delete_user_policy(UserName="alice", PolicyName="read")
    code = refused(iam.get_user_policy, UserName="alice", PolicyName="read")
    assert code == ("NoSuchEntity", 404)


@pytest.mark.parametrize("text", ["{", "[]", '{"Statement": []}', READ.replace("Allow", "Maybe")])
def test_what_is_no_policy_is_refused_with_why(cloud: Cloud, text: str) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="alice")
    code = refused(iam.put_user_policy, UserName="alice", PolicyName="p", PolicyDocument=text)
    assert code == ("MalformedPolicyDocument", 400)
    assert iam.list_user_policies(UserName="alice")["PolicyNames"] == []


def test_inline_policies_have_a_size_together(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="alice")
    large = READ.replace('"*"', json.dumps([f"arn:aws:s3:::b/{n}" for n in range(80)]))
    iam.put_user_policy(UserName="alice", PolicyName="a", PolicyDocument=large)
    arguments = {"UserName": "alice", "PolicyName": "b", "PolicyDocument": large}
    assert refused(iam.put_user_policy, **arguments) == ("LimitExceeded", 409)
    iam.put_user_policy(UserName="alice", PolicyName="a", PolicyDocument=large)


def test_managed_policies_have_versions_one_of_which_is_in_force(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    arn = iam.create_policy(PolicyName="read", PolicyDocument=READ)["Policy"]["Arn"]
    write = READ.replace("GetObject", "PutObject")
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=write, SetAsDefault=True)
    assert made["PolicyVersion"]["VersionId"] == "v2"
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
    found = iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]
    assert (found["Document"], found["IsDefaultVersion"]) == (json.loads(write), True)
    assert refused(iam.delete_policy, PolicyArn=arn) == ("DeleteConflict", 409)
    code = refused(iam.delete_policy_version, PolicyArn=arn, VersionId="v2")
    assert code == ("DeleteConflict", 409)
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    for _ in range(4):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=READ)
    code = refused(iam.create_policy_version, PolicyArn=arn, PolicyDocument=READ)
    assert code == ("LimitExceeded", 409)
    listed = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [one["VersionId"] for one in listed] == ["v6", "v5", "v4", "v3", "v1"]


def test_managed_policies_are_attached_to_users_groups_and_roles(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    arn = iam.create_policy(PolicyName="read", PolicyDocument=READ)["Policy"]["Arn"]
    iam.create_user(UserName="alice")
    iam.create_group(GroupName="staff")
    iam.create_role(RoleName="job", AssumeRolePolicyDocument=TRUST)
    iam.attach_user_policy(UserName="alice", PolicyArn=arn)
    iam.attach_group_policy(GroupName="staff", PolicyArn=arn)
    iam.attach_role_policy(RoleName="job", PolicyArn=arn)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 3
    held = iam.list_entities_for_policy(PolicyArn=arn)
    assert held["PolicyUsers"][0]["UserName"] == "alice"
    assert held["PolicyGroups"][0]["GroupName"] == "staff"
    assert held["PolicyRoles"][0]["RoleName"] == "job"
    assert refused(iam.delete_policy, PolicyArn=arn) == ("DeleteConflict", 409)
    for detach, name in (
        (iam.detach_user_policy, {"UserName": "alice"}),
        (iam.detach_group_policy, {"GroupName": "staff"}),
        (iam.detach_role_policy, {"RoleName": "job"}),
    ):
        detach(PolicyArn=arn, **name)
        assert refused(detach, PolicyArn=arn, **name) == ("NoSuchEntity", 404)
    iam.delete_policy(PolicyArn=arn)


def test_those_that_aws_manages_can_be_attached_and_not_changed(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="alice")
    arn = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
    iam.attach_user_policy(UserName="alice", PolicyArn=arn)
    attached = iam.list_attached_user_policies(UserName="alice")["AttachedPolicies"]
    assert attached == [{"PolicyName": "AmazonS3FullAccess", "PolicyArn": arn}]
    assert iam.get_policy(PolicyArn=arn)["Policy"]["PolicyName"] == "AmazonS3FullAccess"
    assert refused(iam.delete_policy, PolicyArn=arn) == ("AccessDenied", 403)
    unknown = "arn:aws:iam::aws:policy/Unknown"
    code = refused(iam.attach_user_policy, UserName="alice", PolicyArn=unknown)
    assert code == ("NoSuchEntity", 404)


def test_roles_have_what_terraform_asks_for(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_role(
        *(),
        RoleName="job",
        AssumeRolePolicyDocument=TRUST,
        Description="of the night",
        MaxSessionDuration=7200,
        Tags=[{"Key": "k", "Value": "v"}],
    )
    role = iam.get_role(RoleName="job")["Role"]
    assert role["AssumeRolePolicyDocument"] == json.loads(TRUST)
    assert (role["Description"], role["MaxSessionDuration"]) == ("of the night", 7200)
    assert role["Tags"] == [{"Key": "k", "Value": "v"}]
    assert iam.list_role_policies(RoleName="job")["PolicyNames"] == []
    assert iam.list_attached_role_policies(RoleName="job")["AttachedPolicies"] == []
    assert iam.list_instance_profiles_for_role(RoleName="job")["InstanceProfiles"] == []
    iam.update_role(RoleName="job", Description="", MaxSessionDuration=3600)
    assert "Description" not in iam.get_role(RoleName="job")["Role"]
    iam.tag_role(RoleName="job", Tags=[{"Key": "K", "Value": "w"}])
    assert iam.list_role_tags(RoleName="job")["Tags"] == [{"Key": "K", "Value": "w"}]
    iam.untag_role(RoleName="job", TagKeys=["k"])
    assert iam.list_role_tags(RoleName="job")["Tags"] == []
    iam.delete_role(RoleName="job")


def test_listings_have_pages_and_a_path_prefix(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    names = [f"user{number:02}" for number in range(13)]
    for number, name in enumerate(names):
        iam.create_user(UserName=name, Path="/even/" if number % 2 == 0 else "/")
    pages = iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 5})
    found = [[one["UserName"] for one in page["Users"]] for page in pages]
    assert [len(page) for page in found] == [5, 5, 3]
    assert [name for page in found for name in page] == names
    even = iam.list_users(PathPrefix="/even/")["Users"]
    assert [one["UserName"] for one in even] == names[::2]


def test_a_boundary_is_a_policy_that_is_there(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    arn = iam.create_policy(PolicyName="read", PolicyDocument=READ)["Policy"]["Arn"]
    iam.create_user(UserName="alice", PermissionsBoundary=arn)
    bounded = iam.get_user(UserName="alice")["User"]["PermissionsBoundary"]
    assert bounded["PermissionsBoundaryArn"] == arn
    assert refused(iam.delete_policy, PolicyArn=arn) == ("DeleteConflict", 409)
    iam.delete_user_permissions_boundary(UserName="alice")
    assert "PermissionsBoundary" not in iam.get_user(UserName="alice")["User"]
    iam.delete_policy(PolicyArn=arn)
    code = refused(iam.put_user_permissions_boundary, UserName="alice", PermissionsBoundary=arn)
    assert code == ("NoSuchEntity", 404)


def test_a_keys_last_use_is_told(cloud: Cloud) -> None:
    alice, iam = cloud.user("alice"), cloud.client("iam")
    unused = iam.get_access_key_last_used(AccessKeyId=alice.id)["AccessKeyLastUsed"]
    assert unused["ServiceName"] == "N/A"
    cloud.client("sts", alice).get_caller_identity()
    cloud.run(cloud.services[0].used.flush())
    used = iam.get_access_key_last_used(AccessKeyId=alice.id)
    assert used["UserName"] == "alice"
    assert used["AccessKeyLastUsed"]["ServiceName"] == "sts"


def test_a_key_of_the_file_with_a_policy_is_a_user_with_these_rights(cloud: Cloud) -> None:
    arn = cloud.client("sts", LIMITED).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:iam::{ROOT_ACCOUNT}:user/{LIMITED.id}"
    assert refused(cloud.client("iam", LIMITED).list_users) == ("AccessDenied", 403)


def test_the_operator_makes_accounts_apart_from_each_other(cloud: Cloud) -> None:
    made = cloud.account("tenant")
    who = cloud.client("sts", made).get_caller_identity()
    assert who["Arn"] == f"arn:aws:iam::{who['Account']}:root"
    tenant = cloud.client("iam", made)
    tenant.create_user(UserName="alice")
    assert cloud.client("iam").list_users()["Users"] == []
    assert refused(tenant.get_user, UserName="bob") == ("NoSuchEntity", 404)
    status, answer = cloud.call("iam", "CreateAccount", made, AccountName="another")
    assert (status, answer["Code"]) == (403, "AccessDenied")

"""Terraform: its own S3 backend, where the program is there; and the calls that its AWS provider
makes for resources of S3 and IAM, replayed. docs/clients.md says what was tried.

The provider's calls are those of its resources' create, read and delete, after its documentation
and source. A plan is clean where what it reads equals what was asked for, in the provider's form.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.access import document, only, user_with_role
from support.clients import refused, run
from support.processes import S3d, development

pytestmark = pytest.mark.e2e
BUCKET, LOCKED = "tf-shelf", "tf-locked"
TAGS = [{"Key": "team", "Value": "maps"}, {"Key": "env", "Value": "test"}]
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3d]:
    with development(tmp_path_factory.mktemp("terraform")) as running:
        yield running


# --- the AWS provider, replayed ---------------------------------------------------------------


@dataclass(frozen=True)
class Clients:
    s3: BaseClient
    iam: BaseClient
    control: BaseClient
    account: str

    def of_bucket(self, bucket: str) -> dict[str, str]:
        return {"AccountId": self.account, "ResourceArn": f"arn:aws:s3:::{bucket}"}

    def arn(self, what: str) -> str:
        return f"arn:aws:iam::{self.account}:{what}"


@dataclass(frozen=True)
class Resource:
    """`wanted`: what a read of it comes to. `gone`: the code by which the provider knows that it is
    not there; "": it always is."""

    name: str
    create: Callable[[], object]
    read: Callable[[], object]
    wanted: object
    delete: Callable[[], object]
    gone: str


def clients_of(server: S3d) -> Clients:
    account = server.client("sts").get_caller_identity()["Account"]
    control = server.client("s3control")

    def at_the_host(request: Any, **_: Any) -> None:
        request.url = request.url.replace(f"//{account}.", "//")  # an address has no subdomain

    control.meta.events.register("before-sign.s3-control", at_the_host)
    return Clients(server.client(), server.client("iam", attempts=8), control, account)


def tagged(told: list[dict[str, str]]) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in told}


ABSENT = {
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_website": "NoSuchWebsiteConfiguration",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_replication": "ReplicationConfigurationNotFoundError",
    "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
}


def read_bucket(c: Clients, bucket: str) -> dict[str, Any]:
    """As aws_s3_bucket reads a bucket: all that one may have."""
    where = {"Bucket": bucket}
    state: dict[str, Any] = {"region": c.s3.head_bucket(**where)["BucketRegion"]}
    for call, code in ABSENT.items():
        try:
            state[call] = getattr(c.s3, call)(**where) is not None
        except ClientError as error:
            assert error.response["Error"]["Code"] == code
    state["versioning"] = c.s3.get_bucket_versioning(**where).get("Status")
    state["acceleration"] = c.s3.get_bucket_accelerate_configuration(**where).get("Status")
    state["payer"] = c.s3.get_bucket_request_payment(**where)["Payer"]
    state["logging"] = c.s3.get_bucket_logging(**where).get("LoggingEnabled")
    assert c.s3.get_bucket_acl(**where)["Grants"]
    state["tags"] = tagged(c.control.list_tags_for_resource(**c.of_bucket(bucket))["Tags"])
    return {name: value for name, value in state.items() if value is not None}


def buckets(c: Clients) -> list[Resource]:
    def create_locked() -> None:
        c.s3.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        c.control.tag_resource(**c.of_bucket(LOCKED), Tags=TAGS)

    plain = {"region": "us-east-1", "payer": "BucketOwner", "tags": tagged(TAGS)}
    return [
        Resource(
            "aws_s3_bucket, with tags",
            lambda: c.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"Tags": TAGS}),
            lambda: read_bucket(c, BUCKET),
            plain,
            lambda: c.s3.delete_bucket(Bucket=BUCKET),
            "404",
        ),
        Resource(
            "aws_s3_bucket, with object lock",
            create_locked,
            lambda: read_bucket(c, LOCKED),
            {**plain, "versioning": "Enabled", "get_object_lock_configuration": True},
            lambda: c.s3.delete_bucket(Bucket=LOCKED),
            "404",
        ),
    ]


def bucket_settings(c: Clients) -> list[Resource]:
    s3, where = c.s3, {"Bucket": BUCKET}
    block = {
        "BlockPublicAcls": False, "IgnorePublicAcls": True,
        "BlockPublicPolicy": True, "RestrictPublicBuckets": False,
    }  # fmt: skip
    rules = [
        {
            "ID": "first", "AllowedHeaders": ["*"], "AllowedMethods": ["PUT", "POST"],
            "AllowedOrigins": ["https://a.example"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 30,
        },
        {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]},
    ]  # fmt: skip
    policy = document(
        {
            "Sid": "Readers", "Effect": "Allow", "Action": ["s3:GetObject"],
            "Principal": {"AWS": f"arn:aws:iam::{c.account}:root"},
            "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
            "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}},
        }
    )  # fmt: skip
    owner = s3.get_bucket_acl(**where)["Owner"]["ID"]
    grants = [
        {"Grantee": {"ID": owner, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"},
        {"Grantee": {"URI": ALL_USERS, "Type": "Group"}, "Permission": "READ"},
    ]

    def read_acl() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = s3.get_bucket_acl(**where)["Grants"]
        for one in told:
            one["Grantee"].pop("DisplayName", None)  # computed
        return told

    ownership = {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    lock = {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 5}},
    }
    return [
        Resource(
            "aws_s3_bucket_versioning",
            lambda: s3.put_bucket_versioning(
                **where, VersioningConfiguration={"Status": "Enabled"}
            ),
            lambda: s3.get_bucket_versioning(**where)["Status"],
            "Enabled",
            lambda: s3.put_bucket_versioning(
                **where, VersioningConfiguration={"Status": "Suspended"}
            ),
            "",
        ),
        Resource(
            "aws_s3_bucket_ownership_controls",
            lambda: s3.put_bucket_ownership_controls(**where, OwnershipControls=ownership),
            lambda: s3.get_bucket_ownership_controls(**where)["OwnershipControls"],
            ownership,
            lambda: s3.delete_bucket_ownership_controls(**where),
            "OwnershipControlsNotFoundError",
        ),
        Resource(
            "aws_s3_bucket_public_access_block",
            lambda: s3.put_public_access_block(**where, PublicAccessBlockConfiguration=block),
            lambda: s3.get_public_access_block(**where)["PublicAccessBlockConfiguration"],
            block,
            lambda: s3.delete_public_access_block(**where),
            "NoSuchPublicAccessBlockConfiguration",
        ),
        Resource(
            "aws_s3_bucket_acl",
            lambda: s3.put_bucket_acl(
                **where, AccessControlPolicy={"Grants": grants, "Owner": {"ID": owner}}
            ),
            read_acl,
            grants,
            lambda: None,  # the provider leaves it
            "",
        ),
        Resource(
            "aws_s3_bucket_cors_configuration",
            lambda: s3.put_bucket_cors(**where, CORSConfiguration={"CORSRules": rules}),
            lambda: s3.get_bucket_cors(**where)["CORSRules"],
            rules,
            lambda: s3.delete_bucket_cors(**where),
            "NoSuchCORSConfiguration",
        ),
        Resource(
            "aws_s3_bucket_policy",
            lambda: s3.put_bucket_policy(**where, Policy=policy),
            lambda: json.loads(s3.get_bucket_policy(**where)["Policy"]),
            json.loads(policy),
            lambda: s3.delete_bucket_policy(**where),
            "NoSuchBucketPolicy",
        ),
        Resource(
            "aws_s3_bucket_object_lock_configuration",
            lambda: s3.put_object_lock_configuration(Bucket=LOCKED, ObjectLockConfiguration=lock),
            lambda: s3.get_object_lock_configuration(Bucket=LOCKED)["ObjectLockConfiguration"],
            lock,
            lambda: s3.put_object_lock_configuration(
                Bucket=LOCKED, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
            ),
            "",
        ),
        Resource(
            "aws_s3_account_public_access_block",
            lambda: c.control.put_public_access_block(
                AccountId=c.account, PublicAccessBlockConfiguration=block
            ),
            lambda: c.control.get_public_access_block(AccountId=c.account)[
                "PublicAccessBlockConfiguration"
            ],
            block,
            lambda: c.control.delete_public_access_block(AccountId=c.account),
            "NoSuchPublicAccessBlockConfiguration",
        ),
    ]  # fmt: skip


def entity(told: dict[str, Any], *names: str) -> dict[str, Any]:
    """What the provider keeps of a user, group, role or policy."""
    state = {name: told[name] for name in names if name in told}
    if "Tags" in told:
        state["Tags"] = tagged(told["Tags"])
    if "PermissionsBoundary" in told:
        state["boundary"] = told["PermissionsBoundary"]["PermissionsBoundaryArn"]
    return state


def policies(c: Clients) -> list[Resource]:
    iam, text, arn = c.iam, only(BUCKET), c.arn("policy/apps/shelf")
    said = {"PolicyName": "shelf", "Path": "/apps/", "Description": "Of the shelf."}

    def read() -> dict[str, Any]:
        told = iam.get_policy(PolicyArn=arn)["Policy"]
        version = iam.get_policy_version(PolicyArn=arn, VersionId=told["DefaultVersionId"])
        return {
            **entity(told, "PolicyName", "Path", "Description", "Arn"),
            "document": version["PolicyVersion"]["Document"],
        }

    def delete() -> None:
        for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            assert version["IsDefaultVersion"]
        iam.delete_policy(PolicyArn=arn)

    return [
        Resource(
            "aws_iam_policy",
            lambda: iam.create_policy(**said, PolicyDocument=text, Tags=TAGS),
            read,
            {**said, "Arn": arn, "Tags": tagged(TAGS), "document": json.loads(text)},
            delete,
            "NoSuchEntity",
        )
    ]


def users(c: Clients) -> list[Resource]:
    iam, who, arn = c.iam, {"UserName": "terry"}, c.arn("policy/apps/shelf")
    text, group = only(BUCKET, "terry/"), {"GroupName": "keepers"}
    own = {**who, "PolicyName": "own"}
    kept = {**own, "PolicyDocument": json.loads(text)}

    def remove_user() -> None:
        """With force_destroy."""
        assert iam.list_groups_for_user(**who)["Groups"] == []
        for key in iam.list_access_keys(**who)["AccessKeyMetadata"]:
            iam.delete_access_key(**who, AccessKeyId=key["AccessKeyId"])
        assert iam.list_ssh_public_keys(**who)["SSHPublicKeys"] == []
        assert iam.list_virtual_mfa_devices(AssignmentStatus="Assigned")["VirtualMFADevices"] == []
        assert iam.list_mfa_devices(**who)["MFADevices"] == []
        with pytest.raises(ClientError, match="NoSuchEntity"):
            iam.delete_login_profile(**who)
        assert iam.list_signing_certificates(**who)["Certificates"] == []
        assert iam.list_service_specific_credentials(**who)["ServiceSpecificCredentials"] == []
        iam.delete_user(**who)

    return [
        Resource(
            "aws_iam_user",
            lambda: iam.create_user(**who, Path="/apps/", Tags=TAGS, PermissionsBoundary=arn),
            lambda: entity(iam.get_user(**who)["User"], "UserName", "Path", "Arn"),
            {**who, "Path": "/apps/", "Arn": c.arn("user/apps/terry"), "Tags": tagged(TAGS),
             "boundary": arn},
            remove_user,
            "NoSuchEntity",
        ),
        Resource(
            "aws_iam_access_key",
            lambda: iam.create_access_key(**who),
            lambda: [key["Status"] for key in iam.list_access_keys(**who)["AccessKeyMetadata"]],
            ["Active"],
            lambda: None,  # with the user, by force
            "",
        ),
        Resource(
            "aws_iam_user_policy",
            lambda: iam.put_user_policy(**own, PolicyDocument=text),
            lambda: {name: iam.get_user_policy(**own)[name] for name in kept},
            kept,
            lambda: iam.delete_user_policy(**own),
            "NoSuchEntity",
        ),
        Resource(
            "aws_iam_group",
            lambda: iam.create_group(**group, Path="/"),
            lambda: entity(iam.get_group(**group)["Group"], "GroupName", "Path", "Arn"),
            {**group, "Path": "/", "Arn": c.arn("group/keepers")},
            lambda: iam.delete_group(**group),
            "NoSuchEntity",
        ),
        Resource(
            "aws_iam_user_group_membership",
            lambda: iam.add_user_to_group(**group, **who),
            lambda: [one["GroupName"] for one in iam.list_groups_for_user(**who)["Groups"]],
            ["keepers"],
            lambda: iam.remove_user_from_group(**group, **who),
            "",
        ),
        Resource(
            "aws_iam_group_policy_attachment",
            lambda: iam.attach_group_policy(**group, PolicyArn=arn),
            lambda: iam.list_attached_group_policies(**group)["AttachedPolicies"],
            [{"PolicyName": "shelf", "PolicyArn": arn}],
            lambda: iam.detach_group_policy(**group, PolicyArn=arn),
            "",
        ),
        Resource(
            "aws_iam_user_policy_attachment",
            lambda: iam.attach_user_policy(**who, PolicyArn=arn),
            lambda: iam.list_attached_user_policies(**who)["AttachedPolicies"],
            [{"PolicyName": "shelf", "PolicyArn": arn}],
            lambda: iam.detach_user_policy(**who, PolicyArn=arn),
            "",
        ),
    ]  # fmt: skip


def roles(c: Clients) -> list[Resource]:
    iam, which, arn = c.iam, {"RoleName": "job"}, c.arn("policy/apps/shelf")
    trust = document(
        {"Effect": "Allow", "Principal": {"AWS": c.arn("root")}, "Action": "sts:AssumeRole"}
    )
    said = {**which, "Path": "/apps/", "Description": "Works.", "MaxSessionDuration": 7200}
    inline = {**which, "PolicyName": "inline"}

    def read_role() -> dict[str, Any]:
        told = iam.get_role(**which)["Role"]
        iam.list_role_policies(**which)
        iam.list_attached_role_policies(**which)
        return {**entity(told, *said, "Arn"), "trust": told["AssumeRolePolicyDocument"]}

    def remove_role() -> None:
        assert iam.list_instance_profiles_for_role(**which)["InstanceProfiles"] == []
        iam.delete_role(**which)

    return [
        Resource(
            "aws_iam_role",
            lambda: iam.create_role(**said, AssumeRolePolicyDocument=trust, Tags=TAGS),
            read_role,
            {**said, "Arn": c.arn("role/apps/job"), "Tags": tagged(TAGS),
             "trust": json.loads(trust)},
            remove_role,
            "NoSuchEntity",
        ),
        Resource(
            "aws_iam_role_policy",
            lambda: iam.put_role_policy(**inline, PolicyDocument=only(BUCKET, "job/")),
            lambda: iam.get_role_policy(**inline)["PolicyDocument"],
            json.loads(only(BUCKET, "job/")),
            lambda: iam.delete_role_policy(**inline),
            "NoSuchEntity",
        ),
        Resource(
            "aws_iam_role_policy_attachment",
            lambda: iam.attach_role_policy(**which, PolicyArn=arn),
            lambda: iam.list_attached_role_policies(**which)["AttachedPolicies"],
            [{"PolicyName": "shelf", "PolicyArn": arn}],
            lambda: iam.detach_role_policy(**which, PolicyArn=arn),
            "",
        ),
    ]  # fmt: skip


def test_what_the_aws_provider_applies_is_what_it_reads_and_it_leaves_nothing(server: S3d) -> None:
    c = clients_of(server)
    made = [*buckets(c), *policies(c)]
    applied: list[Resource] = []
    for more in (lambda c: made, bucket_settings, users, roles):
        for resource in more(c):
            if resource.gone:
                assert code_of(resource.read) == resource.gone, resource.name
            resource.create()
            assert resource.read() == resource.wanted, resource.name
            applied.append(resource)
    server.stop()
    server.start()
    for resource in applied[2:]:
        assert resource.read() == resource.wanted, resource.name
    for resource in reversed(applied):
        resource.delete()
        if resource.gone:
            assert code_of(resource.read) == resource.gone, resource.name
    assert c.s3.list_buckets()["Buckets"] == []
    for listed in ("users", "groups", "roles"):
        assert getattr(c.iam, f"list_{listed}")()[listed.title()] == []
    assert c.iam.list_policies(Scope="Local")["Policies"] == []


def test_what_the_aws_provider_changes_in_place_is_what_it_reads(server: S3d) -> None:
    c = clients_of(server)
    iam, bucket = c.iam, "tf-changed"
    c.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"Tags": TAGS})
    c.control.untag_resource(**c.of_bucket(bucket), TagKeys=["env", "team"])
    c.control.tag_resource(**c.of_bucket(bucket), Tags=[{"Key": "team", "Value": "trains"}])
    assert read_bucket(c, bucket)["tags"] == {"team": "trains"}
    c.s3.delete_bucket(Bucket=bucket)

    iam.create_user(UserName="ann", Tags=TAGS)
    key = iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"]
    iam.update_user(UserName="ann", NewUserName="anna", NewPath="/moved/")
    iam.untag_user(UserName="anna", TagKeys=["env"])
    iam.tag_user(UserName="anna", Tags=[{"Key": "team", "Value": "trains"}])
    iam.update_access_key(UserName="anna", AccessKeyId=key, Status="Inactive")
    assert entity(iam.get_user(UserName="anna")["User"], "Path", "Arn") == {
        "Path": "/moved/", "Arn": c.arn("user/moved/anna"), "Tags": {"team": "trains"},
    }  # fmt: skip
    (told,) = iam.list_access_keys(UserName="anna")["AccessKeyMetadata"]
    assert (told["AccessKeyId"], told["Status"]) == (key, "Inactive")
    iam.delete_access_key(UserName="anna", AccessKeyId=key)
    iam.delete_user(UserName="anna")

    arn = iam.create_policy(PolicyName="p", PolicyDocument=only("b-0"))["Policy"]["Arn"]
    for number in range(1, 7):  # five versions are kept: the provider removes the oldest first
        versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
        if len(versions) == 5:
            others = [one for one in versions if not one["IsDefaultVersion"]]
            oldest = min(others, key=lambda one: one["CreateDate"])["VersionId"]
            iam.delete_policy_version(PolicyArn=arn, VersionId=oldest)
        text = only(f"b-{number}")
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)
        chosen = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        read = iam.get_policy_version(PolicyArn=arn, VersionId=chosen)["PolicyVersion"]
        assert read["Document"] == json.loads(text)

    role = {"RoleName": "changed"}
    trust = {"Effect": "Allow", "Principal": {"AWS": c.arn("root")}, "Action": "sts:AssumeRole"}
    iam.create_role(**role, AssumeRolePolicyDocument=document(trust), Description="Old.")
    denied = document({**trust, "Effect": "Deny"})
    iam.update_assume_role_policy(**role, PolicyDocument=denied)
    iam.update_role(**role, Description="New.", MaxSessionDuration=3600)
    iam.put_role_permissions_boundary(**role, PermissionsBoundary=arn)
    now = iam.get_role(**role)["Role"]
    assert now["AssumeRolePolicyDocument"] == json.loads(denied)
    assert entity(now, "Description") == {"Description": "New.", "boundary": arn}
    iam.delete_role_permissions_boundary(**role)
    assert "PermissionsBoundary" not in iam.get_role(**role)["Role"]
    iam.delete_role(**role)
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    iam.delete_policy(PolicyArn=arn)


def code_of(read: Callable[[], object]) -> str:
    """By which code the provider knows that something is not there."""
    with pytest.raises(ClientError) as caught:
        read()
    code: str = caught.value.response["Error"]["Code"]
    return code


# --- the program, with its state in a bucket --------------------------------------------------


def test_terraform_keeps_its_state_in_a_bucket_and_locks_it(server: S3d, tmp_path: Path) -> None:
    """With a role that it takes on, and conditional PUTs for its lock."""
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed, and no package registry has it")
    bucket = "tf-state"
    s3 = server.client(attempts=8)
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    server.client("iam", attempts=8).list_users()
    keys, arn = user_with_role(server, only(bucket, "env/", lists_all=True))
    (tmp_path / "main.tf").write_text(
        "terraform {\n"
        f'  backend "s3" {{\n    bucket = "{bucket}"\n    key = "env/test.tfstate"\n'
        '    region = "us-east-1"\n    use_path_style = true\n    use_lockfile = true\n'
        f'    endpoints = {{ s3 = "{server.endpoint}", sts = "{server.endpoint}" }}\n'
        f'    assume_role = {{ role_arn = "{arn}" }}\n'
        f'    custom_ca_bundle = "{server.ca}"\n  }}\n}}\n'
        'resource "terraform_data" "one" {\n  input = "kept"\n}\n'
        'output "told" {\n  value = terraform_data.one.output\n}\n'
    )
    environment = {
        **keys.environment(),
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "HOME": str(tmp_path),
    }

    def terraform(*words: str) -> str:
        return run(server, program, f"-chdir={tmp_path}", *words, "-no-color", **environment)

    terraform("init", "-input=false")
    terraform("apply", "-input=false", "-auto-approve")
    assert "No changes" in terraform("plan", "-input=false", "-detailed-exitcode")
    state = json.loads(s3.get_object(Bucket=bucket, Key="env/test.tfstate")["Body"].read())
    assert state["outputs"]["told"]["value"] == "kept"
    s3.put_object(Bucket=bucket, Key="env/test.tfstate.tflock", Body=b'{"ID":"another"}')
    words = ("apply", "-input=false", "-auto-approve", "-no-color")
    told = refused(server, program, f"-chdir={tmp_path}", *words, **environment)
    assert "Error acquiring the state lock" in told
    s3.delete_object(Bucket=bucket, Key="env/test.tfstate.tflock")
    terraform("destroy", "-input=false", "-auto-approve")

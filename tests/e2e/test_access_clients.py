"""Clients with keys of their own: users whose policies end at a prefix, roles that a profile or a
token takes on, session tokens, over TLS. docs/clients.md has the versions that were tried."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from support.access import (
    Cli,
    document,
    fetched,
    only,
    role,
    session,
    user,
    user_with_role,
)
from support.clients import Restic, refused, run
from support.idp import AUDIENCE, Idp, idp
from support.processes import Keys, S3d, development

pytestmark = pytest.mark.e2e
MC = Path(sys.prefix) / "go" / "mc"  # where the Makefile puts it, where there is Go
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def provider() -> Iterator[Idp]:
    with idp() as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: Idp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3d]:
    trusted = f'[[oidc]]\nissuer = "{provider.url}"\naudiences = ["{AUDIENCE}"]\n'
    with development(tmp_path_factory.mktemp("access"), extra=trusted) as running:
        iam = running.client("iam", attempts=8)  # a member says its level soon after the start
        iam.create_user(UserName="first")
        yield running


@pytest.fixture
def bucket(server: S3d) -> str:
    name = f"shared-{next(_NUMBERS)}"
    server.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def account(server: S3d) -> str:
    return str(server.client("sts").get_caller_identity()["Account"])


# --- AWS CLI ----------------------------------------------------------------------------------


def test_aws_iam_makes_lists_changes_and_removes_a_user(server: S3d, account: str) -> None:
    aws = Cli(server)
    made = aws("iam", "create-user", "--user-name", "carol", "--tags", "Key=team,Value=maps")
    assert made["User"]["Arn"] == f"arn:aws:iam::{account}:user/carol"
    assert aws("iam", "list-user-tags", "--user-name", "carol")["Tags"] == [
        {"Key": "team", "Value": "maps"}
    ]
    key = aws("iam", "create-access-key", "--user-name", "carol")["AccessKey"]
    keys = Keys(key["AccessKeyId"], key["SecretAccessKey"])
    carol = Cli(server, **keys.environment())
    assert carol("sts", "get-caller-identity") == {
        "UserId": made["User"]["UserId"],
        "Account": account,
        "Arn": made["User"]["Arn"],
    }
    carol.refused("AccessDenied", "iam", "list-users")
    used = aws("iam", "get-access-key-last-used", "--access-key-id", keys.id)
    assert used["UserName"] == "carol"

    own = ("--user-name", "carol", "--policy-name", "own")
    policy = document({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"})
    aws("iam", "put-user-policy", *own, "--policy-document", policy)
    assert aws("iam", "get-user-policy", *own)["PolicyDocument"] == json.loads(policy)
    carol("s3", "ls")
    aws("iam", "delete-user-policy", *own)
    carol.refused("AccessDenied", "s3", "ls")

    change = ("--user-name", "carol", "--access-key-id", keys.id)
    aws("iam", "update-access-key", *change, "--status", "Inactive")
    carol.refused("InvalidClientTokenId", "sts", "get-caller-identity")
    (listed,) = aws("iam", "list-access-keys", "--user-name", "carol")["AccessKeyMetadata"]
    assert listed["Status"] == "Inactive"
    aws.refused("DeleteConflict", "iam", "delete-user", "--user-name", "carol")
    aws("iam", "delete-access-key", *change)
    aws("iam", "delete-user", "--user-name", "carol")
    aws.refused("NoSuchEntity", "iam", "get-user", "--user-name", "carol")


def test_aws_iam_groups_and_managed_policies_count_for_members(server: S3d, bucket: str) -> None:
    aws = Cli(server)
    name, keys = user(server, document({"Effect": "Deny", "Action": "iam:*", "Resource": "*"}))
    member = Cli(server, **keys.environment())
    policy = aws(
        *("iam", "create-policy", "--policy-name", "shelf", "--policy-document", only(bucket))
    )["Policy"]
    group, arn = ("--group-name", "readers"), ("--policy-arn", policy["Arn"])
    aws("iam", "create-group", *group)
    aws("iam", "add-user-to-group", *group, "--user-name", name)
    aws("iam", "attach-group-policy", *group, *arn)
    (attached,) = aws("iam", "list-attached-group-policies", *group)["AttachedPolicies"]
    assert attached == {"PolicyName": "shelf", "PolicyArn": policy["Arn"]}
    assert [one["GroupName"] for one in aws("iam", "list-groups-for-user", "--user-name", name)[
        "Groups"]] == ["readers"]  # fmt: skip
    member("s3", "ls", f"s3://{bucket}")

    elsewhere = only("another")
    aws("iam", "create-policy-version", *arn, "--policy-document", elsewhere, "--set-as-default")
    member.refused("AccessDenied", "s3", "ls", f"s3://{bucket}")
    versions = aws("iam", "list-policy-versions", *arn)["Versions"]
    assert [(one["VersionId"], one["IsDefaultVersion"]) for one in versions] == [
        ("v2", True),
        ("v1", False),
    ]
    read = aws("iam", "get-policy-version", *arn, "--version-id", "v2")["PolicyVersion"]
    assert read["Document"] == json.loads(elsewhere)
    aws("iam", "set-default-policy-version", *arn, "--version-id", "v1")
    member("s3", "ls", f"s3://{bucket}")
    aws("iam", "remove-user-from-group", *group, "--user-name", name)
    member.refused("AccessDenied", "s3", "ls", f"s3://{bucket}")
    simulated = aws(
        *("iam", "simulate-principal-policy", "--action-names", "s3:ListBucket"),
        *("--policy-source-arn", f"arn:aws:iam::{policy['Arn'].split(':')[4]}:user/{name}"),
    )["EvaluationResults"]
    assert simulated[0]["EvalDecision"] == "implicitDeny"


def test_aws_sts_sessions_and_roles(server: S3d, bucket: str, account: str) -> None:
    keys, arn = user_with_role(server, only(bucket))
    aws = Cli(server, **keys.environment())
    taken = aws("sts", "assume-role", "--role-arn", arn, "--role-session-name", "night")
    assumed = f"arn:aws:sts::{account}:assumed-role/{arn.rpartition('/')[2]}/night"
    assert taken["AssumedRoleUser"]["Arn"] == assumed
    made = taken["Credentials"]
    told = Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    night = Cli(server, **told.environment())
    assert night("sts", "get-caller-identity")["Arn"] == assumed
    night("s3", "ls", f"s3://{bucket}")

    short = aws("sts", "get-session-token", "--duration-seconds", "900")["Credentials"]
    own = Keys(short["AccessKeyId"], short["SecretAccessKey"], short["SessionToken"])
    mine = Cli(server, **own.environment())
    assert f"{account}:user/" in mine("sts", "get-caller-identity")["Arn"]
    forged = Cli(server, **own._replace(token=own.token[:-4] + "AAAA").environment())
    forged.refused("InvalidClientTokenId", "sts", "get-caller-identity")
    stranger = user(server, only(bucket))[1]
    Cli(server, **stranger.environment()).refused(
        *("AccessDenied", "sts", "assume-role", "--role-arn", arn, "--role-session-name", "day")
    )


def profiles(folder: Path, server: S3d, keys: Keys, arn: str) -> dict[str, str]:
    """A person's ~/.aws, with a profile `job` that takes on a role by the keys of `person`."""
    credentials, config = folder / "credentials", folder / "config"
    credentials.write_text(
        f"[person]\naws_access_key_id = {keys.id}\naws_secret_access_key = {keys.secret}\n"
    )
    config.write_text(
        f"[profile person]\nregion = us-east-1\nendpoint_url = {server.endpoint}\n"
        f"[profile job]\nregion = us-east-1\nendpoint_url = {server.endpoint}\n"
        f"role_arn = {arn}\nsource_profile = person\nduration_seconds = 900\n"
    )
    return {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_CA_BUNDLE": str(server.ca),
        "HOME": str(folder),  # the CLI keeps sessions there
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_a_profile_takes_on_a_role(
    server: S3d, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, arn = user_with_role(server, only(bucket, "jobs/"))
    environment = profiles(tmp_path, server, keys, arn)
    none = dict.fromkeys(keys.environment(), "")
    aws = Cli(server, **environment, **none, AWS_PROFILE="job")
    (tmp_path / "report").write_text("done")
    aws("s3", "cp", str(tmp_path / "report"), f"s3://{bucket}/jobs/report", "--no-progress")
    aws.refused("AccessDenied", "s3", "cp", str(tmp_path / "report"), f"s3://{bucket}/report")
    assert ":assumed-role/" in aws("sts", "get-caller-identity")["Arn"]

    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    for variable in none:
        monkeypatch.delenv(variable, raising=False)
    job = boto3.Session(profile_name="job").client("s3", config=PATH_STYLE)
    assert job.get_object(Bucket=bucket, Key="jobs/report")["Body"].read() == b"done"
    with pytest.raises(ClientError, match="AccessDenied"):
        job.list_objects_v2(Bucket=bucket)
    job.close()
    person = boto3.Session(profile_name="person").client("s3", config=PATH_STYLE)
    with pytest.raises(ClientError, match="AccessDenied"):
        person.get_object(Bucket=bucket, Key="jobs/report")
    person.close()


PATH_STYLE = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})


# --- tokens of an identity provider -----------------------------------------------------------


def test_boto3_and_the_cli_take_on_a_role_by_a_token_in_a_file(
    server: S3d, provider: Idp, bucket: str, account: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    host = provider.host.partition(":")[0]
    arn = role(
        server,
        {"Federated": f"arn:aws:iam::{account}:oidc-provider/{provider.host}"},
        only(bucket, "pods/"),
        Condition={"StringEquals": {f"{host}:sub": "alice", f"{host}:aud": AUDIENCE}},
    )
    file = tmp_path / "token"
    file.write_text(provider.token())
    environment = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
        "AWS_ROLE_ARN": arn,
        "AWS_ROLE_SESSION_NAME": "pod-7",
        "AWS_ENDPOINT_URL_STS": server.endpoint,
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_CA_BUNDLE": str(server.ca),
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    none = dict.fromkeys(Keys("", "").environment(), "")
    aws = Cli(server, **environment, **none)
    assert aws("sts", "get-caller-identity")["Arn"].endswith("/pod-7")
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    for variable in none:
        monkeypatch.delenv(variable, raising=False)
    pod = boto3.Session().client("s3", config=PATH_STYLE)
    pod.put_object(Bucket=bucket, Key="pods/7", Body=b"up")
    assert pod.get_object(Bucket=bucket, Key="pods/7")["Body"].read() == b"up"
    with pytest.raises(ClientError, match="AccessDenied"):
        pod.put_object(Bucket=bucket, Key="other/7", Body=b"up")
    pod.close()
    for token, code in (
        (provider.token(sub="mallory"), "AccessDenied"),
        (provider.token(exp=1), "ExpiredToken"),
        (provider.token(aud="another"), "InvalidIdentityToken"),
    ):
        file.write_text(token)
        aws.refused(code, "sts", "get-caller-identity")


# --- rclone, restic, s3cmd, mc ----------------------------------------------------------------


def test_rclone_works_within_its_users_prefix(server: S3d, bucket: str, tmp_path: Path) -> None:
    program = shutil.which("rclone")
    assert program, "rclone is missing: apt-get install rclone"
    name, keys = user(server, only(bucket, "team/"))
    config = tmp_path / "rclone.conf"
    config.write_text(
        "[s3d]\ntype = s3\nprovider = Other\nregion = us-east-1\nforce_path_style = true\n"
        f"access_key_id = {keys.id}\nsecret_access_key = {keys.secret}\n"
        f"endpoint = {server.endpoint}\nno_check_bucket = true\n"
    )

    head = (program, "--config", str(config), "--ca-cert", str(server.ca), "--retries", "1")

    def rclone(*words: str) -> str:
        return run(server, *head, *words, AWS_CA_BUNDLE="")

    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "small").write_bytes(b"small")
    (source / "large").write_bytes(random.Random(1).randbytes(12 << 20))
    parts = ("--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M")
    rclone("sync", *parts, str(source), f"s3d:{bucket}/team")
    rclone("check", "--download", str(source), f"s3d:{bucket}/team")
    rclone("move", f"s3d:{bucket}/team/folder", f"s3d:{bucket}/team/moved")  # by copies there
    assert set(rclone("lsf", "-R", f"s3d:{bucket}/team").split()) == {
        *("large", "moved/", "moved/small"),
    }
    for words in (
        ("lsf", f"s3d:{bucket}"),
        ("copy", str(source / "folder"), f"s3d:{bucket}/elsewhere", "--no-traverse"),
        ("copy", f"s3d:{bucket}/team/moved", f"s3d:{bucket}/elsewhere", "--no-traverse"),
        ("lsd", "s3d:"),
    ):
        told = refused(server, *head, *words, AWS_CA_BUNDLE="")
        assert "AccessDenied" in told or "Forbidden" in told
    listed = server.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert {one["Key"] for one in listed} == {"team/large", "team/moved/small"}
    server.client("iam").delete_user_policy(UserName=name, PolicyName="own")
    listing = (*head, "lsf", f"s3d:{bucket}/team")
    assert "AccessDenied" in refused(server, *listing, AWS_CA_BUNDLE="")


def test_restic_works_within_its_users_prefix(server: S3d, bucket: str, tmp_path: Path) -> None:
    _, keys = user(server, only(bucket, "backups/", lists_all=True))  # it looks for the bucket
    repository = Restic(server, f"{bucket}/backups", tmp_path, 12, keys)
    repository.back_up()
    repository.check_restored()
    told = refused(
        *(server, "restic", "-r", f"s3:{server.endpoint}/{bucket}/others", "init"),
        *("--cacert", str(server.ca), "--no-cache"),
        **{"RESTIC_PASSWORD": "of a test", **keys.environment()},
    )
    assert "not authorized" in told


def test_s3cmd_works_with_a_session_token(server: S3d, bucket: str, tmp_path: Path) -> None:
    program = shutil.which("s3cmd")
    assert program, "s3cmd is missing: apt-get install s3cmd"
    own, arn = user_with_role(server, only(bucket))
    keys = session(server, own, arn)
    config, address = tmp_path / "s3cfg", server.endpoint.removeprefix("https://")
    config.write_text(
        f"[default]\naccess_key = {keys.id}\nsecret_key = {keys.secret}\n"
        f"access_token = {keys.token}\nhost_base = {address}\nhost_bucket = {address}\n"
        f"bucket_location = us-east-1\nuse_https = True\nca_certs_file = {server.ca}\n"
        "signature_v2 = False\nmultipart_chunk_size_mb = 5\nmax_retries = 1\n"
    )

    head = (program, "-c", str(config), "--no-progress")

    def s3cmd(*words: str) -> str:
        return run(server, *head, *words)

    large = tmp_path / "large"
    large.write_bytes(random.Random(2).randbytes(7 << 20))
    s3cmd("put", str(large), f"s3://{bucket}/large")
    s3cmd("get", f"s3://{bucket}/large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert "large" in s3cmd("ls", f"s3://{bucket}")
    assert "403" in refused(server, *head, "mb", f"s3://{bucket}-of-nobody")
    server.client("iam").delete_role_policy(RoleName=arn.rpartition("/")[2], PolicyName="own")
    assert "403" in refused(server, *head, "ls", f"s3://{bucket}")


def test_mc_works_with_a_users_key_and_with_a_session(
    server: S3d, bucket: str, tmp_path: Path
) -> None:
    if not MC.exists():
        pytest.skip("mc is not installed: `make clients` builds it where Go is")
    folder = tmp_path / "mc"
    (folder / "certs" / "CAs").mkdir(parents=True)
    shutil.copy(server.ca, folder / "certs" / "CAs" / "ca.crt")
    _, keys = user(server, only(bucket, "mine/"))
    taken = session(server, *user_with_role(server, only(bucket)))
    address = server.endpoint.removeprefix("https://")
    as_role = f"https://{taken.id}:{taken.secret}:{taken.token}@{address}"

    head = (str(MC), "--config-dir", str(folder), "--no-color")

    def mc(*words: str) -> str:
        return run(server, *head, *words, MC_HOST_role=as_role)

    mc("alias", "set", "mine", server.endpoint, keys.id, keys.secret, "--path", "on")
    (tmp_path / "body").write_text("hello")
    mc("cp", str(tmp_path / "body"), f"mine/{bucket}/mine/k")
    assert mc("cat", f"mine/{bucket}/mine/k") == "hello"
    mc("cp", f"mine/{bucket}/mine/k", f"mine/{bucket}/mine/copy")
    assert "copy" in mc("ls", f"mine/{bucket}/mine/")
    assert fetched(server, shared_url(mc("share", "download", f"mine/{bucket}/mine/k"))) == (
        *(200, b"hello"),
    )
    for words in (
        ("cp", str(tmp_path / "body"), f"mine/{bucket}/theirs"),
        ("ls", f"mine/{bucket}/"),
        ("mb", f"mine/{bucket}-more"),
        ("rb", f"role/{bucket}"),
    ):
        told = refused(server, *head, *words, MC_HOST_role=as_role)
        assert "Insufficient permissions" in told or "not authorized" in told, told
    assert mc("cat", f"role/{bucket}/mine/k") == "hello"
    mc("rm", "--recursive", "--force", f"role/{bucket}/")


def shared_url(told: str) -> str:
    """What `mc share` made."""
    (line,) = (line for line in told.splitlines() if line.startswith("Share:"))
    return line.partition(":")[2].strip()


# --- presigned --------------------------------------------------------------------------------


def test_presigned_urls_of_a_session_are_good_until_it_is_revoked(server: S3d, bucket: str) -> None:
    own, arn = user_with_role(server, only(bucket, "k"))
    keys = session(server, own, arn)
    assert keys.token
    s3 = server.client("s3", keys)
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"})
    assert "oken=" in put
    assert fetched(server, put, b"body")[0] == 200
    by_cli = Cli(server, **keys.environment())("s3", "presign", f"s3://{bucket}/k").strip()
    assert fetched(server, by_cli) == (200, b"body")
    denied = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "other"})
    assert fetched(server, denied)[0] == 403
    changed = by_cli.replace("oken=", "oken=A")
    assert fetched(server, changed)[0] in (400, 403)
    server.client("iam").delete_role_policy(RoleName=arn.rpartition("/")[2], PolicyName="own")
    assert fetched(server, by_cli)[0] == 403

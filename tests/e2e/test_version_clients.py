"""What clients do with versions, delete markers, locks and tags, on both backends. docs/clients.md
has the versions of the clients that were tried."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.clients import Restic, run
from support.processes import S3d, filesystem
from support.waiting import eventually

pytestmark = pytest.mark.e2e
SCRIPTS = Path(__file__).with_name("clients")
JARS = Path(sys.prefix) / "java"  # where the Makefile puts what pom.xml names
MC = Path(sys.prefix) / "go" / "mc"  # the same, where there is Go
AWS = str(Path(sys.executable).with_name("aws"))
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def file_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3d]:
    with filesystem(tmp_path_factory.mktemp("files")) as running:
        yield running


@pytest.fixture(params=["client_server", "file_server"])
def server(request: pytest.FixtureRequest) -> S3d:
    running = request.getfixturevalue(request.param)
    assert isinstance(running, S3d)
    return running


@pytest.fixture
def s3(server: S3d) -> BaseClient:
    return server.client()


@pytest.fixture
def bucket(s3: BaseClient) -> str:
    """One with versions."""
    name = f"versioned-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def all_versions(s3: BaseClient, bucket: str, page: int = 1000) -> list[dict[str, str]]:
    """Versions and delete markers, as DeleteObjects takes them."""
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": page}
    )
    return [
        {"Key": one["Key"], "VersionId": one["VersionId"]}
        for each in pages
        for one in each.get("Versions", []) + each.get("DeleteMarkers", [])
    ]


def node_bytes(server: S3d) -> int:
    """What the logs of the nodes hold, if there are nodes; each only ever appends."""
    return sum(file.stat().st_size for file in server.base_path.rglob("*.seg"))


# --- boto3 ------------------------------------------------------------------------------------


def test_boto3_keeps_reads_and_deletes_versions(s3: BaseClient, bucket: str) -> None:
    small, large = b"small", random.Random(1).randbytes(9 << 20)
    versions = [
        s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] for body in (small, large)
    ]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"null")
    for version, body in zip([*versions, "null"], (small, large, b"null"), strict=True):
        found = s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert found["Body"].read() == body
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="k", VersionId=versions[1], ObjectAttributes=["ObjectSize", "ETag"]
    )
    assert attributes["ObjectSize"] == len(large)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"many/{number % 10}", Body=b"%d" % number)
    s3.delete_object(Bucket=bucket, Key="k")
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [
        f"many/{number}" for number in range(10)
    ]
    doomed = all_versions(s3, bucket, page=7)
    assert len(doomed) == len({one["VersionId"] for one in doomed}) == 34
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed})
    assert "Errors" not in gone
    assert len(gone["Deleted"]) == 34
    assert all_versions(s3, bucket) == []
    s3.delete_bucket(Bucket=bucket)


def test_boto3_locks_and_tags(s3: BaseClient) -> None:
    where = {"Bucket": f"locked-{next(_NUMBERS)}", "Key": "k"}
    s3.create_bucket(Bucket=where["Bucket"], ObjectLockEnabledForBucket=True)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    put: dict[str, Any] = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
    version = s3.put_object(**where, Body=b"kept", Tagging="a=1", **put)["VersionId"]
    named: dict[str, Any] = {**where, "VersionId": version}
    assert s3.get_object_retention(**named)["Retention"]["RetainUntilDate"] == until
    s3.put_object_legal_hold(**named, LegalHold={"Status": "ON"})
    for options in ({}, {"BypassGovernanceRetention": True}):
        with pytest.raises(ClientError, match="object protected by object lock"):
            s3.delete_object(**named, **options)
    s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
    tag_set = [{"Key": "b", "Value": "ü"}]
    s3.put_object_tagging(**named, Tagging={"TagSet": tag_set})
    assert s3.get_object_tagging(**named)["TagSet"] == tag_set
    s3.delete_object(**named, BypassGovernanceRetention=True)
    assert all_versions(s3, where["Bucket"]) == []


# --- AWS CLI ----------------------------------------------------------------------------------


@pytest.fixture
def aws(server: S3d, tmp_path: Path) -> Callable[..., str]:
    config = tmp_path / "aws.conf"
    config.write_text("[default]\ns3 =\n  multipart_threshold = 64MB\n")

    def call(*words: str) -> str:
        head = (AWS, "--endpoint-url", server.endpoint)
        return run(server, *head, *words, cwd=tmp_path, AWS_CONFIG_FILE=str(config))

    return call


def test_aws_cli_lists_and_deletes_versions(aws: Callable[..., str], tmp_path: Path) -> None:
    bucket = f"awscli-{next(_NUMBERS)}"
    where = ("--bucket", bucket, "--key", "k")

    def s3api(*words: str) -> Any:
        return json.loads(aws("s3api", *words, "--output", "json") or "{}")

    s3api("create-bucket", "--bucket", bucket)
    enabled = ("--versioning-configuration", "Status=Enabled")
    s3api("put-bucket-versioning", "--bucket", bucket, *enabled)
    assert s3api("get-bucket-versioning", "--bucket", bucket) == {"Status": "Enabled"}
    versions = []
    for text in ("first", "second"):
        (tmp_path / text).write_text(text)
        versions.append(s3api("put-object", *where, "--body", text)["VersionId"])
    marker = s3api("delete-object", *where)
    assert marker["DeleteMarker"] is True
    listed = s3api("list-object-versions", "--bucket", bucket, "--max-items", "10")
    assert [one["VersionId"] for one in listed["Versions"]] == versions[::-1]
    assert [one["IsLatest"] for one in listed["DeleteMarkers"]] == [True]
    assert s3api("delete-object", *where, "--version-id", marker["VersionId"])["DeleteMarker"]
    aws("s3", "cp", f"s3://{bucket}/k", "back", "--no-progress")
    assert (tmp_path / "back").read_text() == "second"
    s3api("delete-object", *where, "--version-id", versions[1])
    aws("s3", "cp", f"s3://{bucket}/k", "back", "--no-progress")
    assert (tmp_path / "back").read_text() == "first"
    s3api("get-object", *where, "--version-id", versions[0], "by-id")
    assert (tmp_path / "by-id").read_text() == "first"
    s3api("delete-object", *where, "--version-id", versions[0])
    aws("s3", "rb", f"s3://{bucket}")


def test_aws_cli_moves_a_folder_without_moving_bytes(
    server: S3d, client_server: S3d, s3: BaseClient, bucket: str, aws: Callable[..., str]
) -> None:
    draw = random.Random(2)
    bodies = {f"{number}/ü +": draw.randbytes(number * 200_000) for number in range(20)}
    bodies["large"] = draw.randbytes(12 << 20)
    empty = node_bytes(server)
    for name, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=f"old/{name}", Body=body)
    before = node_bytes(server)
    if server is client_server:
        assert before - empty > sum(map(len, bodies.values()))
    aws("s3", "mv", "--recursive", "--quiet", f"s3://{bucket}/old/", f"s3://{bucket}/new/")
    assert node_bytes(server) == before
    pages = s3.list_objects_v2(Bucket=bucket)
    assert {one["Key"] for one in pages["Contents"]} == {f"new/{name}" for name in bodies}
    doomed = [one for one in all_versions(s3, bucket) if one["Key"].startswith("old/")]
    assert len(doomed) == 2 * len(bodies)
    s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed})
    for name, body in bodies.items():
        assert s3.get_object(Bucket=bucket, Key=f"new/{name}")["Body"].read() == body


# --- rclone -----------------------------------------------------------------------------------


@pytest.fixture
def rclone(server: S3d, tmp_path: Path) -> Callable[..., str]:
    key_id, secret = server.credentials()
    config = tmp_path / "rclone.conf"
    config.write_text(
        "[s3d]\ntype = s3\nprovider = Other\nregion = us-east-1\nforce_path_style = true\n"
        f"access_key_id = {key_id}\nsecret_access_key = {secret}\nendpoint = {server.endpoint}\n"
    )
    head = ("rclone", "--config", str(config), "--ca-cert", str(server.ca))

    def call(*words: str) -> str:
        return run(server, *head, *words, AWS_CA_BUNDLE="")

    return call


def test_rclone_shows_what_was(
    s3: BaseClient, bucket: str, rclone: Callable[..., str], tmp_path: Path
) -> None:
    there = f"s3d:{bucket}"
    assert rclone("backend", "versioning", there).strip() == "Enabled"
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.txt", "b.txt"):
        (source / name).write_text("first")
    rclone("sync", str(source), there)
    (version, _) = s3.list_object_versions(Bucket=bucket)["Versions"]
    then = version["LastModified"].replace(microsecond=0) + timedelta(seconds=1)
    eventually(lambda: time.time() > then.timestamp() + 1, what="a later second")
    (source / "a.txt").write_text("second, longer")
    (source / "b.txt").unlink()
    rclone("sync", str(source), there)

    assert rclone("lsf", there).split() == ["a.txt"]
    names = rclone("lsf", "--s3-versions", there).split()
    assert len(names) == 3
    assert names.count("a.txt") == 1
    (old,) = (name for name in names if name.startswith("a-v"))
    assert rclone("cat", "--s3-versions", f"{there}/{old}") == "first"
    at = ("--s3-version-at", f"{then:%Y-%m-%dT%H:%M:%SZ}")
    assert rclone("lsf", *at, there).split() == ["a.txt", "b.txt"]
    assert rclone("cat", *at, f"{there}/a.txt") == "first"
    assert rclone("cat", f"{there}/a.txt") == "second, longer"

    rclone("backend", "cleanup-hidden", there)
    assert [one["Key"] for one in all_versions(s3, bucket)] == ["a.txt"]
    assert rclone("backend", "versioning", there, "Suspended").strip() == "Suspended"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"
    rclone("purge", there)


# --- mc ---------------------------------------------------------------------------------------


@pytest.fixture
def mc(server: S3d, tmp_path: Path) -> Callable[..., str]:
    if not MC.exists():
        pytest.skip("mc is not installed: `make clients` builds it where Go is")
    folder = tmp_path / "mc"
    trusted = folder / "certs" / "CAs"
    trusted.mkdir(parents=True)
    shutil.copy(server.ca, trusted / "ca.crt")

    def call(*words: str) -> str:
        return run(server, str(MC), "--config-dir", str(folder), "--no-color", *words)

    key_id, secret = server.credentials()
    call("alias", "set", "s3d", server.endpoint, key_id, secret, "--path", "on")
    return call


def mc_versions(mc: Callable[..., str], there: str) -> list[dict[str, Any]]:
    """What `ls --versions` shows, the newest of a key first."""
    lines = mc("ls", "--versions", "--recursive", "--json", there).splitlines()
    return [json.loads(line) for line in lines]


def test_mc_shows_undoes_and_removes_versions(mc: Callable[..., str], tmp_path: Path) -> None:
    bucket = f"s3d/mc-{next(_NUMBERS)}"
    there = f"{bucket}/folder/k"
    mc("mb", bucket)
    mc("version", "enable", bucket)
    assert "versioning is enabled" in mc("version", "info", bucket)
    for text in ("first", "second"):
        (tmp_path / text).write_text(text)
        mc("cp", str(tmp_path / text), there)
    second, first = mc_versions(mc, there)
    assert (first["versionOrdinal"], second["versionOrdinal"]) == (1, 2)
    old = ("--version-id", first["versionId"])
    assert mc("cat", *old, there) == "first"
    assert first["versionId"] in mc("stat", *old, there)
    mc("cp", *old, there, f"{bucket}/copied")
    assert mc("cat", f"{bucket}/copied") == "first"

    mc("rm", there)
    assert [one.get("isDeleteMarker", False) for one in mc_versions(mc, there)] == [
        *(True, False, False)
    ]
    assert mc("ls", "--recursive", bucket).split()[-1] == "copied"
    mc("undo", there)
    assert mc("cat", there) == "second"
    mc("undo", "--last", "1", there)
    assert mc("cat", there) == "first"
    assert [one["versionId"] for one in mc_versions(mc, there)] == [first["versionId"]]

    mc("rm", there)
    mc("rm", "--versions", "--recursive", "--force", bucket)
    assert mc_versions(mc, bucket) == []
    mc("version", "suspend", bucket)
    assert "versioning is suspended" in mc("version", "info", bucket)
    mc("rb", bucket)


def test_mc_locks_and_tags(mc: Callable[..., str], tmp_path: Path) -> None:
    bucket = f"s3d/mc-{next(_NUMBERS)}"
    there = f"{bucket}/k"
    (tmp_path / "body").write_text("kept")
    mc("mb", "--with-lock", bucket)
    mc("cp", str(tmp_path / "body"), there)
    mc("tag", "set", there, "colour=green")
    assert "green" in mc("tag", "list", there)
    mc("retention", "set", "governance", "1d", there)
    assert "GOVERNANCE" in mc("retention", "info", there)
    with pytest.raises(AssertionError, match="object protected by object lock"):
        mc("rm", "--versions", "--force", there)
    mc("legalhold", "set", there)
    assert "ON" in mc("legalhold", "info", there)
    mc("legalhold", "clear", there)
    mc("retention", "set", "--default", "compliance", "30d", bucket)
    assert "'COMPLIANCE' is configured for 30DAYS" in mc("retention", "info", "--default", bucket)
    assert mc("cat", there) == "kept"
    mc("rm", "--versions", "--force", "--bypass", there)
    assert mc_versions(mc, bucket) == []
    mc("rb", bucket)


# --- others -----------------------------------------------------------------------------------


def test_restic_in_a_bucket_with_versions(
    server: S3d, s3: BaseClient, bucket: str, tmp_path: Path
) -> None:
    restic = Restic(server, bucket, tmp_path, files=10)
    restic.back_up()
    old = [one for one in all_versions(s3, bucket) if one["Key"].startswith("locks/")]
    assert len(old) > 2  # each lock and its delete marker
    s3.delete_objects(Bucket=bucket, Delete={"Objects": old})
    restic.check_restored()


def test_aws_sdk_ruby_clears_a_bucket(server: S3d) -> None:
    assert shutil.which("ruby"), "ruby is missing: apt-get install ruby-aws-sdk-s3"
    script = str(SCRIPTS / "use_versions.rb")
    printed = run(
        *(server, "ruby", script, f"ruby-{next(_NUMBERS)}"),
        AWS_REGION="us-east-1",
        LANG="C.UTF-8",
    )
    assert printed == "done\n"


def test_aws_sdk_java(server: S3d, tmp_path: Path) -> None:
    store = str(tmp_path / "trusted.p12")
    run(
        *(server, "keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", str(server.ca)),
        *("-keystore", store, "-storepass", "changeit"),
    )
    printed = run(
        *(server, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
        f"-Djavax.net.ssl.trustStore={store}",
        *("-Djavax.net.ssl.trustStorePassword=changeit", "-cp", f"{JARS}/*"),
        *(str(SCRIPTS / "UseVersions.java"), f"java-{next(_NUMBERS)}"),
    )
    assert printed == "done\n"

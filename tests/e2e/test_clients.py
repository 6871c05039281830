"""The clients that people have: AWS CLI, boto3, rclone, s3cmd, against a fresh `s3d`."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import ssl
import sys
import urllib.request
from pathlib import Path

import pytest

from support.clients import run
from support.processes import S3d

pytestmark = pytest.mark.e2e
AWS = str(Path(sys.executable).with_name("aws"))


@pytest.fixture(scope="module")
def server(client_server: S3d) -> S3d:
    return client_server


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 small files in nested folders, with names that need encoding."""
    root = tmp_path_factory.mktemp("tree")
    draw = random.Random(200)
    for n in range(200):
        folder = root / f"d{n % 7}" / ("sub dir" if n % 3 else "übung+plus")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {n}.bin").write_bytes(draw.randbytes(draw.randrange(0, 30_000)))
    return root


def same_tree(left: Path, right: Path) -> bool:
    names = sorted(str(f.relative_to(left)) for f in left.rglob("*") if f.is_file())
    others = sorted(str(f.relative_to(right)) for f in right.rglob("*") if f.is_file())
    return names == others and all(
        filecmp.cmp(left / name, right / name, shallow=False) for name in names
    )


def test_aws_cli_does_a_day_of_work(server: S3d, tree: Path, tmp_path: Path) -> None:
    def aws(*words: str) -> str:
        return run(server, AWS, "--endpoint-url", server.endpoint, "s3", *words, cwd=tmp_path)

    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(64).randbytes(64 << 20))
    aws("mb", "s3://awscli")
    aws("cp", "big.bin", "s3://awscli/big.bin", "--no-progress")
    assert "67108864 big.bin" in aws("ls", "s3://awscli/")
    aws("cp", "s3://awscli/big.bin", "back.bin", "--no-progress")
    assert filecmp.cmp(big, tmp_path / "back.bin", shallow=False)

    aws("sync", str(tree), "s3://awscli/tree", "--no-progress")
    assert len(aws("ls", "--recursive", "s3://awscli/tree/").splitlines()) == 200
    aws("sync", "s3://awscli/tree", "tree-back", "--no-progress")
    assert same_tree(tree, tmp_path / "tree-back")
    assert aws("sync", str(tree), "s3://awscli/tree", "--no-progress") == ""  # nothing to do

    url = aws("presign", "s3://awscli/big.bin").strip()
    context = ssl.create_default_context(cafile=str(server.ca))
    with urllib.request.urlopen(url, context=context) as answer:
        assert answer.read() == big.read_bytes()

    aws("rm", "--recursive", "s3://awscli", "--only-show-errors")
    assert aws("ls", "s3://awscli/") == ""
    aws("rb", "s3://awscli")


def test_rclone_syncs_a_tree_and_finds_it_equal(server: S3d, tree: Path, tmp_path: Path) -> None:
    program = shutil.which("rclone")
    assert program, "rclone is missing: apt-get install rclone"
    key_id, secret = server.credentials()
    config = tmp_path / "rclone.conf"
    config.write_text(
        "[s3d]\ntype = s3\nprovider = Other\nregion = us-east-1\nforce_path_style = true\n"
        f"access_key_id = {key_id}\nsecret_access_key = {secret}\nendpoint = {server.endpoint}\n"
    )

    def rclone(*words: str) -> str:
        # rclone takes the CA file by its own flag, and stumbles over the variable of the AWS SDK.
        head = (program, "--config", str(config), "--ca-cert", str(server.ca))
        return run(server, *head, *words, AWS_CA_BUNDLE="")

    rclone("mkdir", "s3d:rclone")
    rclone("sync", str(tree), "s3d:rclone/tree")
    rclone("check", str(tree), "s3d:rclone/tree")  # sizes and MD5
    rclone("check", "--download", str(tree), "s3d:rclone/tree")
    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(7).randbytes(24 << 20))
    rclone("copy", "--s3-upload-cutoff", "8M", "--s3-chunk-size", "6M", str(big), "s3d:rclone")
    rclone("copyto", "s3d:rclone/big.bin", str(tmp_path / "back.bin"))
    assert filecmp.cmp(big, tmp_path / "back.bin", shallow=False)
    rclone("moveto", "s3d:rclone/big.bin", "s3d:rclone/moved.bin")  # server-side copy
    assert rclone("lsf", "s3d:rclone").split() == ["moved.bin", "tree/"]
    rclone("purge", "s3d:rclone")


def test_s3cmd_puts_gets_lists_and_removes(server: S3d, tree: Path, tmp_path: Path) -> None:
    program = shutil.which("s3cmd")
    assert program, "s3cmd is missing: apt-get install s3cmd"
    key_id, secret = server.credentials()
    config = tmp_path / "s3cfg"
    address = server.endpoint.removeprefix("https://")
    config.write_text(
        f"[default]\naccess_key = {key_id}\nsecret_key = {secret}\nhost_base = {address}\n"
        f"host_bucket = {address}\nbucket_location = us-east-1\nuse_https = True\n"
        f"ca_certs_file = {server.ca}\ncheck_ssl_hostname = True\nsignature_v2 = False\n"
        "multipart_chunk_size_mb = 5\n"
    )

    def s3cmd(*words: str) -> str:
        return run(server, program, "-c", str(config), "--no-progress", *words)

    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(8).randbytes(12 << 20))
    s3cmd("mb", "s3://s3cmd-bucket")
    s3cmd("put", str(big), "s3://s3cmd-bucket/big.bin")
    s3cmd("get", "s3://s3cmd-bucket/big.bin", str(tmp_path / "back.bin"))
    assert filecmp.cmp(big, tmp_path / "back.bin", shallow=False)
    s3cmd("sync", f"{tree}/", "s3://s3cmd-bucket/tree/")
    assert len(s3cmd("ls", "--recursive", "s3://s3cmd-bucket/tree/").splitlines()) == 200
    s3cmd("sync", "s3://s3cmd-bucket/tree/", f"{tmp_path / 'back'}{os.sep}")
    assert same_tree(tree, tmp_path / "back")
    s3cmd("cp", "s3://s3cmd-bucket/big.bin", "s3://s3cmd-bucket/copy.bin")
    assert "12582912" in s3cmd("info", "s3://s3cmd-bucket/copy.bin")
    s3cmd("rm", "--recursive", "--force", "s3://s3cmd-bucket")
    s3cmd("rb", "s3://s3cmd-bucket")


def test_boto3_multipart_round_trip(server: S3d, tmp_path: Path) -> None:
    client = server.client()
    client.create_bucket(Bucket="boto")
    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(9).randbytes(20 << 20))
    client.upload_file(str(big), "boto", "big.bin")
    client.download_file("boto", "big.bin", str(tmp_path / "back.bin"))
    assert filecmp.cmp(big, tmp_path / "back.bin", shallow=False)
    assert client.head_object(Bucket="boto", Key="big.bin")["ETag"].endswith('-3"')

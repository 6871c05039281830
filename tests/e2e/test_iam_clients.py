"""`s3d iam`, the AWS CLI's iam and sts; a gateway that stood still while a right was revoked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.clients import run
from support.processes import S3d, development, filesystem, production, s3d_command

pytestmark = pytest.mark.e2e
AWS = str(Path(sys.executable).with_name("aws"))
ROOT = Path(__file__).resolve().parents[2]
SECRET = '[cluster]\nsecret = "a secret of the cluster"\n'


class Person:
    """Who types commands: an operator, or with keys of their own."""

    def __init__(self, server: S3d, keys: dict[str, str] | None = None) -> None:
        self.server = server
        self.keys = keys or {}

    def s3d(self, *words: str, code: int = 0) -> str:
        """`s3d iam ...` at the server."""
        server = self.server
        files = [word for word in server.arguments if word.endswith(".toml")]
        where = ["-config", files[0]] if files else ["-backend", "filesystem"]
        done = subprocess.run(
            [*s3d_command(), "iam", *words, "-host", server.host, *where,
             "-base-path", str(server.base_path), *(["--own-key"] if self.keys else [])],
            env={**server.environment(), **self.keys, "PYTHONPATH": str(ROOT)},
            cwd=server.base_path.parent, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr + server.output[-2000:]
        return done.stdout + done.stderr

    def aws(self, *words: str) -> dict[str, object]:
        """The AWS CLI at the server."""
        url = ("--endpoint-url", self.server.endpoint, "--output", "json")
        told = run(self.server, AWS, *url, *words, **self.keys)
        return json.loads(told) if told.strip().startswith("{") else {"text": told}

    def with_key(self, user: str) -> Person:
        """Somebody with a new key of a user."""
        lines = self.s3d("key", "add", user).splitlines()
        return Person(self.server, exported(lines))


def exported(lines: list[str]) -> dict[str, str]:
    pairs = [line.removeprefix("export ").split("=", 1) for line in lines if "export" in line]
    return {pair[0]: pair[1] for pair in pairs}


def test_users_are_made_by_s3d_and_work_with_the_aws_cli(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        operator = Person(server)
        operator.aws("s3", "mb", "s3://shelf")
        assert ":user/alice" in operator.s3d("user", "add", "alice")
        alice = operator.with_key("alice")
        assert str(alice.aws("sts", "get-caller-identity")["Arn"]).endswith(":user/alice")
        operator.s3d("policy", "attach", "user/alice", "AmazonS3ReadOnlyAccess")
        assert "shelf" in str(alice.aws("s3", "ls"))
        explained = operator.s3d("explain", "user/alice", "s3:GetObject", "arn:aws:s3:::shelf/k")
        assert "yes" in explained
        assert "AmazonS3ReadOnlyAccess" in explained
        assert "no policy allows it" in operator.s3d("explain", "all", "s3:PutObject", code=1)
        the_cli_administers(operator, tmp_path)
        tenant = Person(server, exported(operator.s3d("account", "add", "tenant").splitlines()))
        assert tenant.aws("iam", "list-users")["Users"] == []
        assert "AccessDenied" in tenant.s3d("account", "list", code=1)
        assert "sealed anew" in operator.s3d("rotate-sealing-key")
        operator.s3d("user", "remove", "alice")
        assert "InvalidClientTokenId" in alice.s3d("user", "list", code=1)
        assert 'msg="iam:DeleteUser: done"' in server.output


def the_cli_administers(operator: Person, folder: Path) -> None:
    """Roles and policies by `aws iam`, and a session by `aws sts`."""
    trust = folder / "trust.json"
    account = operator.aws("sts", "get-caller-identity")["Account"]
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:user/alice"},
        "Action": "sts:AssumeRole",
    }
    trust.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    document = f"file://{trust}"
    operator.aws(
        *("iam", "create-role", "--role-name", "job", "--assume-role-policy-document", document)
    )
    arn = f"arn:aws:iam::{account}:role/job"
    operator.aws(
        *("iam", "attach-role-policy", "--role-name", "job"),
        *("--policy-arn", "arn:aws:iam::aws:policy/AmazonS3FullAccess"),
    )
    alice = operator.with_key("alice")
    made = alice.aws(*("sts", "assume-role", "--role-arn", arn, "--role-session-name", "night"))[
        "Credentials"
    ]
    assert isinstance(made, dict)
    job = Person(
        operator.server,
        {
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
            "AWS_SESSION_TOKEN": made["SessionToken"],
        },
    )
    job.aws("s3", "mb", "s3://night")


def test_a_gateway_that_stood_still_obeys_what_was_revoked_meanwhile(tmp_path: Path) -> None:
    with production(tmp_path, count=3, members=3, extra=SECRET, code=(2, 1)) as servers:
        operator, other = Person(servers[0]), servers[2]
        operator.s3d("user", "add", "alice")
        operator.s3d("policy", "attach", "user/alice", "AmazonS3FullAccess")
        keys = operator.with_key("alice").keys
        there = Person(other, keys)
        there.aws("s3", "mb", "s3://shelf")
        other.pause()
        try:
            operator.s3d("policy", "detach", "user/alice", "AmazonS3FullAccess")
        finally:
            other.resume()
        denied = subprocess.run(
            [AWS, "--endpoint-url", other.endpoint, "s3", "ls"],
            env={**other.environment(), **keys}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "AccessDenied" in denied.stderr


def test_users_of_a_server_of_plain_files_outlive_its_restart(tmp_path: Path) -> None:
    with filesystem(tmp_path) as server:
        operator = Person(server)
        operator.s3d("user", "add", "alice")
        operator.s3d("policy", "attach", "user/alice", "AmazonS3FullAccess")
        alice = operator.with_key("alice")
        alice.aws("s3", "mb", "s3://shelf")
        server.kill()
        server.start()
        assert "shelf" in str(alice.aws("s3", "ls"))
        key = alice.keys["AWS_ACCESS_KEY_ID"]
        operator.s3d("key", "disable", "alice", key)
        assert "Inactive" in operator.s3d("key", "list", "alice")
        assert "InvalidClientTokenId" in alice.s3d("user", "list", code=1)

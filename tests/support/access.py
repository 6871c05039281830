"""Users, roles and sessions at a real `s3d`, and the AWS CLI with their keys."""

from __future__ import annotations

import http.client
import itertools
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from support.clients import refused, run
from support.processes import PORT, Keys, S3d

AWS = str(Path(sys.executable).with_name("aws"))
_NUMBERS = itertools.count(1)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def only(bucket: str, prefix: str = "", *, lists_all: bool = False) -> str:
    """A policy of who may do everything with keys that begin with `prefix`, and nothing else.
    `lists_all`: but for listing, of the whole bucket."""
    listing: dict[str, Any] = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
        "Resource": f"arn:aws:s3:::{bucket}",
    }
    if prefix and not lists_all:
        listing["Condition"] = {"StringLike": {"s3:prefix": [f"{prefix}*", prefix.rstrip("/")]}}
    where = {"Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": listing["Resource"]}
    inside = {
        "Effect": "Allow",
        "Action": ["s3:*Object", "s3:PutObjectAcl", "s3:*MultipartUpload*"],
        "Resource": f"arn:aws:s3:::{bucket}/{prefix}*",
    }
    return document(listing, where, inside)


def user(server: S3d, policy: str) -> tuple[str, Keys]:
    """A new user with that policy: its name, its key."""
    iam, name = server.client("iam"), f"user-{next(_NUMBERS)}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return name, Keys(made["AccessKeyId"], made["SecretAccessKey"])


def role(server: S3d, trusted: dict[str, Any], policy: str, **conditions: Any) -> str:
    """A new role that `trusted` may take on, by its ARN."""
    iam, name = server.client("iam"), f"role-{next(_NUMBERS)}"
    action = "sts:AssumeRoleWithWebIdentity" if "Federated" in trusted else "sts:AssumeRole"
    trust = {"Effect": "Allow", "Principal": trusted, "Action": action, **conditions}
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy)
    return str(made["Role"]["Arn"])


def user_with_role(server: S3d, policy: str) -> tuple[Keys, str]:
    """The key of a new user who may take on a new role with that policy, and nothing else; and the
    role's ARN."""
    assumes = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    name, keys = user(server, document(assumes))
    account = server.client("sts").get_caller_identity()["Account"]
    return keys, role(server, {"AWS": f"arn:aws:iam::{account}:user/{name}"}, policy)


def session(server: S3d, keys: Keys, arn: str) -> Keys:
    """A session of the role."""
    sts = server.client("sts", keys)
    made = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def fetched(server: S3d, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a URL, as somebody without keys gets it; `body`: put there."""
    context = ssl.create_default_context(cafile=str(server.ca))
    address = url.removeprefix(server.endpoint)
    connection = http.client.HTTPSConnection(server.host, PORT, context=context, timeout=60)
    try:
        connection.request("PUT" if body else "GET", address, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Cli:
    """`aws`, at the server, with the operator's key or with `environment`."""

    def __init__(self, server: S3d, **environment: str) -> None:
        self._server = server
        self._environment = {"AWS_ENDPOINT_URL": server.endpoint, **environment}

    def __call__(self, *words: str) -> Any:
        told = run(self._server, AWS, "--output", "json", *words, **self._environment)
        return json.loads(told) if told.startswith(("{", "[")) else told

    def refused(self, code: str, *words: str) -> None:
        assert code in refused(self._server, AWS, *words, **self._environment)

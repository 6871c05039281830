"""boto3's client of S3 Control at a server of the tests."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.client import BaseClient

from predastore.auth.sigv4 import Credential
from support.s3server import S3Server


def control_client(server: S3Server, who: Credential) -> BaseClient:
    """The account stands before the host's name, which resolves where buckets' names do; here it
    is taken away."""
    control = boto3.client(
        "s3control",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id=who.access_key_id,
        aws_secret_access_key=who.secret_access_key,
    )
    before = f"//{who.account_id}."

    def at_the_host(request: Any, **_: Any) -> None:
        assert before in request.url
        request.url = request.url.replace(before, "//")

    control.meta.events.register("before-sign.s3-control", at_the_host)
    return control

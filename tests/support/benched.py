"""boto3 for an `s3d` that the benchmarks started."""

from __future__ import annotations

import boto3
from botocore.client import BaseClient
from botocore.config import Config

from benchmarks.served import KEY_ID, PORT, SECRET, Served


def client_of(served: Served) -> BaseClient:
    scheme = "https" if served.tls else "http"
    return boto3.client(
        "s3",
        endpoint_url=f"{scheme}://{served.host}:{PORT}",
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        verify=str(served.ca) if served.tls else None,
        config=Config(s3={"addressing_style": "path"}),
    )

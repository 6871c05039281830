"""Who is measured, in turn, in each round: this source, another commit (BASE), and a peer (PEER).

PEER=url names an S3 endpoint of any make; its keys are those of the environment
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_CA_BUNDLE). It gets a bucket that is
removed at the end. It has rows where the scheme of its URL is that of the row, and figures of CPU
and memory where it runs on this machine and may be looked at.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks import base, usage
from benchmarks.base import Program
from benchmarks.load import ROOT, Plan
from benchmarks.served import Served, command, s3d, scratch

OURS: Final = "ours"


def rounds() -> int:
    """How often each row is measured: ROUNDS, or five times."""
    return int(os.environ.get("ROUNDS") or 5)


@dataclass
class Subject:
    """`plan(**fields)`: a run against it. `filled`: names of sizes whose objects it holds."""

    label: str
    pid: int | None
    plan: Callable[..., Plan]
    served: Served | None = None
    filled: set[str] = field(default_factory=set)


def programs() -> list[Program]:
    """This source (or S3D's binary), and the commit of BASE."""
    other = base.wanted()
    return [Program(OURS, command(), ROOT), *([other] if other else [])]


@contextlib.contextmanager
def running(*, tls: bool) -> Iterator[list[Subject]]:
    """All of them, each on data of its own, on one disk; ours first."""
    with contextlib.ExitStack() as stack:
        found = []
        for program in programs():
            folder = stack.enter_context(scratch())
            served = stack.enter_context(
                s3d(folder, tls=tls, program=program.command, root=program.root)
            )
            found.append(Subject(program.label, served.process.pid, served.plan, served))
        others = stack.enter_context(peer(tls=tls))
        yield [*found, *others]
        for subject in found:
            assert subject.served is not None
            subject.served.stop()


@contextlib.contextmanager
def peer(*, tls: bool) -> Iterator[list[Subject]]:
    """The peer, if there is one for such rows. RuntimeError where it can not be used."""
    url = urlsplit(os.environ.get("PEER", ""))
    if url.scheme not in ("http", "https") and url.geturl():
        raise RuntimeError(f"PEER={url.geturl()}: write http://HOST:PORT or https://HOST:PORT")
    if url.scheme != ("https" if tls else "http"):
        yield []
        return
    host, port = url.hostname or "", url.port or (443 if tls else 80)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    bucket = f"bench-{secrets.token_hex(6)}"
    elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=url.geturl(),
            region_name=region,
            config=Config(
                connect_timeout=10,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )
        client.create_bucket(Bucket=bucket, **(elsewhere if region != "us-east-1" else {}))
    except (BotoCoreError, ClientError) as error:
        raise RuntimeError(f"PEER={url.geturl()}: no bucket could be made there: {error}") from None

    def plan(**fields: Any) -> Plan:
        return Plan(
            host=host,
            port=port,
            bucket=bucket,
            region=region,
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            tls=tls,
            ca=os.environ.get("AWS_CA_BUNDLE", "") if tls else "",
            **fields,
        )

    try:
        yield [Subject("peer", _pid(host, port), plan)]
    finally:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for page in pages:
            keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
            if keys:
                client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        client.delete_bucket(Bucket=bucket)


def _pid(host: str, port: int) -> int | None:
    """The process that answers there, where it is one of this machine."""
    address = socket.gethostbyname(host)
    here = {found.address for each in psutil.net_if_addrs().values() for found in each}
    if address not in here and not address.startswith("127."):
        return None
    pid = usage.listener(address, port)
    try:
        if pid is not None:
            usage.resident_mib(pid)
    except psutil.Error:
        return None
    return pid

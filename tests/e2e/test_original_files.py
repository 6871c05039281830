"""`s3d` with configurations of the original: what they ask for is what happens."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore import UNSIGNED
from botocore.client import BaseClient
from botocore.config import Config as BotoConfig

from predastore.auth.sigv4 import Credential
from predastore.base.errors import RemoteFailure
from predastore.s3db.api import Api
from support.processes import S3d, fresh_network, s3d_command
from support.s3refusals import refused
from support.waiting import eventually

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
REGION = "ap-southeast-2"
KEY = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
DENIED = ("AccessDenied", 403)
AUTH = f'[[auth]]\naccess_key_id = "{KEY[0]}"\nsecret_access_key = "{KEY[1]}"\n'


def ports(count: int) -> list[int]:
    """Such as nobody listens on, whatever the address, over TCP and UDP."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("0.0.0.0", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
            found.append(port)
    return list(dict.fromkeys(found))


def client(server: S3d, key: tuple[str, str] | None = KEY) -> BaseClient:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=key[0] if key else None,
        aws_secret_access_key=key[1] if key else None,
        verify=str(server.ca),
        config=BotoConfig(
            signature_version="s3v4" if key else UNSIGNED,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )


# --- a cluster --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3d]:
    """Seven nodes that listen everywhere, under RS(3,2), and a key with a policy."""
    folder = tmp_path_factory.mktemp("original")
    free = ports(9)
    rest, raft = free[7], free[8]
    text = f'version = "1.0"\nregion = "{REGION}"\n[rs]\ndata = 3\nparity = 2\n'
    text += f'[[db]]\nid = 1\nhost = "0.0.0.0"\nport = {rest}\nraft_port = {raft}\nleader = true\n'
    text += 'path = "distributed/db/node-1/"\n'
    for n, port in enumerate(free[:7], 1):
        text += f'[[nodes]]\nid = {n}\nhost = "0.0.0.0"\nport = {port}\npath = "nodes/node-{n}/"\n'
    for name in ("datastore", "videos"):
        text += f'[[buckets]]\nname = "{name}"\nregion = "{REGION}"\ntype = "distributed"\n'
        text += 'public = false\nencryption = ""\n'
    text += AUTH + (
        "policy = [\n"
        '  { bucket = "datastore", actions = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", '
        '"s3:DeleteObject", "s3:ListAllMyBuckets"] },\n'
        '  { bucket = "videos", actions = ["s3:ListBucket", "s3:GetObject"] },\n]\n'
    )
    (folder / "cluster.toml").write_text(text)
    server = S3d(folder / "data", f"{fresh_network()}.1", ["-config", "cluster.toml"])
    try:
        yield server.start()
    finally:
        server.end()


def test_a_key_does_what_its_policy_says_and_no_more(cluster: S3d) -> None:
    s3 = client(cluster)
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == ["datastore"]
    body = os.urandom(300_000)
    s3.put_object(Bucket="datastore", Key="k", Body=body)
    assert s3.get_object(Bucket="datastore", Key="k")["Body"].read() == body
    assert s3.list_objects_v2(Bucket="videos")["KeyCount"] == 0
    assert refused(s3.put_object, Bucket="videos", Key="k", Body=b"") == DENIED
    source = {"Bucket": "datastore", "Key": "k"}
    assert refused(s3.copy_object, Bucket="videos", Key="k", CopySource=source) == DENIED
    assert refused(s3.create_bucket, Bucket="another") == DENIED
    assert refused(s3.delete_bucket, Bucket="videos") == DENIED
    shards = list((cluster.base_path / "nodes").glob("node-*/segments/*.seg"))
    assert len(shards) >= 5
    s3.close()


def test_it_leads_to_neither_the_database_nor_the_metrics(cluster: S3d) -> None:
    rest = next(
        int(line.split()[2])
        for line in (cluster.base_path.parent / "cluster.toml").read_text().splitlines()
        if line.startswith("port = ")
    )
    context = ssl.create_default_context(cafile=str(cluster.ca))
    limited = Api("127.0.0.1", rest, Credential(*KEY, ""), REGION, context)
    with pytest.raises(RemoteFailure, match="does not exist in our records"):
        limited.get("/status")
    with pytest.raises(RemoteFailure):
        limited.post("/v1/put/buckets/x", {})
    own = json.loads((cluster.base_path / "credentials.json").read_text())
    pair = (own["access_key_id"], own["secret_access_key"])
    operator = Api("127.0.0.1", rest, Credential(*pair, ""), REGION, context)
    assert operator.get("/status")["role"] == "leader"
    s3 = client(cluster, pair)  # which is no key of S3
    assert refused(s3.list_buckets)[0] == "InvalidAccessKeyId"
    s3.close()
    metrics = client(cluster)
    assert refused(metrics.get_object, Bucket="-", Key="metrics") == DENIED
    metrics.close()


@pytest.mark.parametrize("line", ["db status", "cluster status --once", "node status"])
def test_commands_find_the_cluster_by_its_file(cluster: S3d, line: str) -> None:
    folder = cluster.base_path.parent

    def done() -> subprocess.CompletedProcess[str] | None:
        found = subprocess.run(
            [*s3d_command(), *line.split(), "-config", "cluster.toml", "-base-path", "data"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return found if found.returncode == 0 else None

    found = eventually(done, within_s=60, what=f"s3d {line} that says that all is well")
    assert found is not None
    if "cluster" in line:
        assert "may be lost: any 2 nodes, no member" in found.stdout


def test_what_is_done_differently_is_a_line_of_the_log(cluster: S3d) -> None:
    for said in (
        "[[db]] number 1, leader: a hint that is not needed",
        "backend: not written; [rs] means distributed",
        f"[[auth]] {KEY[0]}: this secret stands in public documents",
    ):
        eventually(lambda said=said: said in cluster.output, what=said)
        assert cluster.output.count(said) == 1


# --- files ------------------------------------------------------------------------------------


def test_buckets_of_files_are_served_from_where_they_lie(tmp_path: Path) -> None:
    text = f'version = "1.0"\nregion = "{REGION}"\n'
    for name, public in (("testbucket", "true"), ("secure", "false")):
        text += f'[[buckets]]\nname = "{name}"\nregion = "{REGION}"\ntype = "fs"\n'
        text += f'pathname = "tests/data/{name}"\npublic = {public}\nencryption = ""\n'
    actions = '["s3:ListBucket", "s3:ListAllMyBuckets", "s3:GetObject"]'
    text += f'{AUTH}policy = [\n  {{ bucket = "secure", actions = {actions} }},\n'
    text += '  { bucket = "testbucket", actions = ["s3:*"] },\n]\n'
    (tmp_path / "server.toml").write_text(text)
    lies = tmp_path / "base/tests/data"
    (lies / "testbucket/dir").mkdir(parents=True)
    (lies / "testbucket/dir/old.txt").write_bytes(b"lay there already")
    server = S3d(tmp_path / "base", f"{fresh_network()}.1", ["-config", "server.toml"])
    try:
        server.start()
        s3, nobody = client(server), client(server, None)
        where = {"Bucket": "testbucket", "Key": "dir/old.txt"}
        for one in (s3, nobody):
            assert one.get_object(**where)["Body"].read() == b"lay there already"
        assert s3.head_object(**where)["ContentType"] == "text/plain"
        s3.put_object(Bucket="testbucket", Key="new", Body=b"new")
        assert (lies / "testbucket/new").read_bytes() == b"new"
        assert refused(s3.put_object, Bucket="secure", Key="k", Body=b"") == DENIED
        assert refused(nobody.list_objects_v2, Bucket="secure") == DENIED
        assert server.stop() == 0
        server.start()
        names = [one["Key"] for one in s3.list_objects_v2(Bucket="testbucket")["Contents"]]
        assert names == ["dir/old.txt", "new"]
        s3.close()
        nobody.close()
    finally:
        server.end()

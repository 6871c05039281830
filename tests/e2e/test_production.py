"""Five processes as on five hosts: one view at once, and a leader's death costs seconds at most."""

from __future__ import annotations

import json
import random
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from support.processes import S3d, production
from support.waiting import eventually

pytestmark = pytest.mark.e2e
INTERRUPTION_S_MAX = 15.0  # a few seconds on an idle machine; CI's two cores are not idle


def leader_of(servers: list[S3d]) -> S3d:
    """The process whose member leads, as the database's own status has it."""

    def probe() -> S3d | None:
        for server in servers[:3]:
            status = database_status(server)
            if status.get("role") == "leader":
                return server
        return None

    found = eventually(probe, within_s=20, what="a leader")
    assert found is not None
    return found


def database_status(server: S3d) -> dict[str, object]:
    """GET /status of the member of `server`, signed; {} where it does not answer."""
    import ssl
    import urllib.error
    import urllib.request

    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"https://{server.host}:6660/status"
    request = AWSRequest("GET", url)
    request.headers["x-amz-content-sha256"] = (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    SigV4Auth(Credentials(*server.credentials()), "s3db", "us-east-1").add_auth(request)
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict(request.headers)),
            context=ssl.create_default_context(cafile=str(server.ca)),
            timeout=2,
        ) as answer:
            return dict(json.loads(answer.read()))
    except (OSError, urllib.error.URLError):
        return {}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory):
    with production(tmp_path_factory.mktemp("production")) as running:
        yield running


def test_an_object_is_read_through_every_process_at_once(servers: list[S3d]) -> None:
    clients = [server.client() for server in servers]
    clients[0].create_bucket(Bucket="everywhere")
    draw = random.Random(5)
    for round_number in range(10):
        writer = clients[round_number % len(clients)]
        body = draw.randbytes(draw.randrange(1, 200_000))
        writer.put_object(Bucket="everywhere", Key="same-key", Body=body)
        for client in clients:
            assert client.get_object(Bucket="everywhere", Key="same-key")["Body"].read() == body
            listed = client.list_objects_v2(Bucket="everywhere")["Contents"]
            assert [(row["Key"], row["Size"]) for row in listed] == [("same-key", len(body))]


def test_a_leaders_death_interrupts_writes_briefly_and_loses_nothing(servers: list[S3d]) -> None:
    servers[0].client().create_bucket(Bucket="failover")
    leader = leader_of(servers)
    survivors = [server for server in servers if server is not leader]
    client = survivors[0].client(timeout_s=10)
    acknowledged: dict[str, bytes] = {}
    longest_gap_s = 0.0
    last_s = time.monotonic()
    killed = threading.Timer(1.0, leader.kill)
    killed.start()
    started_s = time.monotonic()
    number = 0
    while time.monotonic() - started_s < 12 or not leader_is_gone(leader):
        number += 1
        body = f"body {number}".encode()
        try:
            client.put_object(Bucket="failover", Key=f"k{number}", Body=body)
        except (ClientError, BotoCoreError):
            continue
        now_s = time.monotonic()
        longest_gap_s, last_s = max(longest_gap_s, now_s - last_s), now_s
        acknowledged[f"k{number}"] = body
    killed.join()
    print(f"longest interruption {longest_gap_s:.2f} s, {len(acknowledged)} acknowledged")
    assert longest_gap_s < INTERRUPTION_S_MAX
    assert len(acknowledged) > 20
    for server in survivors:
        reader = server.client(attempts=3)
        for key, body in acknowledged.items():
            assert reader.get_object(Bucket="failover", Key=key)["Body"].read() == body
    leader.start()  # and the killed one comes back and serves
    reader = leader.client(attempts=3)
    for key, body in acknowledged.items():
        assert reader.get_object(Bucket="failover", Key=key)["Body"].read() == body
    reader.put_object(Bucket="failover", Key="back", Body=b"again")
    assert servers[4].client().get_object(Bucket="failover", Key="back")["Body"].read() == b"again"


def leader_is_gone(leader: S3d) -> bool:
    return leader.process is not None and leader.process.poll() is not None


def test_a_large_object_crosses_hosts_over_quic(servers: list[S3d]) -> None:
    servers[0].client().create_bucket(Bucket="quic")
    body = random.Random(6).randbytes(20 << 20)
    servers[1].client().put_object(Bucket="quic", Key="big", Body=body)
    assert servers[4].client().get_object(Bucket="quic", Key="big")["Body"].read() == body

"""What a running `s3d` shows of itself: metrics, health, the access log."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import ssl
import struct
import subprocess
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session
from prometheus_client.parser import text_string_to_metric_families

from support.processes import S3d, development, fresh_network, s3d_command
from support.waiting import eventually

pytestmark = pytest.mark.e2e

METRICS_PORT = 9464


@dataclass
class Observed:
    server: S3d
    metrics_host: str
    access_log: Path

    def get(self, path: str) -> tuple[int, str]:
        """What the listener for metrics answers."""
        try:
            with urllib.request.urlopen(
                f"http://{self.metrics_host}:{METRICS_PORT}{path}", timeout=20
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self) -> dict[str, float]:
        """Every sample, as `name` or `name{label=value,...}`, labels in order."""
        status, text = self.get("/metrics")
        assert status == 200
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    host, log = f"{fresh_network()}.1", folder / "access.log"
    where = ["-metrics-port", str(METRICS_PORT), "-metrics-host", host]
    with development(folder, *where, "-access-log", str(log)) as server:
        server.client().create_bucket(Bucket="watched")
        yield Observed(server, host, log)


def test_requests_are_counted_by_operation_and_answer(observed: Observed) -> None:
    client = observed.server.client()
    before = observed.samples()
    client.put_object(Bucket="watched", Key="a", Body=bytes(5000))
    assert len(client.get_object(Bucket="watched", Key="a")["Body"].read()) == 5000
    with pytest.raises(ClientError):
        client.get_object(Bucket="watched", Key="none")

    def grew(name: str) -> float:
        return observed.samples().get(name, 0) - before.get(name, 0)

    def once(name: str) -> bool:
        return grew(name) == 1

    # A request is counted when its last byte is out, which the client may see a little earlier.
    for name in (
        "predastore_s3_requests_total{code=200,operation=PutObject}",
        "predastore_s3_requests_total{code=200,operation=GetObject}",
        "predastore_s3_requests_total{code=404,operation=GetObject}",
        "predastore_s3_errors_total{error=NoSuchKey}",
        "predastore_s3_request_seconds_count{operation=PutObject}",
    ):
        eventually(lambda name=name: once(name), what=name)
    assert grew("predastore_s3_received_bytes_total{operation=PutObject}") > 5000
    assert grew("predastore_s3_sent_bytes_total{operation=GetObject}") > 5000


def test_the_state_of_nodes_and_members_is_there(observed: Observed) -> None:
    observed.server.client().put_object(Bucket="watched", Key="b", Body=bytes(65_536))
    found = observed.samples()
    assert [found[f"predastore_node_up{{node={n}}}"] for n in range(1, 6)] == [1] * 5
    assert sum(found[f"predastore_node_shards{{node={n}}}"] for n in range(1, 6)) >= 5
    assert sum(found[f"predastore_node_sync_seconds_count{{node={n}}}"] for n in range(1, 6)) >= 5
    assert found["predastore_raft_is_leader{member=1}"] == 1
    assert found["predastore_raft_term{member=1}"] >= 1
    assert found["predastore_raft_unapplied_entries{member=1}"] >= 0
    assert found["predastore_db_sync_seconds_count{member=1}"] >= 1
    assert found["predastore_held_bytes{budget=bodies_in}"] == 0
    assert found["predastore_s3_connections"] >= 0
    assert found["predastore_ready"] == found["predastore_writes_possible"] == 1
    healed = eventually(
        lambda: (now := observed.samples())["predastore_healing_here"] and now, what="healing"
    )
    assert healed["predastore_repair_shards_left"] == 0
    assert found["process_resident_memory_bytes"] > 10e6
    eventually(lambda: observed.samples()["predastore_loop_lag_seconds_count"] > 3, what="lag")


def test_health_and_nothing_else_is_beside_metrics(observed: Observed) -> None:
    assert observed.get("/health/live") == (200, "ok\n")
    assert observed.get("/health/ready") == observed.get("/health/ready?writes") == (200, "ok\n")
    assert observed.get("/watched/a")[0] == 404


def fetch(server: S3d, path: str, credential: tuple[str, str] | None) -> tuple[int, bytes]:
    request = AWSRequest("GET", f"{server.endpoint}{path}")
    if credential is not None:
        S3SigV4Auth(Credentials(*credential), "s3", "us-east-1").add_auth(request)
    answer = URLLib3Session(verify=str(server.ca)).send(request.prepare())
    return answer.status_code, answer.content


def test_on_the_port_of_s3_metrics_are_for_the_operator_alone(observed: Observed) -> None:
    server = observed.server
    status, body = fetch(server, "/-/metrics", server.credentials())
    assert (status, b"# TYPE predastore_s3_requests_total counter" in body) == (200, True)
    assert fetch(server, "/-/metrics", None)[0] == 403
    assert fetch(server, "/-/metrics", (server.credentials()[0], "wrong"))[0] == 403
    assert fetch(server, "/metrics", None)[0] in (403, 404)  # a bucket of that name


def test_another_account_reads_no_metrics(tmp_path: Path) -> None:
    file = tmp_path / "s3d.toml"
    rows = "".join(
        f'[[auth]]\naccess_key_id = "{name}"\nsecret_access_key = "s"\naccount_id = "{name}"\n'
        for name in ("FIRST", "OTHER")
    )
    file.write_text(rows)
    server = S3d(tmp_path / "data", f"{fresh_network()}.1", ["-config", str(file)])
    try:
        server.start()
        assert fetch(server, "/-/metrics", ("FIRST", "s"))[0] == 200
        assert fetch(server, "/-/metrics", ("OTHER", "s"))[0] == 403
    finally:
        server.end()


def test_each_request_has_a_line_and_no_secret(observed: Observed) -> None:
    client = observed.server.client()
    url = client.generate_presigned_url("get_object", {"Bucket": "watched", "Key": "presigned"})
    signature = url.rpartition("Signature=")[2].partition("&")[0]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(
            url, context=ssl.create_default_context(cafile=str(observed.server.ca))
        )
    line = eventually(
        lambda: next(
            (one for one in observed.access_log.read_text().splitlines() if "presigned" in one), ""
        ),
        what="the line",
    )
    assert "operation=GetObject method=GET bucket=watched key=presigned " in line
    assert " status=404 " in line
    assert signature not in observed.access_log.read_text()


def top(observed: Observed, *arguments: str) -> list[str]:
    command = [*s3d_command(), "top", *arguments]
    return [*command, f"{observed.metrics_host}:{METRICS_PORT}"]


def test_top_prints_once_for_scripts(observed: Observed) -> None:
    command = top(observed, "--once", "-interval", "0.2")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 processes" in done.stdout
    assert "leader" in done.stdout
    assert "\x1b" not in done.stdout


def test_top_without_a_process_says_so() -> None:
    command = [*s3d_command(), "top", "--once", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "http://127.0.0.1:1/metrics: " in done.stdout
    assert "Traceback" not in done.stderr


def test_top_lives_in_a_terminal_and_leaves_it_as_it_was(observed: Observed) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    before = termios.tcgetattr(theirs)
    shown = bytearray()

    def shows(text: bytes) -> bool:
        while select.select([ours], [], [], 0)[0]:
            shown.extend(os.read(ours, 65536))
        return text in shown

    process = subprocess.Popen(
        top(observed, "-interval", "0.2"), stdin=theirs, stdout=theirs, stderr=theirs
    )
    try:
        eventually(lambda: shows(b"1 of 1 processes"), within_s=60, what="the first look")
        observed.server.client().head_bucket(Bucket="watched")
        eventually(lambda: shows(b"HeadBucket"), within_s=60, what="what was just asked for")
        os.write(ours, b"q")
        assert process.wait(30) == 0
        assert shows(b"\x1b[?1049l")
        assert termios.tcgetattr(theirs) == before
        lines = shown.replace(b"\x1b[K", b"").replace(b"\x1b[H", b"\r\n").split(b"\r\n")
        plain = [re.sub(rb"\x1b\[[?0-9]*[a-zA-Z]|\r", b"", one) for one in lines]
        assert max(map(len, plain)) <= 60
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)
        os.close(theirs)

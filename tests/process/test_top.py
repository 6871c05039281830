"""`s3d top`: what it makes of two readings. Against a running process: tests/e2e."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from predastore.base.errors import ConfigError
from predastore.base.limits import TOP_PROCESSES_MAX
from predastore.process import roles
from predastore.process.commands import top
from predastore.process.commands.samples import SampleReading, SampleSpan, parse, quantile, read
from predastore.process.commands.top_view import table, view

BEFORE = """\
# HELP predastore_s3_requests_total Requests.
# TYPE predastore_s3_requests_total counter
predastore_s3_requests_total{operation="GetObject",code="200"} 100
predastore_s3_request_seconds_bucket{operation="GetObject",le="0.001"} 100
predastore_s3_request_seconds_bucket{operation="GetObject",le="0.0025"} 100
predastore_s3_request_seconds_bucket{operation="GetObject",le="+Inf"} 100
predastore_s3_request_seconds_sum{operation="GetObject"} 0.05
predastore_node_sync_seconds_sum{node="1"} 1
predastore_node_sync_seconds_count{node="1"} 10
process_cpu_seconds_total 1.0
"""
NOW = """\
predastore_s3_requests_total{operation="GetObject",code="200"} 118
predastore_s3_requests_total{operation="GetObject",code="404"} 2
predastore_s3_requests_total{operation="PutObject",code="500"} 2
predastore_s3_request_seconds_bucket{operation="GetObject",le="0.001"} 110
predastore_s3_request_seconds_bucket{operation="GetObject",le="0.0025"} 120
predastore_s3_request_seconds_bucket{operation="GetObject",le="+Inf"} 120
predastore_s3_request_seconds_sum{operation="GetObject"} 0.07
predastore_s3_received_bytes_total{operation="GetObject"} 4096
predastore_node_up{node="1"} 1
predastore_node_up{node="2"} 0
predastore_node_shards{node="1"} 7
predastore_node_failed{node="1"} 0
predastore_node_bytes{node="1",state="live"} 2048
predastore_node_sync_seconds_sum{node="1"} 1.04
predastore_node_sync_seconds_count{node="1"} 20
predastore_raft_term{member="1"} 3
predastore_raft_is_leader{member="1"} 1
predastore_raft_has_leader{member="1"} 1
predastore_raft_commit_index{member="1"} 99
predastore_raft_follower_lag_entries{member="1",follower="2"} 4
predastore_raft_follower_lag_entries{member="1",follower="3"} 9
predastore_healing_here 1
predastore_repair_shards_left 12
predastore_repair_stuck_shards 1
predastore_repair_bytes_left 12582912
predastore_repair_bytes_per_second 1048576
predastore_repair_seconds_left 12
predastore_healing_nodes{state="down"} 1
predastore_ready 1
process_cpu_seconds_total 2.0
process_resident_memory_bytes 1048576
"""


def span(before: str, now: str, seconds: float = 2.0) -> SampleSpan:
    url = "http://h/metrics"
    return SampleSpan(
        SampleReading(url, 0.0, parse(before)), SampleReading(url, seconds, parse(now))
    )


def line(lines: list[str], begin: str) -> list[str]:
    """The columns of the only line that begins so."""
    [found] = [one for one in lines if one.startswith(begin)]
    return found.split()


def test_rates_are_what_lies_between_two_readings() -> None:
    lines = view([span(BEFORE, NOW)], "12:00:00")
    assert lines[0] == (
        "s3d top  12:00:00  1 of 1 processes  11.0 requests/s  in 2.0 KiB/s  out 0 B/s  "
        "0.0 bad shards found/s"
    )
    assert line(lines, "GetObject") == ["GetObject", "10.0", "1.0", "0.0", "1.00", "1", "2.5"]
    assert line(lines, "PutObject")[:4] == ["PutObject", "1.0", "0.0", "1.0"]
    assert lines.index("") < lines.index(next(one for one in lines if one.startswith("GetObject")))


def test_nodes_members_and_processes_have_their_tables() -> None:
    lines = view([span(BEFORE, NOW)], "12:00:00")
    one, two = (one for one in lines if one.startswith(("1 ", "2 ")) and " of " in one)
    assert one.split()[:8] == ["1", "1", "of", "1", "writes", "7", "0", "2.0"]
    assert one.split()[-2:] == ["5.0", "4.00"]
    assert two.split()[:6] == ["2", "0", "of", "1", "not", "read"]
    healing = lines[next(n for n, one in enumerate(lines) if one.startswith("HEALING")) + 1]
    assert healing.split()[1:] == [
        "12",
        "1",
        "12.0",
        "MiB",
        "1.0",
        "MiB/s",
        "12",
        "s",
        "0",
        "1",
        "0",
    ]
    leader = next(one for one in lines if "leader" in one)
    assert leader.split()[:6] == ["1", "leader", "3", "99", "0", "9"]
    assert lines[-2].split()[:5] == ["http://h/metrics", "yes", "50%", "1.0", "MiB"]


def test_a_process_that_began_anew_has_no_negative_rates() -> None:
    lines = view([span(NOW, BEFORE)], "12:00:00")
    assert line(lines, "GetObject")[1] == "50.0"
    assert not any("-0." in one or "-1" in one for one in lines)


def test_a_process_that_does_not_answer_is_named() -> None:
    gone = SampleReading("http://gone/metrics", 0.0, {}, "Connection refused")
    lines = view([span(BEFORE, NOW), SampleSpan(gone, gone)], "12:00:00")
    assert "1 of 2 processes" in lines[0]
    assert lines[-1] == "http://gone/metrics: Connection refused"


def test_labels_come_back_as_they_were() -> None:
    assert parse('m{a="x\\"y\\\\z\\nw",b=""} 2.5\n') == {
        "m": {(("a", 'x"y\\z\nw'), ("b", "")): 2.5}
    }
    assert parse("m 1\nnonsense\nm{ 2\n") == {"m": {(): 1.0}}


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    buckets = {0.1: 50.0, 0.2: 99.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == 0.1
    assert quantile(buckets, 0.99) == 0.2
    assert quantile(buckets, 1.0) == float("inf")
    assert quantile({}, 0.5) is None


def test_columns_are_aligned() -> None:
    assert table(("A", "BB"), [("long", "1"), ("x", "100")]) == [
        "A      BB",
        "long    1",
        "x     100",
    ]


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"m 1\n")

    def log_message(self, *_: object) -> None:
        pass


def test_a_process_is_asked_itself_whatever_proxy_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # else it knows the variables of before
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        [found] = read([f"http://127.0.0.1:{server.server_port}/metrics"])
        if found.problem:  # nobody came: the thread still waits for one
            socket.create_connection(server.server_address).close()
        thread.join()
    assert found.problem == ""
    assert found.samples == {"m": {(): 1.0}}


def test_addresses_come_from_the_line_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert top.addresses([], {}, {}) == ["http://127.0.0.1:9464/metrics"]
    (tmp_path / "c.toml").write_text('metrics_host = "127.0.0.3"\nmetrics_port = 9000\n')
    assert top.addresses([], {"config": "c.toml"}, {}) == ["http://127.0.0.3:9000/metrics"]
    assert top.addresses(["a:1", "https://b/x"], {}, {}) == ["http://a:1/metrics", "https://b/x"]
    with pytest.raises(ConfigError):
        top.addresses(["ftp://a"], {}, {})
    with pytest.raises(ConfigError):
        top.addresses(["a:1"] * (TOP_PROCESSES_MAX + 1), {}, {})


CLUSTER = "metrics_port = 9000\n[rs]\ndata = 1\nparity = 0\n" + "".join(
    f'[[{table}]]\nid = {n}\nhost = "192.0.2.{n}"\nport = {port}\n'
    for n in (1, 2, 3)
    for table, port in (("nodes", 9991), ("db", 6660))
)


@pytest.mark.parametrize(
    ("metrics_host", "own", "asked"),
    [
        ("127.0.0.1", "192.0.2.2", ["192.0.2.1", "127.0.0.1", "192.0.2.3"]),
        ("0.0.0.0", "192.0.2.2", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("127.0.0.1", "elsewhere", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
    ],
)
def test_the_hosts_of_a_cluster_come_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics_host: str, own: str, asked: list[str]
) -> None:
    monkeypatch.setattr(roles, "is_local", lambda host: host == own)
    file = tmp_path / "c.toml"
    file.write_text(f'metrics_host = "{metrics_host}"\n{CLUSTER}')
    found = top.addresses([], {"config": str(file)}, {})
    assert found == [f"http://{host}:9000/metrics" for host in asked]


def test_hosts_of_one_machine_are_asked_at_their_own_addresses(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(CLUSTER.replace("192.0.2.", "127.0.0."))
    found = top.addresses([], {"config": str(file)}, {})
    assert found == [f"http://127.0.0.{n}:9000/metrics" for n in (1, 2, 3)]


def test_a_process_that_joins_names_its_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "is_local", lambda host: False)
    file = tmp_path / "c.toml"
    file.write_text('[cluster]\njoin = "192.0.2.1:9991, 192.0.2.2:9991"\n')
    found = top.addresses([], {"config": str(file)}, {})
    assert found == [f"http://192.0.2.{n}:9464/metrics" for n in (1, 2)]


@pytest.fixture
def answering() -> Iterator[str]:
    """The address of a process that shows metrics."""
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_one_look_tells_by_its_exit_code_that_a_process_is_down(
    answering: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--once", "-interval", "0.1", answering]
    assert top.main(line, {}) == 0
    assert "1 of 1 processes" in capsys.readouterr().out
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))  # and does not listen
        assert top.main([*line, f"127.0.0.1:{gone.getsockname()[1]}"], {}) == 1
    said = capsys.readouterr().out
    assert "1 of 2 processes" in said
    assert "metrics_host" in said

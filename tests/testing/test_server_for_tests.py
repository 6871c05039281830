"""The server for other projects' tests: it starts, is emptied, and ends with whoever began it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from predastore.base.errors import StartupError
from predastore.testing import S3Server, running
from predastore.testing import server as testing_server
from support.waiting import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running(tmp_path_factory.mktemp("s3")) as made:
        yield made


def listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_clearing_leaves_nothing_behind(server: S3Server) -> None:
    client = boto3.client("s3", **server.boto3)
    keys = ["plain", "a b/c+d%20e", "ünïcode/√", "line\nbreak", "dots/../x", "//", "a&b=c?d#e"]
    for bucket in ("one", "two"):
        client.create_bucket(Bucket=bucket)
        for key in keys:
            client.put_object(Bucket=bucket, Key=key, Body=b"x")
        for key in ("begun & not <ended>", "a\r\nb", "a b+c"):
            client.create_multipart_upload(Bucket=bucket, Key=key)
        with contextlib.suppress(ClientError):  # it is begun, but no XML can say the key
            client.create_multipart_upload(Bucket=bucket, Key="a\x01b")
    server.clear()
    assert client.list_buckets()["Buckets"] == []
    client.create_bucket(Bucket="one")
    assert client.list_objects_v2(Bucket="one")["KeyCount"] == 0
    server.clear()
    server.clear()  # of nothing, too


def test_more_than_a_page_is_cleared(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing_server, "PAGE", 3)
    client = boto3.client("s3", **server.boto3)
    client.create_bucket(Bucket="many")
    for number in range(7):
        client.put_object(Bucket="many", Key=str(number))
        client.create_multipart_upload(Bucket="many", Key="one")
    server.clear()
    assert client.list_buckets()["Buckets"] == []


def test_it_is_stopped_at_the_end_of_the_block(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert listens(server.port)
    assert not listens(server.port)


def test_it_outlives_the_thread_that_began_it(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        begun: list[tuple[S3Server, int]] = []

        def begin() -> None:
            begun.append((stack.enter_context(running(tmp_path)), threading.get_native_id()))

        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        server, task = begun[0]
        eventually(lambda: not Path(f"/proc/self/task/{task}").exists(), what="the thread's end")
        for _ in range(20):  # a signal would have come by then
            server.clear()


def test_variables_of_the_environment_are_no_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "no port")
    monkeypatch.setenv("BACKEND", "none")
    with running(tmp_path) as server:
        assert boto3.client("s3", **server.boto3).list_buckets()["Buckets"] == []


def test_a_server_that_can_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(StartupError, match="data"), running(tmp_path):
        raise AssertionError("it started")


def test_it_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from predastore.testing import running\n"
        "with running(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.port, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    assert listens(port)
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    assert parent.stdin is not None
    parent.stdin.close()
    eventually(lambda: not listens(port), within_s=30, what="the server's end")

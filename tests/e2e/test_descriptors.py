"""Few file descriptors, and none at all: connections do not take those that nodes and members need,
and what lacks one is told so, or waits; nothing ends, and all goes on once there are some again."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.processes import PORT, S3d, development, filesystem
from support.waiting import eventually

pytestmark = pytest.mark.e2e

FEW = 128
IDLE = 200
_BODY = bytes(3 << 20)
_REST_PORT, _METRICS_PORT = 6660, 9100

BACKENDS = {"distributed": development, "filesystem": filesystem}


def _limits(server: S3d) -> tuple[int, int]:
    assert server.process is not None
    return resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)


@contextlib.contextmanager
def no_descriptors(server: S3d) -> Iterator[None]:
    """Nothing more can be opened by `server`."""
    assert server.process is not None
    pid, before = server.process.pid, _limits(server)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _hang_up(server: S3d) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)


def _code(work: Callable[[], object]) -> int:
    """The status of what a client asks for."""
    try:
        work()
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


def _store_and_read(client: BaseClient, key: str, body: bytes) -> None:
    client.put_object(Bucket="bucket", Key=key, Body=body)
    assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == body
    assert client.list_objects_v2(Bucket="bucket", Prefix=key)["KeyCount"] == 1


def _checkpoint_ns(server: S3d) -> int:
    (file,) = server.base_path.glob("db/*/store/store.checkpoint")
    return file.stat().st_mtime_ns


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    here = resource.getrlimit(resource.RLIMIT_NOFILE)
    with filesystem(tmp_path, ulimit="-Sn 100 && ulimit -Hn 400") as server:
        assert _limits(server) == (400, 400)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == here


@pytest.mark.parametrize("backend", BACKENDS)
def test_hundreds_of_idle_connections_take_nothing_from_a_client_that_works(
    tmp_path: Path, backend: str
) -> None:
    arguments = ("-metrics-port", str(_METRICS_PORT))
    with BACKENDS[backend](tmp_path, *arguments, ulimit=f"-n {FEW}") as server:
        client = server.client()
        client.create_bucket(Bucket="bucket")
        ports = [PORT, PORT, _METRICS_PORT]
        if backend == "distributed":
            ports.append(_REST_PORT)
            before = _checkpoint_ns(server)
        with contextlib.ExitStack() as stack:
            for number, port in enumerate(ports):
                host = "127.0.0.1" if port == _METRICS_PORT else server.host
                for _ in range(IDLE):
                    idle = stack.enter_context(socket.create_connection((host, port), timeout=20))
                    if number == 1:  # the first half of a handshake
                        with contextlib.suppress(OSError):
                            idle.sendall(b"\x16\x03\x01\x02\x00\x01")
            for number in range(3):
                _store_and_read(client, f"k{number}", _BODY)
            if backend == "distributed":
                eventually(lambda: _checkpoint_ns(server) > before, what="a checkpoint")
            _store_and_read(client, "more", _BODY)
        eventually(lambda: server.healthy("ready"), within_s=30, what="new connections")
        _store_and_read(server.client(), "after", _BODY)
        assert server.stop() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_single_descriptor_left_nothing_ends_and_all_goes_on_later(
    tmp_path: Path, backend: str
) -> None:
    with BACKENDS[backend](tmp_path) as server, ThreadPoolExecutor(2) as threads:
        client = server.client()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="k", Body=_BODY)
        if backend == "distributed":
            before = _checkpoint_ns(server)
        with no_descriptors(server):
            # What it takes is open already where shards are stored.
            put = _code(partial(client.put_object, Bucket="bucket", Key="one", Body=_BODY))
            assert put == (200 if backend == "distributed" else 503), server.output
            reading = threads.submit(_code, partial(client.get_object, Bucket="bucket", Key="k"))
            waiting = threads.submit(_tls_connection, server)
            _hang_up(server)
            wanted = ["connections wait", "configuration not reloaded"]
            if backend == "distributed":
                wanted.append("waiting, as the system can not give")  # the checkpoint
            eventually(lambda: all(line in server.output for line in wanted), within_s=20)
            assert server.process is not None
            assert server.process.poll() is None, server.output
        assert reading.result(30) in (200, 503)
        assert waiting.result(30), "who came meanwhile is served"
        _store_and_read(client, "k", _BODY)
        _store_and_read(server.client(), "more", _BODY)
        if backend == "distributed":
            eventually(lambda: _checkpoint_ns(server) > before, what="a checkpoint")
        _hang_up(server)
        eventually(lambda: "configuration reloaded" in server.output, what="the next reload")
        assert "accepts no more writes" not in server.output
        assert server.stop() == 0
        assert "Traceback" not in server.output


def _tls_connection(server: S3d) -> bool:
    context = ssl.create_default_context(cafile=str(server.ca))
    with (
        socket.create_connection((server.host, PORT), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=server.host) as client,
    ):
        client.sendall(b"GET /-/health/live HTTP/1.1\r\nhost: h\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")

"""`s3d` under a service manager: readiness, signs of life, reloads, a socket handed over."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.process import certificates
from support.processes import fresh_network, s3d_command
from support.waiting import eventually

pytestmark = pytest.mark.e2e


# As a service manager does it: the socket is descriptor 3 of the process that LISTEN_PID names.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Managed:
    """A process, the socket that was made for it, and what it has told its manager so far."""

    folder: Path
    listener: socket.socket
    notices: socket.socket
    process: subprocess.Popen[bytes]
    told: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return str(self.listener.getsockname()[0])

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def hears(self, notice: str) -> bool:
        assert self.process.poll() is None, (self.folder / "stderr").read_text()
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told.append(self.notices.recv(4096).decode())
        return any(notice in one for one in self.told)

    def reload(self) -> None:
        """SIGHUP, until the process says that it is done."""
        self.told.clear()
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.hears("RELOADING=1\nMONOTONIC_USEC="), what="reloading")
        eventually(lambda: self.hears("READY=1"), what="reloaded")

    def client(self, secret: str) -> BaseClient:
        return boto3.client(
            "s3",
            endpoint_url=f"https://{self.host}:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="KEY",
            aws_secret_access_key=secret,
            verify=str(self.folder / "tls" / "ca.pem"),
        )

    def works(self, secret: str) -> bool:
        try:
            self.client(secret).list_buckets()
        except ClientError as error:
            assert error.response["Error"]["Code"] == "SignatureDoesNotMatch"
            return False
        return True

    def connection(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.folder / "tls" / "ca.pem"))
        return HTTPSConnection(self.host, self.port, context=context, timeout=20)


def configure(folder: Path, *, secret: str = "first", level: str = "info") -> None:
    (folder / "s3d.toml").write_text(
        f'log_level = "{level}"\n'
        'tls_cert = "tls/server.pem"\ntls_key = "tls/server.key"\n'
        f'[[auth]]\naccess_key_id = "KEY"\nsecret_access_key = "{secret}"\n'
    )


@contextlib.contextmanager
def managed(folder: Path) -> Iterator[Managed]:
    """`s3d` over plain files, its socket handed over as a socket unit does it."""
    root = Path(__file__).resolve().parents[2]
    address = f"{fresh_network()}.1"
    certificates.ensure(folder / "tls", [address])
    configure(folder)
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder / "notify"))
    notices.setblocking(False)
    listener = socket.create_server((address, 0))
    command = [*s3d_command(), "-config", "s3d.toml"]
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(listener.fileno()), *command],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(root),
                "NOTIFY_SOCKET": str(folder / "notify"),
                "WATCHDOG_USEC": "600000",
                "LISTEN_FDS": "1",
            },
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[listener.fileno()],
        )
    made = Managed(folder, listener, notices, process)
    try:
        eventually(lambda: made.hears("READY=1"), within_s=60, what="ready")
        yield made
    finally:
        process.kill()
        process.wait(10)
        notices.close()
        listener.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    with managed(tmp_path_factory.mktemp("managed")) as made:
        yield made


@pytest.fixture(autouse=True)
def _as_at_first(server: Managed) -> Iterator[None]:
    yield
    configure(server.folder)
    server.reload()


def test_a_socket_that_was_handed_over_is_served(server: Managed) -> None:
    assert server.works("first")


def test_signs_of_life_are_sent(server: Managed) -> None:
    eventually(lambda: server.hears("WATCHDOG=1"), what="a sign of life")


def test_a_reload_takes_in_credentials_and_log_level(server: Managed) -> None:
    configure(server.folder, secret="second", level="debug")
    server.reload()
    assert server.works("second")
    assert not server.works("first")
    configure(server.folder, level="error")
    server.reload()
    said = (server.folder / "stderr").read_bytes()
    configure(server.folder, level="warning")
    server.reload()
    assert (server.folder / "stderr").read_bytes() == said


def test_a_reload_takes_in_certificates_and_keeps_connections(server: Managed) -> None:
    with contextlib.closing(server.connection()) as old:
        old.request("GET", "/-/health/live")
        assert old.getresponse().read() == b"ok\n"
        assert old.sock is not None
        local = old.sock.getsockname()
        certificates.ensure(server.folder / "tls", [server.host, "new.example"])
        server.reload()
        old.request("GET", "/-/health/live")
        assert old.getresponse().read() == b"ok\n"
        assert old.sock.getsockname() == local
    with contextlib.closing(server.connection()) as fresh:
        fresh.connect()
        assert isinstance(fresh.sock, ssl.SSLSocket)
        shown = fresh.sock.getpeercert() or {}
        assert ("DNS", "new.example") in shown["subjectAltName"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("port = 0\nlog_level = 3\n", "s3d.toml:2: log_level: expected one of"),
        ('tls_cert = "no.pem"\ntls_key = "tls/server.key"\n', "no.pem: can not be read"),
        ("[[auth", "not TOML"),
    ],
)
def test_a_bad_file_leaves_the_old_settings_in_force(
    server: Managed, content: str, problem: str
) -> None:
    (server.folder / "s3d.toml").write_text(content)
    server.reload()
    assert problem in (server.folder / "stderr").read_text()
    assert server.works("first")

"""One `s3d` over plain files in a process of its own, and how it is emptied between two tests.

The listening socket is made here and handed over, so no port is ever taken by somebody else in
between. The server's standard input is a pipe that nothing is written to: it ends with the process
that began the server, however that ends, and with what that has forked; then the server ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential
from predastore.base.errors import StartupError
from predastore.base.limits import TESTING_POLL_S, TESTING_START_S, TESTING_STOP_S

REGION: Final = "us-east-1"
ACCOUNT_ID: Final = "000000000000"
PAGE = 1_000  # keys or uploads of one listing
_HOST: Final = "127.0.0.1"
_XMLNS: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"

# In the new process: end with SIGTERM when the pipe does (PR_SET_PDEATHSIG would look at the thread
# that began it, not the process), take the socket as a service manager would hand it over, and be
# s3d.
_BEGIN: Final = """
import os, signal, sys, threading

def end_with_the_pipe():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_with_the_pipe, daemon=True).start()
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
from predastore.process.cli import main
sys.exit(main(sys.argv[2:]))
"""


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and the only credential that it knows."""

    port: int
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = REGION
    account_id: str = ACCOUNT_ID

    @property
    def endpoint_url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    @property
    def boto3(self) -> dict[str, Any]:
        """For boto3.client("s3", **...), resource and aioboto3 alike."""
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Variables for programs that take them from the environment, such as the AWS CLI."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def clear(self) -> None:
        """Removes every bucket, with its objects and its uploads in progress."""
        with contextlib.closing(HTTPConnection(_HOST, self.port, timeout=60)) as connection:
            for bucket in self._named(connection, "/", "", "Buckets/Bucket", "Name"):
                self._empty(connection, f"/{quote(bucket)}")
                self._ask(connection, "DELETE", f"/{quote(bucket)}", "")

    def _empty(self, connection: HTTPConnection, path: str) -> None:
        query = f"encoding-type=url&max-uploads={PAGE}&uploads="
        while uploads := self._rows(connection, path, query, "Upload", "UploadId", "Key"):
            for upload_id, key in uploads:
                self._ask(connection, "DELETE", f"{path}/{_path(key)}", f"uploadId={upload_id}")
        query = f"encoding-type=url&list-type=2&max-keys={PAGE}"
        while keys := self._named(connection, path, query, "Contents", "Key"):
            for key in keys:
                self._ask(connection, "DELETE", f"{path}/{_path(key)}", "")

    def _named(
        self, connection: HTTPConnection, path: str, query: str, row: str, name: str
    ) -> list[str]:
        return [found[0] for found in self._rows(connection, path, query, row, name)]

    def _rows(
        self, connection: HTTPConnection, path: str, query: str, row: str, *names: str
    ) -> list[list[str]]:
        """The values of `names` in each `row` of the answer."""
        document = ElementTree.fromstring(self._ask(connection, "GET", path, query))
        rows = document.findall("/".join(_XMLNS + part for part in row.split("/")))
        return [[one.findtext(_XMLNS + name, "") for name in names] for one in rows]

    def _ask(self, connection: HTTPConnection, method: str, path: str, query: str) -> bytes:
        headers = sign_request(
            Credential(self.access_key_id, self.secret_access_key, self.account_id),
            method=method,
            raw_path=path.encode(),
            raw_query=query.encode(),
            headers=[("host", f"{_HOST}:{self.port}")],
            payload=b"",
            region=self.region,
            service="s3",
        )
        connection.request(method, f"{path}?{query}" if query else path, headers=dict(headers))
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 400 and answer.status != 404:
            raise RuntimeError(f"{method} {path}: {answer.status}\n{body.decode()}")
        return body


def _path(key: str) -> str:
    """The path of a key that is percent-encoded, as in listings: any byte may be in it."""
    return key.replace("+", "%20")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """A server with its data below `folder`, ready; it is stopped at the end of the block.

    StartupError where it does not start.
    """
    credential = ("PSTEST" + secrets.token_hex(7).upper(), secrets.token_urlsafe(30))
    (folder / "s3d.toml").write_text(
        'tls = false\nlog_level = "warning"\nbase_path = "data"\n'
        f'[[auth]]\naccess_key_id = "{credential[0]}"\nsecret_access_key = "{credential[1]}"\n',
        encoding="utf-8",
    )
    with socket.create_server((_HOST, 0)) as listener:
        server = S3Server(listener.getsockname()[1], *credential)
        command = [sys.executable, "-c", _BEGIN, str(listener.fileno()), "-config", "s3d.toml"]
        with (folder / "s3d.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
            )
    try:
        _wait_until_ready(server, process, folder / "s3d.log")
        yield server
    finally:
        _stop(process)


def _environment() -> dict[str, str]:
    """That of this process, without what `s3d` would take for flags or a service manager."""
    from predastore.process.flags import FLAGS

    names = {flag.env for flag in FLAGS} | {"NOTIFY_SOCKET", "WATCHDOG_USEC"}
    return {name: value for name, value in os.environ.items() if name not in names}


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + TESTING_START_S
    while not _is_ready(server.port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartupError(f"s3d did not start:\n{log.read_text('utf-8', 'replace')}")
        time.sleep(TESTING_POLL_S)


def _is_ready(port: int) -> bool:
    with contextlib.closing(HTTPConnection(_HOST, port, timeout=TESTING_START_S)) as connection:
        try:
            connection.request("GET", "/-/health/ready")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(TESTING_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()

"""Real `s3d` processes for end-to-end tests.

Each cluster gets loopback addresses of its own (127.x.y.1 and on), so that every test may use the
standard ports and tests never meet. A process is started as a user would start it, its output
goes to files, and it is killed with SIGKILL or stopped with SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from botocore.client import BaseClient
from botocore.config import Config as BotoConfig

from support.boto import Clients
from support.waiting import eventually

PORT = 8443
START_S = 60.0


def s3d_command() -> list[str]:
    """What runs `s3d`: the binary that S3D names, else this interpreter with this source."""
    binary = os.environ.get("S3D")
    return [str(Path(binary).resolve())] if binary else [sys.executable, "-m", "predastore"]


def fresh_network() -> str:
    """The first three bytes of an address range that no other test uses."""
    return f"127.{random.randrange(10, 250)}.{random.randrange(1, 250)}"


class Keys(NamedTuple):
    """An access key, as its holder has it; with `token`, of a session."""

    id: str
    secret: str
    token: str | None = None

    def environment(self) -> dict[str, str]:
        """What clients of AWS read from theirs."""
        return {
            "AWS_ACCESS_KEY_ID": self.id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.token or "",
        }


@dataclass
class S3d:
    """One process. `host` is where its S3 endpoint listens. `ulimit`: options of the shell's, under
    which it is started. `secure`: with TLS, as it is unless its file says otherwise."""

    base_path: Path
    host: str
    arguments: Sequence[str]
    name: str = "s3d"
    ulimit: str = ""
    secure: bool = True
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    clients: Clients = field(default_factory=Clients, repr=False, compare=False)

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{PORT}"

    @property
    def ca(self) -> Path:
        return self.base_path / "tls" / "ca.pem"

    @property
    def output(self) -> str:
        """Everything that the process printed in all its lives."""
        return "".join(
            file.read_text("utf-8", "replace")
            for file in sorted(self.base_path.parent.glob(f"{self.name}.std*"))
        )

    def start(self, *, ready: bool = True) -> S3d:
        folder = self.base_path.parent
        command = [*s3d_command(), "-host", self.host, *self.arguments]
        if self.ulimit:
            command = ["sh", "-c", f'ulimit {self.ulimit} && exec "$@"', "sh", *command]
        with (
            (folder / f"{self.name}.stdout").open("ab") as out,
            (folder / f"{self.name}.stderr").open("ab") as err,
        ):
            self.process = subprocess.Popen(
                [*command, "-base-path", str(self.base_path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def probe() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended:\n{self.output}"
            return self.healthy("ready")

        try:
            eventually(probe, within_s=START_S, what=f"{self.name} ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def healthy(self, what: str) -> bool:
        try:
            context = ssl.create_default_context(cafile=str(self.ca)) if self.secure else None
            with urllib.request.urlopen(
                f"{self.endpoint}/-/health/{what}", context=context, timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        """SIGKILL: no chance to flush or to say good-bye."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait(10)

    def end(self) -> None:
        """For good: its clients are closed, too."""
        self.kill()
        self.clients.close()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(within_s)

    def resident_bytes(self) -> int:
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def client(
        self,
        service: str = "s3",
        keys: Keys | None = None,
        *,
        attempts: int = 1,
        timeout_s: float = 60.0,
        signature: str | None = None,
    ) -> BaseClient:
        """A boto3 client that verifies the generated certificate. `keys`: None, the operator's.
        `signature`: botocore's name of it; None: as it comes."""
        who = keys or Keys(*self.credentials())
        return self.clients.make(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=who.id,
            aws_secret_access_key=who.secret,
            aws_session_token=who.token,
            verify=str(self.ca) if self.secure else None,
            config=BotoConfig(
                signature_version=signature,
                retries={"total_max_attempts": attempts},
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=timeout_s,
            ),
        )

    def credentials(self) -> tuple[str, str]:
        raw = json.loads((self.base_path / "credentials.json").read_text())
        return raw["access_key_id"], raw["secret_access_key"]

    def environment(self) -> dict[str, str]:
        """What the banner tells a person to export, for command line clients."""
        key_id, secret = self.credentials()
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CA_BUNDLE": str(self.ca),
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def development(folder: Path, *arguments: str, ulimit: str = "", extra: str = "") -> Iterator[S3d]:
    """One process with five nodes and an embedded database, as `make run` starts it. `extra`:
    further tables of its file."""
    network = fresh_network()
    rows = "".join(
        f'[[nodes]]\nid = {n}\nhost = "{network}.1"\nport = {9990 + n}\n' for n in range(1, 6)
    )
    database = f'[[db]]\nid = 1\nhost = "{network}.1"\nport = 6660\n'
    file = folder / "dev.toml"
    file.write_text(f'backend = "distributed"\n{rows}{database}{extra}')
    server = S3d(folder / "data", f"{network}.1", ["-config", str(file), *arguments], ulimit=ulimit)
    try:
        yield server.start()
    finally:
        server.end()


@contextlib.contextmanager
def filesystem(folder: Path, *arguments: str, ulimit: str = "") -> Iterator[S3d]:
    """One process over plain files."""
    words = ["-backend", "filesystem", *arguments]
    server = S3d(folder / "data", f"{fresh_network()}.1", words, ulimit=ulimit)
    try:
        yield server.start()
    finally:
        server.end()


@contextlib.contextmanager
def production(
    folder: Path,
    *,
    count: int = 5,
    members: int = 3,
    extra: str = "",
    code: tuple[int, int] = (3, 2),
    apart: bool = False,
) -> Iterator[list[S3d]]:
    """`count` processes, a shard node each, the first `members` with a database member each.
    `apart`: each has a base path of its own, as on hosts of their own; `extra` has [[auth]]."""
    network = fresh_network()
    hosts = [f"{network}.{n}" for n in range(1, count + 1)]
    file = folder / "cluster.toml"
    text = f'backend = "distributed"\n[rs]\ndata = {code[0]}\nparity = {code[1]}\n{extra}'
    for n, host in enumerate(hosts, 1):
        text += f'[[nodes]]\nid = {n}\nhost = "{host}"\nport = 9991\n'
        if n <= members:
            text += f'[[db]]\nid = {n}\nhost = "{host}"\nport = 6660\n'
    file.write_text(text)
    servers = []
    for n, host in enumerate(hosts, 1):
        roles = ["-node", str(n), *(["-db-node", str(n)] if n <= members else [])]
        arguments = ["-config", str(file), *roles]
        base_path = folder / (f"host-{n}" if apart else "data")
        servers.append(S3d(base_path, host, arguments, name=f"s3d-{n}"))
    try:
        for server in servers:
            server.start(ready=False)
        for server in servers:
            server.wait_ready()
        yield servers
    finally:
        for server in servers:
            server.end()

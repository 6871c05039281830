"""Real `s3d -db` processes: a metadata cluster of a few, each with an address of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predastore.auth.sigv4 import Credential
from predastore.base import config
from predastore.base.errors import PredastoreError
from predastore.process import credentials
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.api import Api
from predastore.s3db.client import Client
from support.processes import fresh_network, s3d_command
from support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
AUTH = '[[auth]]\naccess_key_id = "AKIDBTEST"\nsecret_access_key = "a secret of tests"\n'


@dataclass
class DbProcess:
    """One member's process; `prefix` runs it elsewhere (a network namespace)."""

    id: int
    host: str
    folder: Path
    file: Path
    prefix: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def base_path(self) -> Path:
        return self.folder / f"data-{self.id}"

    @property
    def directory(self) -> Path:
        """Where its journal and tables are."""
        return self.settings().db[self._row()].path

    def _row(self) -> int:
        return [row.id for row in self.settings().db].index(self.id)

    def settings(self) -> config.Config:
        return config.with_base_path(config.load(self.file), self.base_path)

    @property
    def output(self) -> str:
        return (self.folder / f"db-{self.id}.log").read_text("utf-8", "replace")

    def start(self, *arguments: str) -> DbProcess:
        with (self.folder / f"db-{self.id}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self._command("-db", "-db-node", str(self.id), *arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
            )
        return self

    def _command(self, *arguments: str) -> list[str]:
        shared = ["-config", str(self.file), "-base-path", str(self.base_path)]
        return [*s3d_command(), *arguments, *shared]

    def db(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`s3d db ...` on this host."""
        return subprocess.run(
            [*self.prefix, *self._command("db", *arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            env=_environment(),
            check=False,
        )

    def api(self) -> Api:
        context = ssl.create_default_context(cafile=str(self.base_path / "tls" / "ca.pem"))
        row = self.settings().db[self._row()]
        auth = self.settings().auth[0]
        credential = Credential(auth.access_key_id, auth.secret_access_key, "1")
        return Api(row.host, row.port, credential, "us-east-1", context)

    def status(self) -> dict[str, Any]:
        """{} where it does not answer."""
        try:
            return self.api().get("/status")
        except (PredastoreError, OSError):
            return {}

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait(10)

    def stop(self, within_s: float = 30.0) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(within_s)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass
class DbCluster:
    folder: Path
    hosts: list[str]
    processes: list[DbProcess]

    def file_of(self, ids: Sequence[int], name: str = "cluster.toml") -> Path:
        """A configuration with these members."""
        rows = "".join(
            f'[[db]]\nid = {n}\nhost = "{self.hosts[n - 1]}"\nport = 6660\n' for n in ids
        )
        file = self.folder / name
        file.write_text(f'backend = "distributed"\n{AUTH}{rows}')
        return file

    def leader(self, within_s: float = START_S) -> DbProcess:
        """The process whose member leads, once a majority agrees."""

        def probe() -> DbProcess | None:
            said = {p.id: p.status() for p in self.processes if p.process is not None}
            for p in self.processes:
                follow = sum(s.get("leader") == p.id for s in said.values())
                is_leader = said.get(p.id, {}).get("role") == "leader"
                if is_leader and 2 * follow > len(self.processes):
                    return p
            return None

        try:
            found = eventually(probe, within_s=within_s, what="a leader")
        except AssertionError as error:
            logs = "\n".join(p.output for p in self.processes)
            raise AssertionError(f"{error}\n{logs}") from None
        assert found is not None
        return found

    @contextlib.asynccontextmanager
    async def client(self, members: Sequence[int] | None = None) -> Any:
        """A gateway's client, in this process; on the loop that runs."""
        settings = config.load(self.processes[0].file)
        key = credentials.cluster_key(settings, settings.auth)
        endpoint = Endpoint(cluster_key=key, certificate=self_signed(), name="gateway/test")
        try:
            for row in settings.db:
                endpoint.add_peer(f"db/{row.id}", row.host, row.raft_port)
            yield Client(endpoint, members or [row.id for row in settings.db], None)
        finally:
            await endpoint.close()


@contextlib.contextmanager
def db_cluster(
    folder: Path,
    count: int = 3,
    *,
    spare: int = 0,
    hosts: list[str] | None = None,
    prefixes: Sequence[Sequence[str]] = (),
) -> Iterator[DbCluster]:
    """`count` running members; `spare` more hosts that members may be started on.

    `hosts` and `prefixes`: their addresses, and how a command is run there.
    """
    network = fresh_network()
    hosts = hosts or [f"{network}.{n}" for n in range(1, count + spare + 1)]
    cluster = DbCluster(folder, hosts, [])
    file = cluster.file_of(range(1, count + 1))
    for n in range(1, count + 1):
        prefix = prefixes[n - 1] if prefixes else ()
        cluster.processes.append(DbProcess(n, hosts[n - 1], folder, file, prefix))
    try:
        for process in cluster.processes:
            process.start()
        cluster.leader()
        yield cluster
    finally:
        for process in cluster.processes:
            process.kill()

"""A real `s3d` in a process of its own: five nodes, RS(3,2), one database member.

It has loopback addresses of its own, so that nothing else on the machine is in its way, and a
data directory on the disk of this checkout (BENCH_DIR: elsewhere), which is removed at the end.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load import ROOT, Plan

PORT: Final = 8443
KEY_ID, SECRET = "BENCHBENCHBENCHBENCH", "a secret of the benchmarks alone"
START_S, STOP_S = 60.0, 60.0
DATA_SHARDS, PARITY_SHARDS = 3, 2


@dataclass
class Served:
    folder: Path
    host: str
    tls: bool
    process: subprocess.Popen[bytes]
    data: str = "data"  # below `folder`

    @property
    def ca(self) -> Path:
        return self.folder / self.data / "tls" / "ca.pem"

    @property
    def log(self) -> str:
        return (self.folder / "s3d.log").read_text("utf-8", "replace")

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The files of the certificate and of its key."""
        made = self.folder / self.data / "tls"
        return (str(made / "server.pem"), str(made / "server.key")) if self.tls else None

    def plan(self, **fields: Any) -> Plan:
        return Plan(
            host=self.host,
            port=PORT,
            tls=self.tls,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            ca=str(self.ca) if self.tls else "",
            **fields,
        )

    def resident_peak_mib(self) -> float:
        """VmHWM: the most memory that was ever resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def resident_mib(self) -> float:
        """VmRSS: what is resident now, in MiB."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def stop(self) -> None:
        """SIGTERM; RuntimeError unless it ends with 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_S)
        if code:
            raise RuntimeError(f"s3d ended with {code}:\n{self.log[-4000:]}")

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"s3d ended with {self.process.returncode}:\n{self.log[-4000:]}")
        try:
            connection: http.client.HTTPConnection
            if self.tls:
                context = ssl.create_default_context(cafile=str(self.ca))
                connection = http.client.HTTPSConnection(
                    self.host, PORT, timeout=2, context=context
                )
            else:
                connection = http.client.HTTPConnection(self.host, PORT, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/-/health/ready")
                return connection.getresponse().status == 200
        except OSError:
            return False


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory on the disk that is measured."""
    parent = Path(os.environ.get("BENCH_DIR") or ROOT / "build")
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


INTERPRETER: Final = (sys.executable, "-m", "predastore")


def command() -> tuple[str, ...]:
    """What runs `s3d`: the binary that S3D names, else this interpreter with this source."""
    binary = os.environ.get("S3D")
    return (str(Path(binary).resolve()),) if binary else INTERPRETER


@contextlib.contextmanager
def s3d(
    folder: Path,
    *,
    tls: bool = False,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] | None = None,
    root: Path = ROOT,
    poll_s: float = 0.05,
) -> Iterator[Served]:
    """`s3d` on plain HTTP, or with a generated certificate; with the bucket "bench".

    `program`: what runs it, where that is not `command()`; `root`: whose source that is. Asked each
    `poll_s` if it is ready.
    """
    host = f"127.{random.randrange(10, 250)}.{random.randrange(1, 250)}.1"
    file = folder / "bench.toml"
    file.write_text(_configuration(host, tls))
    with (folder / "s3d.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(program or command()),
                *("-config", str(file), "-base-path", str(folder / "data")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), **(environment or {})},
        )
    served = Served(folder, host, tls, process)
    try:
        _wait_ready(served, poll_s)
        yield served
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _configuration(host: str, tls: bool) -> str:
    text = f'backend = "distributed"\nhost = "{host}"\nport = {PORT}\ntls = {str(tls).lower()}\n'
    text += f"[rs]\ndata = {DATA_SHARDS}\nparity = {PARITY_SHARDS}\n"
    text += f'[[auth]]\naccess_key_id = "{KEY_ID}"\nsecret_access_key = "{SECRET}"\n'
    text += f'[[db]]\nid = 1\nhost = "{host}"\nport = 6660\n'
    for number in range(1, DATA_SHARDS + PARITY_SHARDS + 1):
        text += f'[[nodes]]\nid = {number}\nhost = "{host}"\nport = {9990 + number}\n'
    return text + '[[buckets]]\nname = "bench"\n'


def _wait_ready(served: Served, poll_s: float) -> None:
    deadline = time.monotonic() + START_S
    while not served.ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"s3d was not ready in {START_S} s:\n{served.log[-4000:]}")
        time.sleep(poll_s)

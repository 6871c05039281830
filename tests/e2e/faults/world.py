"""Six storage hosts and two gateways, a network namespace each; a disk of its own for each node.

Five of the storage hosts have a database member as well, so that any two hosts may go. This
process reaches each host by a line that no fault touches: it is the client, not the network.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.disks import Disk
from support.networks import Hosts, hosts_of_their_own
from support.processes import s3d_command
from support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
NODES, MEMBERS, GATEWAYS = 6, 5, 2
PORT = 8443
START_S = 90.0
DISK_BYTES = 4 << 30  # sparse; half a GiB of it is the node's reserve
ACCESS_KEY, SECRET = "AKIDFAULTS", "a secret of the fault tests"


@dataclass
class Process:
    """An s3d on host `number`."""

    number: int
    address: str
    folder: Path
    command: list[str]
    life: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"s3d-{self.number}.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.life = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def wait_ready(self) -> None:
        def probe() -> bool:
            assert self.life is not None
            assert self.life.poll() is None, f"host {self.number} ended:\n{self.log.read_text()}"
            try:
                url = f"http://{self.address}:{PORT}/-/health/ready"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    return bool(answer.status == 200)
            except (OSError, urllib.error.URLError):
                return False

        eventually(probe, within_s=START_S, what=f"host {self.number} ready")

    def signal(self, number: int) -> None:
        assert self.life is not None
        self.life.send_signal(number)

    def strike(self) -> None:
        """SIGKILL, and no wait for its end."""
        if self.life is not None and self.life.poll() is None:
            self.life.kill()

    def kill(self) -> None:
        self.strike()
        if self.life is not None:
            self.life.wait(60)


class World:
    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder = folder
        self.hosts = hosts
        self.file = folder / "cluster.toml"
        self.file.write_text(self._configuration())
        self.disks = {
            n: Disk(folder / f"disk-{n}.img", folder / f"disk-{n}", DISK_BYTES)
            for n in range(1, NODES + 1)
        }
        self.processes = {n: self._process(n) for n in range(1, NODES + GATEWAYS + 1)}

    @property
    def gateways(self) -> list[str]:
        return self.hosts.addresses[NODES:]

    def _configuration(self) -> str:
        auth = f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{SECRET}"\n'
        text = f'backend = "distributed"\ntls = false\n[rs]\ndata = 3\nparity = 2\n[[auth]]\n{auth}'
        for n, host in enumerate(self.hosts.addresses[:NODES], 1):
            place = self.folder / f"disk-{n}" / "node"
            text += f'[[nodes]]\nid = {n}\nhost = "{host}"\nport = 9991\npath = "{place}"\n'
            if n <= MEMBERS:
                text += f'[[db]]\nid = {n}\nhost = "{host}"\nport = 6660\n'
        return text

    def _process(self, number: int) -> Process:
        roles = ["-node", str(number)] if number <= NODES else []
        if number <= MEMBERS:
            roles += ["-db-node", str(number)]
        base = ["-config", str(self.file), "-base-path", str(self.folder / f"data-{number}")]
        command = [*self.hosts.prefix(number), *s3d_command()]
        address = self.hosts.addresses[number - 1]
        return Process(number, address, self.folder, [*command, *base, *roles])

    def start(self) -> None:
        for disk in self.disks.values():
            disk.insert()
        for process in self.processes.values():
            process.start()
        for process in self.processes.values():
            process.wait_ready()

    def stop(self) -> None:
        """All of them, whatever is wrong with one."""
        for process in self.processes.values():
            process.strike()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.kill()
        for disk in self.disks.values():
            disk.remove()

    # --- faults -------------------------------------------------------------------------------

    def fail(self, way: str, number: int) -> None:
        process = self.processes[number]
        match way:
            case "kill":
                process.signal(signal.SIGKILL)
            case "stop":
                process.signal(signal.SIGSTOP)
            case "disk":
                self.disks[number].pull()
            case "partition":
                self.hosts.cut(number)
            case "loss":
                self.hosts.spoil(number, loss=0.2)
            case "delay":
                self.hosts.spoil(number, delay_ms=200)

    def mend(self, way: str, number: int) -> None:
        process = self.processes[number]
        match way:
            case "kill":
                process.kill()
                process.start()
            case "stop":
                process.signal(signal.SIGCONT)
            case "disk":
                process.kill()
                self.disks[number].remove()
                self.disks[number].insert()
                process.start()
            case _:
                self.hosts.mend(number)

    def is_whole(self) -> bool:
        """Whether `s3d cluster status` says that nothing is missing, and `s3d cluster verify`,
        which reads every shard, finds all of them. If it does not, twice, and the status says so
        in between, that is a lie."""
        if not self._says_whole():
            return False
        if not self._degraded():
            return True
        said = self._says_whole()
        assert not (said and self._degraded()), "the status said that nothing was missing"
        return False

    def _says_whole(self) -> bool:
        return bool((self._asked("status").get("missing") or {}).get("whole"))

    def _degraded(self) -> int:
        """Objects that are; 1 where that could not be found out."""
        found = self._asked("verify")
        assert not found.get("wrong"), found
        return int(found.get("degraded", 1))

    def _asked(self, what: str) -> dict[str, Any]:
        """What a command says; nothing, where it could not."""
        command = [*s3d_command(), "cluster", what, "--json"]
        try:
            done = subprocess.run(
                [*command, "-config", str(self.file)],
                capture_output=True,
                text=True,
                timeout=300,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=False,
            )
            found: dict[str, Any] = json.loads(done.stdout)
        except (ValueError, subprocess.TimeoutExpired):
            return {}
        return found

    def settled(self, numbers: tuple[int, ...]) -> None:
        """These hosts are up again."""
        for number in numbers:
            self.processes[number].wait_ready()


WAYS = ("kill", "stop", "partition", "loss", "delay", "disk")
PAIRS = tuple(itertools.combinations(range(1, NODES + 1), 2))


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    with hosts_of_their_own(NODES + GATEWAYS) as hosts:
        made = World(folder, hosts)
        try:
            made.start()
            yield made
        finally:
            made.stop()

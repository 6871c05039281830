"""Commits and reads of a small value, through real members, real journals and real fsync.

    s3db.commit.<members>                 median latency of one commit after the other
    s3db.commits.<members>.<writers>w     commits a second by so many writers at once
    s3db.commits.client.<writers>w        the same through the client of another process
    s3db.commits.inline.<writers>w        the same with values of 8 KiB, as inline bodies
    s3db.reads.local, s3db.stale.local    reads a second through the client in a member's process,
                                          as gateways of production mode have it
    s3db.reads.remote, s3db.stale.remote  and from a process of its own

`<members>`: 1m is one member, 3m three in one process (they talk over the in-process pipe), 3p
three in a process each (QUIC on loopback), as in all rows that do not say. Writers of the first
two rows are in the leader's process. Yardsticks, in the same rounds: one pwrite of 4 KiB and
fdatasync after the other on the same disk; and stock pysyncobj, which syncs nothing
(s3db_stock.py). Each deployment runs in processes of its own (s3db_member.py).
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.disk import Disk
from benchmarks.load import ROOT
from benchmarks.measure import Row, row
from benchmarks.s3db_member import HOST, Done, Site, Work
from benchmarks.served import scratch
from predastore.base.limits import INLINE_BYTES_DEFAULT

ROUNDS: Final = 3
SECONDS: Final = 1.5
WRITERS: Final = (16, 256)
READERS: Final = 64
_SYNCED: Final = "pwrite + fdatasync of 4 KiB"
_STOCK: Final = "stock pysyncobj, 3 processes, no fsync"


def rows() -> list[Row]:
    found = []
    for name, members, processes in (("1m", 1, 1), ("3m", 3, 1)):
        with (
            scratch() as folder,
            closing(Disk(folder)) as disk,
            closing(Deployment(folder, members, processes)) as deployment,
        ):
            found += _commits(name, deployment, disk)
    with (
        scratch() as folder,
        closing(Disk(folder)) as disk,
        closing(Deployment(folder, 3, 3)) as deployment,
    ):
        found += _commits("3p", deployment, disk)
        found += _calls(deployment, disk)
        with closing(Deployment(folder, 3, 3, module="benchmarks.s3db_stock")) as stock:
            found += _against_stock(deployment, stock)
    return found


def _commits(name: str, deployment: Deployment, disk: Disk) -> list[Row]:
    deployment.work(Work(16, 0.5))
    done: dict[int, list[Done]] = {writers: [] for writers in (1, *WRITERS)}
    synced = []
    for _ in range(ROUNDS):
        for writers, results in done.items():
            synced.append(disk.syncs_per_second())
            results.append(deployment.work(Work(writers, SECONDS)))
    sync_rate = statistics.median(synced)
    latencies = [result.p50_us for result in done[1]]
    found = [_row(f"s3db.commit.{name}", latencies, "us", _SYNCED, 1e6 / sync_rate)]
    for writers in WRITERS:
        rates = [_rate(result) for result in done[writers]]
        found.append(_row(f"s3db.commits.{name}.{writers}w", rates, "/s", _SYNCED, sync_rate))
    return found


def _calls(deployment: Deployment, disk: Disk) -> list[Row]:
    """Through the client, beside a member and from a process of its own."""
    found, body = [], INLINE_BYTES_DEFAULT
    with deployment.client() as client:
        works = {
            "s3db.commits.client.16w": (client, Work(16, SECONDS, "commit")),
            "s3db.commits.client.256w": (client, Work(256, SECONDS, "commit")),
            "s3db.commits.inline.16w": (client, Work(16, SECONDS, "commit", body)),
            "s3db.commits.inline.256w": (client, Work(256, SECONDS, "commit", body)),
            "s3db.reads.remote": (client, Work(READERS, SECONDS, "read")),
            "s3db.stale.remote": (client, Work(READERS, SECONDS, "stale")),
            "s3db.reads.local": (deployment.leader, Work(READERS, SECONDS, "read")),
            "s3db.reads.local.follower": (deployment.follower, Work(READERS, SECONDS, "read")),
            "s3db.stale.local": (deployment.follower, Work(READERS, SECONDS, "stale")),
        }
        for name, (process, work) in works.items():
            synced, rates = [], []
            _ask(process, msgspec.structs.replace(work, seconds=0.5))
            for _ in range(ROUNDS):
                synced.append(disk.syncs_per_second())
                rates.append(_rate(_ask(process, work)))
            found.append(_row(name, rates, "/s", _SYNCED, statistics.median(synced)))
        client.terminate()
    return found


def _against_stock(deployment: Deployment, stock: Deployment) -> list[Row]:
    found = []
    for writers in (1, *WRITERS):
        work = Work(writers, SECONDS)
        both = [(deployment.work(work), stock.work(work)) for _ in range(ROUNDS)]
        if writers == 1:
            name, unit = "s3db.commit.3p", "us"
            values = [(mine.p50_us, other.p50_us) for mine, other in both]
        else:
            name, unit = f"s3db.commits.3p.{writers}w", "/s"
            values = [(_rate(mine), _rate(other)) for mine, other in both]
        other = statistics.median(value for _, value in values)
        found.append(_row(name, [value for value, _ in values], unit, _STOCK, other))
    return found


def _rate(done: Done) -> float:
    return done.count / done.seconds


def _row(name: str, values: list[float], unit: str, yardstick: str, other: float) -> Row:
    value = statistics.median(values)
    spread = (max(values) - min(values)) / value
    return row(name, value, unit, spread=spread, yardstick=yardstick, yardstick_value=other)


class Deployment:
    """The processes of one cluster."""

    def __init__(
        self, folder: Path, members: int, processes: int, module: str = "benchmarks.s3db_member"
    ) -> None:
        ids = list(range(1, members + 1))
        self.ports = _free_ports(ids) if processes > 1 else dict.fromkeys(ids, 0)
        self._folder = folder
        groups = [[member] for member in ids] if processes > 1 else [ids]
        self._stack = ExitStack()
        self._module = module
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for local in groups:
            site = Site(path=str(folder), local=local, ports=self.ports)
            process = self._stack.enter_context(_started(site, module))
            self._processes |= dict.fromkeys(local, process)
        leaders = {int(_line(process)) for process in set(self._processes.values())}
        if len(leaders) != 1:
            raise RuntimeError(f"the leader changed at the start: {leaders}")
        self.leader_id = leaders.pop()
        self.leader = self._processes[self.leader_id]
        others = [member for member in self._processes if member != self.leader_id]
        self.follower_id = others[0] if others else self.leader_id
        self.follower = self._processes[self.follower_id]

    def work(self, work: Work) -> Done:
        """In the leader's process."""
        return _ask(self.leader, work)

    def begin(self, work: Work) -> None:
        """In the leader's process; `ended` has what became of it."""
        _tell(self.leader, work)

    def ended(self) -> Done:
        return msgspec.json.decode(_line(self.leader), type=Done)

    def kill_follower(self) -> None:
        self.follower.kill()
        self.follower.wait()

    def restart_follower(self) -> None:
        site = Site(path=str(self._folder), local=[self.follower_id], ports=self.ports)
        self.follower = self._stack.enter_context(_started(site, self._module))
        self._processes[self.follower_id] = self.follower

    def client(self) -> subprocess.Popen[bytes]:
        """A process without a member."""
        site = Site(path=str(self._folder), local=[], ports=self.ports)
        process = _started(site, "benchmarks.s3db_member")
        _line(process)
        return process

    def close(self) -> None:
        for process in set(self._processes.values()):
            process.terminate()
        self._stack.close()


def _started(site: Site, module: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, msgspec.json.encode(site).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _tell(process: subprocess.Popen[bytes], work: Work) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(work) + b"\n")
    process.stdin.flush()


def _ask(process: subprocess.Popen[bytes], work: Work) -> Done:
    _tell(process, work)
    return msgspec.json.decode(_line(process), type=Done)


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a member's process ended with {process.wait()}")
    return line


def _free_ports(ids: list[int]) -> dict[int, int]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in ids
        ]
        for one in sockets:
            one.bind((HOST, 0))
        return {member: one.getsockname()[1] for member, one in zip(ids, sockets, strict=True)}

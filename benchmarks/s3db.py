"""Raft commits of a small value, through real members, real journals and real fsync.

    raft.commit.<members>m      median latency of one commit after the other, in microseconds
    raft.commits.<members>m.<writers>w    commits a second by so many writers at once

for 1 member, 3 members in one process (they talk over the in-process pipe), and `3p`: 3 members
in a process each (QUIC on loopback). Writers are in the leader's process. The yardstick is the
same disk in the same rounds: one pwrite of 4 KiB and fdatasync after the other.

Each deployment runs in processes of its own: this module, with a JSON `Site` as its argument. It
prints the leader's id, then does one `Work` a line.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from benchmarks.disk import Disk
from benchmarks.load import ROOT
from benchmarks.measure import Row, row
from benchmarks.served import scratch
from predastore.limits import COMMIT_TIMEOUT_MS
from predastore.rpc import Endpoint, self_signed
from predastore.s3db import commands, service
from predastore.s3db.commands import Batch, Put
from predastore.s3db.member import Member
from predastore.s3db.store import Store

ROUNDS: Final = 3
SECONDS: Final = 1.5
WRITERS: Final = (16, 256)
ELECTED_S: Final = 30.0
VALUE_BYTES: Final = 200
HOST: Final = "127.0.0.1"
_SYNCED: Final = "pwrite + fdatasync of 4 KiB"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `ports`: of all members, by id; 0: all members are in this process."""

    path: str
    local: list[int]
    ports: dict[int, int]


class Work(msgspec.Struct, frozen=True):
    writers: int
    seconds: float


class Done(msgspec.Struct, frozen=True):
    commits: int
    seconds: float
    p50_us: float


def rows() -> list[Row]:
    found = []
    for name, members, processes in (("1m", 1, 1), ("3m", 3, 1), ("3p", 3, 3)):
        with (
            scratch() as folder,
            closing(Disk(folder)) as disk,
            closing(_Deployment(folder, members, processes)) as deployment,
        ):
            found += _rows_of(name, deployment, disk)
    return found


def _rows_of(name: str, deployment: _Deployment, disk: Disk) -> list[Row]:
    deployment.work(Work(16, 0.5))
    done: dict[int, list[Done]] = {writers: [] for writers in (1, *WRITERS)}
    synced = []
    for _ in range(ROUNDS):
        for writers, results in done.items():
            synced.append(disk.syncs_per_second())
            results.append(deployment.work(Work(writers, SECONDS)))
    sync_rate = statistics.median(synced)
    latencies = [result.p50_us for result in done[1]]
    found = [_row(f"raft.commit.{name}", latencies, "us", 1e6 / sync_rate)]
    for writers in WRITERS:
        rates = [result.commits / result.seconds for result in done[writers]]
        found.append(_row(f"raft.commits.{name}.{writers}w", rates, "/s", sync_rate))
    return found


def _row(name: str, values: list[float], unit: str, other: float) -> Row:
    value = statistics.median(values)
    spread = (max(values) - min(values)) / value
    return row(name, value, unit, spread=spread, yardstick=_SYNCED, yardstick_value=other)


class _Deployment:
    """The processes of one cluster; work is done by the leader's."""

    def __init__(self, folder: Path, members: int, processes: int) -> None:
        ids = list(range(1, members + 1))
        ports = _free_ports(ids) if processes > 1 else dict.fromkeys(ids, 0)
        groups = [[member] for member in ids] if processes > 1 else [ids]
        self._stack = ExitStack()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for local in groups:
            site = Site(path=str(folder), local=local, ports=ports)
            process = self._stack.enter_context(_started(site))
            self._processes |= dict.fromkeys(local, process)
        leaders = {int(_line(process)) for process in set(self._processes.values())}
        if len(leaders) != 1:
            raise RuntimeError(f"the leader changed at the start: {leaders}")
        self._leader = self._processes[leaders.pop()]

    def work(self, work: Work) -> Done:
        assert self._leader.stdin is not None
        self._leader.stdin.write(msgspec.json.encode(work) + b"\n")
        self._leader.stdin.flush()
        return msgspec.json.decode(_line(self._leader), type=Done)

    def close(self) -> None:
        for process in set(self._processes.values()):
            process.terminate()
        self._stack.close()


def _started(site: Site) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.s3db", msgspec.json.encode(site).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


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


# --- in a member's process -----------------------------------------------------------------------


async def _run(site: Site) -> None:
    endpoint = Endpoint(cluster_key=b"b" * 32, certificate=self_signed(), name=f"{site.local}")
    members = []
    for member_id, port in site.ports.items():
        if member_id in site.local:
            path = Path(site.path) / str(member_id)
            store = Store(path / "store", durable=False)
            member = await Member.open(
                path=path / "raft",
                member_id=member_id,
                members=list(site.ports),
                store=store,
                endpoint=endpoint,
            )
            members.append(member)
            # One that starts late is taken in by those that have founded the cluster.
            endpoint.serve(f"db/{member_id}", service.service(member, endpoint))
            if port:
                await endpoint.listen(f"db/{member_id}", HOST, port)
        else:
            endpoint.add_peer(f"db/{member_id}", HOST, port)
    await _elected(members)
    print(members[0].leader, flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        work = msgspec.json.decode(line, type=Work)
        leader = next(member for member in members if member.leader == member.id)
        print(msgspec.json.encode(await _commit(leader, work)).decode(), flush=True)


async def _elected(members: list[Member]) -> None:
    deadline_s = time.monotonic() + ELECTED_S
    while True:
        if all(member.leader is not None for member in members):
            return
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"no leader within {ELECTED_S} s")
        await asyncio.sleep(0.05)


async def _commit(leader: Member, work: Work) -> Done:
    value = os.urandom(VALUE_BYTES)
    taken_s: list[float] = []
    start_s = time.perf_counter()
    stop_s = start_s + work.seconds

    async def writer(number: int) -> None:
        count = 0
        while (begun_s := time.perf_counter()) < stop_s:
            count += 1
            key = f"bench/{number}/{count}".encode()
            batch = Batch((), (Put("objects", key, value),), os.urandom(16), 0)
            await leader.propose(commands.encode(batch), timeout_ms=COMMIT_TIMEOUT_MS)
            taken_s.append(time.perf_counter() - begun_s)

    await asyncio.gather(*(writer(number) for number in range(work.writers)))
    taken = time.perf_counter() - start_s
    return Done(len(taken_s), taken, statistics.median(taken_s) * 1e6)


def main() -> None:
    site = msgspec.json.decode(sys.argv[1], type=Site)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(site))


if __name__ == "__main__":
    main()

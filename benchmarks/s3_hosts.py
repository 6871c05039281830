"""PUT and GET of 10 MiB through three hosts: network namespaces, RS(2,1), a database of three.

    s3.three_hosts.put, .get     MiB/s of object bytes, 8 clients of the first host

Two thirds of a PUT's bytes, and on average as much of a GET's, cross hosts over QUIC. The yardstick
is a second cluster that has stock aioquic for it (PREDASTORE_QUIC=aioquic); both take turns. Needs
root; else it says so and gives no rows.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.load import ROOT, Generator, Plan
from benchmarks.measure import Row, row
from benchmarks.served import KEY_ID, PORT, SECRET, START_S, Served, command, scratch
from tests.support.networks import Hosts, hosts_of_their_own, why_not

HOSTS: Final = 3
ROUNDS: Final = 5
SECONDS: Final = 3.0
SIZE_BYTES: Final = 10 << 20
CLIENTS: Final = 8
STORED: Final = 16  # objects that GETs are of
FRESH: Final = 512  # keys that a round of PUTs may use
ENGINES: Final = {"mine": {}, "stock": {"PREDASTORE_QUIC": "aioquic"}}


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    names = {method: f"s3.three_hosts.{method.lower()}" for method in ("PUT", "GET")}
    if not any(name.startswith(prefix) for name in names.values()):
        return []
    problem = why_not()
    if problem:
        print(f"s3.three_hosts: no rows, {problem}", file=sys.stderr)
        return []
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        generator = stack.enter_context(contextlib.closing(Generator()))
        clusters = {
            engine: stack.enter_context(_cluster(environment))
            for engine, environment in ENGINES.items()
        }
        for cluster in clusters.values():
            generator.run(_plan(cluster, "PUT", first=0, requests=STORED))
        for number in range(1, ROUNDS + 1):
            for engine, cluster in clusters.items():
                put = _plan(cluster, "PUT", first=number * FRESH, keys=FRESH, seconds=SECONDS)
                get = _plan(cluster, "GET", first=0, keys=STORED, seconds=SECONDS)
                found[engine, "PUT"].append(generator.run(put).mib_per_second)
                found[engine, "GET"].append(generator.run(get).mib_per_second)
    return [
        _row(name, found["mine", method], found["stock", method]) for method, name in names.items()
    ]


def _row(name: str, mine: list[float], stock: list[float]) -> Row:
    value = statistics.median(mine)
    return row(
        name,
        value,
        "MiB/s",
        spread=(max(mine) - min(mine)) / value,
        yardstick="stock aioquic in its place",
        yardstick_value=statistics.median(stock),
    )


def _plan(cluster: Served, method: str, **fields: float) -> Plan:
    return cluster.plan(method=method, size_bytes=SIZE_BYTES, connections=CLIENTS, **fields)


@contextlib.contextmanager
def _cluster(environment: Mapping[str, str]) -> Iterator[Served]:
    """Three processes, each on a host of its own; what is yielded is the first."""
    with scratch() as folder, hosts_of_their_own(HOSTS) as hosts, contextlib.ExitStack() as stack:
        file = folder / "bench.toml"
        file.write_text(_configuration(hosts))
        processes = [
            stack.enter_context(_process(folder, hosts, number, file, environment))
            for number in range(1, HOSTS + 1)
        ]
        _wait_ready(processes)
        yield processes[0]


@contextlib.contextmanager
def _process(
    folder: Path, hosts: Hosts, number: int, file: Path, environment: Mapping[str, str]
) -> Iterator[Served]:
    host = hosts.addresses[number - 1]
    base_path = folder / f"data{number}"
    roles = ["-node", str(number), "-db-node", str(number), "-host", host]
    with (folder / "s3d.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *hosts.prefix(number),
                *command(),
                *("-config", str(file), "-base-path", str(base_path), *roles),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
    try:
        yield Served(folder, host, False, process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _configuration(hosts: Hosts) -> str:
    text = f'backend = "distributed"\nport = {PORT}\ntls = false\n[rs]\ndata = 2\nparity = 1\n'
    text += f'[[auth]]\naccess_key_id = "{KEY_ID}"\nsecret_access_key = "{SECRET}"\n'
    for number, host in enumerate(hosts.addresses, 1):
        text += f'[[db]]\nid = {number}\nhost = "{host}"\nport = 6660\n'
        text += f'[[nodes]]\nid = {number}\nhost = "{host}"\nport = 9991\n'
    return text + '[[buckets]]\nname = "bench"\n'


def _wait_ready(processes: list[Served]) -> None:
    deadline = time.monotonic() + START_S
    while not all(process.ready() for process in processes):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready in {START_S} s:\n{processes[0].log[-4000:]}")
        time.sleep(0.05)

"""A node's port under a flood of forged Initials (flood.py), while S3 is served and peers come.

    rpc.flood.get_300, get_3000     ms      GET of 4 KiB, one client: the median, so many a second
    rpc.flood.dial_300, dial_3000   ms      a new peer: dialled, proven, one call answered
    ....log                         lines   that the server logged meanwhile

The yardstick is the same without a flood, in turns; of the log there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import uvloop

from benchmarks.load import ROOT, Generator
from benchmarks.measure import Row, row
from benchmarks.served import Served, s3d, scratch
from predastore.base import config
from predastore.node.client import NodeClient
from predastore.process import credentials
from predastore.rpc import Endpoint, self_signed

RATES: Final = (0, 300, 3000)
ROUNDS: Final = 3
SECONDS: Final = 4.0
DIALS: Final = 15
NODE, PORT = 1, 9991
OBJECTS: Final = 64


def rows() -> list[Row]:
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    with scratch() as folder, s3d(folder) as served, contextlib.closing(Generator()) as generator:
        fields = {"size_bytes": 4096, "connections": 1, "keys": OBJECTS}
        generator.run(served.plan(method="PUT", requests=OBJECTS, **fields))
        for _ in range(ROUNDS):
            for rate in RATES:
                with _flood(served, rate):
                    lines = len(served.log.splitlines())
                    got = generator.run(served.plan(method="GET", seconds=SECONDS, **fields))
                    found["get", rate].append(got.p50_ms)
                    found["dial", rate] += uvloop.run(_dials(served))
                    found["log", rate].append(len(served.log.splitlines()) - lines)
        served.stop()
    made = []
    for rate in RATES[1:]:
        for what in ("get", "dial"):
            values, without = found[what, rate], found[what, 0]
            made.append(
                row(
                    f"rpc.flood.{what}_{rate}",
                    statistics.median(values),
                    "ms",
                    spread=(max(values) - min(values)) / statistics.median(values),
                    yardstick="without a flood",
                    yardstick_value=statistics.median(without),
                )
            )
        most = max(found["log", rate])
        name = f"rpc.flood.get_{rate}.log"
        made.append(row(name, most, "lines", spread=0.0, yardstick="one", yardstick_value=1.0))
    return made


@contextlib.contextmanager
def _flood(served: Served, rate: int) -> Iterator[None]:
    if not rate:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.flood", served.host, str(PORT), str(rate)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as flood:
        assert flood.stdin is not None
        assert flood.stdout is not None
        flood.stdout.readline()
        flood.stdin.write("\n")
        flood.stdin.flush()
        try:
            yield
        finally:
            flood.stdin.close()
            sent_s = float(flood.stdout.readline())
    if sent_s < 0.9 * rate:
        raise RuntimeError(f"the flood had {sent_s:.0f} a second, not {rate}")


async def _dials(served: Served) -> list[float]:
    """Milliseconds of each."""
    settings = config.load(served.folder / "bench.toml")
    key = credentials.cluster_key(settings, settings.auth)
    certificate = self_signed()
    found = []
    for number in range(DIALS):
        endpoint = Endpoint(cluster_key=key, certificate=certificate, name=f"bench/{os.getpid()}")
        endpoint.add_peer(f"node/{NODE}", served.host, PORT)
        began = time.perf_counter()
        await NodeClient(endpoint).status(NODE, timeout_ms=20_000)
        found.append((time.perf_counter() - began) * 1e3)
        await endpoint.close()
        await asyncio.sleep(0.02 * (number % 3))
    return found

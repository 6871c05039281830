"""QUIC against the kernel's TCP on one path between two network namespaces, round trip 20 ms.

    rpc.netem.loss_0.1, .loss_1, .loss_5   MB/s where so many per cent of the packets are lost
    rpc.netem.reordered                    two per cent come 2 ms late
    rpc.netem.1Gbit                        a bottleneck of 1 Gbit/s with a queue of 2 ms
    rpc.netem.fair                         two connections at 200 Mbit/s: Jain's index, 1 is fair

The yardstick is iperf3 with CUBIC. The path is a program of ours (path.c) rather than netem, which
many kernels lack. Needs root, /dev/net/tun and iperf3; else it says so and gives no rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, row
from benchmarks.programs import built
from benchmarks.rpc_process import Pair, running

ROUNDS: Final = 3
SECONDS: Final = 5
FAIR_SECONDS: Final = 15
DATAGRAM_BYTES: Final = 1400
TCP: Final = "TCP with CUBIC"
NO_QUEUE: Final = 1e12  # so fast, and so long, that nothing waits in it or is dropped


@dataclass(frozen=True)
class Weather:
    """See path.c. `in_flight_bytes`: what callers have on the way, some times what the path holds,
    and little of what it moves in a round."""

    name: str
    bytes_per_s: float = NO_QUEUE
    queue_bytes: float = NO_QUEUE
    delay_us: float = 10_000
    loss: float = 0.0
    reordered: float = 0.0
    held_us: float = 2_000
    in_flight_bytes: int = 4 << 20

    @property
    def line(self) -> str:
        return (
            f"{self.bytes_per_s} {self.queue_bytes} {self.delay_us} "
            f"{self.loss} {self.reordered} {self.held_us}\n"
        )


WEATHERS: Final = (
    Weather("loss_0.1", loss=0.001, in_flight_bytes=1 << 20),
    Weather("loss_1", loss=0.01, in_flight_bytes=256 << 10),
    Weather("loss_5", loss=0.05, in_flight_bytes=64 << 10),
    Weather("reordered", reordered=0.02),
    Weather("1Gbit", bytes_per_s=125e6, queue_bytes=250e3),
)
FAIR: Final = Weather("fair", bytes_per_s=25e6, queue_bytes=250e3, in_flight_bytes=2 << 20)


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    names = [f"rpc.netem.{weather.name}" for weather in (*WEATHERS, FAIR)]
    if not any(name.startswith(prefix) for name in names):
        return []
    problem = why_not()
    if problem:
        print(f"rpc.netem: no rows, {problem}", file=sys.stderr)
        return []
    found = []
    with _path() as path:
        for weather, name in zip(WEATHERS, names, strict=False):
            if name.startswith(prefix):
                found.append(_compared(path, weather, name))
        if names[-1].startswith(prefix):
            found.append(_fair(path, names[-1]))
    return found


def why_not() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    for command in (["ip", "-V"], ["iperf3", "-v"]):
        try:
            subprocess.run(command, check=True, capture_output=True)
        except OSError:
            return f"{command[0]} is not installed"
    return ""


class _Path:
    def __init__(self, process: subprocess.Popen[str], spaces: list[str], hosts: list[str]) -> None:
        self._process = process
        self.prefixes = [["ip", "netns", "exec", space] for space in spaces]
        self.hosts = hosts

    def set(self, weather: Weather) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(weather.line)
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise RuntimeError("the path's program ended")

    @contextlib.contextmanager
    def pairs(self, count: int) -> Iterator[list[Pair]]:
        """Servers in the first namespace, callers in the other."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(
                    running(
                        DATAGRAM_BYTES,
                        {},
                        host=self.hosts[0],
                        prefixes=(self.prefixes[0], self.prefixes[1]),
                    )
                )
                for _ in range(count)
            ]

    def tcp_mb_per_s(self, seconds: int, streams: int = 1) -> list[float]:
        """What iperf3 gets, for each of its connections; a first second does not count."""
        listen = ["iperf3", "-s", "-1", "--forceflush", "-B", self.hosts[0]]
        with subprocess.Popen(
            [*self.prefixes[0], *listen], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            while "listening" not in server.stdout.readline():
                if server.poll() is not None:
                    raise RuntimeError("iperf3 does not listen")
            options = ["-C", "cubic", "-O", "1", "-t", str(seconds), "-P", str(streams), "-J"]
            done = subprocess.run(
                [*self.prefixes[1], "iperf3", "-c", self.hosts[0], *options],
                capture_output=True,
                text=True,
                check=True,
                timeout=seconds + 60,
            )
            server.stdout.read()
        report = json.loads(done.stdout)
        return [stream["receiver"]["bits_per_second"] / 8e6 for stream in report["end"]["streams"]]


@contextlib.contextmanager
def _path() -> Iterator[_Path]:
    tag = f"path{os.getpid()}"
    spaces = [f"{tag}a", f"{tag}b"]
    net = f"10.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
    hosts = [f"{net}.1", f"{net}.2"]
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(built("path"))
        for space in spaces:
            _ip(f"netns add {space}")
            stack.callback(_ip, f"netns del {space}")
        process = stack.enter_context(
            subprocess.Popen(
                [program, *spaces], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the path's program did not start")
        for space, host in zip(spaces, hosts, strict=True):
            _ip(f"-n {space} addr add {host}/24 dev path0")
            _ip(f"-n {space} link set path0 up mtu 1500 txqueuelen 10000")
        yield _Path(process, spaces, hosts)


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, timeout=20)


def _compared(path: _Path, weather: Weather, name: str) -> Row:
    path.set(weather)
    mine, tcp = [], []
    with path.pairs(1) as (pair,):
        for _ in range(ROUNDS):
            mine.append(pair.measure(f"flow {SECONDS} {weather.in_flight_bytes}"))
            tcp += path.tcp_mb_per_s(SECONDS)
    value = statistics.median(mine)
    return row(
        name,
        value,
        "MB/s",
        spread=(max(mine) - min(mine)) / value if value else 0.0,
        yardstick=TCP,
        yardstick_value=statistics.median(tcp),
    )


def _fair(path: _Path, name: str) -> Row:
    path.set(FAIR)
    mine, tcp = [], []
    with path.pairs(2) as pairs:
        for _ in range(ROUNDS):
            for pair in pairs:
                pair.begin(f"flow {FAIR_SECONDS} {FAIR.in_flight_bytes}")
            mine.append(_jain([pair.end() for pair in pairs]))
            tcp.append(_jain(path.tcp_mb_per_s(FAIR_SECONDS, len(pairs))))
    value = statistics.median(mine)
    return row(
        name,
        value,
        "Jain",
        spread=(max(mine) - min(mine)) / value,
        yardstick=f"{TCP}, two connections",
        yardstick_value=statistics.median(tcp),
    )


def _jain(rates: list[float]) -> float:
    """Jain's fairness index of rates: 1 where all are equal, 1/n where one has everything."""
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else 0.0

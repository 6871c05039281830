"""PUT and GET through a real `s3d`, five nodes in one process, against what is under it.

    s3.put.4KiB, s3.get.4KiB         requests a second, 16 clients
    s3.put.10MiB, s3.get.10MiB       MiB/s of object bytes, 8 clients
    s3.put.10MiB.tls, s3.get...      the same over TLS
    ....cpu                          CPU time of the server for one request
    ....p99                          latency, against the median of the same rounds
    ....generator                    how busy the load generator was: near 1, it was the limit
    s3.loop_lag.max                  how late the event loop ever was, in all of it and under a
                                     mixed load at the end, where the generators are four
    s3.loop_lag.max_cpu              the most CPU time that it held on to: what is left when other
                                     processes of the machine are taken away

Yardsticks: for PUT the same disk, with as many bytes as are written for an object (5/3 of its
own), or for small ones one pwrite and fdatasync after the other; for PUT and GET httptools on
uvloop serving from memory (bare.py), under the same generator. All take turns in each round.
"""

from __future__ import annotations

import os
import re
import statistics
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks import bare
from benchmarks.disk import Disk
from benchmarks.load import Generator, Plan, Report
from benchmarks.measure import Row, row
from benchmarks.served import DATA_SHARDS, PARITY_SHARDS, Served, cpu_s, s3d, scratch

ROUNDS: Final = 3
SECONDS: Final = 3.0
HTTP: Final = "httptools on uvloop, from memory"
LOOP_LAG_MS_MAX: Final = 50.0
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Size:
    """`fresh`: keys that one round of PUTs may use; `stored`: how many objects GETs are of."""

    name: str
    size_bytes: int
    connections: int
    fresh: int
    stored: int

    @property
    def is_small(self) -> bool:
        return self.size_bytes < _MIB


SIZES: Final = (
    Size("4KiB", 4 << 10, 16, fresh=12_288, stored=1024),
    Size("10MiB", 10 << 20, 8, fresh=512, stored=32),
)


@dataclass
class Samples:
    """What the rounds of one row and of its yardsticks gave."""

    reports: list[Report] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    bare_reports: list[Report] = field(default_factory=list)
    bare_cpu_us: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    found: list[Row] = []
    if _wanted(prefix, "s3.put.4KiB", "s3.get.4KiB", "s3.put.10MiB", "s3.get.10MiB", "s3.loop_lag"):
        found += _plain_rows(prefix)
    if _wanted(prefix, "s3.put.10MiB.tls", "s3.get.10MiB.tls"):
        found += _tls_rows()
    return found


def _wanted(prefix: str, *names: str) -> bool:
    return any(name.startswith(prefix) or prefix.startswith(name) for name in names)


def _plain_rows(prefix: str) -> list[Row]:
    found: list[Row] = []
    watch = {"PREDASTORE_LOOP_LAG": "1"}
    with (
        scratch() as folder,
        s3d(folder, environment=watch) as served,
        closing(Generator()) as generator,
    ):
        for size in SIZES:
            if _wanted(prefix, f"s3.put.{size.name}", f"s3.get.{size.name}"):
                found += _size_rows(served, generator, size, "")
        if _wanted(prefix, "s3.loop_lag"):
            _mixed_load(served)
            served.stop()
            found += _loop_lag_rows(served)
    return found


def _tls_rows() -> list[Row]:
    with (
        scratch() as folder,
        s3d(folder, tls=True) as served,
        closing(Generator()) as generator,
    ):
        return _size_rows(served, generator, SIZES[-1], ".tls")


def _size_rows(served: Served, generator: Generator, size: Size, suffix: str) -> list[Row]:
    """The rows of PUT and GET of one size."""
    put, get = Samples(), Samples()
    tls_folder = served.folder / "data" / "tls"
    tls = (str(tls_folder / "server.pem"), str(tls_folder / "server.key")) if served.tls else None
    base = size.size_bytes * 1000  # object numbers that no other size uses
    with closing(Disk(served.folder)) as disk, bare.running(size.size_bytes, tls) as other:
        run = _Runner(served, other, generator, size)
        generator.run(run.plan("PUT", first=base, requests=size.stored))
        for number in range(1, ROUNDS + 1):
            run.both(put, "PUT", first=base + number * size.fresh, keys=size.fresh)
            put.disk.append(_disk_rate(disk, size))
            run.both(get, "GET", first=base, keys=size.stored)
    return [
        *_rows_of(f"s3.put.{size.name}{suffix}", size, put),
        *_rows_of(f"s3.get.{size.name}{suffix}", size, get),
    ]


@dataclass(frozen=True)
class _Runner:
    served: Served
    other: bare.Bare
    generator: Generator
    size: Size

    def plan(self, method: str, **fields: Any) -> Plan:
        return self.served.plan(
            method=method,
            size_bytes=self.size.size_bytes,
            connections=self.size.connections,
            seconds=SECONDS,
            **fields,
        )

    def both(self, samples: Samples, method: str, **fields: Any) -> None:
        """A round of `s3d`, and one of the bare server, for a third of the time."""
        plan = self.plan(method, **fields)
        report, cpu_us = self._measured(plan, self.served.process.pid)
        samples.reports.append(report)
        samples.cpu_us.append(cpu_us)
        again = {name: getattr(plan, name) for name in plan.__struct_fields__}
        again |= {"host": "127.0.0.1", "port": self.other.port, "seconds": SECONDS / 3}
        report, cpu_us = self._measured(Plan(**again), self.other.pid)
        samples.bare_reports.append(report)
        samples.bare_cpu_us.append(cpu_us)

    def _measured(self, plan: Plan, pid: int) -> tuple[Report, float]:
        """The report, and the server's CPU time for each request, in microseconds."""
        before_s = cpu_s(pid)
        report = self.generator.run(plan)
        return report, (cpu_s(pid) - before_s) / report.sent * 1e6


def _disk_rate(disk: Disk, size: Size) -> float:
    """What the disk would do with as many bytes as are written for an object."""
    if size.is_small:
        return disk.syncs_per_second()
    return disk.mib_per_second() * DATA_SHARDS / (DATA_SHARDS + PARITY_SHARDS)


def _rows_of(name: str, size: Size, samples: Samples) -> list[Row]:
    def rate(report: Report) -> float:
        return report.per_second if size.is_small else report.mib_per_second

    unit = "/s" if size.is_small else "MiB/s"
    rates = [rate(report) for report in samples.reports]
    p50_ms = statistics.median(report.p50_ms for report in samples.reports)
    p99s_ms = [report.p99_ms for report in samples.reports]
    cores = [report.cpu_cores for report in samples.reports]
    found = []
    if samples.disk:
        what = "pwrite + fdatasync of 4 KiB" if size.is_small else "disk, 5/3 of the bytes"
        found.append(_row(name, unit, rates, what, samples.disk))
    found.append(_row(name, unit, rates, HTTP, [rate(report) for report in samples.bare_reports]))
    found.append(_row(f"{name}.cpu", "us", samples.cpu_us, HTTP, samples.bare_cpu_us))
    found.append(_row(f"{name}.p99", "ms", p99s_ms, "p50 of the same rounds", [p50_ms]))
    found.append(_row(f"{name}.generator", "cores", cores, "one core", [1.0]))
    return found


def _row(name: str, unit: str, values: list[float], yardstick: str, others: list[float]) -> Row:
    """The medians of all rounds."""
    value = statistics.median(values)
    return row(
        name,
        value,
        unit,
        spread=(max(values) - min(values)) / value,
        yardstick=yardstick,
        yardstick_value=statistics.median(others),
    )


# --- the event loop ------------------------------------------------------------------------------


def _mixed_load(served: Served) -> None:
    """Large and small PUTs and GETs at once."""
    large, small = SIZES[-1].size_bytes, SIZES[0].size_bytes
    shared: dict[str, Any] = {"seconds": 2 * SECONDS}
    plans = [
        served.plan(method="PUT", size_bytes=large, connections=8, keys=256, first=1, **shared),
        served.plan(method="GET", size_bytes=large, connections=8, keys=16, first=500, **shared),
        served.plan(method="PUT", size_bytes=small, connections=8, keys=8192, first=1000, **shared),
        served.plan(method="GET", size_bytes=small, connections=8, keys=64, first=9500, **shared),
    ]
    with ExitStack() as stack:
        generators = [stack.enter_context(closing(Generator())) for _ in plans]
        for plan, generator in zip(plans, generators, strict=True):
            if plan.method == "GET":
                stored = {"method": "PUT", "requests": plan.keys}
                fields = {name: getattr(plan, name) for name in plan.__struct_fields__}
                generator.run(Plan(**{**fields, **stored}))
        for plan, generator in zip(plans, generators, strict=True):
            generator.begin(plan)
        for generator in generators:
            generator.end()


def _loop_lag_rows(served: Served) -> list[Row]:
    found = re.search(r'msg="loop lag" max_ms=([0-9.]+) max_cpu_ms=([0-9.]+)', served.log)
    if found is None:
        raise RuntimeError(f"s3d did not report its loop's lag:\n{served.log[-2000:]}")
    limit = [LOOP_LAG_MS_MAX]
    return [
        _row("s3.loop_lag.max", "ms", [float(found[1])], "the limit", limit),
        _row("s3.loop_lag.max_cpu", "ms", [float(found[2])], "the limit", limit),
    ]

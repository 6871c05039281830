"""The binary that S3D names beside the interpreter that runs this source: the same requests.

    binary.put.4KiB, binary.get.4KiB        requests a second, 16 clients
    binary.put.10MiB, binary.get.10MiB      MiB/s of object bytes, 8 clients
    binary.put.10MiB.tls, binary.get...     the same over TLS
    ....cpu                                 CPU time of the server for one request

Both serve at once, each with five nodes of its own on the same disk, and take turns under one
generator, in an order that changes from round to round. Without S3D there are no rows.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack, closing
from typing import Final

from benchmarks.load import Generator, Report
from benchmarks.measure import Row, row, timing
from benchmarks.s3 import SIZES, Size
from benchmarks.served import INTERPRETER, Served, command, cpu_s, s3d, scratch

ROUNDS: Final = 5
SECONDS: Final = 2.5
OTHER: Final = "python -m predastore"


def rows() -> list[Row]:
    if not os.environ.get("S3D"):
        return []
    plain = _measured(tls=False, sizes=SIZES)
    return [*plain, *_measured(tls=True, sizes=SIZES[-1:])]


def _measured(*, tls: bool, sizes: tuple[Size, ...]) -> list[Row]:
    with ExitStack() as stack:
        generator = stack.enter_context(closing(Generator()))
        servers = []
        for program in (command(), INTERPRETER):
            folder = stack.enter_context(scratch())
            unpacked = {"S3D_UNPACK_DIR": str(folder)}
            servers.append(
                stack.enter_context(s3d(folder, tls=tls, program=program, environment=unpacked))
            )
        found = []
        for size in sizes:
            for method in ("PUT", "GET"):
                name = f"binary.{method.lower()}.{size.name}{'.tls' if tls else ''}"
                found += _rows_of(name, size, _rounds(servers, generator, size, method))
        for served in servers:
            served.stop()
        return found


Sample = tuple[Report, float]


def _rounds(
    servers: list[Served], generator: Generator, size: Size, method: str
) -> tuple[list[Sample], list[Sample]]:
    """Reports, and microseconds of CPU for a request: of the binary, and of the interpreter."""
    taken: tuple[list[Sample], list[Sample]] = ([], [])
    base = size.size_bytes * 1000  # object numbers that no other size uses
    for number in range(ROUNDS + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            served = servers[which]
            keys = size.fresh if method == "PUT" and number else size.stored
            plan = served.plan(
                method=method,
                size_bytes=size.size_bytes,
                connections=size.connections,
                first=base + (number * size.fresh if method == "PUT" else 0),
                **({"keys": keys, "seconds": SECONDS} if number else {"requests": keys}),
            )
            before_s = cpu_s(served.process.pid)
            report = generator.run(plan)
            if number:  # the first puts what is to be read, or reads it once
                cpu_us = (cpu_s(served.process.pid) - before_s) / report.sent * 1e6
                taken[which].append((report, cpu_us))
    return taken


def _rows_of(name: str, size: Size, taken: tuple[list[Sample], list[Sample]]) -> list[Row]:
    def rates(samples: list[Sample]) -> list[float]:
        reports = [report for report, _ in samples]
        return [report.per_second if size.is_small else report.mib_per_second for report in reports]

    def cpu(samples: list[Sample]) -> list[float]:
        return [cpu_us for _, cpu_us in samples]

    found = []
    for row_name, unit, of in (
        (name, "/s" if size.is_small else "MiB/s", rates),
        (f"{name}.cpu", "us", cpu),
    ):
        mine, other = (of(samples) for samples in taken)
        found.append(
            row(
                row_name,
                statistics.median(mine),
                unit,
                spread=timing(mine).spread,
                yardstick=OTHER,
                yardstick_value=statistics.median(other),
            )
        )
    return found

"""GET with two of five nodes gone: RS(3,2), on a host of its own, beside the whole cluster.

    s3.degraded.get.10m     MiB/s, 16 clients
    s3.degraded.get.4k      requests a second
    ....cpu                 CPU time of the server for one request

Two clusters of one process with five nodes are filled. One is then started again with a file in
which two of its nodes have moved to a host where nothing answers. With BASE, one more of that
commit, two nodes gone likewise. All take turns. (With two nodes gone a PUT is refused: it needs
write_min shards, by default four.) Needs root, for network namespaces; else it says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import usage
from benchmarks.base import Program
from benchmarks.cells import MIB, SIZES, Cell
from benchmarks.hosts import configuration, process, wait_ready
from benchmarks.load import Generator, LoadFailed
from benchmarks.measure import Row
from benchmarks.s3_rows import Sample, Taken, rows_of
from benchmarks.served import DATA_SHARDS, PARITY_SHARDS, Served, scratch
from benchmarks.subjects import programs, rounds
from tests.support.networks import hosts_of_their_own, why_not

CLIENTS: Final = 16
WARM_S: Final = 0.3
WHOLE: Final = "all five nodes there"
GONE: Final = (4, 5)


@dataclass(frozen=True)
class _Cell(Cell):
    @property
    def name(self) -> str:
        return f"s3.degraded.{self.operation}.{self.size.name}"


CELLS: Final = tuple(_Cell("get", SIZES[size], CLIENTS) for size in ("4k", "10m"))


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    cells = [cell for cell in CELLS if cell.name.startswith(prefix)]
    problem = why_not() if cells else ""
    if problem:
        print(f"s3.degraded: no rows, {problem}", file=sys.stderr)
    if problem or not cells:
        return []
    found: list[Row] = []
    with contextlib.ExitStack() as stack:
        generator = stack.enter_context(contextlib.closing(Generator()))
        those = programs()
        kinds = [(those[0], GONE, those[0].label), (those[0], (), WHOLE)]
        kinds += [(other, GONE, other.label) for other in those[1:]]
        served = [
            (label, stack.enter_context(_served(generator, program, gone, cells)))
            for program, gone, label in kinds
        ]
        for cell in cells:
            taken = [Taken(label) for label, _ in served]
            for number in range(rounds() + 1):
                for (_, each), samples in zip(served, taken, strict=True):
                    before = usage.cpu(each.process.pid)
                    report = generator.run(each.plan(**_fields(cell)))
                    used = usage.cpu(each.process.pid).since(before)
                    if number:  # the first finds out who is gone
                        samples.samples.append(Sample(report, used))
            found += rows_of(cell, taken, [])
    return found


def _fields(cell: Cell, **more: Any) -> dict[str, Any]:
    return {
        "method": "GET",
        "size_bytes": cell.size.size_bytes,
        "connections": cell.clients,
        "seconds": cell.size.seconds,
        "warm_s": WARM_S,
        "keys": cell.size.stored,
        "prefix": f"stored-{cell.size.name}/",
    } | more


@contextlib.contextmanager
def _served(
    generator: Generator, program: Program, gone: tuple[int, ...], cells: list[_Cell]
) -> Iterator[Served]:
    """An `s3d` that holds what the cells read, with the nodes of these numbers gone."""
    code = (DATA_SHARDS, PARITY_SHARDS)
    numbers = range(1, sum(code) + 1)
    with scratch() as folder, hosts_of_their_own(2) as hosts:
        here, silent = hosts.addresses
        whole = configuration([here], [(here, 9990 + n) for n in numbers], code, tls=False)
        with process(folder, hosts, 1, program, whole) as first:
            wait_ready([first])
            for cell in cells:
                stored = {"method": "PUT", "requests": cell.size.stored, "seconds": 0.0}
                generator.run(first.plan(**_fields(cell, **stored)))
            first.stop()
        nodes = [(silent if n in gone else here, 9990 + n) for n in numbers]
        text = configuration([here], nodes, code, tls=False)
        with process(folder, hosts, 1, program, text) as second:
            wait_ready([second])
            if gone:
                _check_refusal(generator, second)
            yield second


def _check_refusal(generator: Generator, served: Served) -> None:
    """That nodes are gone indeed: too few are left for a PUT."""
    try:
        plan = served.plan(method="PUT", size_bytes=MIB, requests=1, keys=1, prefix="refused/")
        generator.run(plan)
    except LoadFailed as error:
        if "answered with 503" in str(error):
            return
        raise
    raise RuntimeError("two of five nodes are gone, and yet a PUT was taken")

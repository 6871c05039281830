"""PUT and GET through three hosts: network namespaces, RS(2,1), a database of three, TLS.

    s3.three_hosts.put.10m, .get.10m   MiB/s of object bytes, 16 clients of the first host
    s3.three_hosts.put.4k, .get.4k     requests a second
    ....cpu                            CPU time of all three for one request

Two thirds of a PUT's bytes, and on average as much of a GET's, cross hosts over QUIC. Beside it
stands a second cluster, and both take turns: of the commit of BASE, or, without it, one that has
stock aioquic for QUIC (PREDASTORE_QUIC=aioquic). Needs root; else it says so and gives no rows.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import base, usage
from benchmarks.base import Program
from benchmarks.cells import SIZES, Cell
from benchmarks.hosts import configuration, process, wait_ready
from benchmarks.load import ROOT, Generator
from benchmarks.measure import Row
from benchmarks.s3_rows import Sample, Taken, rows_of
from benchmarks.served import Served, command, scratch
from benchmarks.subjects import OURS, rounds
from benchmarks.usage import Cpu
from tests.support.networks import hosts_of_their_own, why_not

HOSTS: Final = 3
CODE: Final = (2, 1)
CLIENTS: Final = 16
WARM_S: Final = 0.3
STOCK: Final = "stock aioquic in its place"


@dataclass(frozen=True)
class _Cell(Cell):
    @property
    def name(self) -> str:
        return f"s3.three_hosts.{self.operation}.{self.size.name}"


CELLS: Final = tuple(
    _Cell(operation, SIZES[size], CLIENTS, tls=True)
    for size in ("4k", "10m")
    for operation in ("put", "get")
)


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    cells = [cell for cell in CELLS if cell.name.startswith(prefix)]
    problem = why_not() if cells else ""
    if problem:
        print(f"s3.three_hosts: no rows, {problem}", file=sys.stderr)
    if problem or not cells:
        return []
    ours = Program(OURS, command(), ROOT)
    other = base.wanted()
    programs: list[tuple[Program, Mapping[str, str]]] = [(ours, {})]
    programs.append(
        (other, {})
        if other
        else (Program(STOCK, ours.command, ours.root), {"PREDASTORE_QUIC": "aioquic"})
    )
    found: list[Row] = []
    with contextlib.ExitStack() as stack:
        generator = stack.enter_context(contextlib.closing(Generator()))
        clusters = [stack.enter_context(_cluster(*program)) for program in programs]
        for cell in cells:
            taken = [Taken(program.label) for program, _ in programs]
            for cluster in clusters:
                stored = _fields(cell, 0, method="PUT", requests=cell.size.stored, seconds=0.0)
                generator.run(cluster[0].plan(**stored))
            for number in range(1, rounds() + 1):
                for cluster, samples in zip(clusters, taken, strict=True):
                    samples.samples.append(_sample(generator, cell, cluster, number))
            found += rows_of(cell, taken, [])
    return found


def _fields(cell: Cell, number: int, **more: Any) -> dict[str, Any]:
    fresh = number and cell.operation == "put"
    return {
        "method": cell.operation.upper(),
        "size_bytes": cell.size.size_bytes,
        "connections": cell.clients,
        "seconds": cell.size.seconds,
        "warm_s": WARM_S,
        "keys": cell.size.keys if fresh else cell.size.stored,
        "prefix": f"{cell.name}.{number}/" if fresh else f"stored-{cell.size.name}/",
    } | more


def _sample(generator: Generator, cell: Cell, cluster: list[Served], number: int) -> Sample:
    before = [usage.cpu(each.process.pid) for each in cluster]
    report = generator.run(cluster[0].plan(**_fields(cell, number)))
    used = [
        usage.cpu(each.process.pid).since(then) for each, then in zip(cluster, before, strict=True)
    ]
    whole = Cpu(sum(one.user_s for one in used), sum(one.system_s for one in used))
    return Sample(report, whole)


@contextlib.contextmanager
def _cluster(program: Program, environment: Mapping[str, str]) -> Iterator[list[Served]]:
    """Three processes, each on a host of its own."""
    with scratch() as folder, hosts_of_their_own(HOSTS) as hosts, contextlib.ExitStack() as stack:
        nodes = [(host, 9991) for host in hosts.addresses]
        text = configuration(hosts.addresses, nodes, CODE, tls=True)
        processes = [
            stack.enter_context(
                process(
                    folder,
                    hosts,
                    number,
                    program,
                    text,
                    tls=True,
                    roles=["-node", str(number), "-db-node", str(number)],
                    environment=environment,
                )
            )
            for number in range(1, HOSTS + 1)
        ]
        wait_ready(processes)
        yield processes

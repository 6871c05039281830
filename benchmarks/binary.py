"""The binary that S3D names beside the interpreter that runs this source: the same requests.

    binary.put.4k, binary.get.4k        requests a second, 16 clients
    binary.put.10m, binary.get.10m      MiB/s of object bytes, 8 clients
    binary.put.10m.tls, binary.get...   the same over TLS
    ....cpu                             CPU time of the server for one request

Both serve at once, each with five nodes of its own on the same disk, and take turns under one
generator, in an order that changes from round to round. Without S3D there are no rows.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import usage
from benchmarks.cells import SIZES, Cell
from benchmarks.load import Generator
from benchmarks.measure import Row
from benchmarks.s3_rows import Sample, Taken, rows_of
from benchmarks.served import INTERPRETER, Served, command, s3d, scratch
from benchmarks.subjects import OURS, rounds

OTHER: Final = "python -m predastore"


@dataclass(frozen=True)
class _Cell(Cell):
    @property
    def name(self) -> str:
        return f"binary.{self.operation}.{self.size.name}{'.tls' if self.tls else ''}"


CELLS: Final = tuple(
    _Cell(operation, SIZES[size], clients, tls)
    for size, clients, tls in (("4k", 16, False), ("10m", 8, False), ("10m", 8, True))
    for operation in ("put", "get")
)


def rows() -> list[Row]:
    if not os.environ.get("S3D"):
        return []
    plain = _measured(tls=False)
    return [*plain, *_measured(tls=True)]


def _measured(*, tls: bool) -> list[Row]:
    with ExitStack() as stack:
        generator = stack.enter_context(closing(Generator()))
        servers = []
        for program in (command(), INTERPRETER):
            folder = stack.enter_context(scratch())
            unpacked = {"S3D_UNPACK_DIR": str(folder)}
            servers.append(
                stack.enter_context(s3d(folder, tls=tls, program=program, environment=unpacked))
            )
        found: list[Row] = []
        for cell in CELLS:
            if cell.tls == tls:
                found += rows_of(cell, _rounds(servers, generator, cell), [])
        for served in servers:
            served.stop()
        return found


def _rounds(servers: list[Served], generator: Generator, cell: Cell) -> list[Taken]:
    """Of the binary, and of the interpreter."""
    taken = [Taken(OURS), Taken(OTHER)]
    for number in range(rounds() + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            pid = servers[which].process.pid
            before = usage.cpu(pid)
            report = generator.run(servers[which].plan(**_fields(cell, number)))
            if number:  # the first puts what is to be read, or reads it once
                used = usage.cpu(pid).since(before)
                taken[which].samples.append(Sample(report, used))
    return taken


def _fields(cell: Cell, number: int) -> dict[str, Any]:
    fresh = number and cell.operation == "put"
    fields = {
        "method": cell.operation.upper(),
        "size_bytes": cell.size.size_bytes,
        "connections": cell.clients,
        "keys": cell.size.keys if fresh else cell.size.stored,
        "prefix": f"{cell.name}.{number}/" if fresh else f"stored-{cell.size.name}/",
    }
    return fields | ({"seconds": 2.5} if number else {"requests": cell.size.stored})

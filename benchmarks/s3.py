"""S3 through a real `s3d`, RS(3,2), five nodes in one process: the rows of cells.py.

    s3.put.4k.c16            the rate: requests a second, or MiB/s of bodies of 1 MiB and more
    s3.put.4k.c16.cpu        CPU time of the server for one request, user and system
    s3.put.4k.c16.p99        latency; beside the median of the same rounds, and what others have
    s3.put.4k.c16.generator  how busy the load generator was, beside the machine's processors
    s3.memory.idle, .after   resident before the first request, and after the small cells
    s3.yardstick....         what a processor does of MD5, SHA-256, CRC32C, parity, copies, AES-GCM

With PEER=url and BASE=commit (subjects.py) each row has another of the same for either; all take
turns in each of ROUNDS rounds. So do the yardsticks:

    PUT and COPY, small      pwrite and fdatasync of 4 KiB, one after the other; httptools on uvloop
    PUT, large               the disk: pwrite and fdatasync of the same bytes, k + m over k times;
                             the processors: bounds.py, on those that the generator leaves
    GET, HEAD, LIST, small   httptools on uvloop, from memory (bare.py)
    GET and range, large     a bare server in C, of files with the same bytes (sender.c)

A row's `figures`, in BENCH_OUT alone, have all that was measured of each, round by round.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import msgspec

from benchmarks import bare, sender, subjects, usage
from benchmarks.bounds import Kernels, openssl_speed
from benchmarks.cells import CELLS, LISTED, RANGE_BYTES, SIZES, Cell, picked
from benchmarks.disk import Disk
from benchmarks.load import Generator, LoadFailed
from benchmarks.measure import Row, medians_row
from benchmarks.s3_rows import Sample, Taken, Yardstick, rows_of
from benchmarks.served import DATA_SHARDS, PARITY_SHARDS, Served, scratch
from benchmarks.subjects import Subject

WARM_S: Final = 0.3
_SPARE_BYTES: Final = 2 << 30
CORES: Final = len(os.sched_getaffinity(0))
THREADS: Final = max(1, CORES // 2)  # the generator has half of the machine at most
CHECKED: Final = 16  # objects of a round of PUTs that are read back, every byte
DELETED: Final = {1: 500, 16: 3000, 256: 4000}  # in a round, by clients
LIST_BYTES: Final = 220 << 10  # about what a page of LISTED keys has
SPREAD: Final = (DATA_SHARDS + PARITY_SHARDS) / DATA_SHARDS
HTTP: Final = "httptools on uvloop, from memory"
SENDER: Final = "a bare server in C, of files"
SYNCS: Final = "pwrite + fdatasync of 4 KiB"
DISK: Final = "disk, k+m over k of the bytes"
PROCESSORS: Final = "processors, at the kernels' speeds"


def rows() -> Iterator[Row]:
    """As they are measured. LoadFailed at the end, where a cell could not be."""
    prefix = os.environ.get("BENCH", "")
    kernels = Kernels(DATA_SHARDS, PARITY_SHARDS)
    failed: list[str] = []
    wants_memory = _wanted(prefix, "s3.memory")
    cells = picked(prefix)
    if not cells and wants_memory:
        cells = [cell for cell in CELLS if cell.name == "s3.get.4k.c16"]
    with contextlib.closing(Generator()) as generator:
        for group, members in groupby(cells, key=lambda cell: cell.group):
            with subjects.running(tls=group[0]) as those:
                idle = [_resident(subject) for subject in those]
                for cell in members:
                    try:
                        yield from _Measuring(cell, those, generator, kernels).rows()
                    except (LoadFailed, RuntimeError) as error:  # the other cells have their turn
                        failed.append(f"{cell.name}: {error}")
                if group == (False, False, ""):
                    after = [_resident(subject) for subject in those]
                    yield from _memory_rows("idle", those, idle)
                    yield from _memory_rows("after", those, after)
    if _wanted(prefix, "s3.yardstick"):
        yield from _kernel_rows(kernels)
    if failed:
        raise LoadFailed("\n".join(failed))


def _wanted(prefix: str, *names: str) -> bool:
    return any(name.startswith(prefix) or prefix.startswith(name) for name in names)


class _Measuring:
    """One cell: its objects, its rounds, and what stands beside it."""

    def __init__(
        self, cell: Cell, those: list[Subject], generator: Generator, kernels: Kernels
    ) -> None:
        self._cell = cell
        self._subjects = those
        self._generator = generator
        self._kernels = kernels
        self._taken = [Taken(subject.label) for subject in those]

    def rows(self) -> list[Row]:
        cell = self._cell
        served = self._subjects[0].served
        assert served is not None
        self._check_room(served)
        for subject in self._subjects:
            self._fill(subject)
        with (
            contextlib.closing(Disk(served.folder)) as disk,
            self._bare(served) as other,
        ):
            beside = Taken(SENDER if cell.size.is_large else HTTP)
            disks: list[float] = []
            prices: list[float] = []
            for number in range(subjects.rounds()):
                for which in self._turns(number):
                    self._taken[which].samples.append(self._sample(which, number))
                if other is not None:
                    beside.samples.append(self._beside(other))
                if cell.operation in ("put", "delete", "copy"):
                    disks.append(self._disk_rate(disk))
                if cell.operation == "put" and cell.size.is_large:
                    prices.append(self._kernels.sample(signed=cell.signs_body))
        return rows_of(cell, self._taken, self._yardsticks(beside, disks, prices))

    def _check_room(self, served: Served) -> None:
        """RuntimeError, where large PUTs would fill the disk."""
        cell, count = self._cell, len(self._subjects)
        objects = cell.written_max * subjects.rounds() + cell.size.stored
        needed = int(objects * cell.size.size_bytes * SPREAD * count) + _SPARE_BYTES
        free = shutil.disk_usage(served.folder).free
        if cell.writes_large and free < needed:
            raise RuntimeError(
                f"{served.folder} has {free >> 20:,} MiB free, and {needed >> 20:,} are needed; "
                "point BENCH_DIR to a larger disk, or set ROUNDS lower"
            )

    def _turns(self, number: int) -> list[int]:
        """The order of a round: who is first changes."""
        count = len(self._subjects)
        return [(number + turn) % count for turn in range(count)]

    # --- a run --------------------------------------------------------------------------------

    def _fields(self, **more: Any) -> dict[str, Any]:
        cell = self._cell
        fields: dict[str, Any] = {
            "method": cell.operation.upper(),
            "size_bytes": cell.size.size_bytes,
            "connections": cell.clients,
            "threads": THREADS,
            "seconds": cell.size.seconds,
            "warm_s": WARM_S,
            "keys": cell.size.stored,
            "prefix": _stored(cell),
            "listed": LISTED,
            "signs_body": cell.signs_body,
        }
        if cell.operation == "range":
            fields["range_bytes"] = RANGE_BYTES
        if cell.writes_large and fields["method"] != "GET":
            fields["requests"] = cell.written_max
        if cell.size.name == "1g":
            fields |= {"seconds": 0.0, "requests": cell.clients}
        return fields | more

    def _sample(self, which: int, number: int) -> Sample:
        cell, subject = self._cell, self._subjects[which]
        fresh = {"prefix": f"{cell.name}.{number}/", "keys": cell.size.keys}
        match cell.operation:
            case "put":
                sample = self._run(subject, self._fields(**fresh))
                self._read_back(subject, fresh["prefix"], min(CHECKED, sample.report.answered))
                return sample
            case "copy":
                fresh |= {"keys": cell.size.stored, "copy_from": _stored(cell)}
                sample = self._run(subject, self._fields(**fresh))
                self._read_back(subject, fresh["prefix"], min(CHECKED, sample.report.answered))
                return sample
            case "delete":
                count = DELETED[cell.clients]
                fresh |= {"keys": count, "requests": count}
                put = self._fields(**fresh, method="PUT", seconds=0.0) | {"connections": 16}
                self._generator.run(subject.plan(**put))
                return self._run(subject, self._fields(**fresh))
            case _:
                return self._run(subject, self._fields())

    def _run(self, subject: Subject, fields: dict[str, Any]) -> Sample:
        before = usage.cpu(subject.pid) if subject.pid is not None else None
        report = self._generator.run(subject.plan(**fields))
        if subject.pid is None or before is None:
            return Sample(report)
        used = usage.cpu(subject.pid).since(before)
        return Sample(report, used, _resident(subject))

    def _read_back(self, subject: Subject, prefix: str, count: int) -> None:
        """Whether the first objects of a round are what was put."""
        size_bytes = self._cell.size.size_bytes
        if size_bytes > SIZES["10m"].size_bytes:
            return  # the GETs of that size read every byte
        plan = subject.plan(
            method="GET",
            size_bytes=size_bytes,
            connections=4,
            requests=count,
            keys=count,
            prefix=prefix,
            verify_every=1,
        )
        self._generator.run(plan)

    def _fill(self, subject: Subject) -> None:
        """The objects that reads are of."""
        cell = self._cell
        if not cell.reads_stored or cell.size.name in subject.filled:
            return
        fields = self._fields(method="PUT", seconds=0.0, requests=cell.size.stored)
        fields |= {"connections": min(16, cell.size.stored), "range_bytes": 0}
        self._generator.run(subject.plan(**fields))
        subject.filled.add(cell.size.name)

    # --- what stands beside it ----------------------------------------------------------------

    @contextlib.contextmanager
    def _bare(self, served: Served) -> Iterator[bare.Bare | None]:
        """The server that is the yardstick; None: there is none for this cell."""
        cell, tls = self._cell, served.certificate
        if cell.size.is_large:
            if cell.operation not in ("get", "range"):
                yield None
                return
            with (
                scratch() as folder,
                sender.running(
                    folder / "files", cell.size.size_bytes, cell.size.stored, tls
                ) as other,
            ):
                yield other
        elif cell.operation in ("put", "get", "head", "list"):
            size_bytes = LIST_BYTES if cell.operation == "list" else cell.size.size_bytes
            with bare.running(size_bytes, tls) as other:
                yield other
        else:
            yield None

    def _beside(self, other: bare.Bare) -> Sample:
        """A round of the bare server, under the same load, for half of the time."""
        fields = self._fields()
        fields["seconds"] = fields["seconds"] / 2
        if self._cell.operation == "list":
            fields |= {"method": "GET", "size_bytes": LIST_BYTES}
        elif self._cell.operation == "put":
            fields["keys"] = self._cell.size.keys
        served = self._subjects[0].served
        assert served is not None
        plan = msgspec.structs.replace(served.plan(**fields), host="127.0.0.1", port=other.port)
        before = usage.cpu(other.pid)
        report = self._generator.run(plan)
        return Sample(report, usage.cpu(other.pid).since(before))

    def _disk_rate(self, disk: Disk) -> float:
        """Of requests a second, or of bodies' MiB/s."""
        if self._cell.operation == "put" and self._cell.size.is_large:
            return disk.mib_per_second() / SPREAD
        return disk.syncs_per_second()

    def _yardsticks(
        self, beside: Taken, disks: list[float], prices: list[float]
    ) -> list[Yardstick]:
        cell = self._cell
        large_put = cell.operation == "put" and cell.size.is_large
        found = []
        if disks:
            found.append(Yardstick(DISK if large_put else SYNCS, disks))
        if prices:
            ours = self._taken[0].samples
            cores = [max(CORES - sample.report.cpu_cores, 0.1) for sample in ours]
            rates = [free / price / (1 << 20) for free, price in zip(cores, prices, strict=True)]
            cpu_us = [price * cell.size.size_bytes * 1e6 for price in prices]
            found.append(Yardstick(PROCESSORS, rates, cpu_us))
        if beside.samples:
            found.append(Yardstick(beside.label, beside.rates(cell), beside.cpu_us()))
        return found


def _stored(cell: Cell) -> str:
    """The prefix of the objects that reads are of."""
    return f"stored-{cell.size.name}/"


# --- memory, kernels -----------------------------------------------------------------------------


def _resident(subject: Subject) -> float | None:
    return None if subject.pid is None else usage.resident_mib(subject.pid)


def _memory_rows(when: str, those: list[Subject], resident: list[float | None]) -> list[Row]:
    ours = resident[0]
    assert ours is not None
    beside = [
        (subject.label, value)
        for subject, value in zip(those[1:], resident[1:], strict=True)
        if value is not None
    ]
    return [
        medians_row(f"s3.memory.{when}", "MiB", [ours], label, [value])
        for label, value in beside or [("400 MiB, the bound under load", 400.0)]
    ]


def _kernel_rows(kernels: Kernels) -> list[Row]:
    for _ in range(subjects.rounds()):
        kernels.sample(signed=True)
    copies = [rate / 1e6 for rate in kernels.samples["copy"]]
    found = [
        medians_row(
            f"s3.yardstick.{name}", "MB/s", [one / 1e6 for one in rates], "memory copy", copies
        )
        for name, rates in kernels.samples.items()
    ]
    for cipher in ("aes-128-gcm", "aes-256-gcm"):
        rate = openssl_speed(cipher)
        if rate:
            name = f"s3.yardstick.{cipher.replace('-', '')}"
            found.append(medians_row(name, "MB/s", [rate / 1e6], "memory copy", copies))
    return found

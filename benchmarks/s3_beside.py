"""Small requests beside bulk, and how late the event loop is under all at once.

s3.beside.put, s3.beside.get   p99 of GET 4 KiB, 16 clients, while four others PUT, or GET, 10
                               MiB; beside the p99 without them, of the same rounds
s3.loop_lag.max                how late the event loop ever was under a mixed load
s3.loop_lag.max_cpu            the most CPU time that it held on to: what is left when other
                               processes of the machine are taken away
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing
from typing import Any, Final

from benchmarks import subjects
from benchmarks.cells import SIZES, Size
from benchmarks.load import Generator, Plan, Report
from benchmarks.measure import Row, medians_row
from benchmarks.served import Served, s3d, scratch
from benchmarks.subjects import Subject

SMALL, LARGE = SIZES["4k"], SIZES["10m"]
CLIENTS, BULK_CLIENTS = 16, 4
SECONDS: Final = 2.0
MIXED_S: Final = 6.0
BULK_BEGINS_S: Final = 0.5  # the generator of bulk has so much time before the window of the other
LOOP_LAG_MS_MAX: Final = 50.0
ALONE: Final = "p99 alone"


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    found: list[Row] = []
    with closing(Generator()) as generator:
        if _wanted(prefix, "s3.beside.put", "s3.beside.get"):
            found += _beside_rows(generator, prefix)
        if _wanted(prefix, "s3.loop_lag.max"):
            found += _loop_lag_rows(generator)
    return found


def _wanted(prefix: str, *names: str) -> bool:
    return any(name.startswith(prefix) or prefix.startswith(name) for name in names)


# --- beside bulk ----------------------------------------------------------------------------------


def _beside_rows(generator: Generator, prefix: str) -> list[Row]:
    kinds = [kind for kind in ("put", "get") if _wanted(prefix, f"s3.beside.{kind}")]
    found: list[Row] = []
    with subjects.running(tls=False) as those, closing(generator.another()) as bulk:
        alone: list[list[float]] = [[] for _ in those]
        beside: dict[str, list[list[float]]] = {kind: [[] for _ in those] for kind in kinds}
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for subject in those:
            for size in (SMALL, LARGE):
                generator.run(subject.plan(**_stored(size)))
        for number in range(subjects.rounds()):
            for which, subject in enumerate(those):
                small = _fields(SMALL, "GET", connections=CLIENTS, seconds=SECONDS)
                alone[which].append(generator.run(subject.plan(**small)).p99_ms)
                for kind in kinds:
                    bulk.begin(_bulk_plan(subject, kind, number))
                    warm_s = BULK_BEGINS_S
                    report = generator.run(subject.plan(**(small | {"warm_s": warm_s})))
                    moved = bulk.end()
                    beside[kind][which].append(report.p99_ms)
                    if which == 0:
                        rates[kind].append(moved.mib_per_second)
        for kind, taken in beside.items():
            name = f"s3.beside.{kind}"
            found.append(medians_row(name, "ms", taken[0], ALONE, alone[0]))
            found[-1]["figures"] = {"bulk_mib_per_s": rates[kind], "p99_ms": taken[0]}
            for subject, values in zip(those[1:], taken[1:], strict=True):
                found.append(medians_row(name, "ms", taken[0], subject.label, values))
    return found


def _fields(size: Size, method: str, **more: Any) -> dict[str, Any]:
    return {
        "method": method,
        "size_bytes": size.size_bytes,
        "connections": BULK_CLIENTS,
        "keys": size.stored,
        "prefix": f"stored-{size.name}/",
        "warm_s": BULK_BEGINS_S,
    } | more


def _stored(size: Size) -> dict[str, Any]:
    return _fields(size, "PUT", requests=size.stored, connections=CLIENTS)


def _bulk_plan(subject: Subject, kind: str, number: int) -> Plan:
    fresh = {"prefix": f"bulk.{number}/", "keys": LARGE.keys} if kind == "put" else {}
    seconds = SECONDS + BULK_BEGINS_S
    return subject.plan(**_fields(LARGE, kind.upper(), seconds=seconds, warm_s=0.0, **fresh))


# --- the event loop -------------------------------------------------------------------------------


def _loop_lag_rows(generator: Generator) -> list[Row]:
    with scratch() as folder, s3d(folder, environment={"PREDASTORE_LOOP_LAG": "1"}) as served:
        _mixed_load(served, generator)
        served.stop()
        found = re.search(r'msg="loop lag" max_ms=([0-9.]+) max_cpu_ms=([0-9.]+)', served.log)
        if found is None:
            raise RuntimeError(f"s3d did not report its loop's lag:\n{served.log[-2000:]}")
    limit = [LOOP_LAG_MS_MAX]
    return [
        medians_row("s3.loop_lag.max", "ms", [float(found[1])], "the limit", limit),
        medians_row("s3.loop_lag.max_cpu", "ms", [float(found[2])], "the limit", limit),
    ]


def _mixed_load(served: Served, generator: Generator) -> list[Report]:
    """Large and small PUTs and GETs at once."""
    plans = []
    for size in (LARGE, SMALL):
        generator.run(served.plan(**_stored(size)))
        for method in ("PUT", "GET"):
            fresh = {"prefix": f"fresh-{size.name}/", "keys": size.keys} if method == "PUT" else {}
            fields = {"seconds": MIXED_S, "connections": 8, **fresh}
            plans.append(served.plan(**_fields(size, method, **fields)))
    with ExitStack() as stack:
        generators = [stack.enter_context(closing(generator.another())) for _ in plans]
        for plan, each in zip(plans, generators, strict=True):
            each.begin(plan)
        return [each.end() for each in generators]

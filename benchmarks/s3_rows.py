"""What the rounds of a cell gave, and its rows: rate, CPU time, p99, how busy the load was."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cells import Cell
from benchmarks.load import Report
from benchmarks.measure import Row, medians_row
from benchmarks.usage import Cpu

WHOLE_MACHINE = "all processors, in that time"


@dataclass(frozen=True)
class Sample:
    """One round of one server; what it used, where that can be told."""

    report: Report
    cpu: Cpu | None = None
    resident_mib: float | None = None


@dataclass
class Taken:
    """The rounds of one server."""

    label: str
    samples: list[Sample] = field(default_factory=list)

    def rates(self, cell: Cell) -> list[float]:
        if cell.counts_bytes:
            return [sample.report.mib_per_second for sample in self.samples]
        return [sample.report.per_second for sample in self.samples]

    def cpu_us(self) -> list[float]:
        """For a request. Empty, where it could not be told."""
        return [
            sample.cpu.total_s / max(sample.report.answered, 1) * 1e6
            for sample in self.samples
            if sample.cpu is not None
        ]

    def latencies(self, name: str) -> list[float]:
        return [float(getattr(sample.report, name)) for sample in self.samples]

    def figures(self, cell: Cell) -> dict[str, Any]:
        """All that was measured, a list of the rounds for each name."""
        reports = [sample.report for sample in self.samples]
        found: dict[str, Any] = {
            "rate": self.rates(cell),
            "requests_per_s": [report.per_second for report in reports],
            "mib_per_s": [report.mib_per_second for report in reports],
            "generator_cores": [report.cpu_cores for report in reports],
        }
        for name in ("mean_ms", "p50_ms", "p99_ms", "p999_ms", "max_ms"):
            found[name] = self.latencies(name)
        for name in ("timed", "answered", "verified", "errors"):
            found[name] = [getattr(report, name) for report in reports]
        used = [(sample.cpu, sample.report) for sample in self.samples if sample.cpu is not None]
        if used:
            found["cpu_user_us"] = [
                cpu.user_s / max(report.answered, 1) * 1e6 for cpu, report in used
            ]
            found["cpu_system_us"] = [
                cpu.system_s / max(report.answered, 1) * 1e6 for cpu, report in used
            ]
            if cell.counts_bytes:
                gib = cell.size.size_bytes / (1 << 30)
                found["cpu_s_per_gib"] = [
                    cpu.total_s / max(report.answered * gib, 1e-9) for cpu, report in used
                ]
        resident = [one.resident_mib for one in self.samples if one.resident_mib is not None]
        if resident:
            found["resident_mib"] = resident
        return found


@dataclass(frozen=True)
class Yardstick:
    """`rates` in the unit of the cell; `cpu_us`: what a request costs it, where that is known."""

    label: str
    rates: list[float]
    cpu_us: list[float] = field(default_factory=list)


def rows_of(cell: Cell, taken: list[Taken], yardsticks: list[Yardstick]) -> list[Row]:
    """`taken`: ours first."""
    ours, others = taken[0], taken[1:]
    unit = "MiB/s" if cell.counts_bytes else "/s"
    p50_ms = ours.latencies("p50_ms")
    p99_ms = ours.latencies("p99_ms")
    cores = [sample.report.cpu_cores for sample in ours.samples]
    machine = [float(len(os.sched_getaffinity(0)))]
    rates = [(each.label, each.rates(cell)) for each in others]
    rates += [(each.label, each.rates) for each in yardsticks]
    cpu = [(each.label, each.cpu_us()) for each in others]
    cpu += [(each.label, each.cpu_us) for each in yardsticks]
    cpu = [(label, values) for label, values in cpu if values and statistics.median(values) > 0]
    if not cpu:
        per_second = [sample.report.per_second for sample in ours.samples]
        cpu = [(WHOLE_MACHINE, [machine[0] * 1e6 / max(rate, 1e-9) for rate in per_second])]
    p99 = [(each.label, each.latencies("p99_ms")) for each in others]
    found = [medians_row(cell.name, unit, ours.rates(cell), *each) for each in rates]
    found += [
        medians_row(f"{cell.name}.cpu", "us", ours.cpu_us(), label, values) for label, values in cpu
    ]
    found += [
        medians_row(f"{cell.name}.p99", "ms", p99_ms, label, values)
        for label, values in [*p99, ("p50 of the same rounds", p50_ms)]
    ]
    found.append(
        medians_row(f"{cell.name}.generator", "cores", cores, "the machine's cores", machine)
    )
    found[0]["figures"] = {
        "cell": {
            "operation": cell.operation,
            "size": cell.size.name,
            "clients": cell.clients,
            "tls": cell.tls,
            "unit": unit,
        },
        "subjects": {each.label: each.figures(cell) for each in taken},
        "yardsticks": {
            each.label: {"rate": each.rates, "cpu_us": each.cpu_us} for each in yardsticks
        },
    }
    return found

"""The page and the plots that are made of a record of `make bench BENCH=s3`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.cells import SIZES, Cell
from benchmarks.load import Report
from benchmarks.measure import medians_row
from benchmarks.s3_rows import Sample, Taken, Yardstick, rows_of
from benchmarks.usage import Cpu

BASE = "aa13c44"
MACHINE = {
    "time": "2026-11-30T00:00:00Z",
    "commit": "1234567",
    "cores": 2,
    "cpu": "a CPU <of tests>",
    "memory_bytes": 8 << 30,
    "kernel": "6.0",
    "python": "3.11",
    "load": "0.1, 0.2",
}


def sample(per_second: float, cell: Cell) -> Sample:
    """A second of it, at 0.3 ms of user and 0.1 ms of system time a request."""
    count = round(per_second)
    found = Report(
        requests=per_second,
        seconds=1.0,
        bytes=per_second * cell.size.size_bytes,
        timed=count,
        mean_ms=2.0,
        p50_ms=1.5,
        p99_ms=12.0,
        p999_ms=150.0,
        max_ms=200.0,
        cpu_cores=0.25,
        begun=count,
        answered=count,
        verified=1,
        errors=0,
        wrong=0,
        why=[],
    )
    return Sample(found, Cpu(count * 300e-6, count * 100e-6), 64.0)


def record() -> dict[str, Any]:
    get, put = Cell("get", SIZES["4k"], 16), Cell("put", SIZES["10m"], 16)
    rows = []
    for cell, ours, other, beside in ((get, 4000.0, 1000.0, 20_000.0), (put, 20.0, 10.0, 40.0)):
        taken = [
            Taken("ours", [sample(ours * share, cell) for share in (0.9, 1.0, 1.2)]),
            Taken(BASE, [sample(other, cell)] * 3),
        ]
        scale = 10.0 if cell.counts_bytes else 1.0
        label = "disk, k+m over k of the bytes" if cell.counts_bytes else "bare"
        rows += rows_of(cell, taken, [Yardstick(label, [beside * scale] * 3, [50.0] * 3)])
    rows.append(medians_row("s3.memory.idle", "MiB", [48.0], BASE, [50.0]))
    return {"machine": MACHINE, "rows": rows}


def written(tmp_path: Path) -> str:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGINS}\nold\n{report.ENDS}\nafter\n")
    report.write(record(), page)
    return page.read_text()


def test_rows_have_medians_spread_and_ratios() -> None:
    rows = {(row["name"], row["yardstick"]): row for row in record()["rows"]}
    row = rows["s3.get.4k.c16", BASE]
    assert (row["value"], row["ratio"], row["unit"]) == (4000.0, 4.0, "/s")
    assert row["spread"] == pytest.approx(0.3)
    assert rows["s3.put.10m.c16", BASE]["value"] == pytest.approx(200.0)
    assert rows["s3.put.10m.c16", BASE]["unit"] == "MiB/s"
    assert rows["s3.get.4k.c16.cpu", BASE]["value"] == pytest.approx(400.0)
    assert rows["s3.get.4k.c16.cpu", "bare"]["ratio"] == pytest.approx(8.0)
    assert rows["s3.get.4k.c16.p99", "p50 of the same rounds"]["ratio"] == 8.0
    assert rows["s3.get.4k.c16.generator", "the machine's cores"]["value"] == 0.25
    figures = row["figures"]["subjects"]["ours"]
    assert figures["rate"] == [3600.0, 4000.0, 4800.0]
    put = rows["s3.put.10m.c16", BASE]["figures"]["subjects"]["ours"]
    assert put["cpu_s_per_gib"] == pytest.approx([400e-6 * 102.4] * 3)


def test_what_stands_around_the_figures_stays_and_the_old_ones_go(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert text.startswith(f"before\n{report.BEGINS}\n")
    assert text.endswith(f"{report.ENDS}\nafter\n")
    assert "old" not in text
    page = tmp_path / "performance.md"
    report.write(record(), page)
    assert page.read_text() == text


def test_the_page_says_what_was_wanted_and_what_is(tmp_path: Path) -> None:
    text = written(tmp_path)
    assert f"| GET 4 KiB, 16 clients | 4,000 /s | 1,000, {BASE} | **4.00** | at least 4 |" in text
    assert "| 200 MiB/s | 400, disk, k+m over k of the bytes | 0.50 | at least 0.9 |" in text
    assert "commit 1234567: 2 cores (a CPU <of tests>), 8 GiB" in text
    assert "medians of 3 rounds" in text
    assert "| get.4k.c16 | ours | 4,000 /s | 15% |" in text
    assert f"| memory.idle | 48 MiB | 50, {BASE} | 0.96 |" in text


def test_plots_are_svg_with_every_figure(tmp_path: Path) -> None:
    text = written(tmp_path)
    for name, said in (
        ("small", "4,000 /s"),
        ("large", "200 MiB/s"),
        ("cpu", "0.3 + 0.1 ms"),
        ("latency", "1.5 / 12 / 150 ms"),
    ):
        assert f"(performance/{name}.svg)" in text
        root = ElementTree.parse(tmp_path / "performance" / f"{name}.svg").getroot()
        texts = [found.text for found in root.iter("{http://www.w3.org/2000/svg}text")]
        assert said in texts
        assert {"ours", BASE} <= set(texts)


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "other.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="must have the lines"):
        report.write(record(), page)
    assert page.read_text() == "no marks"

"""The record of `make bench BENCH=s3 BENCH_OUT=FILE` as a page with plots.

    python -m benchmarks.report FILE [PAGE]

PAGE (docs/performance.md) keeps its text; what stands between its two marks is written anew. The
plots go to a folder beside it that has its name.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import plots
from benchmarks.load import ROOT
from benchmarks.subjects import OURS

BEGINS: Final = "<!-- begin: figures, written by benchmarks/report.py -->"
ENDS: Final = "<!-- end: figures -->"
Rows = list[dict[str, Any]]

# What is wanted: row, its yardstick, and how many times that it is at least (below 0: at most).
BASE: Final = "*"  # the commit of BASE
NOTHING: Final = ""  # no yardstick: the figure itself
WANTED: Final = (
    ("GET 10 MiB", "s3.get.10m.c16", "a bare server in C, of files", 0.7),
    ("GET 10 MiB, TLS", "s3.get.10m.c16.tls", "a bare server in C, of files", 0.7),
    ("PUT 10 MiB", "s3.put.10m.c16", "disk, k+m over k of the bytes", 0.9),
    ("PUT 10 MiB", "s3.put.10m.c16", "processors, at the kernels' speeds", 0.9),
    ("PUT 4 KiB, 16 clients", "s3.put.4k.c16", BASE, 5.0),
    ("PUT 4 KiB, 256 clients", "s3.put.4k.c256", NOTHING, 2500.0),
    ("GET 4 KiB, 16 clients", "s3.get.4k.c16", BASE, 4.0),
    ("GET 4 KiB, 16 clients, TLS", "s3.get.4k.c16.tls", BASE, 4.0),
    ("LIST of 1,000, 16 clients", "s3.list.1000.c16", BASE, 2.0),
    ("HEAD, 16 clients", "s3.head.4k.c16", BASE, 2.0),
    ("DELETE, 16 clients", "s3.delete.4k.c16", BASE, 2.0),
    ("GET 10 MiB, two nodes gone", "s3.degraded.get.10m", "all five nodes there", 0.7),
    ("three hosts: PUT 10 MiB", "s3.three_hosts.put.10m", BASE, 1.2),
    ("three hosts: GET 10 MiB", "s3.three_hosts.get.10m", BASE, 1.5),
    ("p99 of GET 4 KiB beside a bulk PUT", "s3.beside.put", "p99 alone", -5.0),
    ("p99 of GET 4 KiB beside a bulk GET", "s3.beside.get", "p99 alone", -5.0),
    ("CPU time of PUT 10 MiB", "s3.put.10m.c16.cpu", BASE, -35 / 111),
    ("CPU time of GET 10 MiB", "s3.get.10m.c16.cpu", BASE, -5 / 11),
    ("CPU time of PUT 4 KiB", "s3.put.4k.c16.cpu", BASE, -0.2),
    ("CPU time of GET 4 KiB", "s3.get.4k.c16.cpu", BASE, -0.2 / 0.59),
)


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    record = json.loads(Path(sys.argv[1]).read_text())
    page = Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT / "docs" / "performance.md"
    write(record, page)
    return 0


def write(record: dict[str, Any], page: Path) -> None:
    """ValueError where the page lacks its marks."""
    text = page.read_text("utf-8")
    if text.count(BEGINS) != 1 or text.count(ENDS) != 1:
        raise ValueError(f"{page}: it must have the lines {BEGINS} and {ENDS}, once each")
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    parts = [_machine(record), _wanted(record["rows"])]
    for name, title, picture in _pictures(record["rows"]):
        (folder / f"{name}.svg").write_text(picture, "utf-8")
        parts.append(f"![{title}]({folder.name}/{name}.svg)\n")
    parts += [_table(record["rows"]), _others(record["rows"])]
    before, after = text.split(BEGINS)[0], text.split(ENDS)[1]
    page.write_text(before + "\n".join([BEGINS, "", *parts, ENDS]) + after, "utf-8")


def _machine(record: dict[str, Any]) -> str:
    machine = record["machine"]
    gib = machine["memory_bytes"] / (1 << 30)
    rounds = [len(each["rate"]) for each in _first_figures(record["rows"]).values()]
    return (
        f"{machine['time'][:10]}, commit {machine.get('commit', '?')}: {machine['cores']} cores "
        f"({machine['cpu']}), {gib:.0f} GiB, Linux {machine['kernel']}, Python "
        f"{machine['python']}; medians of {max(rounds, default=0)} rounds. Load average when it "
        f"began and ended: {machine.get('load', '?')}.\n"
    )


def _first_figures(rows: Rows) -> dict[str, Any]:
    return next((row["figures"]["subjects"] for row in rows if _is_cell(row)), {})


def _is_cell(row: dict[str, Any]) -> bool:
    return "cell" in row.get("figures", {})


def _wanted(rows: Rows) -> str:
    beside = {(row["name"], row["yardstick"]): row for row in rows}
    beside |= {(row["name"], NOTHING): row for row in rows}
    bases = {name for row in rows if _is_cell(row) for name in row["figures"]["subjects"]}
    base = next((name for name in sorted(bases) if _is_commit(name)), "")
    lines = ["| wanted | is | of | times | at |", "|---|---|---|---|---|"]
    for what, name, yardstick, times in WANTED:
        row = beside.get((name, yardstick if yardstick != BASE else base))
        if row is None:
            continue
        bound = f"at least {times:,.4g}" if times > 0 else f"at most {-times:,.3g}"
        found, beside_it = (
            row["ratio"],
            f"{plots.digits(row['yardstick_value'])}, {row['yardstick']}",
        )
        if yardstick == NOTHING:
            found, beside_it, bound = row["value"], "", f"{bound} {row['unit']}"
        met = "**" if (found >= times if times > 0 else found <= -times) else ""
        shown = f"{row['ratio']:.2f}" if yardstick != NOTHING else plots.digits(found)
        value = f"{plots.digits(row['value'])} {row['unit']}"
        lines.append(f"| {what} | {value} | {beside_it} | {met}{shown}{met} | {bound} |")
    return "\n".join([*lines, ""]) if len(lines) > 2 else ""


def _is_commit(label: str) -> bool:
    return len(label) == 7 and all(letter in "0123456789abcdef" for letter in label)


# --- plots ----------------------------------------------------------------------------------------


def _pictures(rows: Rows) -> list[tuple[str, str, str]]:
    """(name, title, SVG)."""
    cells = [row for row in rows if _is_cell(row)]
    spread = (
        "Each line has its own scale; arrows are yardsticks beyond it. Thin lines: the least and "
        "the most of all rounds."
    )
    small = [row for row in cells if row["unit"] == "/s"]
    large = [row for row in cells if row["unit"] == "MiB/s"]
    found = []
    for name, title, those in (
        ("small", "Requests a second", small),
        ("large", "MiB of bodies a second", large),
    ):
        lines = [(_short(row), _rates(row)) for row in those]
        found.append((name, title, plots.bars(title, spread, lines)))
    lines = [(_short(row), bars) for row in cells if (bars := _cpu(row))]
    title = "CPU time of the server for one request"
    note = f"Full colour: user, pale: system. {spread}"
    found.append(("cpu", title, plots.bars(title, note, lines)))
    title = "Latency: median, p99, p99.9"
    dots = [(_short(row), _dots(row)) for row in cells]
    found.append(("latency", title, plots.latencies(title, "Medians of the rounds.", dots)))
    return [each for each in found if cells]


def _short(row: dict[str, Any]) -> str:
    return str(row["name"]).removeprefix("s3.")


def _rates(row: dict[str, Any]) -> list[plots.Bar]:
    figures = row["figures"]
    return [
        _bar(label, each["rate"], row["unit"], kind == "yardsticks")
        for kind in ("subjects", "yardsticks")
        for label, each in figures[kind].items()
    ]


def _bar(label: str, rounds: list[float], unit: str, beside: bool) -> plots.Bar:
    median = statistics.median(rounds)
    text = f"{plots.digits(median)} {unit}"
    return plots.Bar(label, median, min(rounds), max(rounds), text, beside=beside)


def _cpu(row: dict[str, Any]) -> list[plots.Bar]:
    found = []
    for label, each in row["figures"]["subjects"].items():
        if not each.get("cpu_user_us"):
            continue
        user, system = (
            [value / 1e3 for value in each[name]] for name in ("cpu_user_us", "cpu_system_us")
        )
        whole = [one + other for one, other in zip(user, system, strict=True)]
        parts = statistics.median(user), statistics.median(system)
        text = f"{plots.digits(parts[0])} + {plots.digits(parts[1])} ms"
        found.append(plots.Bar(label, sum(parts), min(whole), max(whole), text, parts))
    return found


def _dots(row: dict[str, Any]) -> list[plots.Dots]:
    return [
        plots.Dots(
            label,
            tuple(statistics.median(each[name]) for name in ("p50_ms", "p99_ms", "p999_ms")),
        )
        for label, each in row["figures"]["subjects"].items()
    ]


# --- tables ---------------------------------------------------------------------------------------


def _table(rows: Rows) -> str:
    """A line for each cell and each of those that were measured."""
    columns = (
        "| row | who | rate | ± | times | p50 | p99 | p99.9 ms | CPU ms | MiB resident | load |"
    )
    lines = [columns, "|" + "---|" * (columns.count("|") - 1)]
    for row in rows:
        if not _is_cell(row):
            continue
        subjects = row["figures"]["subjects"]
        ours = statistics.median(subjects[OURS]["rate"])
        for label, each in subjects.items():
            lines.append(_line(_short(row) if label == OURS else "", label, row, each, ours))
        for label, each in row["figures"]["yardsticks"].items():
            rate = statistics.median(each["rate"])
            lines.append(
                f"| | {label} | {plots.digits(rate)} {row['unit']} | {_spread(each['rate'])} | "
                f"{ours / rate:.2f} | | | | {_cpu_text(each['cpu_us'])} | | |"
            )
    return "\n".join([*lines, ""])


def _line(name: str, label: str, row: dict[str, Any], each: dict[str, Any], ours: float) -> str:
    def median(key: str, show: Callable[[float], str] = plots.digits) -> str:
        return show(statistics.median(each[key])) if each.get(key) else ""

    rate = statistics.median(each["rate"])
    times = "" if label == OURS else f"{ours / rate:.2f}"
    cpu = ""
    if each.get("cpu_user_us"):
        parts = (statistics.median(each[f"cpu_{kind}_us"]) / 1e3 for kind in ("user", "system"))
        cpu = " + ".join(plots.digits(part) for part in parts)
    value = f"{plots.digits(rate)} {row['unit']}"
    return (
        f"| {name} | {label} | {value} | {_spread(each['rate'])} | {times} | "
        f"{median('p50_ms')} | {median('p99_ms')} | {median('p999_ms')} | {cpu} | "
        f"{median('resident_mib')} | {median('generator_cores', '{:.2f}'.format)} |"
    )


def _spread(rounds: list[float]) -> str:
    return f"{(max(rounds) - min(rounds)) / statistics.median(rounds) * 50:.0f}%"


def _cpu_text(cpu_us: list[float]) -> str:
    return plots.digits(statistics.median(cpu_us) / 1e3) if cpu_us else ""


def _others(rows: Rows) -> str:
    """Rows that are no cell's: memory, the loop, kernels."""
    cells = [str(row["name"]) for row in rows if _is_cell(row)]
    lines = ["| row | value | yardstick | times |", "|---|---|---|---|"]
    for row in rows:
        name = str(row["name"])
        if any(name == cell or name.startswith(f"{cell}.") for cell in cells):
            continue
        lines.append(
            f"| {_short(row)} | {plots.digits(row['value'])} {row['unit']} | "
            f"{plots.digits(row['yardstick_value'])}, {row['yardstick']} | {row['ratio']:.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())

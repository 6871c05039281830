"""`make bench`: runs the rows, prints one table, and writes it as JSON where BENCH_OUT says.

Each module has `rows()`, a list of dicts: name, value, unit, spread ((max - min) / median),
yardstick, yardstick_value, ratio; those of S3 have `figures` besides, all that was measured. Row
and yardstick are measured in turn, in one run: the ratio holds on a noisy machine, the absolute
figures do not. BENCH=prefix picks rows by name. S3D=file measures that binary where rows start an
`s3d` (s3, memory, start, binary), else this source. Rows of S3 also take BASE=commit, PEER=url and
ROUNDS=n (subjects.py).
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.load import LoadFailed

# Prefix of the row names -> module, in the order of the layers.
MODULES = {
    "rs": "kernels_coding",
    "crc": "kernels_coding",
    "policy": "policy",
    "frame": "node",
    "sigv4": "http",
    "chunked": "http",
    "http": "http",
    "node": "node",
    "s3db": "s3db",
    "s3db.million": "s3db_million",
    "rpc": "rpc",
    "rpc.netem": "rpc_netem",
    "rpc.memory": "rpc_memory",
    "rpc.flood": "rpc_flood",
    "s3": "s3",
    "s3.beside": "s3_beside",
    "s3.loop_lag": "s3_beside",
    "s3.degraded": "s3_degraded",
    "s3.three_hosts": "s3_hosts",
    "garbage": "garbage",
    "healing": "healing",
    "memory": "memory",
    "memory.broken": "memory_broken",
    "start": "startup",
    "versions": "versions",
    "binary": "binary",
}
PACKAGES = ("aioquic", "Cython", "httptools", "lmdb", "msgspec", "pysyncobj", "uvloop")


def chosen(prefix: str) -> list[str]:
    """Modules whose rows may begin with `prefix`, each once. A prefix that is one of MODULES means
    its own rows, not those of a longer word: "s3" is not "s3db"."""
    whose = [head for head in MODULES if f"{prefix}.".startswith(f"{head}.")]
    within = f"{prefix}." if prefix in MODULES else prefix
    heads = {head for head in MODULES if head.startswith(within)} | {
        max(whose, key=len, default="")
    }
    names = [module for head, module in MODULES.items() if head in heads]
    return list(dict.fromkeys(names))


def machine() -> dict[str, Any]:
    """What is measured, and on what."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": {name: version(name) for name in PACKAGES},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _commit() -> str:
    """This source's, with a plus sign where files differ from it; "": not a checkout of git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        name = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name.stdout.strip() + ("+" if changed else "")


def line(row: dict[str, Any]) -> str:
    value, other = f"{row['value']:,.4g}", f"{row['yardstick_value']:,.4g}"
    return (
        f"{row['name']:<34} {value:>10} {row['unit']:<8} ±{row['spread'] * 50:>3.0f}%  "
        f"{row['ratio']:>7.3f} x {other:>9}  {row['yardstick']}"
    )


def main() -> int:
    prefix, out = os.environ.get("BENCH", ""), os.environ.get("BENCH_OUT", "")
    modules = chosen(prefix)
    if not modules:
        print(f"BENCH={prefix}: no such rows; known are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    print(f"{'row':<34} {'value':>10} {'unit':<8} spread    ratio x yardstick")
    found: list[dict[str, Any]] = []
    failed: list[str] = []
    on, load = machine(), f"{os.getloadavg()[0]:.1f}"
    for number, name in enumerate(modules, 1):
        if sys.stderr.isatty():
            print(f"[{number}/{len(modules)}] {name} ...", end="\r", file=sys.stderr, flush=True)
        try:
            for row in importlib.import_module(f"benchmarks.{name}").rows():
                if row["name"].startswith(prefix):
                    found.append(row)
                    print(line(row), flush=True)
        except (
            LoadFailed,
            RuntimeError,
        ) as error:  # the others have their turn
            failed.append(name)
            print(f"{name}: no more rows: {error}", file=sys.stderr, flush=True)
    if out:
        on["load"] = f"{load}, {os.getloadavg()[0]:.1f}"
        Path(out).write_text(json.dumps({"machine": on, "rows": found}) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

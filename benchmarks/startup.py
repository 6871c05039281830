"""How soon `s3d` serves, and what it holds when idle: development mode, five nodes.

    start.first   seconds from exec to ready, on an empty data directory; the binary of S3D also
                  unpacks itself
    start.again   the same on that data, unpacked before
    start.idle    MiB resident, once ready
    start.fixture seconds until the server of the pytest plugin is ready

Beside the interpreter that runs this source, or without S3D, beside an interpreter that imports
nothing; the fixture, which is the interpreter's alone, always beside the latter.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Row, row, timing
from benchmarks.served import INTERPRETER, command, s3d, scratch
from predastore.testing.server import running

ROUNDS: Final = 5
_POLL_S: Final = 0.005


def rows() -> list[Row]:
    beside = bool(os.environ.get("S3D"))
    first: dict[bool, list[float]] = {True: [], False: []}
    again: dict[bool, list[float]] = {True: [], False: []}
    idle: dict[bool, list[float]] = {True: [], False: []}
    fixture: dict[bool, list[float]] = {True: [], False: []}
    with scratch() as folder:
        for _ in range(ROUNDS):
            for mine in (True, False) if beside else (True,):
                program = command() if mine else INTERPRETER
                for taken in (first, again):
                    seconds, resident = _start(folder, program)
                    taken[mine].append(seconds)
                idle[mine].append(resident)
                for name in ("data", "unpacked"):
                    shutil.rmtree(folder / name, ignore_errors=True)
            fixture[True].append(_fixture())
            seconds, resident = _nothing()
            fixture[False].append(seconds)
            if not beside:
                first[False].append(seconds)
                again[False].append(seconds)
                idle[False].append(resident)
    nothing = "python that imports nothing"
    name = "python -m predastore" if beside else nothing
    found = []
    for row_name, unit, taken, other in (
        ("start.first", "s", first, name),
        ("start.again", "s", again, name),
        ("start.idle", "MiB", idle, name),
        ("start.fixture", "s", fixture, nothing),
    ):
        found.append(
            row(
                row_name,
                statistics.median(taken[True]),
                unit,
                spread=timing(taken[True]).spread,
                yardstick=other,
                yardstick_value=statistics.median(taken[False]),
            )
        )
    return found


def _start(folder: Path, program: Sequence[str]) -> tuple[float, float]:
    """Seconds to ready, and MiB resident then."""
    unpacked = folder / "unpacked"
    unpacked.mkdir(exist_ok=True)
    environment = {"S3D_UNPACK_DIR": str(unpacked)}
    begun = time.perf_counter()
    with s3d(folder, environment=environment, program=program, poll_s=_POLL_S) as served:
        seconds = time.perf_counter() - begun
        resident = served.resident_mib()
        served.stop()
    return seconds, resident


def _fixture() -> float:
    """Seconds to ready, over plain files and without TLS, as `s3_server` is."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with running(Path(folder)):
            return time.perf_counter() - begun


def _nothing() -> tuple[float, float]:
    script = "import sys; sys.stdout.write(open('/proc/self/statm').read().split()[1])"
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    seconds = time.perf_counter() - begun
    return seconds, int(done.stdout) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

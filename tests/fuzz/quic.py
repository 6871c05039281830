"""Builds and runs quic_fuzz.c: scripts made up from seeds, or libFuzzer where clang has it.

    python -m tests.fuzz.quic --seconds 3600 [--jobs 2] [--libfuzzer]

A finding ends a run with its report and the seed (or libFuzzer's file), which finds it again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from predastore._fast.quic import multi_buffer

_ROOT = Path(__file__).resolve().parents[2]
_SOURCE = Path(__file__).with_name("quic_fuzz.c")
_SANITIZED = (
    *("-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"),
    *("-I", str(_ROOT / "predastore" / "_fast"), str(_SOURCE), "-lcrypto", "-lm"),
)


def build(folder: Path, *, libfuzzer: bool = False) -> Path:
    """The program; CalledProcessError if the compiler can not."""
    program = folder / ("quic_libfuzzer" if libfuzzer else "quic_fuzz")
    kinds = "address,undefined"
    head = ["clang", f"-fsanitize=fuzzer,{kinds}"] if libfuzzer else ["gcc", f"-fsanitize={kinds}"]
    options = [] if libfuzzer else ["-DSTANDALONE"]
    if multi_buffer():
        options += ["-DPREDASTORE_IPSEC_MB", "-lIPSec_MB"]
    command = [*head, *_SANITIZED, *options, "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz-quic", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--libfuzzer", action="store_true")
    options = parser.parse_args()
    folder = _ROOT / "build" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    program = build(folder, libfuzzer=options.libfuzzer)
    if options.libfuzzer:
        corpus = folder / "corpus"
        corpus.mkdir(exist_ok=True)
        limits = [f"-max_total_time={options.seconds}", "-max_len=8192"]
        jobs = [[str(program), str(corpus), *limits] for _ in range(options.jobs)]
    else:
        first = time.time_ns() // 1000  # other seeds each time
        jobs = [
            [str(program), str(options.seconds), str(first + job * 10**12)]
            for job in range(options.jobs)
        ]
    running = [subprocess.Popen(job, cwd=folder, env={**os.environ}) for job in jobs]
    return max(abs(process.wait()) for process in running)


if __name__ == "__main__":
    sys.exit(main())

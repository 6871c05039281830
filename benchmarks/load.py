"""A lean S3 load generator in a process of its own: PUT or GET of objects of one size.

    with contextlib.closing(Generator()) as generator:
        report = generator.run(Plan(host="127.0.0.1", port=8443, method="GET", ...))

N keep-alive connections each have one request on the way at a time. Heads are built and signed
before the clock starts; bodies are slices of one buffer (payload.py), sent without a copy and as
fast as the peer takes them; answers are read into one buffer for each connection and forgotten.
The size of every answer is checked, and the SHA-256 of each connection's first body and of every
`verify_every`-th after it. Anything but a 200 with the right body fails the run (LoadFailed).
This module is the caller's side; load_process.py is what runs in the generator.

What is counted: requests that were on the way in the window [warm-up, warm-up + seconds]; one that
is only partly in it counts with that part of its time. Latencies are of those that ended in it.
`cpu_cores` is what the generator itself used meanwhile: near 1.0, it was the bottleneck.

The processes talk in JSON, a line for a plan and a line for its report.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

STALLED_S: Final = 60.0  # after the planned end, a run that has not ended is given up
ROOT: Final = Path(__file__).resolve().parents[1]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds`: how long, after `warm_s`; or `requests`: each key number once from `first` on.

    `keys`: how many different ones are used, over and over, from `first` on. `ca`: PEM file, for
    TLS. `signed_payload`: with the body's SHA-256 in the signature, else UNSIGNED-PAYLOAD.
    """

    host: str
    port: int
    method: str
    size_bytes: int
    connections: int
    seconds: float = 3.0
    warm_s: float = 0.5
    requests: int = 0
    keys: int = 1024
    first: int = 0
    bucket: str = "bench"
    access_key_id: str = "BENCH"
    secret_access_key: str = "bench-secret"
    region: str = "us-east-1"
    ca: str = ""
    signed_payload: bool = False
    verify_every: int = 16


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`error`: why the run failed; the rest is 0 then. `requests` may be a fraction."""

    error: str = ""
    requests: float = 0.0
    seconds: float = 0.0
    size_bytes: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    cpu_cores: float = 0.0
    verified: int = 0
    sent: int = 0  # requests answered in all, warm-up and tail included

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def mib_per_second(self) -> float:
        return self.per_second * self.size_bytes / (1 << 20)


class LoadFailed(Exception):
    """A request of a run was not answered as it should be."""


class Generator:
    """The generator's process, for one run after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def run(self, plan: Plan) -> Report:
        self.begin(plan)
        return self.end()

    def begin(self, plan: Plan) -> None:
        """`run`, when several generators work at once: begin all, then end all."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
        self._process.stdin.flush()

    def end(self) -> Report:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"the generator ended with {self._process.wait()}")
        report = msgspec.json.decode(line, type=Report)
        if report.error:
            raise LoadFailed(report.error)
        return report

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(STALLED_S)
        self._process.stdout.close()

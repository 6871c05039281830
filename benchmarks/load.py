"""Load on an S3 endpoint: the caller's side of loadgen/, a program in C.

    with contextlib.closing(Generator()) as generator:
        report = generator.run(Plan(host="127.0.0.1", port=8443, method="GET", ...))

What it does and counts stands in loadgen/loadgen.c. A run fails (LoadFailed) where an answer has
wrong contents, or more than `errors_max` of the requests were not answered as they should be: then
its figures would say nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Final, Literal

import msgspec

from benchmarks.programs import built

STALLED_S: Final = 60.0  # a connection on which nothing moves for so long has failed
ROOT: Final = Path(__file__).resolve().parents[1]

Method = Literal["PUT", "GET", "RANGE", "HEAD", "LIST", "DELETE", "COPY"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds`: how long at most, after `warm_s`; `requests`: how many at most. One is needed;
    with `requests` alone there is no warm-up.

    `keys`: how many different objects are used, over and over, from number `first` on; their
    names are payload.key's. `range_bytes`: of a RANGE, at changing places. `listed`: keys that a
    LIST asks for and must get. `copy_from`: the prefix of a COPY's sources, which have the same
    numbers. `ca`: PEM file, of an endpoint with TLS. `signs_body`: with the body's SHA-256 in the
    signature, as SDKs do over plain HTTP, else UNSIGNED-PAYLOAD, as over TLS. `verify_every`: of
    each client's answers the contents of the first and of every so many after it are compared.
    """

    host: str
    port: int
    method: Method
    size_bytes: int = 0
    connections: int = 1
    threads: int = 1
    seconds: float = 0.0
    warm_s: float = 0.5
    requests: int = 0
    keys: int = 1024
    first: int = 0
    bucket: str = "bench"
    prefix: str = "bench/"
    copy_from: str = "bench/"
    range_bytes: int = 0
    listed: int = 1000
    access_key_id: str = "BENCH"
    secret_access_key: str = "bench-secret"
    region: str = "us-east-1"
    tls: bool = False
    ca: str = ""
    signs_body: bool = False
    verify_every: int = 16
    stall_s: float = STALLED_S
    errors_max: float = 0.01


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`requests` may be a fraction; `bytes` are of bodies, either way; a COPY's are its object's.

    `timed`: how many the latencies are of.
    `begun` and `answered`: all, warm-up and tail included. `errors`: not answered, or not as they
    should be; `wrong`: those of them with other contents; `why`: the first few reasons.
    """

    requests: float
    seconds: float
    bytes: float
    timed: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_cores: float
    begun: int
    answered: int
    verified: int
    errors: int
    wrong: int
    why: list[str]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def mib_per_second(self) -> float:
        return self.bytes / self.seconds / (1 << 20)


class LoadFailed(Exception):
    """Requests of a run were not answered as they should be."""


class Generator:
    """The program, for one run after the other."""

    def __init__(self, program: str = "") -> None:
        self._stack = contextlib.ExitStack()
        self._program = program or self._stack.enter_context(built("loadgen", "ssl", "crypto"))
        self._running: tuple[Plan, subprocess.Popen[bytes]] | None = None

    def run(self, plan: Plan) -> Report:
        self.begin(plan)
        return self.end()

    def begin(self, plan: Plan) -> None:
        """`run`, when several generators work at once: begin all, then end all."""
        assert self._running is None
        process = subprocess.Popen(
            [self._program, *_arguments(plan)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "AWS_ACCESS_KEY_ID": plan.access_key_id,
                "AWS_SECRET_ACCESS_KEY": plan.secret_access_key,
            },
        )
        self._running = plan, process

    def end(self) -> Report:
        assert self._running is not None
        plan = self._running[0]
        report = self.report()
        _check(plan, report)
        return report

    def report(self) -> Report:
        """`end`, whatever was answered. LoadFailed, where the program could not run."""
        assert self._running is not None
        process = self._running[1]
        self._running = None
        out, said = process.communicate()
        if process.returncode:
            raise LoadFailed(said.decode(errors="replace").strip())
        return msgspec.json.decode(out, type=Report)

    def another(self) -> Generator:
        """One that runs beside this one, for no longer than it."""
        return Generator(self._program)

    def close(self) -> None:
        if self._running is not None:
            process = self._running[1]
            self._running = None
            process.kill()
            process.communicate()
        self._stack.close()


def _arguments(plan: Plan) -> list[str]:
    scheme = "https" if plan.tls or plan.ca else "http"
    settings: dict[str, object] = {
        "clients": plan.connections,
        "threads": plan.threads,
        "seconds": plan.seconds,
        "warm": plan.warm_s,
        "requests": plan.requests,
        "stall": plan.stall_s,
        "size": plan.size_bytes,
        "first": plan.first,
        "keys": plan.keys,
        "prefix": plan.prefix,
        "copy-from": plan.copy_from,
        "listed": plan.listed,
        "verify-every": plan.verify_every,
        "region": plan.region,
    }
    if plan.range_bytes:
        settings["range"] = plan.range_bytes
    if plan.ca:
        settings["ca"] = plan.ca
    options = [f"--{name}={value}" for name, value in settings.items()]
    if plan.signs_body:
        options.append("--sign-body")
    url = f"{scheme}://{plan.host}:{plan.port}"
    return [*options, plan.method.lower(), url, plan.bucket]


def _check(plan: Plan, report: Report) -> None:
    if report.wrong or report.errors > plan.errors_max * report.begun or report.timed == 0:
        raise LoadFailed(
            f"{plan.method} of {plan.size_bytes} bytes by {plan.connections} clients: of "
            f"{report.begun} requests {report.answered} were answered, {report.errors} failed, "
            f"{report.wrong} of them with wrong contents: {'; '.join(report.why) or 'too slow'}"
        )

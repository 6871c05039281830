"""The generator's own process: connections that send what a plan asks for, and time it.

It reads plans from its standard input and writes reports to its standard output (load.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Final, cast

import msgspec
import uvloop

from benchmarks import payload
from benchmarks.load import STALLED_S, LoadFailed, Plan, Report
from predastore.httpd.signing import sign_request
from predastore.httpd.sigv4 import Credential

RECEIVE_BYTES: Final = 256 << 10
SEND_BUFFER_BYTES: Final = 2 << 20
HEAD_BYTES_MAX: Final = 16 << 10


class _Run:
    """What the connections of one run share."""

    def __init__(self, plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        self.plan = plan
        self.finished: asyncio.Future[None] = loop.create_future()
        count = plan.requests or plan.keys
        self.numbers = range(plan.first, plan.first + count)
        self.heads = [_head(plan, number) for number in self.numbers]
        verified = self.numbers if plan.method == "GET" and plan.verify_every else ()
        self.digests = [payload.digest(number, plan.size_bytes) for number in verified]
        self.spans: list[tuple[float, float]] = []  # (begun, ended) of every request
        self.verified = 0
        self.busy = plan.connections
        self.stop_at = 0.0
        self._next = 0

    def take(self) -> int:
        """The place in `numbers` of the next request; -1: no more."""
        turn = self._next
        limit = self.plan.requests
        if turn >= limit if limit else time.perf_counter() >= self.stop_at:
            return -1
        self._next = turn + 1
        return turn % len(self.numbers)

    def left(self) -> None:
        self.busy -= 1
        if self.busy == 0 and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(LoadFailed(why))


class _Connection(asyncio.BufferedProtocol):
    """One keep-alive connection: a request, its answer, the next."""

    _transport: asyncio.Transport

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._plan = run.plan
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._head_bytes = 0  # of the answer's head, so far
        self._left_bytes = -1  # of the answer's body; -1: its head is not here yet
        self._pieces: Iterator[memoryview] = iter(())
        self._paused = False
        self._place = 0
        self._begun = 0.0
        self._count = 0
        self._hash: hashlib._Hash | None = None
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)

    def begin(self) -> None:
        place = self._place = self._run.take()
        if place < 0:
            self._gone = True
            self._transport.close()
            self._run.left()
            return
        plan = self._plan
        every = plan.verify_every
        sampled = bool(self._run.digests) and self._count % every == 0
        self._hash = hashlib.sha256() if sampled else None
        self._count += 1
        self._begun = time.perf_counter()
        self._transport.write(self._run.heads[place])
        if plan.method == "PUT":
            self._pieces = payload.pieces(self._run.numbers[place], plan.size_bytes)
            self._pump()

    def _pump(self) -> None:
        for piece in self._pieces:
            self._transport.write(piece)
            if self._paused:
                return

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._head_bytes :] if self._left_bytes < 0 else self._view

    def buffer_updated(self, nbytes: int) -> None:
        if self._left_bytes >= 0:
            self._body(self._view[:nbytes])
            return
        have = self._head_bytes + nbytes
        end = self._buffer.find(b"\r\n\r\n", 0, have)
        if end < 0:
            self._head_bytes = have
            if have > HEAD_BYTES_MAX:
                self._fail("a head without an end")
            return
        head = bytes(self._view[:end]).lower()
        length = _content_length(head)
        if not head.startswith(b"http/1.1 200") or length is None:
            self._fail(f"answered with {bytes(self._view[:have])[:600]!r}")
            return
        if length != (self._plan.size_bytes if self._plan.method == "GET" else 0):
            self._fail(f"answered with {length} bytes")
            return
        self._head_bytes = 0
        self._left_bytes = length
        self._body(self._view[end + 4 : have])

    def _body(self, data: memoryview) -> None:
        self._left_bytes -= len(data)
        if self._hash is not None:
            self._hash.update(data)
        if self._left_bytes < 0:
            self._fail("answered with more than it announced")
        elif self._left_bytes == 0:
            self._end()

    def _end(self) -> None:
        run = self._run
        run.spans.append((self._begun, time.perf_counter()))
        self._left_bytes = -1
        if self._hash is not None:
            if self._hash.digest() != run.digests[self._place]:
                self._fail("answered with other bytes than were put")
                return
            run.verified += 1
        self.begin()

    def _fail(self, why: str) -> None:
        number = self._run.numbers[self._place]
        self._run.fail(f"{self._plan.method} {payload.key(number)}: {why}")
        self._gone = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone:
            self._fail(f"the connection ended ({exc})")


def _content_length(head: bytes) -> int | None:
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return None
    end = head.find(b"\r\n", at + 2)
    return int(head[at + 17 : end if end >= 0 else len(head)])


def _head(plan: Plan, number: int) -> bytes:
    """A whole request head, signed."""
    path = f"/{plan.bucket}/{payload.key(number)}"
    headers = [("host", f"{plan.host}:{plan.port}")]
    if plan.method == "PUT":
        headers.append(("content-length", str(plan.size_bytes)))
    body_sha256 = None
    if plan.signed_payload and plan.method == "PUT":
        body_sha256 = payload.digest(number, plan.size_bytes).hex()
    fields = sign_request(
        Credential(plan.access_key_id, plan.secret_access_key, ""),
        method=plan.method,
        raw_path=path.encode(),
        raw_query=b"",
        headers=headers,
        payload=body_sha256,
        region=plan.region,
        service="s3",
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{plan.method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


async def _carry_out(plan: Plan) -> Report:
    run = _Run(plan)
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cafile=plan.ca) if plan.ca else None
    connections = [
        (await loop.create_connection(lambda: _Connection(run), plan.host, plan.port, ssl=context))[
            1
        ]
        for _ in range(plan.connections)
    ]
    start = time.perf_counter()
    opens, run.stop_at = start + plan.warm_s, start + plan.warm_s + plan.seconds
    used: list[float] = []
    timers = []
    if plan.requests:
        opens = start
        used.append(_cpu_s())
    else:
        timers = [
            loop.call_later(plan.warm_s, lambda: used.append(_cpu_s())),
            loop.call_later(plan.warm_s + plan.seconds, lambda: used.append(_cpu_s())),
        ]
    for connection in connections:
        connection.begin()
    wait_s = None if plan.requests else plan.warm_s + plan.seconds + STALLED_S
    try:
        await asyncio.wait_for(run.finished, wait_s)
    finally:
        for timer in timers:
            timer.cancel()
    closes = run.stop_at if not plan.requests else time.perf_counter()
    used.append(_cpu_s())
    return _report(run, opens, closes, (used[1] - used[0]) / (closes - opens))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _report(run: _Run, opens: float, closes: float, cpu_cores: float) -> Report:
    requests = 0.0
    for begun, ended in run.spans:
        inside = min(ended, closes) - max(begun, opens)
        if inside > 0:
            requests += inside / (ended - begun)
    taken = sorted((ended - begun) * 1e3 for begun, ended in run.spans if opens <= ended <= closes)
    if not taken:
        return Report(error=f"no request was answered in {closes - opens:.1f} s")
    return Report(
        requests=requests,
        seconds=closes - opens,
        size_bytes=run.plan.size_bytes,
        p50_ms=taken[len(taken) // 2],
        p99_ms=taken[len(taken) * 99 // 100],
        max_ms=taken[-1],
        cpu_cores=cpu_cores,
        verified=run.verified,
        sent=len(run.spans),
    )


def main() -> None:
    for line in sys.stdin.buffer:
        plan = msgspec.json.decode(line, type=Plan)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(_carry_out(plan))
        except (LoadFailed, OSError, TimeoutError) as error:
            report = Report(error=f"{type(error).__name__}: {error}")
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

"""Memory of both ends of QUIC, in one process, after many streams and many connections.

    rpc.memory.streams        KiB of C's heap after 100,000 calls of up to 3,000 bytes
    rpc.memory.connections    KiB after 1,000 connections, each made, proven, used and closed
    ....resident              MiB resident at the same time

The yardstick is the same after the first tenth of them: a ratio of 1 is flat.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.measure import Row, row
from benchmarks.rpc_process import KEY, TIMEOUT_MS, Ask
from predastore.rpc import CallContext, Endpoint, Method, Reply, self_signed
from tests.support.heap import heap

STREAMS: Final = 100_000
CONNECTIONS: Final = 1_000
CALLERS: Final = 50
_PAYLOAD: Final = bytes(3000)
_CERTIFICATE: Final = self_signed()

Step = Callable[[int], Awaitable[None]]


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    found: list[Row] = []
    for name, count, make in (
        ("rpc.memory.streams", STREAMS, _streams),
        ("rpc.memory.connections", CONNECTIONS, _connections),
    ):
        if name.startswith(prefix) or prefix.startswith(name):
            found += uvloop.run(_measured(name, count, make))
    return found


async def _measured(name: str, count: int, make: Callable[[int], Step]) -> list[Row]:
    server = Endpoint(cluster_key=KEY, certificate=_CERTIFICATE, name="bench-server")
    server.serve("node/1", {"echo": Method(Ask, Ask, _echo, len(_PAYLOAD))})
    step = make(await server.listen("node/1", "127.0.0.1", 0))
    await step(count // 10)
    before = heap().c_bytes / 1024, _resident_mib()
    await step(count - count // 10)
    after = heap().c_bytes / 1024, _resident_mib()
    await step(0)
    await server.close()
    return [
        _row(name, after[0], "KiB", before[0]),
        _row(f"{name}.resident", after[1], "MiB", before[1]),
    ]


def _row(name: str, value: float, unit: str, before: float) -> Row:
    what = "after the first tenth"
    return row(name, value, unit, spread=0.0, yardstick=what, yardstick_value=before)


async def _echo(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
    return Reply(ask, [bytes(payload)])


def _caller(port: int) -> Endpoint:
    endpoint = Endpoint(cluster_key=KEY, certificate=_CERTIFICATE, name="bench")
    endpoint.add_peer("node/1", "127.0.0.1", port)
    return endpoint


async def _call(endpoint: Endpoint, size_bytes: int) -> None:
    payload = [_PAYLOAD[:size_bytes]]
    await endpoint.call("node/1", "echo", Ask(), Ask, payload, timeout_ms=TIMEOUT_MS)


def _streams(port: int) -> Step:
    endpoint = _caller(port)

    async def step(count: int) -> None:
        """The last, of none, closes the connection."""

        async def calls(first: int) -> None:
            for number in range(first, count, CALLERS):
                await _call(endpoint, number % len(_PAYLOAD))

        await asyncio.gather(*(calls(first) for first in range(CALLERS)))
        if count == 0:
            await endpoint.close()

    return step


def _connections(port: int) -> Step:
    async def step(count: int) -> None:
        for _ in range(count):
            endpoint = _caller(port)
            await _call(endpoint, 100)
            await endpoint.close()

    return step


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

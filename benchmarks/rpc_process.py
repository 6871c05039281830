"""Two processes that call each other over QUIC, for datagrams of one size and one engine.

    with running(1400, {}) as pair:
        pair.measure("transfer")

`running` starts a server and a caller; `measure` has the caller do one round of one kind:

    transfer    MB/s: BLOCKS payloads of 1 MiB to the server, eight at a time
    fetch       MB/s: as many from it
    call        seconds of a round trip of 100 bytes each way, one after the other
    calls       round trips a second, 200 in flight
    bulk_call   seconds of a round trip, at the median, while a transfer goes on all the time

The processes talk in lines: a kind, and its figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import uvloop

from benchmarks.load import ROOT
from predastore import limits

KEY: Final = b"benchmark"
BLOCK: Final = bytes(1 << 20)
BLOCKS_AT_A_TIME: Final = 8
BLOCKS_FAST, BLOCKS_SLOW = 64, 16  # of one transfer; slow where a first one was
SLOW_MB_S: Final = 100.0
CALLS: Final = 400
CALLERS, CALLS_EACH = 200, 20
BULK_CALLS: Final = 60
TIMEOUT_MS: Final = 120_000


@dataclass
class Pair:
    server: subprocess.Popen[str]
    caller: subprocess.Popen[str]

    def measure(self, kind: str) -> float:
        assert self.caller.stdin is not None
        assert self.caller.stdout is not None
        self.caller.stdin.write(kind + "\n")
        self.caller.stdin.flush()
        answer = self.caller.stdout.readline()
        if not answer:
            raise RuntimeError(f"the caller's process ended while it measured {kind}")
        return float(answer)


@contextlib.contextmanager
def running(datagram_bytes: int, environment: Mapping[str, str]) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.rpc_process", str(datagram_bytes), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
            stack.enter_context(process)  # on leaving, closes its input, which ends it
            return process

        server = start("serve")
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        yield Pair(server, start("call", port))


class Ask(msgspec.Struct, frozen=True):
    data: bytes = bytes(100)
    wanted_bytes: int = 0


ASK: Final = Ask()


class Caller:
    """What one process does."""

    def __init__(self, port: int) -> None:
        from predastore.rpc import Endpoint, self_signed

        self._blocks = BLOCKS_FAST
        self.endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="bench")
        self.endpoint.add_peer("node/1", "127.0.0.1", port)

    async def call(self) -> float:
        return await self._timed(self._repeated(CALLS)) / CALLS

    async def calls(self) -> float:
        work = asyncio.gather(*(self._repeated(CALLS_EACH) for _ in range(CALLERS)))
        return CALLERS * CALLS_EACH / await self._timed(work)

    async def transfer(self) -> float:
        return await self._moved(lambda: self._one(ASK, BLOCK))

    async def fetch(self) -> float:
        ask = Ask(wanted_bytes=len(BLOCK))
        return await self._moved(lambda: self._one(ask))

    async def bulk_call(self) -> float:
        bulk = [asyncio.create_task(self._bulk()) for _ in range(BLOCKS_AT_A_TIME)]
        await self._repeated(5)
        times_s = [await self._timed(self._one(ASK)) for _ in range(BULK_CALLS)]
        for task in bulk:
            task.cancel()
        await asyncio.wait(bulk)
        return statistics.median(times_s)

    async def _one(self, ask: Ask, payload: bytes = b"") -> None:
        _, answer = await self.endpoint.call(
            "node/1", "echo", ask, Ask, [payload] if payload else (), timeout_ms=TIMEOUT_MS
        )
        if len(answer) != ask.wanted_bytes:
            raise RuntimeError(f"{len(answer)} bytes came where {ask.wanted_bytes} were wanted")

    async def _repeated(self, count: int) -> None:
        for _ in range(count):
            await self._one(ASK)

    async def _bulk(self) -> None:
        while True:
            await self._one(ASK, BLOCK)

    async def _moved(self, one: Callable[[], Awaitable[None]]) -> float:
        left = self._blocks

        async def mover() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await one()

        blocks = self._blocks
        took_s = await self._timed(asyncio.gather(*(mover() for _ in range(BLOCKS_AT_A_TIME))))
        found = blocks * len(BLOCK) / 1e6 / took_s
        if found < SLOW_MB_S:
            self._blocks = BLOCKS_SLOW
        return found

    async def _timed(self, work: Awaitable[object]) -> float:
        began = time.perf_counter()
        await work
        return time.perf_counter() - began


async def _call(port: int) -> None:
    caller = Caller(port)
    loop = asyncio.get_running_loop()
    await caller.call()  # connects, and warms up
    while kind := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        print(await getattr(caller, kind)(), flush=True)
    await caller.endpoint.close()


async def _serve() -> None:
    from predastore.rpc import CallContext, Endpoint, Method, Reply, self_signed

    async def echo(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        return Reply(ask, [BLOCK[: ask.wanted_bytes]] if ask.wanted_bytes else ())

    endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="bench-server")
    endpoint.serve("node/1", {"echo": Method(Ask, Ask, echo, len(BLOCK))})
    print(await endpoint.listen("node/1", "127.0.0.1", 0), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await endpoint.close()


def main() -> None:
    # Before rpc is imported, which takes the sizes from there: on the loopback, as on a network.
    limits.RPC_DATAGRAM_LOOPBACK_BYTES = limits.RPC_DATAGRAM_BYTES = int(sys.argv[1])
    uvloop.run(_serve() if sys.argv[2] == "serve" else _call(int(sys.argv[3])))


if __name__ == "__main__":
    main()

"""Two processes that call each other over QUIC, for datagrams of one size and one engine.

    with running(1400, {}) as pair:
        pair.measure("transfer")

`running` starts a server and a caller; `measure` has the caller do one round of one kind:

    transfer    MB/s: BLOCKS payloads of 1 MiB to the server, eight at a time
    fetch       MB/s: as many from it
    call        seconds of a round trip of 100 bytes each way, one after the other
    calls       round trips a second, 200 in flight
    bulk_call   seconds of a round trip, at the median, while a transfer goes on all the time
    flow N B    MB/s through a new connection: B bytes on the way in small payloads, for N seconds
                after a first one that does not count

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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import uvloop

from benchmarks.load import ROOT
from predastore.process import memory
from predastore.rpc import CallContext, Endpoint, Method, Reply, self_signed

KEY: Final = b"benchmark"
BLOCK: Final = bytes(1 << 20)
BLOCKS_AT_A_TIME: Final = 8
BLOCKS_FAST, BLOCKS_SLOW = 64, 16  # of one transfer; slow where a first one was
SLOW_MB_S: Final = 100.0
CALLS: Final = 400
CALLERS, CALLS_EACH = 200, 20
BULK_CALLS: Final = 60
FLOW_BYTES_MIN, FLOW_CALLERS = 4 << 10, 128
TIMEOUT_MS: Final = 120_000


@dataclass
class Pair:
    server: subprocess.Popen[str]
    caller: subprocess.Popen[str]

    def measure(self, kind: str) -> float:
        self.begin(kind)
        return self.end()

    def begin(self, kind: str) -> None:
        assert self.caller.stdin is not None
        self.caller.stdin.write(kind + "\n")
        self.caller.stdin.flush()

    def end(self) -> float:
        """The figure of what was begun."""
        assert self.caller.stdout is not None
        answer = self.caller.stdout.readline()
        if not answer:
            raise RuntimeError("the caller's process ended")
        return float(answer)


@contextlib.contextmanager
def running(
    datagram_bytes: int,
    environment: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    prefixes: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Iterator[Pair]:
    """`host`: the server's address. `prefixes`: of the commands of the server and the caller."""
    with contextlib.ExitStack() as stack:

        def start(prefix: Sequence[str], *arguments: str) -> subprocess.Popen[str]:
            module = [sys.executable, "-m", "benchmarks.rpc_process", str(datagram_bytes)]
            process = subprocess.Popen(
                [*prefix, *module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
            stack.enter_context(process)  # on leaving, closes its input, which ends it
            return process

        server = start(prefixes[0], "serve", host)
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        yield Pair(server, start(prefixes[1], "call", host, port))


class Ask(msgspec.Struct, frozen=True):
    data: bytes = bytes(100)
    wanted_bytes: int = 0


ASK: Final = Ask()


class Caller:
    """What one process does."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._blocks = BLOCKS_FAST
        self.endpoint = self._connected()

    def _connected(self) -> Endpoint:
        endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="bench")
        endpoint.add_peer("node/1", *self._address)
        return endpoint

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

    async def flow(self, seconds: str, in_flight_bytes: str) -> float:
        payload = BLOCK[: max(FLOW_BYTES_MIN, int(in_flight_bytes) // FLOW_CALLERS)]
        await self.endpoint.close()
        self.endpoint = self._connected()
        done = 0

        async def mover() -> None:
            nonlocal done
            while True:
                await self._one(ASK, payload)
                done += 1

        movers = [asyncio.create_task(mover()) for _ in range(int(in_flight_bytes) // len(payload))]
        await asyncio.sleep(1.0)
        before, began = done, time.perf_counter()
        await asyncio.sleep(float(seconds))
        moved, took_s = done - before, time.perf_counter() - began
        for task in movers:
            task.cancel()
        for problem in await asyncio.gather(*movers, return_exceptions=True):
            if not isinstance(problem, asyncio.CancelledError):
                raise RuntimeError(f"a call failed: {problem!r}")
        return moved * len(payload) / 1e6 / took_s

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


async def _call(host: str, port: int) -> None:
    caller = Caller(host, port)
    loop = asyncio.get_running_loop()
    await caller.call()  # connects, and warms up
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        kind, *arguments = line
        print(await getattr(caller, kind)(*arguments), flush=True)
    await caller.endpoint.close()


async def _serve(host: str) -> None:
    async def echo(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        return Reply(ask, [BLOCK[: ask.wanted_bytes]] if ask.wanted_bytes else ())

    endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="bench-server")
    endpoint.serve("node/1", {"echo": Method(Ask, Ask, echo, len(BLOCK))})
    print(await endpoint.listen("node/1", host, 0), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await endpoint.close()


def main() -> None:
    _, size, role, host, *port = sys.argv
    for module in list(sys.modules.values()):  # all that have taken the sizes from limits.py
        for name in (
            "RPC_DATAGRAM_LOOPBACK_BYTES",
            "RPC_DATAGRAM_BYTES",
            "RPC_DATAGRAM_BYTES_MAX",
        ):
            if module.__name__.startswith("predastore.") and hasattr(module, name):
                setattr(module, name, int(size))
    memory.tune()
    uvloop.run(_serve(host) if role == "serve" else _call(host, int(port[0])))


if __name__ == "__main__":
    main()

"""What streams and connections used is given back: both ends of all are in this process. The same
over 100,000 streams and 1,000 connections is `make bench BENCH=rpc.memory`."""

from __future__ import annotations

import asyncio

from rpc_world import Ask, Handlers, World, endpoint, quic_world, run, server

from support.heap import Heap, heap
from support.waiting import eventually_async

STREAMS = 4_000
CONNECTIONS = 40
CALL_MS = 3_000
SLACK_BYTES, SLACK_OBJECTS = 64 << 10, 200  # caches, and tables that grow by doubling


def grown_little(before: Heap, after: Heap, count: int) -> None:
    assert after.c_bytes - before.c_bytes < SLACK_BYTES, f"{before}, {count} later {after}"
    assert after.objects - before.objects < SLACK_OBJECTS, f"{before}, {count} later {after}"


async def _calls(world: World, count: int) -> None:
    async def caller(numbers: range) -> None:
        for number in numbers:
            payload = [b"x" * (number % 3000)]
            await world.ask("test.echo", Ask(number), payload, timeout_ms=CALL_MS)

    await asyncio.gather(*(caller(range(start, count, 20)) for start in range(20)))
    deadlines = [world.caller._deadlines, world.server._listeners[0].deadlines]
    # A tick of deadlines has a timer until its time has come.
    await eventually_async(lambda: not any(each._due for each in deadlines), what="no deadlines")


def test_streams_leave_nothing_behind() -> None:
    async def test() -> None:
        async with quic_world() as world:
            await _calls(world, STREAMS // 4)
            before = heap()
            await _calls(world, STREAMS)
            grown_little(before, heap(), STREAMS)

    run(test())


def test_connections_leave_nothing_behind() -> None:
    async def test() -> None:
        handlers = Handlers()
        listening, port = await server(handlers)

        async def connections(count: int) -> None:
            for _ in range(count):
                caller = endpoint("host/a")
                caller.add_peer("node/1", "127.0.0.1", port)
                await World(caller, listening, handlers).ask("test.echo", timeout_ms=CALL_MS)
                await caller.close()
            listener = listening._listeners[0]
            await eventually_async(lambda: not listener.sessions, what="the listener forgets them")
            await eventually_async(lambda: not listener.deadlines._due, what="no deadlines")

        await connections(CONNECTIONS // 4)
        before = heap()
        await connections(CONNECTIONS)
        grown_little(before, heap(), CONNECTIONS)
        await listening.close()

    run(test())

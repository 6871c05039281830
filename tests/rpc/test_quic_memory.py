"""What streams and connections used is given back: both ends of all are in this process. The same
over 100,000 streams and 1,000 connections is `make bench BENCH=rpc.memory`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest
from rpc_world import (
    KEY,
    WORLDS,
    Answer,
    Ask,
    Handlers,
    World,
    endpoint,
    quic_world,
    run,
    server,
)

from predastore.base.errors import (
    DeadlineExceeded,
    NotLeader,
    PeerRefused,
    PeerUnreachable,
    RemoteFailure,
    RpcError,
)
from predastore.rpc.quic import CLOSED
from support.garbage import Garbage, fails
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


# --- with the collector off -----------------------------------------------------------------------


async def _given_up(call: Awaitable[object]) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))


async def _given_up_in_handler(world: World, payload: Sequence[bytes]) -> None:
    handlers = world.handlers
    before = handlers.waiting
    task = asyncio.ensure_future(world.ask("test.wait", payload=payload))
    await eventually_async(lambda: handlers.waiting > before, what="the call is under way")
    task.cancel()
    await asyncio.wait((task,))


async def _failing_calls(world: World) -> None:
    handlers, large = world.handlers, [bytes(1 << 20)]
    await world.ask("test.echo", payload=large)
    await fails(NotLeader, world.ask("test.fail"))
    await fails(RemoteFailure, world.ask("test.crash"))
    await fails(PeerRefused, world.ask("test.none"))
    await fails(PeerRefused, world.ask("test.small", payload=large))
    in_task = asyncio.ensure_future
    await fails(DeadlineExceeded, in_task(world.ask("test.wait", timeout_ms=30)))
    await fails(DeadlineExceeded, world.ask("test.wait", payload=large, timeout_ms=60))
    await _given_up_in_handler(world, ())
    await _given_up_in_handler(world, large)
    await _given_up(world.ask("test.produce", Ask(4 << 20)))
    await _given_up(world.ask("test.echo", payload=[bytes(4 << 20)]))
    await eventually_async(lambda: handlers.cancelled == handlers.waiting, what="handlers ended")


@pytest.mark.parametrize("kind", ["pipe", "quic", "stock"])
def test_calls_that_fail_or_are_given_up_leave_nothing_for_a_collection(kind: str) -> None:
    async def test() -> None:
        async with WORLDS[kind]() as world:
            await _failing_calls(world)
            with Garbage() as garbage:
                await _failing_calls(world)
                await _failing_calls(world)
                assert not garbage.left()

    run(test())


async def _ended_with_calls(world: World, *, by_listener: bool) -> None:
    caller = endpoint("host/b")
    caller.add_peer("node/1", "127.0.0.1", world.port)
    here, handlers = World(caller, world.server, world.handlers), world.handlers
    await here.ask("test.echo")
    before = handlers.waiting
    calls = [
        asyncio.ensure_future(fails(PeerUnreachable, here.ask("test.wait", payload=payload)))
        for payload in ((), [bytes(1 << 20)])
    ]
    await eventually_async(lambda: handlers.waiting == before + 2, what="calls are under way")
    if by_listener:
        for session in tuple(world.server._listeners[0].sessions):
            session.connection.close(CLOSED, "enough")
    await caller.close()
    await asyncio.wait(calls)


async def _refused(kind: type[RpcError], peer: str, port: int, *, key: bytes = KEY) -> None:
    caller = endpoint("host/c", key=key)
    caller.add_peer(peer, "127.0.0.1", port)
    await fails(kind, caller.call(peer, "test.echo", Ask(), Answer, timeout_ms=CALL_MS))
    await caller.close()


async def _connections_that_end(world: World) -> None:
    await _ended_with_calls(world, by_listener=False)
    await _ended_with_calls(world, by_listener=True)
    await _refused(PeerRefused, "node/1", world.port, key=b"x" * 32)
    await _refused(PeerRefused, "node/2", world.port)
    await _refused(PeerUnreachable, "node/1", 1)
    await eventually_async(lambda: not world.server._listeners[0].sessions)


@pytest.mark.parametrize("kind", ["quic", "stock"])
def test_connections_that_end_in_any_way_leave_nothing_for_a_collection(kind: str) -> None:
    async def test() -> None:
        async with WORLDS[kind]() as world:
            await _connections_that_end(world)
            with Garbage() as garbage:
                await _connections_that_end(world)
                await _connections_that_end(world)
                assert not garbage.left()

    run(test())

"""rpc.endpoint: what a caller sees is the same through the pipe and over QUIC."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os

import msgspec
import pytest
from rpc_world import (
    WORLDS,
    Answer,
    Ask,
    Handlers,
    endpoint,
    expect,
    quic_world,
    run,
    server,
    succeeds,
)

from predastore import rpc
from predastore.base.errors import (
    DeadlineExceeded,
    NotLeader,
    Overloaded,
    PeerRefused,
    PeerUnreachable,
    RemoteFailure,
)
from predastore.base.limits import RPC_PAYLOAD_BYTES_MAX
from predastore.rpc import CallContext, Endpoint, Method, Reply, peers
from predastore.rpc.admission import Admission
from support.descriptors import no_descriptors
from support.waiting import eventually_async

MIB = 1024 * 1024


class OtherAsk(msgspec.Struct, frozen=True):
    number: str


both = pytest.mark.parametrize("transport", sorted(WORLDS))


@both
@pytest.mark.parametrize("size", [0, 1, 1000, 32 * 1024, 100_001, MIB, 4 * MIB])
def test_payloads_cross_byte_for_byte(transport: str, size: int) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            data = os.urandom(size)
            answer, payload = await world.ask("test.echo", Ask(41), [data])
            assert answer.number == 42
            assert payload == data
            assert answer.peer == ("local" if transport == "pipe" else "host/a")

    run(test())


@both
def test_several_buffers_cross_as_one(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            data = bytearray(os.urandom(200_000))
            view = memoryview(data)
            parts = [view[:70_000], b"", bytes(view[70_000:70_001]), view[70_001:]]
            _, payload = await world.ask("test.echo", Ask(), parts)
            assert payload == data
            _, payload = await world.ask("test.produce", Ask(300_000))
            assert payload == bytes(300_000)

    run(test())


def test_the_pipe_hands_the_payload_over_without_a_copy() -> None:
    data = bytearray(b"before")

    async def change(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        data[:] = b"after!"
        assert payload == b"after!"
        return Reply(Answer(0), [data])

    async def test() -> None:
        async with WORLDS["pipe"]() as world:
            world.server.serve("node/1", {"test.change": Method(Ask, Answer, change, 100)})
            _, payload = await world.ask("test.change", Ask(), [data])
            data[:] = b"later!"
            assert payload == b"later!"

    run(test())


@both
def test_errors_cross_as_themselves(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            error = await expect(NotLeader, world.ask("test.fail"))
            assert isinstance(error, NotLeader)
            assert (str(error), error.leader) == ("ask another", 7)
            assert not caplog.records or caplog.records[-1].levelno < logging.ERROR
            error = await expect(RemoteFailure, world.ask("test.crash"))
            assert "ZeroDivisionError" in str(error)
            await world.ask("test.echo")

    with caplog.at_level(logging.ERROR):
        run(test())
    assert "ZeroDivisionError: by accident" in caplog.text  # the traceback is at the handler


@both
def test_at_the_deadline_the_caller_goes_on_and_the_handler_is_cancelled(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            await world.ask("test.echo")
            await expect(DeadlineExceeded, world.ask("test.wait", timeout_ms=50))
            await eventually_async(lambda: world.handlers.cancelled == 1)
            assert world.handlers.waiting == 1
            await world.ask("test.echo")

    run(test())


@both
def test_cancelling_the_caller_cancels_the_handler(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            call = asyncio.create_task(world.ask("test.wait", Ask(), [bytes(100_000)]))
            await eventually_async(lambda: world.handlers.waiting == 1)
            call.cancel()
            await expect(asyncio.CancelledError, call)
            await eventually_async(lambda: world.handlers.cancelled == 1)
            await world.ask("test.echo")

    run(test())


@both
def test_a_hundred_callers_at_once(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:

            async def caller(number: int) -> None:
                for turn in range(5):
                    data = bytes([number]) * (number * 100 + turn)
                    answer, payload = await world.ask("test.echo", Ask(number), [data])
                    assert answer.number == number + 1
                    assert payload == data

            await asyncio.gather(*(caller(number) for number in range(100)))
            assert world.handlers.calls == 500

    run(test())


@both
def test_what_a_method_does_not_take_is_refused(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            await world.ask("test.small", Ask(), [bytes(1000)])
            for size in (1001, 4 * MIB):
                await expect(PeerRefused, world.ask("test.small", Ask(), [bytes(size)]))
            error = await expect(PeerRefused, world.ask("test.nothing"))
            assert "test.nothing" in str(error)
            await world.ask("test.echo")
            assert world.handlers.calls == 2

    run(test())


@both
def test_a_struct_of_another_shape_is_refused(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            with pytest.raises(PeerRefused):
                await world.caller.call(
                    "node/1", "test.echo", OtherAsk("x"), Answer, timeout_ms=5000
                )
            with pytest.raises(PeerRefused):
                await world.caller.call("node/1", "test.echo", Ask(), OtherAsk, timeout_ms=5000)
            await world.ask("test.echo")

    run(test())


@both
def test_messages_over_the_bound_are_not_sent(transport: str) -> None:
    async def test() -> None:
        async with WORLDS[transport]() as world:
            with pytest.raises(PeerRefused):
                await world.ask("test.echo", Ask(), [bytes(RPC_PAYLOAD_BYTES_MAX + 1)])
            with pytest.raises(PeerRefused):
                await world.ask("test.produce", Ask(RPC_PAYLOAD_BYTES_MAX + 2))
            with pytest.raises(PeerRefused):
                await world.ask("test.echo", Ask(0, "x" * (3 * MIB)))
            await world.ask("test.echo")

    run(test())


@both
def test_calls_beyond_the_bound_wait_and_then_fail_as_overloaded(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(peer: str) -> Admission:
        return Admission(peer, calls_max=2, waiting_max=1)

    monkeypatch.setattr("predastore.rpc.endpoint.Admission", narrow)
    monkeypatch.setattr(peers, "Admission", narrow)

    async def test() -> None:
        async with WORLDS[transport]() as world:
            calls = [asyncio.create_task(world.ask("test.wait")) for _ in range(2)]
            await eventually_async(lambda: world.handlers.waiting == 2)
            third = asyncio.create_task(world.ask("test.wait"))
            done, _ = await asyncio.wait([third], timeout=0.05)
            assert not done  # it waits for a place
            await expect(Overloaded, world.ask("test.echo"))  # and nobody may wait behind it
            world.handlers.gate.set()
            await asyncio.gather(*calls, third)
            await world.ask("test.echo")

    run(test())


def test_one_name_may_be_served_in_parts_but_no_method_twice() -> None:
    async def test() -> None:
        async with WORLDS["pipe"]() as world:
            service = world.handlers.service()
            world.server.serve("node/1", {"other.echo": service["test.echo"]})
            await world.ask("other.echo")
            with pytest.raises(ValueError, match=r"test\.echo"):
                world.server.serve("node/1", {"test.echo": service["test.echo"]})

    run(test())


def test_an_unknown_peer_and_a_closed_endpoint_are_unreachable() -> None:
    async def test() -> None:
        lonely = endpoint("x")
        call = lonely.call("node/9", "m", Ask(), Answer, timeout_ms=1000)
        await expect(PeerUnreachable, call)
        await lonely.close()
        call = lonely.call("node/9", "m", Ask(), Answer, timeout_ms=1000)
        await expect(PeerUnreachable, call)

    run(test())


def test_close_fails_the_calls_in_flight_at_both_ends() -> None:
    async def test() -> None:
        async with quic_world() as world:
            call = asyncio.create_task(world.ask("test.wait"))
            await eventually_async(lambda: world.handlers.waiting == 1)
            await world.server.close()
            assert world.handlers.cancelled == 1
            await expect(PeerUnreachable, call)
        async with quic_world() as world:
            call = asyncio.create_task(world.ask("test.wait"))
            await eventually_async(lambda: world.handlers.waiting == 1)
            await world.caller.close()
            await expect(PeerUnreachable, call)
            await eventually_async(lambda: world.handlers.cancelled == 1)
        gc.collect()

    run(test())


def test_a_new_address_replaces_the_old_connection() -> None:
    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            other = Handlers()
            second, port = await server(other)
            world.caller.add_peer("node/1", "127.0.0.1", port)
            await world.ask("test.echo")
            assert (world.handlers.calls, other.calls) == (1, 1)
            await second.close()

    run(test())


def test_a_port_in_use_is_an_error_and_leaks_nothing() -> None:
    async def test() -> None:
        async with quic_world() as world:
            other = endpoint("y")
            with pytest.raises(OSError, match="in use"):
                await other.listen("node/1", "127.0.0.1", world.port)
            await other.close()
        gc.collect()

    run(test())


def test_the_public_names_are_these() -> None:
    assert sorted(rpc.__all__) == [
        "Buffer",
        "CallContext",
        "Certificate",
        "Endpoint",
        "Handler",
        "Later",
        "Method",
        "Reply",
        "Service",
        "self_signed",
    ]
    assert rpc.Endpoint is Endpoint


@both
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_handler_that_lacks_a_descriptor_is_overloaded(transport: str, code: int) -> None:
    async def short(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        raise OSError(code, "no more")

    async def test() -> None:
        async with WORLDS[transport]() as world:
            world.server.serve("node/1", {"test.short": Method(Ask, Answer, short, 0)})
            await expect(Overloaded, world.ask("test.short"))

    run(test())


def test_a_peer_is_dialled_once_there_is_a_descriptor_for_it() -> None:
    async def test() -> None:
        async with quic_world() as world:
            with no_descriptors():
                await expect(PeerUnreachable, world.ask("test.echo", timeout_ms=3_000))
            await succeeds(world)

    run(test())

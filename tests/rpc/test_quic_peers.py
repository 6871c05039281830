"""rpc over QUIC: peers that die, stall, are slow, come back, or are not who they should be."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import pytest
from rpc_world import (
    KEY,
    Ask,
    Handlers,
    World,
    endpoint,
    expect,
    quic_world,
    request,
    run,
    send_with,
    server,
    stranger,
    succeeds,
)

from predastore.base.errors import DeadlineExceeded, Overloaded, PeerRefused, PeerUnreachable
from predastore.rpc import Endpoint, peers, quic_client, quic_core, quic_socket
from support.waiting import eventually_async

pytestmark = pytest.mark.usefixtures("carrier")

MIB = 1024 * 1024


def now() -> float:
    return asyncio.get_running_loop().time()


def kill(served: Endpoint) -> None:
    """As SIGKILL does: the port is closed and nobody is told."""
    for listener in served._listeners:
        assert listener._socket is not None
        listener._socket.close()


def test_a_peer_that_closes_and_comes_back_is_reached_again() -> None:
    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            await world.server.close()
            await expect(PeerUnreachable, world.ask("test.echo"))
            handlers = Handlers()
            again, _ = await server(handlers, port=world.port)
            await succeeds(world)
            assert handlers.calls == 1
            await again.close()

    run(test())


def test_a_killed_peer_fails_calls_at_once_and_is_reached_when_it_is_back() -> None:
    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            call = asyncio.create_task(world.ask("test.wait"))
            await eventually_async(lambda: world.handlers.waiting == 1)
            kill(world.server)
            began = now()
            await expect(PeerUnreachable, world.ask("test.echo"))
            await expect(PeerUnreachable, call)
            assert now() - began < 2
            again, _ = await server(Handlers(), port=world.port)
            await succeeds(world)
            assert now() - began < 8
            await again.close()

    run(test())


def test_a_peer_killed_and_started_again_unnoticed_says_so() -> None:
    """No datagram was sent while it was away: a stateless reset tells, long before silence."""

    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            kill(world.server)
            again, _ = await server(Handlers(), port=world.port)
            began = now()
            await succeeds(world)
            assert now() - began < 2
            await again.close()

    run(test())


def test_nobody_waits_for_a_peer_that_is_known_to_be_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quic_client, "RPC_DIAL_TIMEOUT_MS", 200)
    monkeypatch.setattr(peers, "RPC_REDIAL_MS_MIN", 5_000)
    monkeypatch.setattr(peers, "RPC_REDIAL_MS_MAX", 5_000)

    async def test() -> None:
        # A port that is open and never answers.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
            mute.bind(("127.0.0.1", 0))
            caller = endpoint("host/a")
            caller.add_peer("node/1", "127.0.0.1", mute.getsockname()[1])
            world = World(caller, caller, Handlers())
            await expect(DeadlineExceeded, world.ask("test.echo", timeout_ms=20))
            calls = [asyncio.create_task(world.ask("test.echo")) for _ in range(10)]
            for call in calls:  # they share one dial
                await expect(PeerUnreachable, call)
            began = now()
            for _ in range(50):
                await expect(PeerUnreachable, world.ask("test.echo"))
            assert now() - began < 0.2
            await caller.close()

    run(test())


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    async def test() -> None:
        caller = endpoint("host/a")
        caller.add_peer("node/1", "no-such-host.invalid", 1)
        await expect(PeerUnreachable, World(caller, caller, Handlers()).ask("test.echo"))
        await caller.close()

    run(test())


def test_a_peer_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (quic_core, quic_client):
        monkeypatch.setattr(module, "RPC_IDLE_TIMEOUT_MS", 600)
    monkeypatch.setattr(quic_client, "RPC_PING_INTERVAL_MS", 150)
    monkeypatch.setattr(quic_client, "RPC_DIAL_TIMEOUT_MS", 500)

    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            call = asyncio.create_task(world.ask("test.wait"))
            await eventually_async(lambda: world.handlers.waiting == 1)
            # Longer than the idle timeout, and still there: pings keep it alive.
            done, _ = await asyncio.wait([call], timeout=1.0)
            assert not done
            with monkeypatch.context() as cut:
                send_with(cut, lambda *_: None)
                began = now()
                await expect(PeerUnreachable, call)
                assert now() - began < 3
                # Known to be silent: the next call does not wait for a dial.
                began = now()
                await expect(PeerUnreachable, world.ask("test.echo"))
                assert now() - began < 0.1
            await succeeds(world)

    run(test())


def test_the_wrong_peer_at_the_address_is_refused() -> None:
    async def test() -> None:
        async with quic_world() as world:
            world.caller.add_peer("node/4", "127.0.0.1", world.port)
            call = world.caller.call("node/4", "test.echo", Ask(), Ask, timeout_ms=5000)
            error = await expect(PeerRefused, call)
            assert "node/4" in str(error)
            assert world.handlers.calls == 0

    run(test())


@pytest.mark.parametrize("side", ["caller", "listener"])
def test_another_cluster_key_is_refused(side: str) -> None:
    async def test() -> None:
        async with quic_world() as world:
            if side == "caller":
                other = endpoint("host/b", key=b"another key")
                other.add_peer("node/1", "127.0.0.1", world.port)
                served = None
            else:
                served, port = await server(world.handlers, key=b"another key")
                other = endpoint("host/b")
                other.add_peer("node/1", "127.0.0.1", port)
            await expect(PeerRefused, World(other, other, Handlers()).ask("test.echo"))
            assert world.handlers.calls == 0
            await other.close()
            if served is not None:
                await served.close()
            await world.ask("test.echo")

    run(test())


def test_the_cluster_key_is_changed_while_calls_go_on() -> None:
    """First a listener accepts the new one, then it uses it, then it forgets the old one."""

    async def test() -> None:
        async with quic_world() as world:
            old, new = KEY, b"another key"

            async def answered(key: bytes) -> None:
                other = endpoint("host/b", key=key)
                other.add_peer("node/1", "127.0.0.1", world.port)
                try:
                    await World(other, other, Handlers()).ask("test.echo")
                finally:
                    await other.close()

            await world.ask("test.echo")
            world.server.use_keys(old, (new,))
            await answered(old)
            await answered(new)
            world.server.use_keys(new, (old,))
            await answered(old)
            await answered(new)
            world.server.use_keys(new, ())
            await answered(new)
            with pytest.raises(PeerRefused):
                await answered(old)
            await world.ask("test.echo")  # on a connection that was there before

    run(test())


def test_another_cluster_key_is_told_of_at_both_ends_with_the_mend(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The listener says it once for a host, however often it comes."""
    mend = "[cluster] name and secret"

    async def test() -> None:
        async with quic_world() as world:
            others = [endpoint(f"host/{n}\n", key=b"another key") for n in range(3)]
            for other in others:
                other.add_peer("node/1", "127.0.0.1", world.port)
                error = await expect(PeerRefused, World(other, other, Handlers()).ask("test.echo"))
                assert mend in str(error)
                assert other.refusal.startswith("node/1: ")
                assert mend in other.refusal
                await other.close()
            assert world.caller.refusal == ""
        told = [record for record in caplog.records if mend in record.message]
        assert [vars(record)["host"] for record in told] == ["127.0.0.1"]
        assert vars(told[0])["calls_itself"] == "host/0\n"

    run(test())


def test_a_slow_reader_harms_nobody_else() -> None:
    """It asks for much, allows little to be sent, and reads none of it."""

    async def test() -> None:
        limits = {"max_data": 20_000, "max_stream_data": 5_000}
        async with quic_world() as world, stranger(world.port, **limits) as slow:
            slow._quic._write_connection_limits = lambda **_: None
            slow._quic._write_stream_limits = lambda **_: None
            await slow.prove()
            for _ in range(20):
                ask = request("test.produce", Ask(4 * MIB), timeout_ms=1_500)
                slow.write(slow.open(), ask, end=True)
            await eventually_async(lambda: world.handlers.calls == 20)
            for _ in range(20):
                began = now()
                await world.ask("test.echo")
                assert now() - began < 0.5
            # At the deadline that it asked for, what it left unread is dropped.
            for session in world.server._listeners[0].sessions:
                if session.calls.peer == "host/stranger":
                    await eventually_async(lambda session=session: not session.calls.tasks)
                    assert session.calls.responses.bytes == 0

    run(test())


class Crowded:
    """Responses that never find room."""

    def try_enter(self, size_bytes: int) -> bool:
        return False

    async def enter(self, size_bytes: int, deadline: float) -> None:
        raise Overloaded("no room until the deadline")


def test_an_answer_without_room_is_not_taken_for_a_refusal() -> None:
    """The handler has run: nobody is to think that nothing was done."""

    async def test() -> None:
        async with quic_world() as world:
            await world.ask("test.echo")
            (session,) = world.server._listeners[0].sessions
            session.calls.responses = Crowded()
            await expect(DeadlineExceeded, world.ask("test.echo"))
            assert world.handlers.calls == 2

    run(test())


def test_large_calls_do_not_hold_up_small_ones() -> None:
    async def test() -> None:
        async with quic_world() as world:
            bulk = [
                asyncio.create_task(world.ask("test.echo", Ask(), [bytes(2 * MIB)]))
                for _ in range(6)
            ]
            await world.ask("test.echo")
            slowest = 0.0
            while not all(task.done() for task in bulk):
                began = now()
                await world.ask("test.produce", Ask(10))
                slowest = max(slowest, now() - began)
            await asyncio.gather(*bulk)
            assert slowest < 0.5

    run(test())


def test_the_window_is_given_back_however_calls_end() -> None:
    """Many times the connection's window passes, with calls that end in every way."""

    async def test() -> None:
        async with quic_world() as world:
            for _ in range(4):
                small = [world.ask("test.small", Ask(), [bytes(4 * MIB)]) for _ in range(3)]
                results = await asyncio.gather(*small, return_exceptions=True)
                assert all(isinstance(result, PeerRefused) for result in results)
                slow = [
                    world.ask("test.wait", Ask(), [bytes(MIB)], timeout_ms=400) for _ in range(8)
                ]
                results = await asyncio.gather(*slow, return_exceptions=True)
                assert all(isinstance(result, DeadlineExceeded) for result in results)
                await world.ask("test.echo", Ask(), [bytes(4 * MIB)])
            sessions = world.server._listeners[0].sessions
            assert len(sessions) == 1  # all over one connection
            connection = next(iter(sessions)).connection
            await eventually_async(lambda: not connection._held_bytes)
            await eventually_async(lambda: not next(iter(sessions)).calls.tasks)
            channel = world.caller._remote["node/1"]._channel
            assert channel is not None
            assert not channel._connection._held_bytes
            assert not channel._connection._streams

    run(test())


@pytest.mark.parametrize("seed", [1, 2])
def test_lost_and_reordered_datagrams_cost_time_and_nothing_else(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    held: list[tuple[quic_socket.DatagramSocket, bytes, tuple[Any, ...]]] = []
    send = quic_socket.DatagramSocket.send

    def one(own: quic_socket.DatagramSocket, datagram: bytes, address: tuple[Any, ...]) -> None:
        send(own, datagram, len(datagram), 0, address)

    def lossy(
        self: quic_socket.DatagramSocket,
        data: bytes | bytearray,
        size_bytes: int,
        segment_bytes: int,
        address: tuple[Any, ...],
    ) -> None:
        step = segment_bytes or size_bytes
        for start in range(0, size_bytes, step):
            datagram = bytes(data[start : min(start + step, size_bytes)])
            fate = chance.random()
            if fate < 0.03:
                continue
            if fate < 0.06:
                held.append((self, datagram, address))
                continue
            one(self, datagram, address)
            while held:
                one(*held.pop())

    send_with(monkeypatch, lossy)
    monkeypatch.setattr(quic_socket, "RPC_DATAGRAM_LOOPBACK_BYTES", 1_400)

    async def test() -> None:
        async with quic_world() as world:

            async def caller(number: int) -> None:
                for _ in range(3):
                    data = chance.randbytes(60_000 * number)
                    _, payload = await world.ask("test.echo", Ask(), [data])
                    assert payload == data

            await asyncio.gather(*(caller(number) for number in range(6)))

    run(test())


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0"])
def test_any_kind_of_address_will_do(host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")

    async def test() -> None:
        served, handlers = endpoint("server"), Handlers()
        served.serve("node/1", handlers.service())
        port = await served.listen("node/1", host, 0)
        caller = endpoint("host/a")
        caller.add_peer("node/1", "127.0.0.1" if host == "0.0.0.0" else host, port)
        _, payload = await World(caller, served, handlers).ask("test.echo", Ask(), [bytes(50_000)])
        assert payload == bytes(50_000)
        await caller.close()
        await served.close()

    run(test())

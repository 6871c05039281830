"""The gate before a listener: few are let in unseen, the others show their address, nobody pays."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion, encode_quic_version_negotiation
from rpc_world import KEY, Handlers, World, endpoint, quic_world, run, stranger

from predastore.base.errors import PeerRefused, PredastoreError
from predastore.base.limits import (
    RPC_CONNECTIONS_UNPROVEN_MAX,
    RPC_FLOOD_RETRIES,
    RPC_FREE_HANDSHAKES,
    RPC_FREE_HANDSHAKES_S,
    RPC_HANDSHAKE_TIMEOUT_MS,
    RPC_STATELESS_ANSWERS_S,
    RPC_UNPROVEN_ADDRESS_MAX,
    RPC_UNPROVEN_PREFIX_MAX,
)
from predastore.process import logs
from predastore.rpc import quic_listener
from predastore.rpc.quic_core import Address, client_configuration
from predastore.rpc.quic_gate import VERSIONS, Admitted, LongHeader, QuicGate, long_header
from support.waiting import eventually_async

HERE: Address = ("10.1.2.3", 5000)
TIMEOUT_S = RPC_HANDSHAKE_TIMEOUT_MS / 1000


def initial(token: bytes = b"", destination: bytes = b"", version: int = VERSIONS[0]) -> LongHeader:
    return LongHeader(version, True, destination or os.urandom(8), b"source", token)


def shut(gate: QuicGate, now: float = 0.0) -> QuicGate:
    """A gate that is flooded."""
    while isinstance(gate.admit(initial(), HERE, now), Admitted):
        pass
    return gate


def told(gate: QuicGate, address: Address = HERE, now: float = 0.0) -> LongHeader:
    """An Initial as it comes again after a Retry."""
    first = initial()
    retry = gate.admit(first, address, now)
    assert isinstance(retry, bytes)
    assert len(retry) < 100, "less than it answers"
    at = 6 + retry[5]
    (length,) = retry[at : at + 1]
    return initial(retry[at + 1 + length : -16], retry[at + 1 : at + 1 + length])


def is_taken(gate: QuicGate, header: LongHeader, address: Address = HERE, now: float = 0.0) -> bool:
    return isinstance(gate.admit(header, address, now), Admitted)


def test_few_are_let_in_at_once_and_the_others_when_they_have_shown_themselves() -> None:
    gate = QuicGate("node/1")
    taken = [is_taken(gate, initial(), (f"10.0.{n}.1", n)) for n in range(100)]
    assert taken == [True] * RPC_FREE_HANDSHAKES + [False] * (100 - RPC_FREE_HANDSHAKES)
    assert gate.unproven_count == RPC_FREE_HANDSHAKES
    again = told(gate)
    answer = gate.admit(again, HERE, 0.0)
    assert isinstance(answer, Admitted)
    assert answer.retry_id == again.destination
    assert len(answer.original_id) == 8


def test_a_flood_keeps_the_gate_shut_and_it_opens_again_after_it() -> None:
    gate, now = shut(QuicGate("node/1")), 0.0
    for _ in range(3000):
        now += 1 / 300
        assert not is_taken(gate, initial(), now=now)
    quiet_s = 2 * RPC_FREE_HANDSHAKES / RPC_FREE_HANDSHAKES_S
    assert is_taken(gate, initial(), now=now + quiet_s)


@pytest.mark.parametrize(
    "forged",
    [
        lambda header, address: (header, ("10.1.2.4", address[1])),
        lambda header, address: (header, (address[0], address[1] + 1)),
        lambda header, address: (header._replace(destination=os.urandom(8)), address),
        lambda header, address: (header._replace(token=header.token[:-1]), address),
        lambda header, address: (header._replace(token=header.token + b"x"), address),
        lambda header, address: (header._replace(token=bytes(len(header.token))), address),
        lambda header, address: (header._replace(token=b"x"), address),
        lambda header, address: (header._replace(token=os.urandom(300)), address),
        lambda header, address: (
            header._replace(token=bytes([header.token[0] ^ 1]) + header.token[1:]),
            address,
        ),
    ],
)
def test_a_token_is_of_one_address_and_one_retry(forged: Callable[..., Any]) -> None:
    gate = shut(QuicGate("node/1"))
    header = told(gate)
    assert gate.admit(*forged(header, HERE), 0.0) is None
    assert is_taken(gate, header)


def test_a_token_is_good_for_as_long_as_a_place_and_of_no_other_listener() -> None:
    gate, other = shut(QuicGate("node/1")), shut(QuicGate("node/1"))
    header = told(gate)
    assert other.admit(header, HERE, 0.0) is None
    assert gate.admit(header, HERE, TIMEOUT_S + 0.1) is None
    assert is_taken(gate, header, now=TIMEOUT_S - 0.1)


def test_an_address_a_network_and_all_together_have_so_many_places() -> None:
    gate = shut(QuicGate("node/1"))

    def taken(addresses: list[Address]) -> int:
        return sum(is_taken(gate, told(gate, one), one) for one in addresses)

    assert taken([HERE] * 50) == RPC_UNPROVEN_ADDRESS_MAX
    network: list[Address] = [(f"10.1.2.{n % 250}", n) for n in range(4, 200)]
    assert taken(network) == RPC_UNPROVEN_PREFIX_MAX - RPC_UNPROVEN_ADDRESS_MAX
    assert taken([("10.1.3.3", 5000)]) == 1, "others are not in their way"
    wide: list[Address] = [(f"10.{n}.1.1", n) for n in range(20, 220)]
    assert taken(wide) == RPC_CONNECTIONS_UNPROVEN_MAX - RPC_UNPROVEN_PREFIX_MAX - 1 - (
        RPC_FREE_HANDSHAKES
    )
    assert gate.unproven_count == RPC_CONNECTIONS_UNPROVEN_MAX


def test_of_ipv6_64_bits_are_an_address_and_48_a_network() -> None:
    gate = shut(QuicGate("node/1"))

    def taken(hosts: list[str]) -> int:
        addresses: list[Address] = [(host, 5, 0, 0) for host in hosts]
        return sum(is_taken(gate, told(gate, one), one) for one in addresses)

    assert taken([f"2001:db8:1:1::{n:x}" for n in range(40)]) == RPC_UNPROVEN_ADDRESS_MAX
    networks = [f"2001:db8:1:{n:x}::1" for n in range(2, 90)]
    assert taken(networks) == RPC_UNPROVEN_PREFIX_MAX - RPC_UNPROVEN_ADDRESS_MAX
    assert taken(["2001:db8:2::1"]) == 1
    assert taken(["::ffff:10.0.0.1", "::ffff:10.9.0.1"]) == 2


def test_nobody_takes_places_in_the_name_of_another() -> None:
    gate = QuicGate("node/1")
    for _ in range(100):
        gate.admit(initial(), HERE, 0.0)  # forged: they do not come again
    assert sum(is_taken(gate, told(gate), HERE) for _ in range(50)) == RPC_UNPROVEN_ADDRESS_MAX


def test_a_place_that_is_given_back_is_free() -> None:
    gate = shut(QuicGate("node/1"))
    answers = [gate.admit(told(gate), HERE, 0.0) for _ in range(50)]
    for answer in answers:
        if isinstance(answer, Admitted):
            gate.leave(answer.place)
    assert gate.unproven_count == RPC_FREE_HANDSHAKES
    assert is_taken(gate, told(gate))


def test_answers_have_a_most_in_each_second() -> None:
    gate = QuicGate("node/1")
    flood = int(3 * RPC_STATELESS_ANSWERS_S)
    retries = sum(isinstance(gate.admit(initial(), HERE, 0.0), bytes) for _ in range(flood))
    assert RPC_STATELESS_ANSWERS_S - 1 <= retries <= RPC_STATELESS_ANSWERS_S
    others = sum(gate.may_answer(0.0) for _ in range(flood))
    assert RPC_STATELESS_ANSWERS_S - 1 <= others <= RPC_STATELESS_ANSWERS_S
    later = [gate.admit(initial(), HERE, 1 + n / flood) for n in range(flood)]
    retries = sum(isinstance(one, bytes) for one in later)
    assert retries > 1.9 * RPC_STATELESS_ANSWERS_S, "whoever is no forger has a chance all the time"


def test_a_flood_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    gate = QuicGate("node/1")
    now = 0.0
    for _ in range(RPC_FREE_HANDSHAKES + RPC_FLOOD_RETRIES - 1):
        gate.admit(initial(), HERE, now)
    assert not caplog.records, "a cluster that starts is no flood"
    for _ in range(10_000):
        now += 0.01
        gate.admit(initial(), HERE, now)
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    for _ in range(10_000):
        gate.admit(initial(), HERE, now + 600)
    assert len(caplog.records) == 2, "another flood"


def made(version: int = VERSIONS[0], **changes: Any) -> tuple[QuicConnection, bytes]:
    """A caller, and its first datagram."""
    configuration = replace(client_configuration(), original_version=version, **changes)
    connection = QuicConnection(configuration=configuration)
    connection.connect(("127.0.0.1", 1), now=0.0)
    return connection, connection.datagrams_to_send(0.0)[0][0]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_initial_of_aioquic_is_read_and_takes_the_retry(version: int) -> None:
    gate = shut(QuicGate("node/1"))
    connection, datagram = made(version)
    header = long_header(datagram)
    assert header is not None
    assert (header.version, header.is_initial, header.token) == (version, True, b"")
    assert header.source == connection.host_cid
    retry = gate.admit(header, HERE, 0.0)
    assert isinstance(retry, bytes)
    connection.receive_datagram(retry, ("127.0.0.1", 1), now=0.1)
    again = long_header(connection.datagrams_to_send(0.1)[0][0])
    assert again is not None
    answer = gate.admit(again, HERE, 0.2)
    assert isinstance(answer, Admitted)
    assert (answer.original_id, answer.retry_id) == (header.destination, again.destination)


def test_what_is_cut_short_or_of_no_version_is_no_header() -> None:
    _, datagram = made()
    whole = long_header(datagram)
    assert whole is not None
    end = 7 + len(whole.destination) + len(whole.source) + 1
    for size in range(end):
        assert long_header(datagram[:size]) is None, size
    assert long_header(datagram[:end]) == whole
    assert long_header(b"\x80" + datagram[1:]) is None, "without the fixed bit"
    assert long_header(datagram[:5] + b"\xff" + datagram[6:]) is None
    assert long_header(datagram[:5] + b"\x15" + datagram[6:]) is None, "21 bytes"
    other = long_header(b"\xc0abcd\xff" + bytes(255) + b"\xff" + bytes(255) + b"more")
    assert other is not None
    assert (len(other.destination), len(other.source), other.is_initial) == (255, 255, False)
    for kind in (0x10, 0x20, 0x30):
        found = long_header(bytes([datagram[0] | kind]) + datagram[1:])
        assert found is not None
        assert not found.is_initial


# --- on a socket ------------------------------------------------------------------------------


def flood_of(count: int, **changes: Any) -> list[bytes]:
    """Initials that are valid but for what is changed."""
    return [made(max_datagram_size=1200, **changes)[1] for _ in range(count)]


async def flooded(world: World, datagrams: list[bytes], senders: int = 40) -> list[socket.socket]:
    """Sent from many addresses of the loopback. The sockets are to be closed."""
    sockets = []
    for number in range(senders):
        sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sockets[-1].bind((f"127.7.{number}.1", 0))
        sockets[-1].setblocking(False)
    for number, datagram in enumerate(datagrams):
        sockets[number % senders].sendto(datagram, ("127.0.0.1", world.port))
        if number % 20 == 19:
            await endpoint_turn()
    return sockets


async def endpoint_turn() -> None:
    """Whatever has come is handled."""
    for _ in range(5):
        await asyncio.sleep(0)


async def succeeds_anew(world: World) -> None:
    """A peer that was not here before is let in and served."""
    caller = endpoint("host/new")
    caller.add_peer("node/1", "127.0.0.1", world.port)
    await World(caller, world.server, world.handlers).ask("test.echo")
    await caller.close()


@pytest.mark.parametrize("alpn", ["h3", "predastore/1"], ids=["fails at once", "never goes on"])
def test_a_flood_of_handshakes_makes_few_connections_and_peers_get_in(
    monkeypatch: pytest.MonkeyPatch, alpn: str
) -> None:
    begun = []
    real = quic_listener.core_class()
    monkeypatch.setattr(
        quic_listener, "core_class", lambda: lambda *a, **k: begun.append(1) or real(*a, **k)
    )

    async def test() -> None:
        async with quic_world() as world:
            listener = world.server._listeners[0]
            for _ in range(3):
                sockets = await flooded(world, flood_of(100, alpn_protocols=[alpn]))
                await eventually_async(lambda: listener.unproven_count >= RPC_FREE_HANDSHAKES)
                await succeeds_anew(world)
                for one in sockets:
                    one.close()
            assert len(begun) <= RPC_FREE_HANDSHAKES + 3 + 4 * RPC_FREE_HANDSHAKES_S

    run(test())


def test_who_breaks_handshakes_off_keeps_its_places_until_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("predastore.rpc.quic_gate.RPC_UNPROVEN_ADDRESS_MAX", 3)
    monkeypatch.setattr("predastore.rpc.quic_gate.RPC_FREE_HANDSHAKES", 0)

    async def test() -> None:
        async with quic_world() as world:
            listener = world.server._listeners[0]
            for _ in range(3):
                wrong = endpoint("host/a", key=bytes(32))
                wrong.add_peer("node/1", "127.0.0.1", world.port)
                with pytest.raises(PeerRefused):
                    await World(wrong, wrong, Handlers()).ask("test.echo")
                await wrong.close()
            await eventually_async(lambda: not listener.sessions)
            assert listener.unproven_count == 3
            late = endpoint("host/b", key=KEY)
            late.add_peer("node/1", "127.0.0.1", world.port)
            with pytest.raises(PredastoreError):
                await World(late, late, Handlers()).ask("test.echo", timeout_ms=300)
            await late.close()

    run(test())


def test_a_token_that_was_overheard_is_of_no_use_elsewhere() -> None:
    async def test() -> None:
        async with quic_world() as world:
            listener = world.server._listeners[0]
            shut(listener.gate, asyncio.get_running_loop().time())
            before = len(listener.sessions)
            connection, datagram = made(max_datagram_size=1200)
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as others,
            ):
                mine.bind(("127.0.0.1", 0))
                others.bind(("127.0.0.2", 0))
                mine.setblocking(False)
                mine.sendto(datagram, ("127.0.0.1", world.port))
                retry = await eventually_async(lambda: received(mine))
                connection.receive_datagram(retry, ("127.0.0.1", 1), now=0.1)
                again = connection.datagrams_to_send(0.1)[0][0]
                others.sendto(again, ("127.0.0.1", world.port))
                await endpoint_turn()
                assert len(listener.sessions) == before
                mine.sendto(again, ("127.0.0.1", world.port))
                await eventually_async(lambda: len(listener.sessions) == before + 1)
                for _ in range(20):  # again and again: it is the same connection
                    mine.sendto(again, ("127.0.0.1", world.port))
                await endpoint_turn()
                assert len(listener.sessions) == before + 1

    run(test())


def received(one: socket.socket) -> bytes:
    try:
        return one.recv(2000)
    except BlockingIOError:
        return b""


def test_other_versions_are_told_of_ours_and_cost_nothing_else() -> None:
    async def test() -> None:
        async with quic_world() as world:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                caller.bind(("127.0.0.1", 0))
                caller.setblocking(False)
                target = ("127.0.0.1", world.port)
                head = b"\xc0\x0a\x0a\x0a\x0a\x08" + bytes(8) + b"\x04" + b"mine"
                caller.sendto(head + bytes(1200 - len(head)), target)
                answer = await eventually_async(lambda: received(caller))
                wanted = encode_quic_version_negotiation(
                    source_cid=bytes(8), destination_cid=b"mine", supported_versions=list(VERSIONS)
                )
                assert answer[1:] == wanted[1:]
                for silent in (
                    head + bytes(1199 - len(head)),  # too short to be answered
                    b"\xc0" + bytes(4) + head[5:] + bytes(1200),  # an answer itself
                    b"\xe0" + made()[1][1:],  # of the handshake, of nobody
                ):
                    caller.sendto(silent, target)
                await succeeds_anew(world)
                assert received(caller) == b""
            await eventually_async(lambda: not world.server._listeners[0].sessions)

    run(test())


def test_strangers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logs.set_level("info")
    try:

        async def test() -> None:
            async with quic_world() as world:
                sockets = await flooded(world, flood_of(12, alpn_protocols=["h3"]))
                await succeeds_anew(world)
                for one in sockets:
                    one.close()

        run(test())
    finally:
        for name in ("", "quic", "asyncio", "pysyncobj"):
            logging.getLogger(name).setLevel(logging.NOTSET if name else logging.WARNING)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_a_proven_peer_needs_no_place() -> None:
    async def test() -> None:
        async with quic_world() as world:
            async with stranger(world.port) as peer:
                await peer.prove()
                assert world.server._listeners[0].unproven_count == 0
            assert world.server._listeners[0].unproven_count == 0

    run(test())


def test_versions_are_those_of_aioquic() -> None:
    assert VERSIONS == (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
    assert list(VERSIONS) == client_configuration().supported_versions

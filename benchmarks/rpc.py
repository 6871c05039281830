"""Calls through the pipe and over QUIC, the latter to a process of its own.

Round trips carry 64 bytes each way; transfers are blocks of 1 MiB in requests, eight at a time.
Yardsticks: awaiting the handler, a bare UDP echo, a memory copy, stock aioquic (one stream of
16 MiB, its own defaults), and the pipe itself.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration

from benchmarks.measure import Row, Timing, row, timing
from predastore.rpc import CallContext, Endpoint, Method, Reply, self_signed
from predastore.rpc.quic_core import client_configuration, server_configuration

KEY = b"benchmark"
BLOCK = bytes(1 << 20)
BLOCKS = 16
IN_FLIGHT = 8
CALLERS = 100
ROUNDS = 5
TIMEOUT_MS = 60_000

Step = Callable[[], Awaitable[object]]


class Ask(msgspec.Struct, frozen=True):
    data: bytes


async def echo(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
    return Reply(ask)


METHOD = Method(Ask, Ask, echo, len(BLOCK))
ASK = Ask(bytes(64))


def rows() -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.rpc"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        ports = [int(port) for port in server.stdout.readline().split()]
        return uvloop.run(_rows(*ports))  # leaving the block ends the server's input, and it


async def _rows(port: int, stock_port: int, udp_port: int) -> list[Row]:
    endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="bench")
    endpoint.serve("node/0", {"echo": METHOD})
    endpoint.add_peer("node/1", "127.0.0.1", port)
    try:
        return await _measured(endpoint, stock_port, udp_port)
    finally:
        await endpoint.close()


async def _measured(endpoint: Endpoint, stock_port: int, udp_port: int) -> list[Row]:
    def one(peer: str) -> Step:
        return lambda: endpoint.call(peer, "echo", ASK, Ask, timeout_ms=TIMEOUT_MS)

    found = [
        await _round_trips("rpc.pipe.call", one("node/0"), 2000, "await the handler", _handler),
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect(("127.0.0.1", udp_port))

        async def bounce() -> None:
            udp.send(ASK.data)
            await asyncio.get_running_loop().sock_recv(udp, 100)

        found.append(await _round_trips("rpc.quic.call", one("node/1"), 300, "UDP echo", bounce))
    found.append(await _concurrent(one("node/1")))
    found += await _transfers(endpoint, stock_port)
    return found


async def _handler() -> None:
    await echo(ASK, memoryview(b""), CallContext("local", 0.0))


async def _paired(mine: Step, other: Step) -> tuple[Timing, Timing]:
    samples: tuple[list[float], list[float]] = ([], [])
    await mine()
    await other()
    for _ in range(ROUNDS):
        for which, step in enumerate((mine, other)):
            began = time.perf_counter()
            await step()
            samples[which].append(time.perf_counter() - began)
    return timing(samples[0]), timing(samples[1])


def _times(step: Step, count: int) -> Step:
    async def repeated() -> None:
        for _ in range(count):
            await step()

    return repeated


async def _round_trips(name: str, step: Step, count: int, yardstick: str, other: Step) -> Row:
    mine, bare = await _paired(_times(step, count), _times(other, count))
    return row(
        name,
        mine.median_s / count * 1e6,
        "us",
        spread=mine.spread,
        yardstick=yardstick,
        yardstick_value=bare.median_s / count * 1e6,
    )


async def _concurrent(step: Step) -> Row:
    count = 20

    async def many() -> None:
        await asyncio.gather(*(_times(step, count)() for _ in range(CALLERS)))

    mine, alone = await _paired(many, _times(step, 300))
    return row(
        f"rpc.quic.calls.{CALLERS}",
        mine.per_second(CALLERS * count),
        "calls/s",
        spread=mine.spread,
        yardstick="one caller",
        yardstick_value=alone.per_second(300),
    )


def _blocks(endpoint: Endpoint, peer: str) -> Step:
    async def sender(numbers: range) -> None:
        for _ in numbers:
            await endpoint.call(peer, "echo", ASK, Ask, [BLOCK], timeout_ms=TIMEOUT_MS)

    async def transfer() -> None:
        await asyncio.gather(
            *(sender(range(start, BLOCKS, IN_FLIGHT)) for start in range(IN_FLIGHT))
        )

    return transfer


async def _transfers(endpoint: Endpoint, stock_port: int) -> list[Row]:
    megabytes = BLOCKS * len(BLOCK) / 1e6
    over_quic = _blocks(endpoint, "node/1")
    in_pipe = _blocks(endpoint, "node/0")

    async def stock() -> None:
        await _stock_transfer(stock_port)

    found = []
    for yardstick, other in (("the pipe", in_pipe), ("stock aioquic", stock)):
        mine, bare = await _paired(over_quic, other)
        found.append(
            row(
                "rpc.quic.transfer",
                mine.per_second(megabytes),
                "MB/s",
                spread=mine.spread,
                yardstick=yardstick,
                yardstick_value=bare.per_second(megabytes),
            )
        )
    return found


class _Stock(QuicConnectionProtocol):
    """Sends all it has, and is done when the peer says so; the peer answers at the end."""

    done: asyncio.Future[None] | None = None

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived) and event.end_stream:
            if self.done is None:
                self._quic.send_stream_data(event.stream_id, b"!", end_stream=True)
                self.transmit()
            else:
                self.done.set_result(None)


async def _stock_transfer(port: int) -> None:
    ours = client_configuration()
    stock = QuicConfiguration(alpn_protocols=ours.alpn_protocols, verify_mode=ours.verify_mode)
    async with connect(
        "127.0.0.1", port, configuration=stock, create_protocol=_Stock
    ) as connection:
        assert isinstance(connection, _Stock)
        connection.done = asyncio.get_running_loop().create_future()
        connection._quic.send_stream_data(0, BLOCK * BLOCKS, end_stream=True)
        connection.transmit()
        await connection.done


class _UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._transport.sendto(data, address)


async def _serve() -> None:
    """The other process: prints its ports, and ends with its standard input."""
    certificate = self_signed()
    endpoint = Endpoint(cluster_key=KEY, certificate=certificate, name="bench-server")
    endpoint.serve("node/1", {"echo": METHOD})
    port = await endpoint.listen("node/1", "127.0.0.1", 0)
    ours = server_configuration(certificate)
    stock = QuicConfiguration(
        is_client=False,
        alpn_protocols=ours.alpn_protocols,
        certificate=ours.certificate,
        private_key=ours.private_key,
    )
    server = await serve("127.0.0.1", 0, configuration=stock, create_protocol=_Stock)
    assert server._transport is not None
    loop = asyncio.get_running_loop()
    udp, _ = await loop.create_datagram_endpoint(_UdpEcho, local_addr=("127.0.0.1", 0))
    others = [made.get_extra_info("sockname")[1] for made in (server._transport, udp)]
    print(port, *others, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    await endpoint.close()
    server.close()
    udp.close()


if __name__ == "__main__":
    uvloop.run(_serve())

"""Calls through the pipe, and over QUIC between two processes on the loopback.

    rpc.pipe.call             us      a call in this process, against awaiting the handler
    rpc.quic_1400             MB/s    payloads of 1 MiB, eight at a time, in datagrams of 1,400
    rpc.quic_1400.fetch       MB/s    the same towards the caller
    rpc.quic_8900[.fetch]     MB/s    the same in datagrams of 8,900 bytes
    rpc.quic_1400.call        us      round trip of 100 bytes each way
    rpc.quic_1400.calls_200   /s      the same with 200 in flight
    rpc.quic_1400.bulk_call   ms      the same, one at a time, while a transfer goes on: median

Yardsticks: the same with stock aioquic in the engine's place (PREDASTORE_QUIC=aioquic), and for
bulk what UDP with segmentation offload and AES-128-GCM on each packet moves (udp_ceiling.c), for
round trips a bare UDP echo. All take turns in each of ROUNDS rounds; rows are medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

import uvloop

from benchmarks.measure import Row, paired, row
from benchmarks.programs import built
from benchmarks.rpc_process import ASK, KEY, Ask, running
from predastore.rpc import CallContext, Endpoint, Method, Reply, self_signed

ROUNDS: Final = 5
SIZES: Final = (1400, 8900)
STOCK: Final = "stock aioquic in its place"
CEILING_MB: Final = 400
ECHOES: Final = 400

# What is measured at 1,400 bytes only: it does not depend on the size.
SMALL: Final = (
    ("call", "call", "us", 1e6),
    ("calls", "calls_200", "/s", 1.0),
    ("bulk_call", "bulk_call", "ms", 1e3),
)


def rows() -> list[Row]:
    prefix = os.environ.get("BENCH", "")
    found: list[Row] = []
    if "rpc.pipe".startswith(prefix) or prefix.startswith("rpc.pipe"):
        found.append(_pipe_row())
    if "rpc.quic".startswith(prefix) or prefix.startswith("rpc.quic"):
        found += _quic_rows()
    return found


# --- the pipe ------------------------------------------------------------------------------------


async def _echo(ask: Ask, payload: memoryview, context: CallContext) -> Reply:
    return Reply(ask)


def _pipe_row() -> Row:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        endpoint = runner.run(_piped())

        async def calls() -> None:
            for _ in range(ECHOES):
                await endpoint.call("node/0", "echo", ASK, Ask, timeout_ms=60_000)

        async def handled() -> None:
            for _ in range(ECHOES):
                await _echo(ASK, memoryview(b""), CallContext("local", 0.0))

        mine, bare = paired(lambda: runner.run(calls()), lambda: runner.run(handled()))
        runner.run(endpoint.close())
    return row(
        "rpc.pipe.call",
        mine.median_s / ECHOES * 1e6,
        "us",
        spread=mine.spread,
        yardstick="await the handler",
        yardstick_value=bare.median_s / ECHOES * 1e6,
    )


async def _piped() -> Endpoint:
    endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="bench")
    endpoint.serve("node/0", {"echo": Method(Ask, Ask, _echo, 0)})
    return endpoint


# --- QUIC ----------------------------------------------------------------------------------------

Samples = dict[str, list[float]]


def _quic_rows() -> list[Row]:
    samples: Samples = defaultdict(list)
    with contextlib.ExitStack() as stack:
        ceiling = stack.enter_context(built("udp_ceiling", "crypto"))
        echo = stack.enter_context(_udp_echo())
        pairs = {
            (engine, size): stack.enter_context(running(size, environment))
            for engine, environment in (("mine", {}), ("stock", {"PREDASTORE_QUIC": "aioquic"}))
            for size in SIZES
        }
        for _ in range(ROUNDS):
            for size in SIZES:
                samples[f"ceiling {size}"].append(_ceiling(ceiling, size))
                for engine in ("mine", "stock"):
                    for kind in ("transfer", "fetch"):
                        figure = pairs[engine, size].measure(kind)
                        samples[f"{engine} {size} {kind}"].append(figure)
            samples["echo"].append(echo())
            for engine in ("mine", "stock"):
                for kind, *_ in SMALL:
                    figure = pairs[engine, SIZES[0]].measure(kind)
                    samples[f"{engine} {kind}"].append(figure)
    return [*_bulk_rows(samples), *_small_rows(samples)]


def _bulk_rows(samples: Samples) -> list[Row]:
    found = []
    for size in SIZES:
        for kind, suffix in (("transfer", ""), ("fetch", ".fetch")):
            mine = samples[f"mine {size} {kind}"]
            for what, other in (
                ("UDP and AES-128-GCM alone", samples[f"ceiling {size}"]),
                (STOCK, samples[f"stock {size} {kind}"]),
            ):
                found.append(_row(f"rpc.quic_{size}{suffix}", "MB/s", mine, what, other))
    return found


def _small_rows(samples: Samples) -> list[Row]:
    name = f"rpc.quic_{SIZES[0]}"
    found = []
    for kind, suffix, unit, factor in SMALL:
        mine, stock = (
            [factor * sample for sample in samples[f"{engine} {kind}"]]
            for engine in ("mine", "stock")
        )
        if kind == "call":
            echo = [factor * sample for sample in samples["echo"]]
            found.append(_row(f"{name}.{suffix}", unit, mine, "UDP echo", echo))
        found.append(_row(f"{name}.{suffix}", unit, mine, STOCK, stock))
    return found


def _row(name: str, unit: str, mine: list[float], yardstick: str, other: list[float]) -> Row:
    value = statistics.median(mine)
    return row(
        name,
        value,
        unit,
        spread=(max(mine) - min(mine)) / value,
        yardstick=yardstick,
        yardstick_value=statistics.median(other),
    )


def _ceiling(program: str, datagram_bytes: int) -> float:
    """MB/s."""
    done = subprocess.run(
        [program, str(datagram_bytes), str(CEILING_MB)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return float(done.stdout)


@contextlib.contextmanager
def _udp_echo() -> Iterator[Callable[[], float]]:
    """Seconds of a round trip of 100 bytes to another process, through blocking sockets."""
    program = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "while True: s.sendto(*s.recvfrom(200))\n"
    )
    command = [sys.executable, "-c", program]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        assert process.stdout is not None
        udp.connect(("127.0.0.1", int(process.stdout.readline())))
        udp.settimeout(10)

        def measured() -> float:
            began = time.perf_counter()
            for _ in range(ECHOES):
                udp.send(ASK.data)
                udp.recv(200)
            return (time.perf_counter() - began) / ECHOES

        try:
            yield measured
        finally:
            process.kill()

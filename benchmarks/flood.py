"""Forged Initials, so many a second, to one UDP port: `python -m benchmarks.flood HOST PORT RATE`.

Each is one that aioquic made, valid but for its ALPN, which no listener of ours takes: the dearest
that a stranger can send, as its handshake fails once most of the work has been done. They come from
400 addresses of the loopback and their ports, and nobody reads the answers. Says "ready", floods
from the first line of its standard input on, until that is closed.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from dataclasses import replace
from typing import Final

from aioquic.quic.connection import QuicConnection

from predastore.rpc.quic_core import client_configuration

SENDERS: Final = 400
INITIALS: Final = 1200
TICK_S: Final = 0.002


def initials(host: str, port: int, count: int = INITIALS) -> list[bytes]:
    """Of 1,200 bytes each, of as many connections."""
    configuration = replace(client_configuration(), alpn_protocols=["h3"], max_datagram_size=1200)
    made = []
    for _ in range(count):
        connection = QuicConnection(configuration=configuration)
        connection.connect((host, port), now=0.0)
        made.append(connection.datagrams_to_send(0.0)[0][0])
    return made


def _sender() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    last = (random.randrange(1, 250), random.randrange(256), random.randrange(1, 255))
    made.bind((".".join(map(str, (127, *last))), 0))
    return made


def main() -> int:
    host, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    datagrams = initials(host, port)
    senders = [_sender() for _ in range(SENDERS)]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    sent = 0
    while not select.select([sys.stdin], [], [], TICK_S)[0]:
        due = int((time.perf_counter() - began) * rate)
        for number in range(sent, due):
            senders[number % SENDERS].sendto(datagrams[number % INITIALS], (host, port))
        sent = due
    print(sent / (time.perf_counter() - began), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

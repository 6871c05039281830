"""A bad line: carries Ethernet frames between two interfaces, late, and not all of them.

    python -m support.wire IN OUT --loss 0.2 --delay-ms 200

What a kernel's netem does, for kernels that are built without it. IN faces the host with the bad
line: what it sends is delayed; both directions lose frames. The frames' checksum and segment
offload travel along (PACKET_VNET_HDR), so TCP between namespaces goes on working. Prints a line
when it carries.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import selectors
import socket
import sys
import time

_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_SOL_PACKET = 263
_ETH_P_ALL = 3
_FRAME_BYTES = 70_000
_BUFFER_BYTES = 8 << 20


def opened(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    made.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    made.bind((interface, 0))
    made.setblocking(False)
    return made


class Wire:
    def __init__(self, inner: str, outer: str, loss: float, delay_s: float) -> None:
        self._loss = loss
        self._draw = random.Random()
        self._late: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        one, other = opened(inner), opened(outer)
        self._selector.register(one, selectors.EVENT_READ, (other, delay_s))
        self._selector.register(other, selectors.EVENT_READ, (one, 0.0))

    def carry(self) -> None:
        """Until it is killed."""
        while True:
            due = self._late[0][0] - time.monotonic() if self._late else None
            for key, _ in self._selector.select(None if due is None else max(0.0, due)):
                assert isinstance(key.fileobj, socket.socket)
                self._take(key.fileobj, *key.data)
            while self._late and self._late[0][0] <= time.monotonic():
                *_, to, frame = heapq.heappop(self._late)
                self._send(to, frame)

    def _take(self, source: socket.socket, to: socket.socket, delay_s: float) -> None:
        for _ in range(64):
            try:
                frame = source.recv(_FRAME_BYTES)
            except BlockingIOError:
                return
            if self._draw.random() < self._loss:
                continue
            if delay_s:
                entry = (time.monotonic() + delay_s, next(self._numbers), to, frame)
                heapq.heappush(self._late, entry)
            else:
                self._send(to, frame)

    @staticmethod
    def _send(to: socket.socket, frame: bytes) -> None:
        try:
            to.send(frame)
        except OSError:
            return  # a full queue, or an interface that went: a line loses frames


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inner")
    parser.add_argument("outer")
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    given = parser.parse_args()
    wire = Wire(given.inner, given.outer, given.loss, given.delay_ms / 1000)
    sys.stdout.write("carrying\n")
    sys.stdout.flush()
    wire.carry()


if __name__ == "__main__":
    main()

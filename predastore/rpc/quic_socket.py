"""A non-blocking UDP socket on the event loop, read in bounded bursts.

Ours rather than a transport's, for its buffer sizes, and to pass a whole burst on before
anything is answered. What can not be sent at once is dropped: QUIC sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable

from predastore.limits import (
    RPC_BURST_DATAGRAMS_MAX,
    RPC_DATAGRAM_BYTES,
    RPC_DATAGRAM_LOOPBACK_BYTES,
    RPC_SOCKET_BUFFER_BYTES,
)
from predastore.rpc.quic import Address

logger = logging.getLogger(__name__)

_RECEIVE_BYTES = 65_536  # the largest datagram that there is


def datagram_bytes(address: Address) -> int:
    """How large a datagram may be on the way to `address`."""
    loopback = ipaddress.ip_address(address[0].split("%")[0]).is_loopback
    return RPC_DATAGRAM_LOOPBACK_BYTES if loopback else RPC_DATAGRAM_BYTES


async def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """The first address of a host name, or of a literal; OSError if there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, _, _, _, address = found[0]
    return family, address


class DatagramSocket:
    """`received` gets each datagram; `failed` gets errors that tell of the peer, on a socket
    that is connected to one (its port is closed)."""

    def __init__(
        self,
        family: socket.AddressFamily,
        received: Callable[[bytes, Address], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._received = received
        self._failed = failed
        self._peer: Address | None = None
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            # The kernel grants what it may; less is slower, not wrong.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, RPC_SOCKET_BUFFER_BYTES)

    def bind(self, address: Address) -> int:
        """Listens; returns the port."""
        self._socket.bind(address)
        self._loop.add_reader(self._socket, self._readable)
        port: int = self._socket.getsockname()[1]
        return port

    def connect(self, address: Address) -> None:
        self._socket.connect(address)
        self._peer = address
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        for _ in range(RPC_BURST_DATAGRAMS_MAX):
            if self._socket.fileno() < 0:
                return
            try:
                size, address = self._socket.recvfrom_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error)
                return
            if size:
                self._received(bytes(self._view[:size]), self._peer or address)

    def send(self, datagram: bytes, address: Address) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            if self._peer is not None:
                self._socket.send(datagram)
            else:
                self._socket.sendto(datagram, address)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self._peer is not None:
            self._failed(error)
        else:
            # One peer's trouble (no route, say) is not the listener's.
            logger.debug("datagram not sent or received: %s", error)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

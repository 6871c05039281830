"""A non-blocking UDP socket on the event loop, which reads and writes in bounded batches.

Ours rather than a transport's: one system call takes in many datagrams, or sends many, where the
kernel can cut and join them. What can not be sent at once waits here, and whoever wants to send
asks `blocked` first; while it is blocked, what is sent all the same is dropped: QUIC sends it
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from predastore._fast.quic import BATCH_BYTES, Engine
from predastore._fast.udp import Receiver, Sender
from predastore.base.limits import (
    RPC_ADDRESSES_MAX,
    RPC_BATCHES_MAX,
    RPC_DATAGRAM_BYTES,
    RPC_DATAGRAM_LOOPBACK_BYTES,
    RPC_SOCKET_BUFFER_BYTES,
)
from predastore.rpc.framing import Buffer
from predastore.rpc.quic_core import Address
from predastore.rpc.quic_ended import nothing

logger = logging.getLogger(__name__)

_IPV4: Final = struct.Struct("=H2s4s8x")
_IPV6: Final = struct.Struct("=H2sI16sI")
_UDP_GRO: Final = 104  # the socket module has no name for it
_MTU_DISCOVER: Final = {  # datagrams are never cut up on their way: level, option, "probe"
    socket.AF_INET: (socket.IPPROTO_IP, 10, 3),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 3),
}


def datagram_bytes(address: Address) -> int:
    """How large a datagram may be on the way to `address`, to begin with."""
    loopback = ipaddress.ip_address(address[0].split("%")[0]).is_loopback
    return RPC_DATAGRAM_LOOPBACK_BYTES if loopback else RPC_DATAGRAM_BYTES


async def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """The first address of a host name, or of a literal; OSError if there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, _, _, _, address = found[0]
    return family, address


def address_of(name: bytes) -> Address:
    """A struct sockaddr as the socket module gives it."""
    if len(name) == _IPV4.size:
        _, port, host = _IPV4.unpack(name)
        return str(ipaddress.IPv4Address(host)), int.from_bytes(port, "big")
    _, port, flow, host, scope = _IPV6.unpack(name)
    text = str(ipaddress.IPv6Address(host))
    return text, int.from_bytes(port, "big"), socket.ntohl(flow), scope


def name_of(address: Address) -> bytes:
    """The struct sockaddr of an address."""
    packed = ipaddress.ip_address(address[0].split("%")[0]).packed
    port = address[1].to_bytes(2, "big")
    if len(address) == 2:
        return _IPV4.pack(socket.AF_INET, port, packed)
    return _IPV6.pack(socket.AF_INET6, port, socket.htonl(address[2]), packed, address[3])


class DatagramSocket:
    """`received` gets what came: one datagram, or several of the given size, the last maybe
    shorter; the buffer is its own until it returns. `failed` gets errors that tell of the peer,
    on a socket that is connected to one (its port is closed)."""

    def __init__(
        self,
        family: socket.AddressFamily,
        received: Callable[[memoryview, int, Address], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self.out = bytearray(BATCH_BYTES)
        self._received = received
        self._failed = failed
        self._peer: Address | None = None
        self._receiver = Receiver()
        self._sender = Sender()
        self._addresses: dict[bytes, Address] = {}
        self._names: dict[Address, bytes] = {}
        self._waiting: tuple[bytes, int, Address] | None = None
        self._resume: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._fd = self._socket.fileno()
        self._socket.setblocking(False)
        for level, option, value in (
            # The kernel grants what it may; less is slower, not wrong.
            (socket.SOL_SOCKET, socket.SO_RCVBUF, RPC_SOCKET_BUFFER_BYTES),
            (socket.SOL_SOCKET, socket.SO_SNDBUF, RPC_SOCKET_BUFFER_BYTES),
            (socket.IPPROTO_UDP, _UDP_GRO, 1),
            _MTU_DISCOVER[family],
        ):
            with contextlib.suppress(OSError):
                self._socket.setsockopt(level, option, value)

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
        if self._fd < 0:
            return
        try:
            messages = self._receiver.receive(self._fd)
        except OSError as error:
            self._fail(error)
            return
        for data, segment_bytes, name in messages:
            if len(data):
                address = self._peer or self._addresses.get(name) or self._learn(name)
                self._received(data, segment_bytes, address)

    def _learn(self, name: bytes) -> Address:
        if len(self._addresses) >= RPC_ADDRESSES_MAX:
            self._addresses.clear()
        self._addresses[name] = address = address_of(name)
        return address

    def send(self, data: Buffer, size_bytes: int, segment_bytes: int, address: Address) -> None:
        """The first `size_bytes` of `data`, as datagrams of `segment_bytes` (0: just one)."""
        if self._fd < 0 or self._waiting is not None:
            return
        name = None if self._peer is not None else self._names.get(address) or self._name(address)
        sent, error = self._sender.send(self._fd, data, size_bytes, segment_bytes, name)
        if error:
            rest = bytes(memoryview(data)[sent:size_bytes])
            self._not_sent(error, rest, segment_bytes, address)

    def carry(self, engine: Engine, now: float, address: Address) -> bool:
        """Sends what the engine has, up to a bound; True: there is more, or may be."""
        if self._fd < 0 or self._waiting is not None:
            return self._fd >= 0
        name = None if self._peer is not None else self._names.get(address) or self._name(address)
        done = engine.transmit(self._fd, self.out, now, name, RPC_BATCHES_MAX)
        if isinstance(done, bool):
            return done
        self._not_sent(*done, address)
        return True

    def _not_sent(self, error: int, rest: bytes, segment_bytes: int, address: Address) -> None:
        if error == errno.EAGAIN:
            self._waiting = (rest, segment_bytes, address)
            self._loop.add_writer(self._socket, self._writable)
        elif error != errno.EMSGSIZE:  # too large for the way: a probe was to find out
            self._fail(OSError(error, os.strerror(error)))

    def _name(self, address: Address) -> bytes:
        if len(self._names) >= RPC_ADDRESSES_MAX:
            self._names.clear()
        self._names[address] = name = name_of(address)
        return name

    def blocked(self, resume: Callable[[], None]) -> bool:
        """Nothing can be sent now; then `resume` is called when something can."""
        if self._waiting is None:
            return False
        self._resume.append(resume)
        return True

    def _writable(self) -> None:
        waiting, self._waiting = self._waiting, None
        self._loop.remove_writer(self._socket)
        if waiting is not None:
            data, segment_bytes, address = waiting
            self.send(data, len(data), segment_bytes, address)
        if self._waiting is None:
            resume, self._resume = self._resume, []
            for call in resume:
                call()

    def _fail(self, error: OSError) -> None:
        if self._peer is not None:
            self._failed(error)
        else:
            # One peer's trouble (no route, say) is not the listener's.
            logger.debug("datagram not sent or received: %s", error)

    def close(self) -> None:
        if self._fd >= 0:
            self._fd = -1
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._received = self._failed = nothing  # whoever had this knows it
            self._resume.clear()

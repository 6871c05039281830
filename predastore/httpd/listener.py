"""Sockets that listen, and the connections that come in by them.

Ours rather than the event loop's server, which ends without a word when a descriptor lacks. Here
accepting pauses, and goes on when there are some again: those who come meanwhile wait in the
kernel's queue. What is accepted is handed on at once, so that it is counted before anything, TLS
for one, is done for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable

from predastore.base.errors import is_exhausted, reason
from predastore.base.limits import HTTP_ACCEPT_PAUSE_S, HTTP_ACCEPTS_AT_ONCE

logger = logging.getLogger("predastore.httpd")

_BACKLOG = 1024


async def bound(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of `host`, that listens; OSError where one can not be had."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                one = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                continue  # IPv6, on a host without it
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            where = (address[0], port, *address[2:])
            one.bind(where)
            one.listen(_BACKLOG)
            port = one.getsockname()[1]  # the one that was chosen, where that was 0
    except BaseException:
        for one in made:
            one.close()
        raise
    if not made:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return made


class Listener:
    """Hands over what comes in by `sockets`, which it owns from now on, until it is closed."""

    def __init__(
        self, sockets: list[socket.socket], accepted: Callable[[socket.socket], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._accepted = accepted
        self._pause: asyncio.TimerHandle | None = None
        self._is_short = False  # of descriptors, since it was last said
        for one in sockets:
            one.setblocking(False)
        self._go_on()

    @property
    def port(self) -> int:
        port: int = self._sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Takes no more; those in the kernel's queue are refused."""
        if self._pause is not None:
            self._pause.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets = []

    def _go_on(self) -> None:
        self._pause = None
        for one in self._sockets:
            self._loop.add_reader(one, self._readable, one)

    def _readable(self, listening: socket.socket) -> None:
        for _ in range(HTTP_ACCEPTS_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._rest(error)
                return
            self._is_short = False
            accepted.setblocking(False)
            self._accepted(accepted)

    def _rest(self, error: OSError) -> None:
        """Asking again at once would take all of the loop's time."""
        if not self._is_short or not is_exhausted(error):
            logger.warning("connections wait, as none can be accepted now: %s", reason(error))
        self._is_short = is_exhausted(error)
        for one in self._sockets:
            with contextlib.suppress(OSError):
                self._loop.remove_reader(one)
        self._pause = self._loop.call_later(HTTP_ACCEPT_PAUSE_S, self._go_on)

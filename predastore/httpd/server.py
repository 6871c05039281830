"""The HTTP/1.1 server: listens, bounds its connections, watches their times, drains.

server = Server(handler, host="127.0.0.1", port=0)
await server.start()          # server.port is now known
...
await server.drain(10.0)      # no new connections, open requests finish, then close
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from functools import partial

from predastore.base.errors import HttpError, StartupError
from predastore.base.limits import KIB
from predastore.httpd.bounds import Bounds
from predastore.httpd.connection import Connection
from predastore.httpd.listener import Listener, bound
from predastore.httpd.message import Done, ErrorHook, Handler, Request, Response

logger = logging.getLogger("predastore.httpd")

_READ_BYTES = 256 * KIB
_ANSWERED_SHARE = 10  # one in so many connections over the bound still gets its 503


def plain_error(request: Request | None, error: HttpError) -> Response:
    """The error hook where none is given: the message as text."""
    text = f"{error}\n".encode()
    return Response(error.status, [("Content-Type", "text/plain; charset=utf-8")], text)


class Server:
    """Serves `handler` on one address, with TLS where `ssl_context` is given; `listener`: a
    socket that listens there already.

    `on_error` shapes the answer to what is not a request (request None), to an HttpError or a
    BodyMismatch (400) of the handler, and to its failures (500); its body is bytes. `on_done` is
    told of the end of each request; it can not fail.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None = None,
        listener: socket.socket | None = None,
        on_error: ErrorHook = plain_error,
        on_done: Done | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.scratch = memoryview(bytearray(_READ_BYTES))
        self.loop: asyncio.AbstractEventLoop
        self._handler = handler
        self._ssl_context = ssl_context
        self._inherited = listener
        self._on_error = on_error
        self._on_done = on_done
        self._bounds = bounds or Bounds()
        self._connections: set[Connection] = set()  # from accept on
        self._opening: dict[Connection, asyncio.Task[None]] = {}
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Begins to listen; StartupError where the address can not be had."""
        self.loop = asyncio.get_running_loop()
        try:
            given = self._inherited
            sockets = await bound(self.host, self.port) if given is None else [given]
        except OSError as error:
            raise StartupError.because(
                error,
                f"can not listen on {self.host}:{self.port}: {error.strerror or error}; "
                "stop what uses it, or choose another address",
            ) from error
        self._listener = Listener(sockets, self._accepted)
        self.port = self._listener.port
        self._timer = self.loop.call_later(self._bounds.tick_s, self._tick)

    async def drain(self, timeout_s: float) -> None:
        """Stops accepting, lets open requests finish for `timeout_s`, then cuts the rest."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for connection in list(self._connections):
            connection.drain()
        if self._ssl_context is not None:  # none of these has asked for anything yet
            for opening in list(self._opening.values()):
                opening.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied(), timeout_s)
        for connection in list(self._connections):
            connection.abort()
        await self._emptied()
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """Stops at once; open requests are cancelled."""
        await self.drain(0.0)

    async def _emptied(self) -> None:
        while self._connections:
            self._empty = self.loop.create_future()
            await self._empty

    def _accepted(self, accepted: socket.socket) -> None:
        """Far beyond the bound connections are cut without an answer."""
        count, count_max = len(self._connections), self._bounds.connections_max
        if count > count_max + count_max // _ANSWERED_SHARE:
            accepted.close()
            return
        connection = Connection(
            self,
            self._handler,
            self._on_error,
            self._bounds,
            self._on_done,
            welcome=count < count_max,
        )
        self._connections.add(connection)
        opening = self.loop.create_task(self._open(connection, accepted))
        self._opening[connection] = opening
        # Not in the task, which never begins where it is cancelled soon enough.
        opening.add_done_callback(partial(self._opened, connection, accepted))

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        handshake_s = self._bounds.handshake_timeout_s if self._ssl_context else None
        await self.loop.connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=self._ssl_context,
            ssl_handshake_timeout=handshake_s,
        )

    def _opened(
        self, connection: Connection, accepted: socket.socket, opening: asyncio.Task[None]
    ) -> None:
        del self._opening[connection]
        if not opening.cancelled() and (error := opening.exception()) is not None:
            logger.debug("a connection was not opened: %s", error)  # its client broke TLS, say
        if connection.is_opening:
            accepted.close()
            self.forget(connection)

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self._bounds.tick_s, self._tick)
        now_s = self.loop.time()
        for connection in list(self._connections):
            connection.tick(now_s)

    # --- what connections call

    def forget(self, connection: Connection) -> None:
        """See connection.Owner."""
        self._connections.discard(connection)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

"""Calls as a listener's connection serves them: each a stream, each handler a task.

A request is refused as soon as its header shows that it must be (no such method, more payload
than the method takes). One that comes too slowly is cut, as is a handler past the caller's
deadline; a caller that gives up cancels its handler. Responses of a connection are admitted up
to half of the caller's window, so that those under way can always be completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from predastore.errors import (
    DeadlineExceeded,
    Overloaded,
    PeerRefused,
    PredastoreError,
    RpcError,
)
from predastore.limits import (
    RPC_REQUEST_TIMEOUT_MS,
    RPC_STREAMS_MAX,
    RPC_TIMEOUT_MS_MAX,
)
from predastore.rpc import service
from predastore.rpc.admission import Admission
from predastore.rpc.deadlines import Deadlines
from predastore.rpc.framing import (
    Buffer,
    FrameError,
    FrameParser,
    RequestHeader,
    decode_struct,
    encode_error,
    encode_prefix,
    encode_response,
    encode_struct,
    payload_length,
)
from predastore.rpc.quic import BUSY, CANCELLED, REFUSED, Connection
from predastore.rpc.service import CallContext, Method

_CLOSE_TIMEOUT_S = 5.0  # for handlers that were cancelled


class CallServer:
    """`peer` is set once the caller is proven."""

    def __init__(
        self, connection: Connection, methods: Mapping[str, Method], deadlines: Deadlines
    ) -> None:
        self.connection = connection
        self.deadlines = deadlines
        self.methods = methods
        self.peer = ""
        self.tasks: set[asyncio.Task[None]] = set()
        self.responses = Admission("response", calls_max=RPC_STREAMS_MAX)

    def opened(self, stream_id: int) -> _ServedCall:
        return _ServedCall(self, stream_id)

    async def finished(self) -> None:
        """Waits for the handlers, which somebody has cancelled."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=_CLOSE_TIMEOUT_S)


class _ServedCall:
    """One stream: a request comes in, a handler runs, a response goes out."""

    __slots__ = (
        "_loop",
        "_method",
        "_parser",
        "_request",
        "_server",
        "_stream_id",
        "_task",
        "_timer",
    )

    def __init__(self, server: CallServer, stream_id: int) -> None:
        self._server = server
        self._stream_id = stream_id
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser()
        self._request: RequestHeader | None = None
        self._method: Method | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The stream's callbacks

    def data_received(self, data: bytes, end: bool) -> None:
        try:
            has_header = self._parser.feed(data)
            if self._parser.rest or (end and not self._parser.complete):
                raise FrameError("a request that is not one message")
            if has_header and self._request is None:
                self._request = decode_struct(RequestHeader, self._parser.header or b"")
                self._choose_method(self._request.method)
        except FrameError as error:
            self._server.connection.close(REFUSED, str(error))
            return
        except PredastoreError as error:
            self._refuse(error)
            return
        if self._parser.complete and self._task is None:
            self._start()
        elif self._timer is None:
            timeout_s = RPC_REQUEST_TIMEOUT_MS / 1000
            self._timer = self._loop.call_later(timeout_s, self._cut, CANCELLED)

    def reset_received(self, error_code: int) -> None:
        self._cut(CANCELLED)

    def stop_received(self) -> None:
        self._cut(CANCELLED)

    def connection_lost(self, error: RpcError) -> None:
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()

    # From request to response

    def _choose_method(self, name: str) -> None:
        method = self._server.methods.get(name)
        if method is None:
            raise PeerRefused(f"no method {name!r} is served here")
        size_bytes, size_bytes_max = self._parser.payload_bytes, method.payload_bytes_max
        if size_bytes > size_bytes_max:
            raise PeerRefused(f"{name}: a payload of {size_bytes} bytes is over {size_bytes_max}")
        if len(self._server.tasks) >= RPC_STREAMS_MAX:
            raise Overloaded(f"{name}: {RPC_STREAMS_MAX} calls run already")
        self._method = method

    def _refuse(self, error: PredastoreError) -> None:
        """Answers before, or instead of, reading the payload."""
        connection = self._server.connection
        connection.plane.stop(self._stream_id, REFUSED)
        connection.send_now(self._stream_id, encode_prefix(encode_error(error), 0), end=True)
        self._end()

    def _start(self) -> None:
        assert self._request is not None
        assert self._method is not None
        self._stop_timer()
        timeout_ms = max(0, min(self._request.timeout_ms, RPC_TIMEOUT_MS_MAX))
        deadline = self._loop.time() + timeout_ms / 1000
        self._task = self._loop.create_task(self._run(self._request, self._method, deadline))
        self._server.tasks.add(self._task)
        self._task.add_done_callback(self._server.tasks.discard)

    async def _run(self, request: RequestHeader, method: Method, deadline: float) -> None:
        connection = self._server.connection
        try:
            with self._server.deadlines.limit(deadline, request.method):
                prefix, reply = await self._handle(request, method, deadline)
                # The handler was the last to see the request's payload.
                self._parser = FrameParser()
                connection.give_back(self._stream_id)
                await self._respond(prefix, reply, deadline)
        except Overloaded:
            connection.abandon(self._stream_id, BUSY)
        except DeadlineExceeded:
            connection.abandon(self._stream_id, CANCELLED)
        finally:
            self._end()

    async def _respond(self, prefix: bytes, reply: Sequence[Buffer], deadline: float) -> None:
        responses = self._server.responses
        size_bytes = len(prefix) + payload_length(reply)
        if not responses.try_enter(size_bytes):
            await responses.enter(size_bytes, deadline)
        try:
            await self._server.connection.send(self._stream_id, prefix, reply)
        finally:
            responses.leave(size_bytes)

    async def _handle(
        self, request: RequestHeader, method: Method, deadline: float
    ) -> tuple[bytes, Sequence[Buffer]]:
        """The response's first part, and its payload."""
        try:
            reply = await service.run(
                request.method,
                method,
                decode_struct(method.request, request.body),
                self._parser.message().payload,
                CallContext(self._server.peer, deadline, request.trace),
            )
            header = encode_response(encode_struct(reply.header))
            return encode_prefix(header, payload_length(reply.payload)), reply.payload
        except PredastoreError as error:
            return encode_prefix(encode_error(error), 0), ()

    def _cut(self, error_code: int) -> None:
        """The call ends without an answer."""
        if self._task is not None:
            self._task.cancel()
        self._server.connection.abandon(self._stream_id, error_code)
        self._end()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self._stop_timer()
        self._server.connection.release(self._stream_id)

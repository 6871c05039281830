"""Calls as a listener's connection serves them: each a stream, each handler a task, but for those
that are answered at once, or by somebody else (service.py).

A request is refused as soon as its header shows that it must be (no such method, more payload
than the method takes). One that comes too slowly is cut, as is a handler past the caller's
deadline; a caller that gives up cancels its handler. Responses of a connection are admitted up
to half of the caller's window, so that those under way can always be completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial

from predastore.base.errors import Overloaded, PeerRefused, PredastoreError, RpcError
from predastore.base.limits import (
    RPC_REQUEST_TIMEOUT_MS,
    RPC_SEND_SLICE_BYTES,
    RPC_STREAMS_MAX,
    RPC_TIMEOUT_MS_MAX,
)
from predastore.rpc import service
from predastore.rpc.admission import Admission
from predastore.rpc.deadlines import Deadlines, Expiring
from predastore.rpc.framing import (
    Buffer,
    FrameError,
    FrameParser,
    Message,
    RequestHeader,
    decode_struct,
    encode_error,
    encode_prefix,
    encode_response,
    encode_struct,
    payload_length,
    whole_message,
)
from predastore.rpc.quic import CANCELLED, REFUSED, RpcConnection
from predastore.rpc.service import CallContext, Later, Method, Reply

_CLOSE_TIMEOUT_S = 5.0  # for handlers that were cancelled


class CallServer:
    """`peer` is set once the caller is proven."""

    def __init__(
        self, connection: RpcConnection, methods: Mapping[str, Method], deadlines: Deadlines
    ) -> None:
        self.connection = connection
        self.deadlines = deadlines
        self.methods = methods
        self.loop = asyncio.get_running_loop()
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
        "_began",
        "_due",
        "_is_over",
        "_is_started",
        "_later",
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
        self._loop = server.loop
        self._parser: FrameParser | None = None  # of a request that comes in pieces
        self._request: RequestHeader | None = None
        self._method: Method | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_started = False
        self._began = False  # the task
        self._is_over = False
        self._later: Later | None = None
        self._due: set[Expiring] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The stream's callbacks

    def data_received(self, data: bytes, end: bool) -> None:
        if self._is_started:
            if data:
                self._server.connection.close(REFUSED, "a request that is not one message")
            return
        try:
            message = whole_message(data) if end and self._parser is None else None
            if message is not None:
                self._read_header(message.header, len(message.payload))
            else:
                message = self._parsed(data, end)
        except FrameError as error:
            self._server.connection.close(REFUSED, str(error))
            return
        except PredastoreError as error:
            self._refuse(error)
            return
        if message is None:
            if self._timer is None:
                timeout_s = RPC_REQUEST_TIMEOUT_MS / 1000
                self._timer = self._loop.call_later(timeout_s, self._cut, CANCELLED)
        else:
            self._start(message.payload)

    def _parsed(self, data: bytes, end: bool) -> Message | None:
        """The request, once it is whole."""
        parser = self._parser
        if parser is None:
            parser = self._parser = FrameParser()
        has_header = parser.feed(data)
        if parser.rest or (end and not parser.complete):
            raise FrameError("a request that is not one message")
        if has_header and self._request is None:
            self._read_header(parser.header or b"", parser.payload_bytes)
        if parser.complete:
            return parser.message()
        parser.gather(partial(self._server.connection.gather, self._stream_id))
        return None

    def reset_received(self, error_code: int) -> None:
        self._cut(CANCELLED)

    def stop_received(self) -> None:
        self._cut(CANCELLED)

    def connection_lost(self, error: RpcError) -> None:
        self._leave()
        self._cancel()

    # From request to response

    def _read_header(self, header: bytes, payload_bytes: int) -> None:
        request = decode_struct(RequestHeader, header)
        name = request.method
        method = self._server.methods.get(name)
        if method is None:
            raise PeerRefused(f"no method {name!r} is served here")
        if payload_bytes > method.payload_bytes_max:
            raise PeerRefused(
                f"{name}: a payload of {payload_bytes} bytes is over {method.payload_bytes_max}"
            )
        if len(self._server.tasks) >= RPC_STREAMS_MAX:
            raise Overloaded(f"{name}: {RPC_STREAMS_MAX} calls run already")
        self._request, self._method = request, method

    def _refuse(self, error: PredastoreError) -> None:
        """Answers before, or instead of, reading the payload."""
        connection = self._server.connection
        connection.plane.stop(self._stream_id, REFUSED)
        connection.send_now(self._stream_id, encode_prefix(encode_error(error), 0), end=True)
        self._end()

    def _start(self, payload: memoryview) -> None:
        assert self._request is not None
        assert self._method is not None
        self._stop_timer()
        self._parser = None
        self._is_started = True
        request, method = self._request, self._method
        timeout_ms = max(0, min(request.timeout_ms, RPC_TIMEOUT_MS_MAX))
        context = CallContext(
            self._server.peer, self._loop.time() + timeout_ms / 1000, request.trace
        )
        if method.at_once is None or not self._run_at_once(request, method, payload, context):
            self._begin(self._run(request, method, payload, context), context.deadline)

    def _run_at_once(
        self, request: RequestHeader, method: Method, payload: memoryview, context: CallContext
    ) -> bool:
        """Answers, or has somebody do so, without a task; False: it takes one."""
        try:
            asked = decode_struct(method.request, request.body)
            reply = service.run_at_once(request.method, method, asked, payload, context)
        except PredastoreError as error:
            self._answer(encode_prefix(encode_error(error), 0), (), context.deadline)
            return True
        if reply is None:
            return False
        if isinstance(reply, Reply):
            self._answer(*_encoded(reply), context.deadline)
            return True
        self._expire_at(context.deadline)
        self._later = reply
        self._server.connection.give_back(self._stream_id)
        reply.when_given(partial(self._given, context.deadline))
        return True

    def _given(self, deadline: float, reply: Reply) -> None:
        if not self._is_over:
            self._answer(*_encoded(reply), deadline)

    def _answer(self, prefix: bytes, reply: Sequence[Buffer], deadline: float) -> None:
        """Responds from outside a task; one is made where it has to wait."""
        server = self._server
        size_bytes = len(prefix) + payload_length(reply)
        if size_bytes > RPC_SEND_SLICE_BYTES or not server.responses.try_enter(size_bytes):
            self._begin(self._run_answer(prefix, reply, deadline), deadline)
            return
        server.connection.give_back(self._stream_id)
        server.connection.send_now(self._stream_id, _whole(prefix, reply), end=True)
        server.responses.leave(size_bytes)
        self._end()

    def _begin(self, work: Coroutine[None, None, None], deadline: float) -> None:
        self._expire_at(deadline)
        self._task = self._loop.create_task(work)
        self._server.tasks.add(self._task)

    def _expire_at(self, deadline: float) -> None:
        if self._due is None:
            self._due = self._server.deadlines.due(deadline)
            self._due.add(self)

    async def _run(
        self, request: RequestHeader, method: Method, payload: memoryview, context: CallContext
    ) -> None:
        self._began = True
        try:
            try:
                asked = decode_struct(method.request, request.body)
                answer = await service.run(request.method, method, asked, payload, context)
                prefix, reply = _encoded(answer)
            except PredastoreError as error:
                prefix, reply = encode_prefix(encode_error(error), 0), ()
            del payload  # the handler was the last to see it
            self._server.connection.give_back(self._stream_id)
            await self._respond(prefix, reply, context.deadline)
        finally:
            self._finished()

    async def _run_answer(self, prefix: bytes, reply: Sequence[Buffer], deadline: float) -> None:
        self._began = True
        try:
            self._server.connection.give_back(self._stream_id)
            await self._respond(prefix, reply, deadline)
        finally:
            self._finished()

    def _finished(self) -> None:
        """The task is at its end."""
        self._end()
        self._forget_task()

    def _forget_task(self) -> None:
        """It keeps its error, and that, by its traceback, this call."""
        if self._task is not None:
            self._server.tasks.discard(self._task)
            self._task = None

    async def _respond(self, prefix: bytes, reply: Sequence[Buffer], deadline: float) -> None:
        responses, connection = self._server.responses, self._server.connection
        size_bytes = len(prefix) + payload_length(reply)
        if not responses.try_enter(size_bytes):
            try:
                await responses.enter(size_bytes, deadline)
            except Overloaded:  # which would tell the caller that nothing was done
                connection.abandon(self._stream_id, CANCELLED)
                return
        try:
            if size_bytes <= RPC_SEND_SLICE_BYTES:
                connection.send_now(self._stream_id, _whole(prefix, reply), end=True)
            else:
                await connection.send(self._stream_id, prefix, reply)
        finally:
            responses.leave(size_bytes)

    # The end

    def expire(self) -> None:
        """The caller's deadline has passed."""
        self._cut(CANCELLED)

    def _cut(self, error_code: int) -> None:
        """The call ends without an answer."""
        self._cancel()
        self._server.connection.abandon(self._stream_id, error_code)
        self._end()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            if not self._began:  # nor will it ever
                self._forget_task()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _leave(self) -> None:
        self._is_over = True
        self._stop_timer()
        if self._later is not None:
            self._later.is_dropped = True
        if self._due is not None:
            self._due.discard(self)

    def _end(self) -> None:
        self._leave()
        self._server.connection.release(self._stream_id)


def _encoded(reply: Reply) -> tuple[bytes, Sequence[Buffer]]:
    """A response up to its payload, and that; an error's, if it is too large for a message."""
    try:
        header = encode_response(encode_struct(reply.header))
        return encode_prefix(header, payload_length(reply.payload)), reply.payload
    except FrameError as error:
        return encode_prefix(encode_error(error), 0), ()


def _whole(prefix: bytes, reply: Sequence[Buffer]) -> bytes:
    return b"".join((prefix, *reply)) if reply else prefix

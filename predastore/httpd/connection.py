"""One connection: requests in order, one at a time, and what happens when a client misbehaves.

A connection goes on after a response when HTTP allows it and the rest of the request's body is
small enough to be dropped. It ends after the response to any malformed request.

A body that the handler waits for must make progress, a client that takes a response must too
(`Bounds.progress_*`); `tick`, called by the server, looks after these and the other times. The
handler is cancelled when the connection is lost. A client that shuts down its sending half in
the middle of a body is answered with an error; after a whole request, with the response, if that
begins within `Bounds.linger_s`: a client that has gone altogether looks the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from random import getrandbits
from time import perf_counter
from typing import Protocol, cast

from predastore.base.errors import BodyMismatch, HttpError, is_exhausted
from predastore.httpd.bounds import Bounds
from predastore.httpd.head import ABSENT, CHUNKED, Head, HeadParser
from predastore.httpd.inbound import Inbound
from predastore.httpd.message import Done, ErrorHook, Handler, Request, Response
from predastore.httpd.outbound import Outbound
from predastore.httpd.progress import Progress
from predastore.httpd.render import CONTINUE
from predastore.httpd.states import State
from predastore.httpd.wirebody import ChunkedBody, LengthBody, WireBody

logger = logging.getLogger("predastore.httpd")

_READS = frozenset(("GET", "HEAD"))  # others are answered at once: commits are the larger for it
GONE = 499  # the status of a request whose client went away before there was one


class ConnectionOwner(Protocol):
    """What a connection needs of its server. `scratch`: shared room for one read."""

    loop: asyncio.AbstractEventLoop
    scratch: memoryview

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """The server's end of one connection. The server calls `tick`, `drain` and `abort`.

    `welcome`: False where there are too many; it is told so and closed."""

    _transport: asyncio.Transport
    _inbound: Inbound
    _outbound: Outbound
    _current: tuple[Head, Request, WireBody] | None = None  # until the task has it

    def __init__(
        self,
        owner: ConnectionOwner,
        handler: Handler,
        on_error: ErrorHook,
        bounds: Bounds,
        on_done: Done | None = None,
        *,
        welcome: bool = True,
    ) -> None:
        self._owner = owner
        self._welcome = welcome
        self._handler = handler
        self._on_error = on_error
        self._on_done = on_done
        self._accounted = (0, 0)  # bytes received and written that `on_done` was told of
        self._bounds = bounds
        self._loop = owner.loop
        self._parser = HeadParser(bounds)
        self._state = State.OPENING
        self._since_s = self._loop.time()  # since when the state holds, or a head is being sent
        self._head_begun = False
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None  # the task waits for a request
        self._draining = False  # no request after this one
        self._half_closed_s: float | None = None  # when the client ended its sending half
        self._answering = False
        self._status = GONE  # of the response, once there is one
        self._awaits_continue = False
        self._dropped_bytes = 0
        self._remote = ""
        self._secure = False
        self._receiving = Progress(bounds)
        self._sending = Progress(bounds)

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        bounds = self._bounds
        self._transport = transport = cast(asyncio.Transport, transport)
        self._inbound = Inbound(transport, self._owner.scratch, bounds.body_buffer_bytes_max)
        self._outbound = Outbound(transport, bounds.write_buffer_bytes_max)
        peer = transport.get_extra_info("peername")
        self._remote = peer[0] if isinstance(peer, tuple) else ""
        self._secure = transport.get_extra_info("sslcontext") is not None
        self._state = State.IDLE
        self._since_s = self._loop.time()
        if self._draining:
            self._close()
        elif not self._welcome:
            self._refuse(HttpError(503, "too many connections"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbound.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._state is State.LINGER:
            self._dropped_bytes += nbytes
            if self._dropped_bytes > self._bounds.linger_bytes_max:
                self._transport.abort()
            return
        self._inbound.updated(nbytes)
        if self._state is State.IDLE:
            self._next_request()

    def eof_received(self) -> bool:
        """True keeps a plain connection open for what is still to be sent."""
        self._half_closed_s = self._loop.time()
        if self._state is not State.SERVING:
            self._outbound.flush()
            return False
        self._inbound.end(BodyMismatch("the connection ended before the body", "length"))
        return not self._secure

    def pause_writing(self) -> None:
        self._sending.restart(self._outbound.sent)
        self._outbound.pause()

    def resume_writing(self) -> None:
        self._outbound.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = State.CLOSED
        self._inbound.lost()
        self._outbound.lost()
        del self._transport
        if self._task is not None:
            self._task.cancel()
        self._owner.forget(self)

    # --- what the server calls

    def tick(self, now_s: float) -> None:
        """Ends what takes too long."""
        bounds, state = self._bounds, self._state
        waited_s = now_s - self._since_s
        if state is State.IDLE:
            if self._head_begun and waited_s > bounds.head_timeout_s:
                self._refuse(HttpError(408, "the request's head took too long"))
            elif waited_s > bounds.idle_timeout_s:
                self._close()
        elif state is State.SERVING:
            inbound = self._inbound
            if self._receiving.stalled(inbound.waiting, inbound.received, now_s):
                inbound.fail(HttpError(408, "the request's body came too slowly"))
            ended_s = self._half_closed_s
            if ended_s is not None and not self._answering and now_s - ended_s > bounds.linger_s:
                self.abort()
            self._tick_sending(now_s)
        elif state is State.LINGER:
            if self._transport.get_write_buffer_size():
                self._since_s = now_s
                self._tick_sending(now_s)
            elif waited_s > bounds.linger_s:
                self.abort()

    def _tick_sending(self, now_s: float) -> None:
        waiting = self._outbound.paused or self._state is State.LINGER
        if self._sending.stalled(waiting, self._outbound.sent, now_s):
            self.abort()

    def drain(self) -> None:
        """No more requests: closes now when idle, else after the response."""
        self._draining = True
        if self._state is State.IDLE and not self._head_begun:
            self._close()

    @property
    def is_opening(self) -> bool:
        return self._state is State.OPENING

    def abort(self) -> None:
        """Cuts it; one that is opening ends when it has opened, if it was drained."""
        if self._state not in (State.OPENING, State.CLOSED):
            self._transport.abort()

    # --- requests

    def _next_request(self) -> None:
        """Starts on the request whose head is here, if all of it is."""
        try:
            data = self._inbound.take_head(self._bounds.head_bytes_max)
            if data is None:
                if self._inbound.size and not self._head_begun:
                    self._head_begun = True
                    self._since_s = self._loop.time()
                return
            head = self._parser.parse(data)
        except HttpError as error:
            self._refuse(error)
            return
        self._state = State.SERVING
        self._head_begun = False
        body = self._body(head)
        request = Request(
            head.method,
            head.raw_path,
            head.raw_query,
            head.headers,
            body,
            head.body_length != ABSENT,
            self._remote,
            self._secure,
            f"{getrandbits(64):016X}",
        )
        self._current = (head, request, body)
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None
        elif self._task is None:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._task_ended)

    def _body(self, head: Head) -> WireBody:
        self._awaits_continue = head.expects_continue
        self._receiving.restart(self._inbound.received)
        begin = self._send_continue if head.expects_continue else None
        if head.body_length == CHUNKED:
            return ChunkedBody(self._inbound, begin)
        if head.body_length > 0:
            return LengthBody(self._inbound, head.body_length, begin)
        return WireBody()

    def _send_continue(self) -> None:
        self._awaits_continue = False
        if self._inbound.size == 0:  # else the client did not wait
            self._outbound.write(CONTINUE)

    async def _run(self) -> None:
        """The connection's task: one request after the other."""
        while True:
            assert self._current is not None
            head, request, body = self._current
            self._current = None
            if self._on_done is None:
                close = await self._serve(head, request, body)
            else:
                close = await self._serve_and_tell(head, request, body, self._on_done)
            if close is None:
                return
            self._finish(close, body)
            if self._state is State.IDLE:
                del head, request, body  # an idle connection holds nothing of its last request
                self._wake = self._loop.create_future()
                await self._wake
            elif self._state is not State.SERVING:
                return

    def _task_ended(self, _: asyncio.Task[None]) -> None:
        self._task = None  # it keeps its cancellation, and so this frame's, which has this

    async def _serve_and_tell(
        self, head: Head, request: Request, body: WireBody, on_done: Done
    ) -> bool | None:
        begun_s, self._status = perf_counter(), GONE
        try:
            return await self._serve(head, request, body)
        finally:
            received, written = self._inbound.received, self._outbound.written
            before_received, before_written = self._accounted
            self._accounted = (received, written)
            on_done(
                request,
                self._status,
                received - before_received,
                written - before_written,
                perf_counter() - begun_s,  # the loop's clock has whole milliseconds
            )

    async def _serve(self, head: Head, request: Request, body: WireBody) -> bool | None:
        """One request, from its head to the last byte of its response.

        True: the connection must end; None: it was cut.
        """
        whole = False
        try:
            response, close = await self._respond(request)
            close = close or not head.keep_alive or self._must_close(body)
            end = "Connection: close\r\n" if close else ""
            if head.http_1_0:
                endless = response.length is None and isinstance(response.body, AsyncIterator)
                close = close or endless
                end = "" if close else "Connection: keep-alive\r\n"
            self._answering = True
            self._status = response.status
            await self._outbound.send(
                response, head_only=head.method == "HEAD", http_1_0=head.http_1_0, end=end
            )
            if head.method not in _READS:
                self._outbound.flush()
            if not close and body.unread:
                await self._drop_body(body)
            whole = True
            return close
        except (HttpError, BodyMismatch) as error:  # the client went away, now or in its body
            logger.info("connection cut: %s", error, extra={"request_id": request.id})
        except Exception:
            logger.exception("response cut off", extra={"request_id": request.id})
        finally:
            self._answering = False
            if not whole:
                self.abort()
        return None

    async def _respond(self, request: Request) -> tuple[Response, bool]:
        """(the handler's response, or the one to its error; whether the connection must end)."""
        try:
            return await self._handler(request), False
        except HttpError as error:
            return self._on_error(request, error), error.close
        except BodyMismatch as error:
            return self._on_error(request, HttpError(400, str(error))), True
        except Exception as error:
            if is_exhausted(error):
                short = HttpError(503, "no descriptor or memory is left just now", close=False)
                return self._on_error(request, short), False
            logger.exception("request failed", extra={"request_id": request.id})
            return self._on_error(request, HttpError(500, "internal error", close=False)), False

    def _must_close(self, body: WireBody) -> bool:
        """Whether no other request can follow on this connection."""
        if self._draining or (self._inbound.ended and self._inbound.size == 0):
            return True
        if body.unread == 0:
            return False
        most = self._bounds.drain_bytes_max
        return self._awaits_continue or body.unread is None or body.unread > most

    async def _drop_body(self, body: WireBody) -> None:
        scratch = memoryview(bytearray(16 * 1024))
        while await body.readinto(scratch):
            pass

    # --- the end of a request, and of the connection

    def _finish(self, close: bool, body: WireBody) -> None:
        if self._state is State.CLOSED:
            return
        if close or self._draining:
            if body.unread == 0 and self._inbound.size == 0:
                self._close()
            else:
                self._linger()
            return
        self._state = State.IDLE
        self._since_s = self._loop.time()
        if self._inbound.size:
            self._next_request()
        if self._half_closed_s is not None and self._state is State.IDLE:
            self._close()

    def _refuse(self, error: HttpError) -> None:
        """Answers what is not a request, and ends the connection."""
        if self._transport.is_closing():
            return
        try:
            response = self._on_error(None, error)
            body = response.body
            assert isinstance(body, (bytes, bytearray, memoryview)), "an error is not streamed"
            self._outbound.send_bytes(response, body, head_only=False, end="Connection: close\r\n")
        except Exception:
            logger.exception("no answer to a malformed request")
        self._linger()

    def _linger(self) -> None:
        """Ends the connection, but not before the client can have read the answer."""
        if self._half_closed_s is not None:
            self._close()
            return
        self._begin_end()
        self._inbound.drop()
        if not self._secure:
            self._transport.write_eof()

    def _close(self) -> None:
        """Ends the connection once everything is sent."""
        self._begin_end()
        self._transport.close()

    def _begin_end(self) -> None:
        self._outbound.flush()
        self._state, self._since_s = State.LINGER, self._loop.time()
        self._sending.restart(self._outbound.sent)

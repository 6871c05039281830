"""Sending a response: framing, backpressure, and an exact length.

Framing (RFC 9112, 6.3):

    body            length given   HTTP/1.1            HTTP/1.0
    bytes           -              Content-Length      Content-Length
    iterator        yes            Content-Length      Content-Length
    iterator        no             chunked             until the connection closes
    204, 304        -              none, no body
    answer to HEAD  -              as to GET, no body

A system call costs more than copying a few KiB: the head and the small pieces of a body that come
in one turn of the event loop are joined, and written together, once the answers of that turn are
made: the system calls of many connections, one after the other, cost less than each for itself.
Whoever ends a connection flushes first.

An iterator that fails, or that yields more or less than its length, leaves a response that can
not be mended: `send` raises, and the connection is to be cut, so that the client sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from predastore.base.errors import HttpError
from predastore.httpd.message import Buffer, Response
from predastore.httpd.render import render_head

_JOINED_BYTES_MAX = 64 * 1024  # head and pieces that are copied for a single write
_TURN_BYTES = 1024 * 1024  # some 500 us of writing, before other connections have their turn
_BODILESS = frozenset((204, 304))


class Outbound:
    """The writing half of a connection. `paused`: the client reads too slowly just now."""

    def __init__(self, transport: asyncio.Transport, buffer_bytes_max: int) -> None:
        transport.set_write_buffer_limits(high=buffer_bytes_max)
        self.paused = False
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[Buffer] = []  # written, for us, but not yet handed to the transport
        self._held_bytes = 0
        self._flushes_soon = False
        self._written = 0
        self._yielded = 0
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False

    @property
    def written(self) -> int:
        """Bytes that were to be sent so far."""
        return self._written

    @property
    def sent(self) -> int:
        """Bytes that the kernel has taken."""
        return self._written - self._held_bytes - self._transport.get_write_buffer_size()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def lost(self) -> None:
        """The connection is gone: whoever waits to write fails. The transport is let go of, as in
        Inbound."""
        self._lost = True
        self._take_held()
        del self._transport
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(HttpError(400, "the client went away"))

    def write(self, data: Buffer) -> None:
        """Writes with whatever else comes in this turn of the event loop."""
        if self._lost:
            return
        size = len(data)
        self._written += size
        if self._held_bytes + size > _JOINED_BYTES_MAX:
            self.flush()
            if size > _JOINED_BYTES_MAX:
                self._transport.write(data)
                return
        self._held.append(data)
        self._held_bytes += size
        if not self._flushes_soon:
            self._flushes_soon = True
            self._loop.call_soon(self._flush_soon)

    def flush(self) -> None:
        """Hands over what was written so far."""
        held = self._take_held()
        if held:
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def _take_held(self) -> list[Buffer]:
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def _flush_soon(self) -> None:
        self._flushes_soon = False
        self.flush()

    async def drain(self) -> None:
        """Waits until the client has taken enough of what was written; lets others run, too."""
        if self._lost or self._transport.is_closing():
            raise HttpError(400, "the client went away")
        if self.paused:
            self._waiter = self._loop.create_future()
            await self._waiter
        elif self._written - self._yielded > _TURN_BYTES:
            self._yielded = self._written
            await asyncio.sleep(0)  # the client is fast, and so is who makes the body

    async def send(self, response: Response, *, head_only: bool, http_1_0: bool, end: str) -> None:
        """Writes `response`; `end`: the Connection line, if any.

        HttpError where the client is gone; whatever the iterator raises; ValueError for an
        impossible header (nothing was written then) or a body that is not as long as it said.
        """
        body = response.body
        if isinstance(body, (bytes, bytearray, memoryview)):
            self.send_bytes(response, body, head_only=head_only, end=end)
        else:
            try:
                await self._send_stream(response, body, head_only, http_1_0, end)
            finally:
                self.flush()
                await _close(body)
        if self.paused:
            await self.drain()

    def send_bytes(self, response: Response, body: Buffer, *, head_only: bool, end: str) -> None:
        """Writes `response`, whose body is at hand."""
        length = len(body)
        if head_only or response.status in _BODILESS:
            if response.length is not None:
                length = response.length
            body = b""
        framing = "" if response.status in _BODILESS else f"Content-Length: {length}\r\n"
        head = render_head(response.status, response.headers, framing + end)
        self.write(head)
        if body:
            self.write(body)

    async def _send_stream(
        self,
        response: Response,
        body: AsyncIterator[Buffer],
        head_only: bool,
        http_1_0: bool,
        end: str,
    ) -> None:
        length = response.length
        bodiless = response.status in _BODILESS
        chunked = length is None and not http_1_0
        framing = ""
        if length is not None and not bodiless:
            framing = f"Content-Length: {length}\r\n"
        elif chunked and not bodiless:
            framing = "Transfer-Encoding: chunked\r\n"
        self.write(render_head(response.status, response.headers, framing + end))
        if head_only or bodiless:
            return
        count = 0
        async for piece in body:
            size = len(piece)
            if size == 0:
                continue
            count += size
            if length is not None and count > length:
                raise ValueError(f"the response body has more than its {length} bytes")
            if chunked:
                self.write(b"%x\r\n" % size)
                self.write(piece)
                self.write(b"\r\n")
            else:
                self.write(piece)
            await self.drain()
        if chunked:
            self.write(b"0\r\n\r\n")
        elif length is not None and count < length:
            raise ValueError(f"the response body has {count} of its {length} bytes")


async def _close(body: AsyncIterator[Buffer]) -> None:
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()

"""What a connection has received: bytes in order, bounded, for one reader.

The socket is read straight into the reader's buffer while a reader waits with one and nothing is
queued; else into a scratch buffer that all connections of a server share (a read is over before
the next begins), and from there into the queue. Above `buffer_bytes_max` queued bytes the socket
is not read, so a connection holds at most that and one read.

`end` says that nothing more will come: what is queued can still be had, then reads raise. `fail`
drops what is queued as well. Each read raises an error of its own (`anew`).
"""

from __future__ import annotations

import asyncio
from collections import deque

from predastore.base.errors import HttpError, PredastoreError, anew

HEAD_END = b"\r\n\r\n"


class Inbound:
    """`size`: bytes queued. `received`: bytes ever. `waiting`: a reader wants bytes now."""

    def __init__(
        self,
        transport: asyncio.Transport,
        scratch: memoryview,
        buffer_bytes_max: int,
    ) -> None:
        self.size = 0
        self.received = 0
        self._transport = transport
        self._scratch = scratch
        self._bytes_max = buffer_bytes_max
        self._pieces: deque[bytes] = deque()
        self._offset = 0  # of the first byte that is not used, in the first piece
        self._paused = False
        self._target: memoryview | None = None
        self._waiter: asyncio.Future[int] | None = None
        self._error: PredastoreError | None = None

    @property
    def waiting(self) -> bool:
        return self._waiter is not None

    @property
    def ended(self) -> bool:
        return self._error is not None

    # --- the socket's side

    def buffer(self) -> memoryview:
        """Where the next read goes."""
        target = self._target
        return self._scratch if target is None else target

    def updated(self, count: int) -> None:
        """`count` bytes were read into what `buffer` returned."""
        self.received += count
        if self._target is None:
            self._pieces.append(bytes(self._scratch[:count]))
            self.size += count
            if self.size >= self._bytes_max and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            self._target = None
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(count)

    def fail(self, error: PredastoreError) -> None:
        """From now on every read raises `error`; the first error counts."""
        self._pieces.clear()
        self._offset = self.size = 0
        self.end(error)

    def lost(self) -> None:
        """The connection is gone, and the transport let go of: that of TLS knows this for ever."""
        self.fail(HttpError(400, "the client went away"))
        self._paused = False
        del self._transport

    def end(self, error: PredastoreError) -> None:
        """Once the queue is empty every read raises `error`; the first error counts."""
        if self._error is None:
            self._error = error
        self._target = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(anew(self._error))

    # --- the reader's side

    async def receive_into(self, target: memoryview) -> int:
        """At least one byte, from the queue or the socket."""
        if self.size == 0:
            return await self._wait(target)
        count = min(len(target), len(self._pieces[0]) - self._offset)
        target[:count] = memoryview(self._pieces[0])[self._offset : self._offset + count]
        self.skip(count)
        return count

    async def receive(self) -> memoryview:
        """The first piece of the queue (`skip` what is used of it), when there is one."""
        if self.size == 0:
            await self._wait(None)
        return memoryview(self._pieces[0])[self._offset :]

    def skip(self, count: int) -> None:
        """The first `count` bytes of the first piece are used."""
        self.size -= count
        self._offset += count
        if self._offset == len(self._pieces[0]):
            self._pieces.popleft()
            self._offset = 0
        self._relax()

    def drop(self) -> None:
        """Reads on, so that the rest of the input can be dropped."""
        self._pieces.clear()
        self._offset = self.size = 0
        self._relax()

    def _relax(self) -> None:
        if self._paused and self.size < self._bytes_max // 2:
            self._paused = False
            self._transport.resume_reading()

    async def _wait(self, target: memoryview | None) -> int:
        if self._error is not None:
            raise anew(self._error)
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        self._target = target
        try:
            return await waiter
        except asyncio.CancelledError:
            if target is not None and waiter.done() and not waiter.cancelled():
                self.fail(HttpError(400, "a read was given up after it had taken bytes"))
            raise
        finally:
            if self._waiter is waiter:
                self._waiter = self._target = None
            del waiter  # its error has a traceback with this frame

    # --- heads

    def take_head(self, head_bytes_max: int) -> bytes | None:
        """The next request's head with its empty line; None: not all of it is here.

        Empty lines before it are skipped (RFC 9112, 2.2). HttpError 431 where it is too long,
        400 where a line does not end in CRLF (so that nobody waits for the end of such a head).
        """
        if self.size == 0:
            return None
        data = self._pieces[0]
        if len(self._pieces) == 1 and self._offset == 0:
            if (
                data.find(HEAD_END) == len(data) - 4 > 0
                and len(data) <= head_bytes_max
                and data[0] > 13
            ):
                self._pieces.clear()  # as nearly always: one read brought one head
                self.size = 0
                self._relax()
                return data
        else:
            data = b"".join(self._pieces)[self._offset :]
        start = 0
        while data.startswith(b"\r\n", start):
            start += 2
        end = data.find(HEAD_END, start)
        used = start if end < 0 else end + len(HEAD_END)
        self._replace(data, used)
        if end < 0:
            if len(data) - used > head_bytes_max:
                raise HttpError(431, f"the head has more than {head_bytes_max} bytes")
            if data.count(b"\n") != data.count(b"\r\n"):
                raise HttpError(400, "a line of the head does not end in CRLF")
            return None
        if used - start > head_bytes_max:
            raise HttpError(431, f"the head has more than {head_bytes_max} bytes")
        return data if start == 0 and used == len(data) else data[start:used]

    def _replace(self, data: bytes, used: int) -> None:
        """The queue becomes `data` without its first `used` bytes."""
        self._pieces.clear()
        self._offset = 0
        self.size = len(data)
        if used < len(data):
            self._pieces.append(data)
            self._offset = used
        self.size -= used
        self._relax()

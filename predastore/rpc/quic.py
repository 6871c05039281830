"""One QUIC connection on the event loop: datagrams, timers, streams, back pressure.

`RpcConnection` drives a `QuicCore` and serves both roles. Its owner gives it datagrams (`receive`)
and a way to send them; streams are objects with the callbacks of `Stream`, known by id.

What it promises:
- all that a wake-up brings is answered by one flush, after the tasks that it woke have run, but
  for a long row of small messages, which goes in parts; a small message that nothing preceded
  goes at once, and what follows it with the next flush;
- a flush, and so the time for which it holds up the loop, has a bound (Core's burst);
- bytes handed to QUIC and not yet acknowledged have a bound per connection, shared equally by
  the streams that write (`send` waits); small messages go at once;
- bytes received count against the connection's window until their stream gives them back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aioquic.quic.events import ConnectionTerminated

from predastore._fast.quic import DATA, RESET, STOP
from predastore.base.errors import PeerRefused, PeerUnreachable, RpcError, anew
from predastore.base.limits import (
    RPC_FLUSH_MESSAGES,
    RPC_SEND_BUFFER_BYTES_MAX,
    RPC_SEND_BUFFER_BYTES_MIN,
    RPC_SEND_SLICE_BYTES,
    RPC_UNANSWERED_MS_MAX,
)
from predastore.rpc.framing import Buffer, payload_length
from predastore.rpc.quic_core import ISSUED, READY, RESTARTED, RETIRED, Address, Plane, QuicCore
from predastore.rpc.quic_ended import NO_PLANE, NOBODY, let_go, no_stream, nothing
from predastore.rpc.quic_socket import DatagramSocket

logger = logging.getLogger(__name__)

# aioquic measures round trips with it: the loop's own clock stands still within an iteration.
_clock = time.monotonic

# Application error codes of streams and connections.
CLOSED: Final = 0  # the process ends or has no use for it
CANCELLED: Final = 1  # the caller gave up, or its deadline passed
REFUSED: Final = 2  # no proof, or a broken protocol


class Stream(Protocol):
    """What a connection tells to whoever has one of its streams."""

    def data_received(self, data: bytes, end: bool) -> None: ...
    def reset_received(self, error_code: int) -> None: ...
    def stop_received(self) -> None: ...
    def connection_lost(self, error: RpcError) -> None: ...


class RpcConnection:
    """`opened`: called for a stream that the peer opened; returns its owner.
    `ready`: called once TLS is done. `lost`: called once, at the end."""

    def __init__(
        self,
        core: QuicCore,
        datagrams: DatagramSocket,
        *,
        opened: Callable[[int], Stream],
        ready: Callable[[], None],
        lost: Callable[[RpcError], None],
    ) -> None:
        self.core = core
        self.plane: Plane = core
        self._received_at = _clock()
        self.error: RpcError | None = None
        self.connection_ids: Callable[[bytes, bool], None] = lambda cid, issued: None
        self._loop = asyncio.get_running_loop()
        self._socket = datagrams
        self._opened = opened
        self._ready = ready
        self._lost = lost
        self._streams: dict[int, Stream] = {}
        self._held_bytes: dict[int, int] = {}  # delivered to a stream, not given back
        self._unclaimed: set[int] = set()  # opened by the peer, by opening a later one
        self._next_peer_stream = 0
        self._writers: dict[int, asyncio.Future[None] | None] = {}  # the future of a waiting one
        self._openers: deque[asyncio.Future[None]] = deque()
        self._flush_handle: asyncio.Handle | None = None
        self._messages = 0  # small ones, written since the last flush
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None

    # Datagrams and timers

    def connect(self, address: Address) -> None:
        self.core.connect(address, now=_clock())
        self.flush_soon()

    def receive(self, data: memoryview, segment_bytes: int, address: Address) -> None:
        """One datagram, or several of a size; the buffer is not needed after this."""
        if self.error is not None:
            return
        self._received_at = _clock()
        try:
            happened = self.core.receive(data, segment_bytes, address, self._received_at)
        except Exception:
            # Whatever a peer found to trip the parser with is its own connection's end.
            logger.exception("a datagram broke its connection")
            self.close(REFUSED, "unreadable")
            return
        self._dispatch() if happened else self._go_on()

    def flush_soon(self) -> None:
        """Sends what is due after the callbacks that are ready now."""
        if self._flush_handle is None and self.error is None:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        self._transmit()

    def _transmit(self) -> None:
        self._messages = 0
        if self._socket.blocked(self.flush_soon):
            return
        self.core.transmit(_clock(), self._socket)
        if self.error is not None:  # sending may have found the peer's port closed
            return
        if self.core.more_to_send:
            self.flush_soon()
        self._arm_timer()

    def _arm_timer(self) -> None:
        """Sees to it that the timer fires no later than the core wants; one that fires early is
        set anew then, which costs less than to move it whenever something is sent."""
        at = self.core.get_timer()
        if at is None or (self._timer_at is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - _clock()), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_at = None
        now, at = _clock(), self.core.get_timer()
        if at is not None and at <= now:
            self.core.handle_timer(now)
            self._dispatch()
        else:
            self._arm_timer()

    @property
    def silent_s(self) -> float:
        """How long nothing has come from the peer."""
        return _clock() - self._received_at

    @property
    def carries_calls(self) -> bool:
        return bool(self._streams)

    @property
    def unanswered(self) -> bool:
        """The peer has owed an answer for so long that it is gone."""
        return _clock() - self.core.unanswered_since >= RPC_UNANSWERED_MS_MAX / 1000

    def ping(self) -> None:
        self.core.ping()
        self.flush_soon()

    # What came in

    def _dispatch(self) -> None:
        for kind, number, data, value in self.core.take_events():
            if self.error is not None:
                return
            if kind == DATA:
                self._data_received(number, data, bool(value))
            elif kind == RESET:
                self._owner(number).reset_received(value)
            elif kind == STOP:
                self._owner(number).stop_received()
            elif kind == READY:
                self.plane = self.core.plane
                self._ready()
            elif kind == ISSUED:
                self.connection_ids(data, True)
            elif kind == RETIRED:
                self.connection_ids(data, False)
            elif kind == RESTARTED:
                self.end(PeerUnreachable("the peer was started anew"))
        if self.error is None:
            termination = self.core.termination
            if termination is not None:
                # Not after aioquic's draining period: nobody should wait for it.
                self.core.transmit(_clock(), self._socket)
                self.end(_reason(termination))
                return
            self._go_on()

    def _go_on(self) -> None:
        if self._writers or self._openers:
            self._wake()
        self.flush_soon()

    def _data_received(self, stream_id: int, data: bytes, end: bool) -> None:
        self._held_bytes[stream_id] = self._held_bytes.get(stream_id, 0) + len(data)
        self._owner(stream_id).data_received(data, end)
        if stream_id not in self._streams:
            self.release(stream_id)

    def _owner(self, stream_id: int) -> Stream:
        owner = self._streams.get(stream_id)
        if owner is not None:
            return owner
        if stream_id >= self._next_peer_stream and not self.core.is_client:
            self._unclaimed.update(range(self._next_peer_stream, stream_id + 4, 4))
            self._next_peer_stream = stream_id + 4
        if stream_id not in self._unclaimed:
            return NOBODY  # released: what still comes for it is dropped
        self._unclaimed.discard(stream_id)
        self._streams[stream_id] = owner = self._opened(stream_id)
        return owner

    # What the owners of streams do

    def adopt_stream(self, owner: Stream) -> int:
        """The id of a new stream, where it is known that the peer allows one."""
        stream_id = self.plane.open_stream()
        self._streams[stream_id] = owner
        return stream_id

    def try_open_stream(self, owner: Stream) -> int | None:
        """The id of a new stream; None if the peer allows none now, or others wait for one."""
        if self._openers or self.error is not None or not self.plane.can_open():
            return None
        return self.adopt_stream(owner)

    async def open_stream(self, owner: Stream) -> int:
        """The id of a new stream, once the peer allows one more."""
        while self.error is None and not self.plane.can_open():
            opener = self._loop.create_future()
            self._openers.append(opener)
            try:
                await opener
            except asyncio.CancelledError:
                self._wake()  # the place, if it was given one, goes to the next
                raise
        if self.error is not None:
            raise anew(self.error)
        stream_id = self.adopt_stream(owner)
        if self._openers:
            self._wake()
        return stream_id

    async def send(self, stream_id: int, prefix: bytes, payload: Sequence[Buffer] = ()) -> None:
        """Writes a message and ends the stream's direction; `send_now` is for those that fit a
        slice.

        Returns early, with no error, when the peer wants no more of it or the connection is
        lost: the stream's owner is told by its callbacks.
        """
        if not self.plane.can_write(stream_id):
            return
        self._writers[stream_id] = None
        try:
            left_bytes = len(prefix) + payload_length(payload)
            for part in (prefix, *payload):
                view = memoryview(part).cast("B")
                while len(view):
                    while self.error is None and not self._has_room(stream_id):
                        self._writers[stream_id] = waiter = self._loop.create_future()
                        await waiter
                    if self.error is not None or not self.plane.can_write(stream_id):
                        return
                    some = view[: self._room_bytes(stream_id)]
                    left_bytes -= len(some)
                    self.plane.write(stream_id, some, left_bytes == 0, False)
                    view = view[len(some) :]
                    self.flush_soon()
        finally:
            del self._writers[stream_id]

    def send_now(self, stream_id: int, message: bytes, *, end: bool) -> None:
        """Writes a small message. It goes at once where nothing else is about to go, so that the
        peer begins while this end does the rest of its work; a long row of them is sent in parts,
        for the same reason."""
        if self.plane.can_write(stream_id):
            self.plane.write(stream_id, message, end, True)
            self._messages += 1
            if self._flush_handle is None or self._messages >= RPC_FLUSH_MESSAGES:
                self._transmit()
            self.flush_soon()

    def _has_room(self, stream_id: int) -> bool:
        return self._room_bytes(stream_id) > 0 or not self.plane.can_write(stream_id)

    def _room_bytes(self, stream_id: int) -> int:
        """What may be written now of a stream's share; 0 rather than less than a slice."""
        unacked_bytes = self.plane.unacked_bytes(stream_id)
        # Twice what may be on the way: there is more whenever acknowledgements let it go.
        buffer_bytes = min(2 * self.plane.window_bytes(), RPC_SEND_BUFFER_BYTES_MAX)
        share_bytes = max(buffer_bytes, RPC_SEND_BUFFER_BYTES_MIN) // len(self._writers)
        room_bytes = share_bytes - unacked_bytes
        if unacked_bytes <= RPC_SEND_SLICE_BYTES // 8:  # its prefix, say: no need to wait for that
            return max(room_bytes, RPC_SEND_SLICE_BYTES)
        return room_bytes if room_bytes >= RPC_SEND_SLICE_BYTES else 0

    def _wake(self) -> None:
        for stream_id, waiter in self._writers.items():
            if waiter is not None and not waiter.done() and self._has_room(stream_id):
                waiter.set_result(None)
        while self._openers and self.plane.can_open():
            opener = self._openers.popleft()
            if not opener.done():
                opener.set_result(None)
                return  # it wakes the next, once it has opened its own

    def release(self, stream_id: int) -> None:
        """The owner wants no more of the stream, and holds none of its bytes any longer."""
        self._streams.pop(stream_id, None)
        self.give_back(stream_id)

    def give_back(self, stream_id: int) -> None:
        """The owner holds none of the bytes that came so far; the peer may send as many."""
        held_bytes = self._held_bytes.pop(stream_id, 0)
        if held_bytes:
            self.plane.consume(held_bytes)
            self.flush_soon()

    def abandon(self, stream_id: int, error_code: int) -> None:
        """Cuts both directions."""
        self.plane.reset(stream_id, error_code)
        self.plane.stop(stream_id, error_code)
        self.release(stream_id)
        self._wake()
        self.flush_soon()

    def gather(self, stream_id: int, offset: int, first: bytes, size_bytes: int) -> bool:
        """As Engine.gather; `first` is given back."""
        if not self.plane.gather(stream_id, offset, first, size_bytes):
            return False
        self._held_bytes[stream_id] -= len(first)
        return True

    # The end

    def close(self, error_code: int, reason: str) -> None:
        """Tells the peer why, without waiting for it."""
        if self.error is None:
            self.core.close(error_code=error_code, reason_phrase=reason[:200])
            self.core.transmit(_clock(), self._socket)
            kind = PeerRefused if error_code == REFUSED else PeerUnreachable
            self.end(kind(f"connection closed here: {reason}"))

    def end(self, error: RpcError) -> None:
        """The connection is gone; all that waits on it learns of it."""
        if self.error is not None:
            return
        self.error = error
        for handle in (self._timer, self._flush_handle):
            if handle is not None:
                handle.cancel()
        for waiter in (*self._writers.values(), *self._openers):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.connection_lost(error)
        lost = self._lost
        # All of these know this connection: what it holds is not to wait for a collection.
        self._opened, self._ready, self._lost = no_stream, nothing, nothing
        self.connection_ids = nothing
        self.plane = NO_PLANE
        self._loop.call_soon(let_go, self.core)  # not now: it may be in the middle of something
        lost(error)


def _reason(event: ConnectionTerminated) -> RpcError:
    reason = event.reason_phrase[:200]
    if event.frame_type is None and event.error_code == REFUSED:
        return PeerRefused(reason)
    return PeerUnreachable(f"connection lost: {reason or f'error {event.error_code:#x}'}")

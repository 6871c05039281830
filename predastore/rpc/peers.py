"""A remote peer: its connection, and what happens when there is none.

    idle --call--> dialling --done--> up --lost--> dialling ...
                      |                                 (a peer that fell silent: down)
                      +--failed--> down --redial, with backoff, in the background--> up

While a peer is down every call fails at once, so that nobody waits for a dead node twice; one
task dials it again and again, with a bounded, growing, jittered pause, as long as somebody
calls. A connection that is lost is dialled again at once, unless it did not live long.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from predastore.base import tracing
from predastore.base.errors import PeerRefused, PeerUnreachable, RpcError, anew
from predastore.base.limits import RPC_REDIAL_IDLE_MS, RPC_REDIAL_MS_MAX, RPC_REDIAL_MS_MIN
from predastore.rpc.admission import Admission
from predastore.rpc.deadlines import Deadlines
from predastore.rpc.framing import Buffer, Message, encode_request, payload_length
from predastore.rpc.quic_client import Channel, Done, Outcome, Posted

logger = logging.getLogger(__name__)

Dial = Callable[[], Awaitable[Channel]]


class Peer:
    """`dial` makes a connection, or raises an RpcError."""

    def __init__(self, name: str, dial: Dial, deadlines: Deadlines) -> None:
        self.name = name
        self._deadlines = deadlines
        self.admission = Admission(name)
        self._dial = dial
        self._loop = asyncio.get_running_loop()
        self._channel: Channel | None = None
        self._up_at = 0.0
        self._called_at = 0.0
        self._pause_s = RPC_REDIAL_MS_MIN / 1000
        self._down: RpcError | None = None
        self._dialler: asyncio.Task[None] | None = None
        self._attempt: asyncio.Future[None] | None = None  # done after the dialler's next try
        self._closed = False
        self.refusal = ""  # why the peer would not have this process, when it was dialled last

    def post(
        self,
        method: str,
        body: bytes,
        payload: Sequence[Buffer],
        *,
        now: float,
        timeout_ms: int,
        done: Done,
    ) -> Posted | None:
        """A call, whose outcome `done` gets; None, and nothing was done, where it would have to
        wait (`call` does that). `body` is the encoded request struct, `now` is loop time."""
        channel, admission = self._channel, self.admission
        size_bytes = len(body) + payload_length(payload)
        if channel is None or not admission.try_enter(size_bytes):
            return None

        def left(outcome: Outcome) -> None:
            admission.leave(size_bytes)
            done(outcome)

        self._called_at = now
        header = encode_request(method, timeout_ms, body, tracing.place())
        posted = channel.post(header, payload, now + timeout_ms / 1000, left)
        if posted is None:
            admission.leave(size_bytes)
        return posted

    async def call(
        self, method: str, body: bytes, payload: Sequence[Buffer], deadline: float
    ) -> Message:
        """One call; `body` is the encoded request struct, `deadline` is loop time."""
        size_bytes = len(body) + payload_length(payload)
        if not self.admission.try_enter(size_bytes):
            await self.admission.enter(size_bytes, deadline)
        try:
            channel = self._channel
            if channel is None:
                with self._deadlines.limit(deadline, self.name):
                    channel = await self._connected()
            self._called_at = now = self._loop.time()
            timeout_ms = max(1, int((deadline - now) * 1000))
            header = encode_request(method, timeout_ms, body, tracing.place())
            return await channel.call(header, payload, deadline)
        finally:
            self.admission.leave(size_bytes)

    async def _connected(self) -> Channel:
        self._called_at = self._loop.time()
        if self._closed:
            raise PeerUnreachable(f"{self.name}: this endpoint is closed")
        if self._dialler is None:
            self._dialler = self._loop.create_task(self._dial_until_up(pause_first=False))
        if self._down is None:
            if self._attempt is None:
                self._attempt = self._loop.create_future()
            await asyncio.shield(self._attempt)
        if self._channel is None:
            # A new one each time: a traceback belongs to one call.
            raise anew(self._down or PeerUnreachable(f"{self.name}: no connection"))
        return self._channel

    async def _dial_until_up(self, *, pause_first: bool) -> None:
        try:
            if pause_first:
                await self._pause()
            while not await self._try():
                if self._loop.time() - self._called_at > RPC_REDIAL_IDLE_MS / 1000:
                    self._down = None  # whoever calls next may wait for a try
                    break
                await self._pause()
        finally:
            self._dialler = None

    async def _try(self) -> bool:
        """One dial; True if there is a connection now."""
        try:
            channel = await self._dial()
        except RpcError as error:
            self._down = anew(error)
            self.refusal = str(error) if isinstance(error, PeerRefused) else self.refusal
        except Exception as error:
            logger.exception("dialling failed", extra={"peer": self.name})
            self._down = PeerUnreachable(f"{self.name}: {error}")
        else:
            self._down, self.refusal = None, ""
            self._up_at = self._loop.time()
            self._channel = channel
            channel.on_lost(self._lost)
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.set_result(None)
        return self._channel is not None

    async def _pause(self) -> None:
        # Jittered: the callers of a peer that comes back do not all come at once.
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))
        self._pause_s = min(2 * self._pause_s, RPC_REDIAL_MS_MAX / 1000)

    def _lost(self, error: RpcError) -> None:
        channel, self._channel = self._channel, None
        if self._closed or channel is None:
            return
        now = self._loop.time()
        lived_long = now - self._up_at >= RPC_REDIAL_MS_MAX / 1000
        if lived_long:
            self._pause_s = RPC_REDIAL_MS_MIN / 1000
        if not lived_long or channel.was_silent:
            self._down = error
        if self._dialler is None and now - self._called_at <= RPC_REDIAL_IDLE_MS / 1000:
            self._dialler = self._loop.create_task(self._dial_until_up(pause_first=not lived_long))

    async def close(self) -> None:
        """Ends the connection; calls in flight fail."""
        self._closed = True
        if self._dialler is not None:
            self._dialler.cancel()
            await asyncio.wait([self._dialler])
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(None)
        if self._channel is not None:
            self._channel.close()

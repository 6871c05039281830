"""The caller's end: a proven connection to one peer, and calls over it.

`dial` makes the connection: TLS, then the proof of rpc.auth on the first stream. Each call is a
stream of its own. The connection is kept alive with pings, so that a dead peer is found out by
its silence, whether or not somebody calls it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec
from aioquic.quic.configuration import QuicConfiguration

from predastore.base.errors import (
    DeadlineExceeded,
    PeerRefused,
    PeerUnreachable,
    RpcError,
    anew,
)
from predastore.base.limits import (
    RPC_DIAL_TIMEOUT_MS,
    RPC_IDLE_TIMEOUT_MS,
    RPC_PING_INTERVAL_MS,
    RPC_PROOF_BYTES_MAX,
    RPC_SEND_SLICE_BYTES,
)
from predastore.rpc import auth
from predastore.rpc.deadlines import Deadlines, Expiring
from predastore.rpc.framing import (
    Buffer,
    FrameParser,
    Message,
    decode_struct,
    encode_prefix,
    payload_length,
    whole_message,
)
from predastore.rpc.quic import CANCELLED, CLOSED, REFUSED, RpcConnection, Stream
from predastore.rpc.quic_core import Address
from predastore.rpc.quic_socket import DatagramSocket, datagram_bytes, resolve
from predastore.rpc.quic_takeover import core_class

logger = logging.getLogger(__name__)

Outcome = Message | RpcError
Done = Callable[[Outcome], None]

_RESET_ERRORS: dict[int, type[RpcError]] = {
    CANCELLED: DeadlineExceeded,  # the peer's clock was a little ahead
    REFUSED: PeerRefused,
}


async def dial(
    host: str,
    port: int,
    *,
    configuration: QuicConfiguration,
    cluster_key: bytes,
    name: str,
    wanted: str,
    deadlines: Deadlines,
) -> Channel:
    """A connection to `wanted`, both ends proven. PeerUnreachable or PeerRefused if it fails."""
    try:
        async with asyncio.timeout(RPC_DIAL_TIMEOUT_MS / 1000):
            family, address = await resolve(host, port)
            identity = _Identity(cluster_key, name, wanted)
            channel = Channel(family, address, configuration, identity, deadlines)
            try:
                await channel.connect(address)
            except BaseException:
                channel.close()
                raise
    except TimeoutError:
        raise PeerUnreachable(f"{wanted}: no answer from {host}:{port}") from None
    except OSError as error:
        raise PeerUnreachable(f"{wanted}: {host}:{port}: {error}") from error
    return channel


class _Identity(msgspec.Struct, frozen=True):
    cluster_key: bytes
    name: str
    wanted: str

    def __repr__(self) -> str:
        return f"_Identity({self.name!r}, {self.wanted!r})"  # the key is nobody's business


class Channel:
    """A connection that `dial` made."""

    def __init__(
        self,
        family: socket.AddressFamily,
        address: Address,
        configuration: QuicConfiguration,
        identity: _Identity,
        deadlines: Deadlines,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines = deadlines
        self._identity = identity
        self._socket = DatagramSocket(family, self._received, self._failed)
        self._connection = RpcConnection(
            core_class()(replace(configuration, max_datagram_size=datagram_bytes(address))),
            self._socket,
            opened=_refuse_stream,
            ready=self._prove,
            lost=self._lost,
        )
        # An error is its result: one that was raised would hold this, by its traceback.
        self._proven: asyncio.Future[RpcError | None] = self._loop.create_future()
        self._lost_callback: Callable[[RpcError], None] | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self._ping_at = 0.0
        self._gone = False

    async def connect(self, address: Address) -> None:
        self._socket.connect(address)
        self._connection.connect(address)
        error = await self._proven
        if error is not None:
            raise anew(error)
        self._ping_at = self._loop.time()
        self._ping_later()

    def on_lost(self, lost: Callable[[RpcError], None]) -> None:
        """Sets who learns of the end, or tells at once if it has come already."""
        self._lost_callback = lost
        if self._connection.error is not None:
            lost(self._connection.error)

    def post(
        self, header: bytes, payload: Sequence[Buffer], deadline: float, done: Done
    ) -> Posted | None:
        """Makes one request, whose outcome `done` gets, perhaps before this returns. None, and
        nothing was done, where it would have to wait. `deadline` is loop time."""
        payload_bytes = payload_length(payload)
        prefix = encode_prefix(header, payload_bytes)
        if len(prefix) + payload_bytes > RPC_SEND_SLICE_BYTES:
            return None
        connection = self._connection
        call = Posted(connection, done, self._identity.wanted)
        stream_id = connection.try_open_stream(call)
        if stream_id is None:
            return None
        call.begin(stream_id, self._deadlines.due(deadline))
        message = b"".join((prefix, *payload)) if payload else prefix
        connection.send_now(stream_id, message, end=True)
        return call

    async def call(self, header: bytes, payload: Sequence[Buffer], deadline: float) -> Message:
        """The answer to one request, however long, and if it has to wait for its turn."""
        connection, wanted = self._connection, self._identity.wanted
        answer: asyncio.Future[Message] = self._loop.create_future()
        call = Posted(connection, partial(settle, answer), wanted)
        prefix = encode_prefix(header, payload_length(payload))
        with self._deadlines.limit(deadline, wanted):
            stream_id = await connection.open_stream(call)
        call.begin(stream_id, self._deadlines.due(deadline))
        try:
            if len(prefix) + payload_length(payload) <= RPC_SEND_SLICE_BYTES:
                connection.send_now(stream_id, b"".join((prefix, *payload)), end=True)
            else:
                await connection.send(stream_id, prefix, payload)
            message = await answer
        except BaseException:
            answer.cancel()
            call.give_up()
            raise
        finally:
            del answer  # its error has a traceback with this frame
        if connection.plane.can_write(stream_id):  # it has not read everything
            connection.plane.reset(stream_id, CANCELLED)
        return message

    @property
    def was_silent(self) -> bool:
        """It ended, or is about to, because nothing came for long."""
        return self._gone or self._connection.silent_s >= RPC_IDLE_TIMEOUT_MS / 1000 * 0.9

    def close(self) -> None:
        self._connection.close(CLOSED, "the caller closes")
        self._socket.close()

    def _prove(self) -> None:
        connection = self._connection
        stream = _ProofStream(self._identity, connection, self._proven)
        stream.begin()

    def _received(self, data: memoryview, segment_bytes: int, address: Address) -> None:
        self._connection.receive(data, segment_bytes, address)

    def _failed(self, error: OSError) -> None:
        self._connection.end(PeerUnreachable(f"the peer's port is closed: {error}"))

    def _lost(self, error: RpcError) -> None:
        self._socket.close()
        if self._pinger is not None:
            self._pinger.cancel()
        if not self._proven.done():
            self._proven.set_result(error)
        elif self._lost_callback is not None:
            self._lost_callback(error)

    def _ping_later(self) -> None:
        """Keeps the connection alive, and finds out that the peer is gone: late, where nobody
        waits for it, and within a few of these turns, where calls do."""
        connection, now = self._connection, self._loop.time()
        turn_s = RPC_PING_INTERVAL_MS / 2000
        if connection.error is not None:
            return
        # After a pause of this process itself, what came in it has not been read yet.
        in_time = now - self._ping_at <= 2 * turn_s
        if in_time and connection.carries_calls and connection.unanswered:
            self._gone = True
            connection.end(PeerUnreachable(f"{self._identity.wanted} does not answer any more"))
            return
        if connection.silent_s >= (turn_s if connection.carries_calls else 2 * turn_s):
            connection.ping()
        self._ping_at = now + turn_s
        self._pinger = self._loop.call_later(turn_s, self._ping_later)


def _refuse_stream(stream_id: int) -> Stream:
    raise AssertionError(f"stream {stream_id}: a caller grants its peer no streams")


class _ProofStream:
    """The caller's half of rpc.auth on the connection's first stream."""

    def __init__(
        self,
        identity: _Identity,
        connection: RpcConnection,
        proven: asyncio.Future[RpcError | None],
    ) -> None:
        self._connection = connection
        self._proven = proven
        self._wanted = identity.wanted
        self._caller = auth.ProofCaller(
            identity.cluster_key,
            name=identity.name,
            wanted=identity.wanted,
            certificate_der=connection.core.peer_certificate_der(),
        )
        self._parser = FrameParser(RPC_PROOF_BYTES_MAX, 0)
        self._challenged = False
        self._stream_id = -1

    def begin(self) -> None:
        self._stream_id = self._connection.adopt_stream(self)
        self._connection.send_now(self._stream_id, auth.message(self._caller.hello), end=False)

    def data_received(self, data: bytes, end: bool) -> None:
        try:
            self._parser.feed(data)
            if self._parser.complete:
                header, rest = self._parser.message().header, self._parser.rest
                self._parser = FrameParser(RPC_PROOF_BYTES_MAX, 0)
                self._step(header)
                if rest:
                    raise PeerRefused("a message too many in the proof")
        except PeerRefused as error:
            self._connection.close(REFUSED, str(error))

    def _step(self, header: bytes) -> None:
        if not self._challenged:
            self._challenged = True
            proof = self._caller.prove(decode_struct(auth.Challenge, header))
            self._connection.send_now(self._stream_id, auth.message(proof), end=True)
            return
        self._caller.verify(decode_struct(auth.Proof, header))
        self._connection.core.trust()
        self._connection.release(self._stream_id)
        if not self._proven.done():
            self._proven.set_result(None)

    def reset_received(self, error_code: int) -> None:
        self._connection.close(REFUSED, f"{self._wanted} cut the proof short")

    def stop_received(self) -> None:
        self.reset_received(0)

    def connection_lost(self, error: RpcError) -> None:
        pass  # the channel hears of it, too


def settle(future: asyncio.Future[Message], outcome: Outcome) -> None:
    """`future` gets the outcome, if it still waits."""
    if future.done():
        return
    if isinstance(outcome, RpcError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _nobody(_: Outcome) -> None:
    """Who waits for a call that is over."""


class Posted:
    """The stream of one call; `done` gets the response message, or why there is none, once."""

    __slots__ = ("_connection", "_done", "_due", "_is_over", "_parser", "_stream_id", "_wanted")

    def __init__(self, connection: RpcConnection, done: Done, wanted: str) -> None:
        self._connection = connection
        self._wanted = wanted
        self._done = done
        self._parser: FrameParser | None = None
        self._is_over = False
        self._stream_id = -1
        self._due: set[Expiring] = set()

    def begin(self, stream_id: int, due: set[Expiring]) -> None:
        """It has a stream, and a deadline."""
        self._stream_id = stream_id
        self._due = due
        due.add(self)

    def data_received(self, data: bytes, end: bool) -> None:
        if self._is_over:
            return
        parser = self._parser
        if parser is None:
            message = whole_message(data) if end else None
            if message is not None:
                self._finish(message)
                return
            parser = self._parser = FrameParser()
        try:
            parser.feed(data)
            if parser.rest or (end and not parser.complete):
                raise PeerRefused("a response that is not one message")
        except PeerRefused as error:
            self._connection.close(REFUSED, str(error))
            return
        if parser.complete:
            self._finish(parser.message())
        else:
            parser.gather(partial(self._connection.gather, self._stream_id))

    def expire(self) -> None:
        self._fail(DeadlineExceeded(f"{self._wanted}: no answer before the deadline"))

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self._fail(DeadlineExceeded(f"{self._wanted}: the call was given up"))

    def reset_received(self, error_code: int) -> None:
        kind = _RESET_ERRORS.get(error_code, PeerUnreachable)
        self._fail(kind("the peer cut the call"))

    def stop_received(self) -> None:
        pass  # its answer is on the way

    def connection_lost(self, error: RpcError) -> None:
        if not self._is_over:
            self._finish(type(error)(str(error)))

    def _fail(self, error: RpcError) -> None:
        if not self._is_over:
            self._connection.abandon(self._stream_id, CANCELLED)
            self._finish(error)

    def _finish(self, outcome: Outcome) -> None:
        self._is_over = True
        self._due.discard(self)
        self._connection.release(self._stream_id)
        done, self._done = self._done, _nobody  # it may have what gives this up
        try:
            done(outcome)
        except Exception:  # its trouble is not the connection's
            logger.exception("rpc: an answer was not taken", extra={"peer": self._wanted})

"""What the rpc tests share: an echo service, two processes' worth of endpoints, hostile peers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import uvloop
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic import events
from cryptography.hazmat.primitives.serialization import Encoding

from predastore._fast.quic import Engine
from predastore.base.errors import DeadlineExceeded, NotLeader, PeerRefused, PeerUnreachable
from predastore.base.limits import RPC_PAYLOAD_BYTES_MAX
from predastore.rpc import (
    CallContext,
    Certificate,
    Endpoint,
    Method,
    Reply,
    Service,
    auth,
    self_signed,
)
from predastore.rpc.framing import (
    FrameParser,
    decode_struct,
    encode_prefix,
    encode_request,
    encode_struct,
)
from predastore.rpc.quic_core import client_configuration
from predastore.rpc.quic_socket import DatagramSocket

KEY = b"the cluster key of these tests.."
CERTIFICATE = self_signed()
WITHIN_S = 60.0


class Ask(msgspec.Struct, frozen=True):
    number: int = 0
    text: str = ""


class Answer(msgspec.Struct, frozen=True):
    number: int
    peer: str = ""


ASK = Ask()


@dataclass
class Handlers:
    """Counts what reaches the handlers."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    cancelled: int = 0
    calls: int = 0

    async def echo(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        self.calls += 1
        return Reply(Answer(ask.number + 1, context.peer), [bytes(payload)])

    async def fail(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        raise NotLeader("ask another", leader=7)

    async def crash(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        raise ZeroDivisionError("by accident")

    async def wait(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        self.waiting += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Reply(Answer(ask.number))

    async def produce(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        self.calls += 1
        half = bytes(ask.number // 2)
        return Reply(Answer(ask.number), [half, memoryview(half)])

    def service(self) -> Service:
        largest = RPC_PAYLOAD_BYTES_MAX
        return {
            "test.echo": Method(Ask, Answer, self.echo, largest),
            "test.fail": Method(Ask, Answer, self.fail, 0),
            "test.crash": Method(Ask, Answer, self.crash, 0),
            "test.wait": Method(Ask, Answer, self.wait, largest),
            "test.produce": Method(Ask, Answer, self.produce, 0),
            "test.small": Method(Ask, Answer, self.echo, 1000),
        }


@dataclass
class World:
    """`caller` reaches "node/1"; over QUIC it is another endpoint, `server`, on `port`."""

    caller: Endpoint
    server: Endpoint
    handlers: Handlers
    port: int = 0

    async def ask(
        self, method: str, ask: Ask = ASK, payload: Any = (), *, timeout_ms: int = 20_000
    ) -> tuple[Answer, memoryview]:
        return await self.caller.call("node/1", method, ask, Answer, payload, timeout_ms=timeout_ms)


def endpoint(name: str, *, key: bytes = KEY, certificate: Certificate = CERTIFICATE) -> Endpoint:
    return Endpoint(cluster_key=key, certificate=certificate, name=name)


async def server(
    handlers: Handlers, *, peer: str = "node/1", port: int = 0, key: bytes = KEY
) -> tuple[Endpoint, int]:
    made = endpoint("server", key=key)
    made.serve(peer, handlers.service())
    return made, await made.listen(peer, "127.0.0.1", port)


@contextlib.asynccontextmanager
async def quic_world() -> AsyncIterator[World]:
    handlers = Handlers()
    made, port = await server(handlers)
    caller = endpoint("host/a")
    caller.add_peer("node/1", "127.0.0.1", port)
    try:
        yield World(caller, made, handlers, port)
    finally:
        await caller.close()
        await made.close()


@contextlib.asynccontextmanager
async def stock_world() -> AsyncIterator[World]:
    """The same with stock aioquic in the engine's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREDASTORE_QUIC", "aioquic")
        async with quic_world() as world:
            yield world


@contextlib.asynccontextmanager
async def pipe_world() -> AsyncIterator[World]:
    handlers = Handlers()
    made = endpoint("host/a")
    made.serve("node/1", handlers.service())
    try:
        yield World(made, made, handlers)
    finally:
        await made.close()


WORLDS: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[World]]] = {
    "pipe": pipe_world,
    "quic": quic_world,
    "stock": stock_world,
}


def run(test: Coroutine[Any, Any, None]) -> None:
    """Runs a test on uvloop; no task may outlive it."""

    async def guarded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await test
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left over: {left}"

    uvloop.run(guarded())


async def succeeds(world: World) -> None:
    """Calls until a call works, as a client with a retry would."""
    while True:
        try:
            await world.ask("test.echo", timeout_ms=3000)
            return
        except (PeerUnreachable, PeerRefused, DeadlineExceeded):
            pause = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.01, pause.cancel)
            await asyncio.wait([pause])


class Stranger(QuicConnectionProtocol):
    """Stock aioquic at the other end: speaks QUIC, and whatever else the test wants."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received: dict[int, bytearray] = {}
        self.reset: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self.terminated: events.ConnectionTerminated | None = None
        self.changed = asyncio.Event()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self.received.setdefault(event.stream_id, bytearray()).extend(event.data)
        elif isinstance(event, events.StreamReset):
            self.reset[event.stream_id] = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.stopped[event.stream_id] = event.error_code
        elif isinstance(event, events.ConnectionTerminated):
            self.terminated = event
        self.changed.set()

    def open(self) -> int:
        return self._quic.get_next_available_stream_id()

    def write(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end_stream=end)
        self.transmit()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def message(self, stream_id: int) -> bytes:
        """The header of the next message on the stream, which is taken off."""
        found: list[FrameParser] = []

        def complete() -> bool:
            parser = FrameParser()
            parser.feed(bytes(self.received.get(stream_id, b"")))
            found[:] = [parser]
            return parser.complete

        await self.until(complete)
        self.received[stream_id] = bytearray(found[0].rest)
        return found[0].message().header

    async def prove(self, *, key: bytes = KEY, wanted: str = "node/1") -> None:
        certificate = self._quic.tls._peer_certificate
        assert certificate is not None
        caller = auth.ProofCaller(
            key,
            name="host/stranger",
            wanted=wanted,
            certificate_der=certificate.public_bytes(Encoding.DER),
        )
        self.write(0, auth.message(caller.hello))
        challenge = decode_struct(auth.Challenge, await self.message(0))
        self.write(0, auth.message(caller.prove(challenge)), end=True)
        caller.verify(decode_struct(auth.Proof, await self.message(0)))


@contextlib.asynccontextmanager
async def stranger(port: int, **changes: Any) -> AsyncIterator[Stranger]:
    configuration = client_configuration()
    for name, value in changes.items():
        setattr(configuration, name, value)
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Stranger
    ) as protocol:
        assert isinstance(protocol, Stranger)
        yield protocol


def request(method: str, ask: Ask = ASK, *, timeout_ms: int = 10_000, payload: int = 0) -> bytes:
    """A whole request up to its payload of `payload` bytes."""
    return encode_prefix(encode_request(method, timeout_ms, encode_struct(ask)), payload)


async def expect(error: type[BaseException], call: Awaitable[Any]) -> BaseException:
    """The error that `call` raises, which must be one of exactly this class."""
    try:
        await call
    except BaseException as raised:
        assert type(raised) is error, f"{raised!r} is not a {error.__name__}"
        return raised
    raise AssertionError(f"no {error.__name__}")


def send_with(patch: pytest.MonkeyPatch, send: Callable[..., None]) -> None:
    """Has every datagram go through `send`, which takes the place of DatagramSocket's."""

    def carry(self: DatagramSocket, engine: Engine, now: float, address: Any) -> bool:
        while (sizes := engine.send(self.out, now))[0]:
            send(self, self.out, *sizes, address)
        return False

    patch.setattr(DatagramSocket, "send", send)
    patch.setattr(DatagramSocket, "carry", carry)

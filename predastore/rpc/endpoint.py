"""A process's place in the cluster: what it serves, and how it reaches everybody else.

One `Endpoint` per process. A call to a peer that this process serves goes through the pipe;
any other goes over QUIC to the address given with `add_peer`. Each peer has bounds of its own
(rpc.admission), so that one that stalls takes nothing from the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from predastore.base.errors import PeerUnreachable, PredastoreError, RpcError, anew
from predastore.base.limits import RPC_TIMEOUT_MS_MAX
from predastore.rpc import pipe, quic_client
from predastore.rpc.admission import Admission
from predastore.rpc.auth import ANYONE
from predastore.rpc.certificate import Certificate
from predastore.rpc.deadlines import Deadlines
from predastore.rpc.framing import (
    Buffer,
    Message,
    decode_response,
    encode_struct,
    payload_length,
)
from predastore.rpc.peers import Dial, Peer
from predastore.rpc.quic_client import Outcome, settle
from predastore.rpc.quic_core import client_configuration
from predastore.rpc.quic_listener import QuicListener
from predastore.rpc.service import Method, Service

S = TypeVar("S", bound=msgspec.Struct)


class _Local:
    """A peer served by this process."""

    __slots__ = ("admission", "methods")

    def __init__(self, peer: str) -> None:
        self.methods: dict[str, Method] = {}
        self.admission = Admission(peer)


class Endpoint:
    """`name`: what this process calls itself towards those that it calls ("host/a").
    `cluster_key`: by which this process proves itself. `accepted`: by which others may, too."""

    def __init__(
        self,
        *,
        cluster_key: bytes,
        certificate: Certificate,
        name: str,
        accepted: Sequence[bytes] = (),
    ) -> None:
        self._cluster_keys = [cluster_key, *accepted]
        self._certificate = certificate
        self.name = name
        self._configuration = client_configuration()
        self._local: dict[str, _Local] = {}
        self._deadlines = Deadlines()
        self._listeners: list[QuicListener] = []
        self._remote: dict[str, Peer] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._loop = asyncio.get_running_loop()
        self._posting: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def serve(self, peer: str, service: Service) -> None:
        """Adds methods under the name `peer`; ValueError if one is there already."""
        local = self._local.setdefault(peer, _Local(peer))
        twice = local.methods.keys() & service.keys()
        if twice:
            raise ValueError(f"{peer} serves {sorted(twice)} already")
        local.methods.update(service)

    async def listen(self, peer: str, host: str, port: int) -> int:
        """Takes calls to `peer`, which is served here, over QUIC. Returns the port, which the
        system chooses when `port` is 0. OSError if the address can not be had."""
        methods = self._local.setdefault(peer, _Local(peer)).methods
        listener = QuicListener(
            peer, methods, cluster_keys=self._cluster_keys, certificate=self._certificate
        )
        port = await listener.start(host, port)
        self._listeners.append(listener)
        return port

    @property
    def cluster_keys(self) -> tuple[bytes, ...]:
        """By which this process proves itself; then those by which others may, too."""
        return tuple(self._cluster_keys)

    def use_keys(self, cluster_key: bytes, accepted: Sequence[bytes]) -> None:
        """From the next connection on, in either direction. Those that there are go on."""
        self._cluster_keys[:] = [cluster_key, *accepted]

    def add_peer(self, peer: str, host: str, port: int) -> None:
        """Where a remote peer is. A new address replaces the old one, and its connection."""
        if self._addresses.get(peer) == (host, port):
            return
        self._addresses[peer] = (host, port)
        old = self._remote.pop(peer, None)
        if old is not None:
            task = self._loop.create_task(old.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def add_seed(self, host: str, port: int) -> str:
        """Whoever listens at an address: the name to call it by. It proves the cluster key as
        everybody does; which peer it is, its answers tell."""
        name = f"{ANYONE} at {host}:{port}"
        self.add_peer(name, host, port)
        return name

    @property
    def refusal(self) -> str:
        """Why peers would not have this process: of one that was not reached since; else ""."""
        return next(
            (f"{one.name}: {one.refusal}" for one in self._remote.values() if one.refusal), ""
        )

    def _peer(self, name: str) -> Peer:
        peer = self._known(name)
        if peer is None:
            raise PeerUnreachable(f"{name}: no address is known")
        return peer

    def _known(self, name: str) -> Peer | None:
        peer = self._remote.get(name)
        if peer is None and (address := self._addresses.get(name)) is not None:
            peer = self._remote[name] = Peer(name, self._dial_to(name, *address), self._deadlines)
        return peer

    def _dial_to(self, name: str, host: str, port: int) -> Dial:
        return lambda: quic_client.dial(
            host,
            port,
            configuration=self._configuration,
            cluster_key=self._cluster_keys[0],
            name=self.name,
            deadlines=self._deadlines,
            wanted=ANYONE if name.startswith(f"{ANYONE} at ") else name,
        )

    async def call(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: type[S],
        payload: Sequence[Buffer] = (),
        *,
        timeout_ms: int,
    ) -> tuple[S, memoryview]:
        """One request, one response. Raises what the handler raised, or an RpcError.

        The buffers of `payload` are borrowed until this returns or raises.
        """
        if self._closed:
            raise PeerUnreachable(f"{peer}: this endpoint is closed")
        timeout_ms = min(timeout_ms, RPC_TIMEOUT_MS_MAX)
        now = self._loop.time()
        deadline = now + timeout_ms / 1000
        local = self._local.get(peer)
        if local is not None:
            return await self._call_local(local, method, request, response_type, payload, deadline)
        remote = self._peer(peer)
        body = encode_struct(request)
        answer: asyncio.Future[Message] = self._loop.create_future()
        posted = remote.post(
            method, body, payload, now=now, timeout_ms=timeout_ms, done=partial(settle, answer)
        )
        if posted is None:
            message = await remote.call(method, body, payload, deadline)
        else:
            try:
                message = await answer
            except asyncio.CancelledError:
                posted.give_up()
                raise
            finally:
                del answer  # its error has a traceback with this frame
        return decode_response(response_type, message.header), message.payload

    async def _call_local(
        self,
        local: _Local,
        method: str,
        request: msgspec.Struct,
        response_type: type[S],
        payload: Sequence[Buffer],
        deadline: float,
    ) -> tuple[S, memoryview]:
        size_bytes = payload_length(payload)
        if not local.admission.try_enter(size_bytes):
            await local.admission.enter(size_bytes, deadline)
        try:
            return await pipe.call(
                local.methods,
                method,
                request,
                response_type,
                payload=payload,
                deadline=deadline,
                deadlines=self._deadlines,
            )
        finally:
            local.admission.leave(size_bytes)

    def post(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: type[S],
        payload: Sequence[Buffer] = (),
        *,
        timeout_ms: int,
        done: Callable[[tuple[S, memoryview] | PredastoreError], None],
    ) -> Callable[[], object]:
        """`call` for those who do not wait: `done` gets, once, what it would return or raise,
        perhaps before this returns. No task is made where the request can be sent at once.

        What is returned gives the call up; `done` may be told of that, or not.
        """
        remote = None if peer in self._local or self._closed else self._known(peer)
        if remote is not None:

            def answered(outcome: Outcome) -> None:
                done(outcome if isinstance(outcome, RpcError) else _read(response_type, outcome))

            posted = remote.post(
                method,
                encode_struct(request),
                payload,
                now=self._loop.time(),
                timeout_ms=min(timeout_ms, RPC_TIMEOUT_MS_MAX),
                done=answered,
            )
            if posted is not None:
                return posted.give_up
        call = partial(
            self.call, peer, method, request, response_type, payload, timeout_ms=timeout_ms
        )
        task = self._loop.create_task(_told(call, done))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)
        return task.cancel

    async def close(self) -> None:
        """No further calls; calls in flight fail, and handlers are cancelled."""
        self._closed = True
        for peer in self._remote.values():
            await peer.close()
        self._remote.clear()
        for listener in self._listeners:
            await listener.close()
        if self._closing:
            await asyncio.wait(self._closing)


def _read(response_type: type[S], message: Message) -> tuple[S, memoryview] | PredastoreError:
    try:
        return decode_response(response_type, message.header), message.payload
    except PredastoreError as error:
        return error


async def _told(
    call: Callable[[], Awaitable[tuple[S, memoryview]]],
    done: Callable[[tuple[S, memoryview] | PredastoreError], None],
) -> None:
    outcome: tuple[S, memoryview] | PredastoreError
    try:
        outcome = await call()
    except PredastoreError as error:
        outcome = anew(error)
    done(outcome)

"""The listener's end: a UDP socket, the connections of its callers, and who may be one.

A new connection can do nothing but prove the cluster key (rpc.auth), on one stream, in a small
window, within RPC_HANDSHAKE_TIMEOUT_MS; who may begin one is for the gate to say (quic_gate). What
does not follow the protocol costs its sender the connection, and nobody else anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import encode_quic_version_negotiation

from predastore.base.errors import KeysDiffer, PeerRefused, RpcError
from predastore.base.limits import (
    RPC_CONNECTIONS_MAX,
    RPC_NAME_CHARS_SHOWN,
    RPC_PROOF_BYTES_MAX,
    RPC_REFUSED_HOSTS_MAX,
    RPC_REFUSED_LOG_MS,
)
from predastore.rpc import auth
from predastore.rpc.certificate import Certificate
from predastore.rpc.deadlines import Deadlines
from predastore.rpc.framing import FrameParser, decode_struct
from predastore.rpc.quic import CLOSED, REFUSED, RpcConnection, Stream
from predastore.rpc.quic_calls import CallServer
from predastore.rpc.quic_core import (
    CONNECTION_ID_BYTES,
    Address,
    QuicCore,
    certificate_der,
    server_configuration,
    stateless_reset,
)
from predastore.rpc.quic_gate import (
    VERSIONS,
    Admitted,
    GatePlace,
    LongHeader,
    QuicGate,
    long_header,
)
from predastore.rpc.quic_socket import DatagramSocket, datagram_bytes, resolve
from predastore.rpc.quic_takeover import core_class
from predastore.rpc.service import Method

logger = logging.getLogger(__name__)

_LONG_HEADER = 0x80


class QuicListener:
    """Serves `methods` as the peer `served`. `methods` may grow while it listens.

    `cluster_keys`: callers prove one of them; may change while it listens."""

    def __init__(
        self,
        served: str,
        methods: Mapping[str, Method],
        *,
        cluster_keys: Sequence[bytes],
        certificate: Certificate,
    ) -> None:
        self.served = served
        self.methods = methods
        self.cluster_keys = cluster_keys
        self.configuration = server_configuration(certificate)
        self.certificate_der = certificate_der(self.configuration)
        # The same after a restart, so that callers can be told that there was one.
        label = b"predastore rpc 1 stateless reset " + served.encode()
        self._reset_key = hmac.digest(cluster_keys[0], label, hashlib.sha256)
        self._socket: DatagramSocket | None = None
        self.gate = QuicGate(served)
        self._loop = asyncio.get_running_loop()
        self._routes: dict[bytes, _Session] = {}
        self.sessions: set[_Session] = set()
        self.deadlines = Deadlines()
        self._refused_at: dict[str, float] = {}  # loop time at which a host was last told of

    def refused(self, host: str, name: str) -> None:
        """Logs, now and then, that somebody at `host` who goes by `name` has another key."""
        now, known = self._loop.time(), self._refused_at
        if now - known.get(host, -math.inf) < RPC_REFUSED_LOG_MS / 1000:
            return
        while len(known) >= RPC_REFUSED_HOSTS_MAX:
            del known[next(iter(known))]
        known.pop(host, None)
        known[host] = now
        logger.warning(
            "a process with another cluster key was refused; if it is one of this cluster, give "
            "its file the same [cluster] name and secret, or the same [[auth]]",
            extra={"host": host, "calls_itself": name[:RPC_NAME_CHARS_SHOWN]},
        )

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which differs when `port` is 0. OSError if it can not."""
        family, address = await resolve(host, port)
        self._socket = DatagramSocket(family, self._received, lambda error: None)
        try:
            return self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise

    async def close(self) -> None:
        """Ends all connections and waits for the handlers that this cancels."""
        calls = [session.calls for session in self.sessions]
        for session in tuple(self.sessions):
            session.connection.close(CLOSED, f"{self.served} closes")
        if self._socket is not None:
            self._socket.close()
        for served in calls:
            await served.finished()

    @property
    def datagrams(self) -> DatagramSocket:
        assert self._socket is not None
        return self._socket

    def send(self, datagram: bytes, address: Address) -> None:
        self.datagrams.send(datagram, len(datagram), 0, address)

    def _received(self, data: memoryview, segment_bytes: int, address: Address) -> None:
        # What the kernel has joined came from one address, and so for one connection, but for a
        # handshake, where the ids change from one datagram to the next.
        if data[0] & _LONG_HEADER:
            size_bytes = segment_bytes or len(data)
            for start in range(0, len(data), size_bytes):
                self._datagram(data[start : start + size_bytes], address)
            return
        session = self._routes.get(bytes(data[1 : 1 + CONNECTION_ID_BYTES]))
        if session is not None:
            session.connection.receive(data, segment_bytes, address)
        else:
            self._unknown(bytes(data[:segment_bytes] if segment_bytes else data), address)

    def _datagram(self, data: memoryview, address: Address) -> None:
        if data[0] & _LONG_HEADER:
            session = self._handshaking(bytes(data), address)
        else:
            session = self._routes.get(bytes(data[1 : 1 + CONNECTION_ID_BYTES]))
        if session is not None:
            session.connection.receive(data, 0, address)

    def _unknown(self, datagram: bytes, address: Address) -> None:
        reset = stateless_reset(self._reset_key, datagram)
        if reset is not None and self.gate.may_answer(self._loop.time()):
            self.send(reset, address)

    def _handshaking(self, datagram: bytes, address: Address) -> _Session | None:
        header = long_header(datagram)
        if header is None:
            return None
        session = self._routes.get(header.destination)
        if session is not None or len(datagram) < SMALLEST_MAX_DATAGRAM_SIZE:
            return session
        if header.is_initial:
            return self._accept(header, address)
        if header.version not in VERSIONS and header.version:
            self._negotiate(header, address)
        return None

    def _negotiate(self, header: LongHeader, address: Address) -> None:
        if self.gate.may_answer(self._loop.time()):
            answer = encode_quic_version_negotiation(
                source_cid=header.destination,
                destination_cid=header.source,
                supported_versions=list(VERSIONS),
            )
            self.send(answer, address)

    def _accept(self, header: LongHeader, address: Address) -> _Session | None:
        if len(self.sessions) >= RPC_CONNECTIONS_MAX:
            return None  # it will try again
        admitted = self.gate.admit(header, address, self._loop.time())
        if not isinstance(admitted, Admitted):
            if admitted is not None:
                self.send(admitted, address)
            return None
        core = core_class()(
            replace(self.configuration, max_datagram_size=datagram_bytes(address)),
            reset_key=self._reset_key,
            original_destination_connection_id=admitted.original_id,
            retry_source_connection_id=admitted.retry_id,
        )
        session = _Session(self, core, admitted.place, str(address[0]))
        session.route(header.destination, True)
        session.route(core.host_cid, True)
        self.sessions.add(session)
        return session

    def leave(self, place: GatePlace) -> None:
        """Gives a place back when its time is over, or at once where that is past."""
        left_s = place.until - self._loop.time()
        if left_s <= 0:
            self.gate.leave(place)
        else:
            self._loop.call_later(left_s, self.gate.leave, place)

    def proven(self, place: GatePlace) -> None:
        self.gate.leave(place)

    @property
    def unproven_count(self) -> int:
        return self.gate.unproven_count

    def add_route(self, connection_id: bytes, session: _Session) -> None:
        self._routes[connection_id] = session

    def remove_route(self, connection_id: bytes) -> None:
        self._routes.pop(connection_id, None)


class _Session:
    """One caller's connection, from `host`."""

    def __init__(self, listener: QuicListener, core: QuicCore, place: GatePlace, host: str) -> None:
        self._listener = listener
        self._place = place
        self._host = host
        self._connection_ids: set[bytes] = set()
        self.connection = RpcConnection(
            core, listener.datagrams, opened=self._opened, ready=lambda: None, lost=self._lost
        )
        self.connection.connection_ids = self.route
        self.calls = CallServer(self.connection, listener.methods, listener.deadlines)
        self._proven = False
        self._timer = asyncio.get_running_loop().call_at(place.until, self._too_late)

    def route(self, connection_id: bytes, issued: bool) -> None:
        if issued:
            self._connection_ids.add(connection_id)
            self._listener.add_route(connection_id, self)
        else:
            self._connection_ids.discard(connection_id)
            self._listener.remove_route(connection_id)

    def _too_late(self) -> None:
        self.connection.close(REFUSED, "no proof of the cluster key in time")

    def _opened(self, stream_id: int) -> Stream:
        if self._proven:
            return self.calls.opened(stream_id)
        # Flow control allows an unproven caller this one stream.
        return _ProofStream(self, stream_id)

    def proof(self) -> auth.ProofListener:
        return auth.ProofListener(
            self._listener.cluster_keys,
            served=self._listener.served,
            certificate_der=self._listener.certificate_der,
        )

    def refused(self, name: str) -> None:
        self._listener.refused(self._host, name)

    def proven(self, peer: str) -> None:
        self._proven = True
        self._timer.cancel()
        self._listener.proven(self._place)
        self.calls.peer = peer
        self.connection.core.trust()

    def _lost(self, error: RpcError) -> None:
        self._timer.cancel()
        if not self._proven:
            self._listener.leave(self._place)
        for connection_id in self._connection_ids:
            self._listener.remove_route(connection_id)
        self._listener.sessions.discard(self)


class _ProofStream:
    """The listener's half of rpc.auth on the connection's first stream."""

    def __init__(self, session: _Session, stream_id: int) -> None:
        self._session = session
        self._stream_id = stream_id
        self._proof = session.proof()
        self._parser = FrameParser(RPC_PROOF_BYTES_MAX, 0)
        self._greeted = False

    def data_received(self, data: bytes, end: bool) -> None:
        try:
            self._parser.feed(data)
            while self._parser.complete:
                header, rest = self._parser.message().header, self._parser.rest
                self._parser = FrameParser(RPC_PROOF_BYTES_MAX, 0)
                if self._step(header):
                    return
                self._parser.feed(rest)
            if end:
                raise PeerRefused("the proof was cut short")
        except PeerRefused as error:
            if isinstance(error, KeysDiffer):
                self._session.refused(self._proof.caller)
            self._session.connection.close(REFUSED, str(error))

    def _step(self, header: bytes) -> bool:
        """Handles a message; True if it was the last."""
        connection = self._session.connection
        if not self._greeted:
            self._greeted = True
            answer = self._proof.challenge(decode_struct(auth.Hello, header))
            connection.send_now(self._stream_id, auth.message(answer), end=False)
            return False
        peer, proof = self._proof.verify(decode_struct(auth.Proof, header))
        connection.send_now(self._stream_id, auth.message(proof), end=True)
        connection.release(self._stream_id)
        self._session.proven(peer)
        return True

    def reset_received(self, error_code: int) -> None:
        self._session.connection.close(REFUSED, "the proof was cut short")

    def stop_received(self) -> None:
        self.reset_received(0)

    def connection_lost(self, error: RpcError) -> None:
        pass  # the session hears of it, too

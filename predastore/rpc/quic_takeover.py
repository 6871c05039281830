"""The take-over: aioquic does the handshake, then the engine of `_fast.quic` has the 1-RTT packets.

aioquic stays the control plane: connection ids, paths, tokens and the close are still its own.
Frames of these reach it one by one, and the packets that it sends in answer are numbered and
encrypted by the engine (`_Sealed` stands where aioquic has its keys). It sees neither streams nor
their acknowledgements any longer; of ACK frames it gets those that may be about its own packets.

Taken from aioquic (1.7), once, in `_take_over`: keys, packet numbers, connection ids, limits,
the round trip, and the streams that the peer has opened early. A listener takes over when the
handshake is complete, a caller when it is confirmed; neither has sent on a stream before.

A listener takes datagrams from the address that the handshake came from, and from no other: a
caller whose address changes is not followed, it dials again.

PREDASTORE_QUIC=aioquic in the environment leaves everything to aioquic.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.crypto import CryptoContext, CryptoPair, KeyUnavailableError
from aioquic.quic.packet import (
    QuicProtocolVersion,
    QuicTransportParameters,
    pull_quic_transport_parameters,
)
from aioquic.tls import CipherSuite, Direction, Epoch, ExtensionType

from predastore._fast import quic
from predastore._fast.quic import Engine, Event
from predastore.base.limits import (
    RPC_CONNECTION_WINDOW_BYTES,
    RPC_DATAGRAM_BYTES_MAX,
    RPC_STREAMS_MAX,
)
from predastore.rpc.quic_core import (
    ISSUED,
    READY,
    RESTARTED,
    RETIRED,
    Address,
    Outlet,
    Plane,
    QuicCore,
)

_CIPHERS: Final = {
    CipherSuite.AES_128_GCM_SHA256: quic.AES_128_GCM,
    CipherSuite.AES_256_GCM_SHA384: quic.AES_256_GCM,
    CipherSuite.CHACHA20_POLY1305_SHA256: quic.CHACHA20_POLY1305,
}
_STREAM_EVENTS: Final = frozenset((quic.DATA, quic.RESET, quic.STOP))


def core_class() -> type[QuicCore]:
    """What connections are made of in this process."""
    return QuicCore if os.environ.get("PREDASTORE_QUIC") == "aioquic" else EngineCore


class _Elsewhere(CryptoContext):
    """Keys that are there, as far as aioquic asks."""

    def is_valid(self) -> bool:
        return True

    def teardown(self) -> None:
        pass


class _Sealed(CryptoPair):
    """In place of aioquic's own 1-RTT keys: its packets are encrypted by the engine, and what it
    is to decrypt (it came in one datagram with a packet of the handshake) goes to the engine."""

    def __init__(self, core: EngineCore, engine: Engine) -> None:
        self.aead_tag_size = 16
        self.send = self.recv = _Elsewhere()
        self._core = core
        self._engine = engine

    @property
    def key_phase(self) -> int:
        return 0  # the engine sets the bit

    def update_key(self) -> None:
        self._engine.update_keys()

    def teardown(self) -> None:
        pass

    def encrypt_packet(self, header: bytes, payload: bytes, packet_number: int) -> bytes:
        return self._engine.seal(header, payload, packet_number)

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        self._engine.receive(packet, self._core.last_received)
        raise KeyUnavailableError("the engine has it")


class EngineCore(QuicCore):
    """A Core whose streams an engine carries, once the handshake is done."""

    _engine: Engine | None = None
    _peer_address: Address = ()
    _control_due = False
    _known_ids: dict[int, bytes]
    _first_secrets: Mapping[Direction, bytes] = MappingProxyType({})
    _early: list[tuple[bytes, Address]]  # what aioquic had to send before the take-over

    @property
    def plane(self) -> Plane:
        assert self._engine is not None, "no streams before the handshake is done"
        return self._engine

    def trust(self) -> None:
        assert self._engine is not None
        streams_max = 0 if self._is_client else RPC_STREAMS_MAX + 1
        self._engine.grant(RPC_CONNECTION_WINDOW_BYTES, streams_max)

    def close(
        self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        self._control_due = True
        super().close(error_code, frame_type, reason_phrase)

    def ping(self) -> None:
        if self._engine is not None:
            self._engine.ping()
        else:
            super().ping()

    @property
    def unanswered_since(self) -> float:
        return super().unanswered_since if self._engine is None else self._engine.unanswered_since

    # Datagrams and timers

    def receive(self, data: memoryview, segment_bytes: int, address: Address, now: float) -> bool:
        if self._engine is None:
            return super().receive(data, segment_bytes, address, now)
        if not self._is_client and address != self._peer_address:
            return False
        self.last_received = now
        return self._engine.receive(data, now, segment_bytes)

    def transmit(self, now: float, outlet: Outlet) -> None:
        engine = self._engine
        if engine is None:
            super().transmit(now, outlet)
            return
        if self._control_due:
            self._transmit_control(now, outlet)
        self.more_to_send = outlet.carry(engine, now, self._peer_address)

    def _transmit_control(self, now: float, outlet: Outlet) -> None:
        """What aioquic has to send."""
        engine = self._engine
        assert engine is not None
        self._control_due = False
        self._packet_number = engine.next_packet_number
        datagrams = self.datagrams_to_send(now)
        engine.next_packet_number = self._packet_number
        engine.forward_acks = bool(self._spaces[Epoch.ONE_RTT].sent_packets)
        engine.set_peer_connection_id(self._peer_cid.cid)
        for datagram, address in (*self._early, *datagrams):
            outlet.send(datagram, len(datagram), 0, address)
        self._early = []

    def get_timer(self) -> float | None:
        engine = self._engine
        if engine is None:
            return super().get_timer()
        at = engine.timeout()
        if engine.forward_acks:
            self._close_at = at
            return min(at, super().get_timer() or at)
        return at

    def handle_timer(self, now: float) -> None:
        engine = self._engine
        if engine is None:
            super().handle_timer(now)
            return
        engine.on_timeout(now)
        if engine.forward_acks or now >= engine.idle_at:
            self._close_at = engine.idle_at
            self._control_due = True
            super().handle_timer(now)

    # Events

    def take_events(self) -> list[Event]:
        engine = self._engine
        if engine is None:
            return self._handshake_events()
        found = engine.events()
        for event in found:
            if event[0] not in _STREAM_EVENTS:
                return self._handled(found)
        return found

    def _handshake_events(self) -> list[Event]:
        found = super().take_events()
        if self._is_client:
            found = [event for event in found if event[0] != READY]
            if self._handshake_confirmed:
                found.append((READY, 0, b"", 0))
        if not any(event[0] == READY for event in found):
            return found
        self._take_over()
        found += super().take_events()
        # aioquic tells of those ids that it sent; the peer may use any of them from now on.
        found += [(ISSUED, 0, own_id, 0) for own_id in self._known_ids.values()]
        return found

    def _handled(self, mixed: list[Event]) -> list[Event]:
        """Deals with what is for aioquic; returns the rest, and what came of it."""
        engine = self._engine
        assert engine is not None
        found: list[Event] = []
        for event in mixed:
            kind, number, data, value = event
            if kind in _STREAM_EVENTS:
                found.append(event)
            elif kind in (quic.CONTROL, quic.ACK):
                if self.termination is None:
                    self._frame(number, data)
            elif kind == quic.CONNECTION_ID:
                self._peer_switched(number)
            elif kind == quic.FOREIGN:
                if self._is_client and self.is_stateless_reset(data):
                    found.append((RESTARTED, 0, b"", 0))
                elif data[0] & 0x80:
                    self._control_due = True
                    self.receive_datagram(data, self._peer_address, self.last_received)
                    mixed += engine.events()  # of what came in the same datagram
            elif kind == quic.ERROR:
                self.close(value, number, data.decode())
        found += self._id_changes()
        return found

    def _frame(self, number: int, frame: bytes) -> None:
        assert self._engine is not None
        self._control_due = True
        self._packet_number = self._engine.next_packet_number
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=self._known_ids.get(number, self.host_cid),
            network_path=self._network_paths[0],
            quic_logger_frames=None,
            time=self.last_received,
            version=self._version,
        )
        try:
            self._payload_received(context, frame)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        self._engine.forward_acks = bool(self._spaces[Epoch.ONE_RTT].sent_packets)

    def _peer_switched(self, number: int) -> None:
        """The peer uses another of our connection ids; so do we of its (RFC 9000, 9.5)."""
        self.host_cid = self._known_ids.get(number, self.host_cid)
        if not self._is_client:
            self.change_connection_id()
            self._control_due = True

    def _id_changes(self) -> list[Event]:
        """What aioquic has done with our connection ids."""
        engine = self._engine
        assert engine is not None
        super().take_events()
        known, self._known_ids = self._known_ids, self._own_ids()
        found: list[Event] = []
        for number in known.keys() - self._known_ids.keys():
            engine.remove_connection_id(number)
            found.append((RETIRED, 0, known[number], 0))
        for number in self._known_ids.keys() - known.keys():
            engine.add_connection_id(number, self._known_ids[number])
            found.append((ISSUED, 0, self._known_ids[number], 0))
        return found

    def _own_ids(self) -> dict[int, bytes]:
        return {entry.sequence_number: entry.cid for entry in self._host_cids}

    def request_key_update(self) -> None:
        if self._engine is not None:
            self._engine.update_keys()
        else:
            super().request_key_update()

    # The take-over itself

    def _update_traffic_key(
        self, direction: Direction, epoch: Epoch, cipher_suite: CipherSuite, secret: bytes
    ) -> None:
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)
        if epoch == Epoch.ONE_RTT:
            # The peer may update its keys before the take-over; aioquic then forgets these.
            self._first_secrets = {**self._first_secrets, direction: secret}

    def _take_over(self) -> None:
        pair, space = self._cryptos[Epoch.ONE_RTT], self._spaces[Epoch.ONE_RTT]
        now, send, receive = self.last_received, pair.send, pair.recv
        assert send.cipher_suite is not None
        assert send.secret is not None
        assert receive.secret is not None
        self._early = self.datagrams_to_send(now)  # ACKs of what came so far among it
        numbers = space.received_packets
        parameters = self._peer_parameters()
        exponent = parameters.ack_delay_exponent
        largest = min(RPC_DATAGRAM_BYTES_MAX, parameters.max_udp_payload_size or 65_527)
        datagram_bytes = min(self._max_datagram_size, largest)
        self._known_ids = self._own_ids()
        self._peer_address = self._network_paths[0].addr
        engine = self._engine = Engine(
            is_client=self._is_client,
            cipher=_CIPHERS[send.cipher_suite],
            version=2 if send.version == QuicProtocolVersion.VERSION_2 else 1,
            send_secret=send.secret,
            receive_secret=receive.secret,
            first_send_secret=self._first_secrets[Direction.ENCRYPT],
            first_receive_secret=self._first_secrets[Direction.DECRYPT],
            key_phase=receive.key_phase,
            own_connection_ids=sorted(self._known_ids.items()),
            peer_connection_id=self._peer_cid.cid,
            next_packet_number=self._packet_number,
            received=[(number, number + 1) for number in sorted(numbers._received)],
            received_floor=numbers._lower,
            now=now,
            round_trip=self._loss._rtt_smoothed,
            datagram_bytes=datagram_bytes,
            datagram_bytes_max=max(datagram_bytes, largest),
            window_bytes=self._window_bytes,
            streams_max=self._local_max_streams_bidi.value,
            own_stream_bytes_max=self._local_max_stream_data_bidi_remote,
            peer_bytes_max=self._remote_max_data,
            peer_stream_bytes_max_local=self._remote_max_stream_data_bidi_local,
            peer_stream_bytes_max_remote=self._remote_max_stream_data_bidi_remote,
            peer_streams_max=self._remote_max_streams_bidi,
            peer_ack_delay_exponent=3 if exponent is None else exponent,
            peer_ack_delay_max=self._loss.max_ack_delay,
        )
        engine.idle_timeout = self._idle_timeout()
        self._cryptos[Epoch.ONE_RTT] = _Sealed(self, engine)
        space.ack_at = None
        engine.forward_acks = bool(space.sent_packets)
        self._hand_over_streams(engine)

    def _peer_parameters(self) -> QuicTransportParameters:
        # aioquic 1.7 reads the peer's exponent of ack delays, and forgets it.
        for kind, data in self.tls.received_extensions or ():
            if kind == ExtensionType.QUIC_TRANSPORT_PARAMETERS:
                return pull_quic_transport_parameters(Buffer(data=data))
        raise AssertionError("no handshake completes without them")

    def _hand_over_streams(self, engine: Engine) -> None:
        for stream_id, stream in self._streams.items():
            receiver = stream.receiver
            begin: int = receiver.starting_offset()
            final_size: int = -1 if receiver._final_size is None else receiver._final_size
            if receiver.is_finished:
                begin = final_size  # it came to an end, delivered or reset
            early = [
                (early.start, bytes(receiver._buffer[early.start - begin : early.stop - begin]))
                for early in receiver._ranges
                if early.stop > begin
            ]
            engine.adopt_stream(stream_id, begin, final_size, early)
        engine.consume(self._consumed_bytes)
        self._streams.clear()
        self._streams_queue.clear()
        self._control_due = True

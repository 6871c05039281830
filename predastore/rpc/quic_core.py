"""aioquic, tamed: with rpc.quic_takeover and rpc.quic_ended what knows its private parts (1.7).

A `QuicCore` is a connection, sans-IO, to a `Connection`: datagrams in and out, and events. What its
streams do goes through its `plane`; here that is the core itself, and aioquic does all of it.

What stock `QuicConnection` lacks for us, each with the member that has to be touched:

- Flow control that follows the reader. aioquic doubles MAX_DATA whenever half of it has been
  received, read or not. Here MAX_DATA is what has been consumed plus a fixed window
  (`_local_max_data`), and a stream's limit never grows: a message fits it
  (`_write_stream_limits`).
- Few rights before the proof. A listener opens with one stream and a small window
  (`_local_max_streams_bidi`); `trust()` opens the rest. A caller grants its peer no streams.
- Back pressure. `unacked_bytes` tells how much of a stream is not acknowledged yet
  (`_streams`, `sender`), which is all that bounds what aioquic buffers.
- Bursts. `datagrams_to_send` sends all that the congestion window allows, which holds up the
  loop for long; here it stops after a burst and `more_to_send` says so (`_loss._cc`). This
  takes the place of aioquic's pacer, whose waits are far below a timer's resolution.
- Acknowledgements at once (`_ack_delay`): the owner flushes once for all that was received.
- Stateless resets (RFC 9000, 10.3), so that callers of a process that was killed and started
  again learn of it at once: tokens come from a key that outlives the process (`_host_cids`).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from dataclasses import replace
from ssl import CERT_NONE
from typing import Any, Final, Protocol

from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit, QuicConnection
from aioquic.quic.packet import QuicHeader, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from predastore._fast.quic import DATA, RESET, STOP, Engine, Event
from predastore.base.limits import (
    RPC_BURST_DATAGRAMS_MAX,
    RPC_CONNECTION_WINDOW_BYTES,
    RPC_DATAGRAM_BYTES,
    RPC_IDLE_TIMEOUT_MS,
    RPC_MESSAGE_BYTES_MAX,
    RPC_STREAMS_MAX,
    RPC_UNPROVEN_WINDOW_BYTES,
)
from predastore.rpc.certificate import Certificate
from predastore.rpc.framing import Buffer as Bytes

Address = tuple[Any, ...]  # as the socket module has it: two parts, or four with IPv6

# Events beside those of streams (DATA, RESET, STOP), in the same form: kind, number, data, value.
READY: Final = 100  # TLS is done, and `plane` is there
ISSUED: Final = 101  # data: another connection id of ours
RETIRED: Final = 102  # data: it is no longer
RESTARTED: Final = 103  # the peer does not know this connection any longer


class Outlet(Protocol):
    """Where datagrams go. `out`: room for a batch of them."""

    out: bytearray

    def send(self, data: Bytes, size_bytes: int, segment_bytes: int, address: Address) -> None:
        """`size_bytes` of `data`: datagrams of `segment_bytes` (0: just one)."""

    def carry(self, engine: Engine, now: float, address: Address) -> bool:
        """What an engine has to send, up to a bound. True: there is more."""


class Plane(Protocol):
    """What is done with streams; `predastore._fast.quic` says what each of these does."""

    def can_open(self) -> bool: ...
    def open_stream(self) -> int: ...
    def write(self, stream_id: int, data: Bytes, end: bool, urgent: bool) -> None: ...
    def can_write(self, stream_id: int) -> bool: ...
    def unacked_bytes(self, stream_id: int) -> int: ...
    def window_bytes(self) -> int: ...
    def reset(self, stream_id: int, error_code: int) -> None: ...
    def stop(self, stream_id: int, error_code: int) -> None: ...
    def gather(self, stream_id: int, offset: int, first: bytes, size_bytes: int) -> bool: ...
    def consume(self, size_bytes: int) -> None: ...


ALPN = "predastore/1"
CONNECTION_ID_BYTES = 8
# AES with 128 bits has no known weakness and four rounds fewer.
_CIPHER_SUITES = [
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
]
_RESET_TOKEN_BYTES = 16
_RESET_DATAGRAM_BYTES_MIN = 1 + CONNECTION_ID_BYTES + 16 + _RESET_TOKEN_BYTES


def client_configuration() -> QuicConfiguration:
    """Any certificate will do for TLS: rpc.auth proves who is there."""
    return _configured(QuicConfiguration(is_client=True, verify_mode=CERT_NONE))


def server_configuration(certificate: Certificate) -> QuicConfiguration:
    chain = x509.load_pem_x509_certificates(certificate.cert_pem)
    configuration = QuicConfiguration(is_client=False)
    configuration.certificate = chain[0]
    configuration.certificate_chain = list(chain[1:])
    configuration.private_key = serialization.load_pem_private_key(certificate.key_pem, None)
    return _configured(configuration)


def _configured(configuration: QuicConfiguration) -> QuicConfiguration:
    return replace(
        configuration,
        alpn_protocols=[ALPN],
        cipher_suites=_CIPHER_SUITES,
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=RPC_IDLE_TIMEOUT_MS / 1000,
        max_data=RPC_CONNECTION_WINDOW_BYTES,
        max_stream_data=RPC_MESSAGE_BYTES_MAX,
        max_datagram_size=RPC_DATAGRAM_BYTES,
    )


def certificate_der(configuration: QuicConfiguration) -> bytes:
    """The certificate that a listener shows."""
    der: bytes = configuration.certificate.public_bytes(serialization.Encoding.DER)
    return der


class _Window(Limit):
    """A MAX_DATA that only `grant` raises, and that aioquic's doubling leaves alone."""

    granted = 0

    @property
    def value(self) -> int:
        return self.granted

    @value.setter
    def value(self, value: int) -> None:
        pass

    def grant(self, value: int) -> None:
        self.granted = max(self.granted, value)


class _NoPacer(QuicPacketPacer):
    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        pass


class QuicCore(QuicConnection):
    """One connection, sans-IO. `more_to_send`: call `datagrams_to_send` again soon."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        reset_key: bytes = b"",
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self._reset_key = reset_key
        self._window_bytes = (
            RPC_CONNECTION_WINDOW_BYTES if self._is_client else RPC_UNPROVEN_WINDOW_BYTES
        )
        self._consumed_bytes = 0
        before = self._local_max_data
        self._local_max_data: _Window = _Window(before.frame_type, before.name, 0)
        self._local_max_data.grant(self._window_bytes)
        self._local_max_data.sent = self._window_bytes
        self._set_stream_limits(bidirectional=0 if self._is_client else 1)
        self._loss._pacer = _NoPacer(max_datagram_size=configuration.max_datagram_size)
        self._ack_delay = 0.0
        self._burst_bytes = RPC_BURST_DATAGRAMS_MAX * configuration.max_datagram_size
        self.more_to_send = False
        self._restarted = False
        self.last_received = 0.0
        self._unanswered_since = math.inf
        if not self._is_client:
            self._derive_reset_tokens()

    @property
    def plane(self) -> Plane:
        return self

    def _set_stream_limits(self, *, bidirectional: int) -> None:
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = bidirectional
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0

    # Flow control

    def trust(self) -> None:
        """The peer has proven the cluster key: full window, all streams."""
        self._window_bytes = RPC_CONNECTION_WINDOW_BYTES
        self._local_max_data.grant(self._consumed_bytes + self._window_bytes)
        if not self._is_client:
            self._local_max_streams_bidi.value += RPC_STREAMS_MAX

    def consume(self, size_bytes: int) -> None:
        """So many received bytes are no longer held; the peer may send as many more."""
        self._consumed_bytes += size_bytes
        allowed = self._consumed_bytes + self._window_bytes
        # In steps, not to send a frame for every message.
        if allowed - self._local_max_data.granted >= self._window_bytes // 8:
            self._local_max_data.grant(allowed)

    def _undelivered_bytes(self, stream_id: int) -> int:
        """Bytes of a reset stream that count as received and will never be delivered."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        undelivered: int = stream.receiver.highest_offset - stream.receiver.starting_offset()
        return undelivered

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        pass

    # Streams

    def open_stream(self) -> int:
        stream_id = self.get_next_available_stream_id()
        self._get_or_create_stream_for_send(stream_id)
        return stream_id

    def can_open(self) -> bool:
        return self.get_next_available_stream_id() // 4 < self._remote_max_streams_bidi

    def write(self, stream_id: int, data: Bytes, end: bool, urgent: bool) -> None:
        self.send_stream_data(stream_id, bytes(data), end_stream=end)

    def unacked_bytes(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        return 0 if stream is None else len(stream.sender._buffer)

    def window_bytes(self) -> int:
        return self._loss._cc.congestion_window

    def can_write(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return (
            stream is not None
            and stream.sender._buffer_fin is None
            and stream.sender._reset_error_code is None
        )

    def gather(self, stream_id: int, offset: int, first: bytes, size_bytes: int) -> bool:
        return False

    def reset(self, stream_id: int, error_code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.sender.reset(error_code)

    def stop(self, stream_id: int, error_code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.receiver.stop(error_code)

    # Datagrams

    def receive(self, data: memoryview, segment_bytes: int, address: Address, now: float) -> bool:
        """One datagram, or several of the same size, the last maybe shorter. False if it is known
        that there are no events, and no end."""
        for start in range(0, len(data), segment_bytes or len(data)):
            datagram = bytes(data[start : start + segment_bytes] if segment_bytes else data)
            if self._is_client and self.is_stateless_reset(datagram):
                self._restarted = True
            else:
                self.receive_datagram(datagram, address, now)
        self.last_received = now
        self._unanswered_since = now if self._loss._cc.bytes_in_flight else math.inf
        return True

    def transmit(self, now: float, outlet: Outlet) -> None:
        for datagram, address in self.datagrams_to_send(now):
            outlet.send(datagram, len(datagram), 0, address)

    def take_events(self) -> list[Event]:
        found: list[Event] = []
        while (event := self.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                found.append((DATA, event.stream_id, event.data, int(event.end_stream)))
            elif isinstance(event, events.StreamReset):
                self.consume(self._undelivered_bytes(event.stream_id))
                found.append((RESET, event.stream_id, b"", event.error_code))
            elif isinstance(event, events.StopSendingReceived):
                found.append((STOP, event.stream_id, b"", event.error_code))
            elif isinstance(event, events.HandshakeCompleted):
                found.append((READY, 0, b"", 0))
            elif isinstance(event, events.ConnectionIdIssued):
                found.append((ISSUED, 0, event.connection_id, 0))
            elif isinstance(event, events.ConnectionIdRetired):
                found.append((RETIRED, 0, event.connection_id, 0))
        if self._restarted:
            found.append((RESTARTED, 0, b"", 0))
        return found

    @property
    def unanswered_since(self) -> float:
        """Since when the peer owes an answer and is silent; infinite if it does not."""
        return self._unanswered_since

    def ping(self) -> None:
        self.send_ping(0)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        control = self._loss._cc
        window_bytes = control.congestion_window
        burst_end = control.bytes_in_flight + self._burst_bytes
        control.congestion_window = min(window_bytes, burst_end)
        try:
            return super().datagrams_to_send(now)
        finally:
            if control.bytes_in_flight:
                self._unanswered_since = min(self._unanswered_since, now)
            left = control.congestion_window - control.bytes_in_flight
            self.more_to_send = burst_end < window_bytes and left < self._max_datagram_size
            control.congestion_window = window_bytes

    # The peer

    @property
    def is_client(self) -> bool:
        return self._is_client

    @property
    def termination(self) -> events.ConnectionTerminated | None:
        """Why the connection ends, as soon as that is certain."""
        return self._close_event

    def peer_certificate_der(self) -> bytes:
        certificate = self.tls._peer_certificate
        assert certificate is not None
        return certificate.public_bytes(serialization.Encoding.DER)

    # Stateless reset

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        if not self._is_client:
            self._derive_reset_tokens()

    def _derive_reset_tokens(self) -> None:
        for connection_id in self._host_cids:
            connection_id.stateless_reset_token = reset_token(self._reset_key, connection_id.cid)

    def is_stateless_reset(self, data: bytes) -> bool:
        """The peer no longer knows this connection."""
        if len(data) < _RESET_DATAGRAM_BYTES_MIN or data[0] & 0x80:
            return False
        known = (self._peer_cid, *self._peer_cid_available)
        token = data[-_RESET_TOKEN_BYTES:]
        return any(
            hmac.compare_digest(token, connection_id.stateless_reset_token)
            for connection_id in known
        )


def long_header(datagram: bytes) -> QuicHeader | None:
    """The header of a handshake's datagram, or None where it is none."""
    try:
        return pull_quic_header(Buffer(data=datagram), CONNECTION_ID_BYTES)
    except ValueError:
        return None


def reset_token(key: bytes, connection_id: bytes) -> bytes:
    return hmac.digest(key, connection_id, hashlib.sha256)[:_RESET_TOKEN_BYTES]


def stateless_reset(key: bytes, datagram: bytes) -> bytes | None:
    """The answer to a datagram of a connection that is not known, or None.

    Always shorter than the datagram, so that two ends can not keep each other busy.
    """
    if datagram[0] & 0x80 or len(datagram) <= _RESET_DATAGRAM_BYTES_MIN:
        return None
    connection_id = datagram[1 : 1 + CONNECTION_ID_BYTES]
    noise = bytearray(os.urandom(_RESET_DATAGRAM_BYTES_MIN - _RESET_TOKEN_BYTES))
    noise[0] = 0x40 | (noise[0] & 0x3F)
    return bytes(noise) + reset_token(key, connection_id)

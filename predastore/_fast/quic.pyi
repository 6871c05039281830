"""The 1-RTT data plane of one QUIC connection, sans-IO: datagrams in, datagrams out, time given.

Whoever did the handshake gives the secrets, the connection ids and the transport parameters, and
goes on to handle what an Engine does not: every frame about connection ids, paths, the handshake
and the end comes out as a CONTROL event, and `seal` protects the packets that answer it. Only
bidirectional streams are carried; the peer may open no others.

All times are seconds of one monotonic clock. After any call: take `events()`, then `send` until
it has nothing more, then see to it that `on_timeout` is called at `timeout()`. Nothing raises for
what a peer sent: a fault of the peer is an ERROR event, after which the engine does nothing more.
"""

from typing import Final

from typing_extensions import Buffer

AES_128_GCM: Final[int]
AES_256_GCM: Final[int]
CHACHA20_POLY1305: Final[int]

DATAGRAM_BYTES_MAX: Final[int]
"""The largest datagram that an engine sends."""
BATCH_BYTES: Final[int]
"""Room that `send` needs."""

# The kinds of events: (kind, number, data, value).

DATA: Final[int]
"""(DATA, stream id, bytes, 1 at the end else 0): the next bytes of a stream, in order. They count
against the window until `consume`."""
RESET: Final[int]
"""(RESET, stream id, b"", error code): the peer gave its half up. What it had not delivered is
consumed."""
STOP: Final[int]
"""(STOP, stream id, b"", error code): the peer wants no more; our half has been reset."""
CONTROL: Final[int]
"""(CONTROL, sequence number of the own connection id that the packet had, frame, 0)."""
ACK: Final[int]
"""(ACK, as CONTROL, the ACK frame, 0): while `forward_acks` is set, after it was handled here."""
CONNECTION_ID: Final[int]
"""(CONNECTION_ID, sequence number, b"", 0): the peer uses another of our connection ids now."""
FOREIGN: Final[int]
"""(FOREIGN, 0, datagram, 0): a long header, an unknown connection id, or not to be decrypted (as
a stateless reset). A bounded number for each `receive`."""
ERROR: Final[int]
"""(ERROR, frame type, reason, transport error code): the connection has to be closed with it."""

Event = tuple[int, int, bytes, int]

def multi_buffer() -> bool:
    """AES-GCM is Intel's IPsec multi-buffer library's; else it is libcrypto's. The first call in a
    process takes 12 ms, in which that library tests itself."""

def use_multi_buffer(wanted: bool) -> None:
    """For tests: False makes all keys libcrypto's that are set up from now on."""

class Engine:
    """`secret`s are the TLS traffic secrets, `version` the QUIC version (1 or 2, their labels
    differ); the first ones are those before any key update: header protection keeps to them.
    `received` are half-open ranges of packet numbers that came already, all below
    `received_floor` count as received, too. Limits are those of the transport parameters: `own_`
    what we announced, `peer_` what the peer did; `window_bytes` is what the peer may have under
    way, over all streams, before any of it is consumed; `streams_max` how many it may have open.
    """

    forward_acks: bool
    next_packet_number: int
    """Who sends a packet of its own (`seal`) takes numbers from here, and writes back the next."""
    idle_timeout: float
    """`timeout` comes to `idle_at` at the latest; what then is done is up to the owner."""
    datagram_bytes: int
    """Size of the datagrams now; path MTU discovery raises it up to the bound given at first."""

    def __init__(
        self,
        *,
        is_client: bool,
        cipher: int,
        version: int,
        send_secret: bytes,
        receive_secret: bytes,
        first_send_secret: bytes,
        first_receive_secret: bytes,
        key_phase: int,
        own_connection_ids: list[tuple[int, bytes]],
        peer_connection_id: bytes,
        next_packet_number: int,
        received: list[tuple[int, int]],
        received_floor: int,
        now: float,
        round_trip: float,
        datagram_bytes: int,
        datagram_bytes_max: int,
        window_bytes: int,
        streams_max: int,
        own_stream_bytes_max: int,
        peer_bytes_max: int,
        peer_stream_bytes_max_local: int,
        peer_stream_bytes_max_remote: int,
        peer_streams_max: int,
        peer_ack_delay_exponent: int,
        peer_ack_delay_max: float,
    ) -> None: ...

    # Datagrams

    def receive(self, data: Buffer, now: float, segment_bytes: int = 0) -> bool:
        """One datagram, or several: all of `segment_bytes` but the last, which may be shorter.
        A writable buffer is overwritten. False if there are no events to be had."""

    def send(self, out: Buffer, now: float) -> tuple[int, int]:
        """Fills `out` (BATCH_BYTES) with datagrams: how many bytes, and the size of each, only the
        last may be shorter. (0, 0): nothing is to be sent, or not now."""

    def transmit(
        self, fd: int, out: Buffer, now: float, address: bytes | None, batches: int
    ) -> bool | tuple[int, bytes, int]:
        """Sends up to so many batches through a socket, as _fast.udp.Sender does. Whether there is
        more; or the errno for which it stopped, what was not sent of the last batch, and the size
        of its datagrams."""

    def datagrams(self, now: float) -> list[bytes]:
        """All that `send` would give, one by one."""

    def timeout(self) -> float:
        """When to call `on_timeout`; infinite if nothing is under way."""

    def on_timeout(self, now: float) -> None: ...
    def events(self) -> list[Event]:
        """What happened since the last call."""

    # Streams

    def can_open(self) -> bool:
        """The peer allows one more."""

    def open_stream(self) -> int:
        """A new stream; ValueError if the peer does not allow it."""

    def adopt_stream(
        self, stream_id: int, delivered: int, final_size: int, early: list[tuple[int, bytes]]
    ) -> None:
        """A stream that the peer opened before, of which `delivered` bytes were given to its
        reader. `final_size` is -1 while it is not known; `early` came out of order, by offset."""

    def write(self, stream_id: int, data: Buffer, end: bool, urgent: bool) -> None:
        """Appends to the stream; of `bytes`, or a view of them, a long piece is kept and not copied
        until it is acknowledged. `urgent` data goes before data that is not. ValueError if
        `can_write` is false."""

    def can_write(self, stream_id: int) -> bool:
        """Neither ended nor reset, by us or by STOP_SENDING."""

    def unacked_bytes(self, stream_id: int) -> int:
        """Bytes written and not acknowledged."""

    def window_bytes(self) -> int:
        """The congestion window: what may be on the way."""

    def reset(self, stream_id: int, error_code: int) -> None:
        """Gives our half up; nothing if it is done already."""

    def stop(self, stream_id: int, error_code: int) -> None:
        """Asks the peer to give its half up; what still comes is dropped. Nothing if it is done."""

    def gather(self, stream_id: int, offset: int, first: bytes, size_bytes: int) -> bool:
        """The stream's next bytes come in one event, once there are `size_bytes` with `first`, the
        last of those that came before, which count as not delivered then; or fewer, at the end.
        False, and nothing changes, unless what was delivered ends at `offset`."""

    def consume(self, size_bytes: int) -> None:
        """So many bytes of DATA events are no longer held."""

    def grant(self, window_bytes: int, streams_max: int) -> None:
        """New bounds for the peer, none lower than before."""

    # Connection

    def ping(self) -> None: ...
    def update_keys(self) -> None:
        """As soon as RFC 9001, 6.1 allows."""

    def bound_keys(self, update_after: int, sealed_max: int, undecryptable_max: int) -> None:
        """Tighter bounds than those of RFC 9001, 6.6: packets sent after which the keys are
        updated, and after which the connection ends; packets that came and were not authentic."""

    def set_peer_connection_id(self, connection_id: bytes) -> None: ...
    def add_connection_id(self, sequence_number: int, connection_id: bytes) -> None: ...
    def remove_connection_id(self, sequence_number: int) -> None: ...
    def seal(self, header: bytes, payload: bytes, packet_number: int) -> bytes:
        """A whole packet with the current keys, whose phase is put into `header`."""

    def stats(self) -> dict[str, int]:
        """Counters: packets_sent, packets_received, packets_lost, packets_spurious, pto_count,
        bytes_in_flight, window (of congestion), round_trip_ns, round_trip_min_ns, streams,
        key_updates, undecryptable, duplicates, datagram_bytes, memory_bytes, blocked."""

    @property
    def more_to_send(self) -> bool:
        """The last `send` ended because its batch was full."""

    @property
    def idle_at(self) -> float:
        """RFC 9000, 10.1: counted from what came last, or what was sent first after that."""

    @property
    def unanswered_since(self) -> float:
        """When the oldest packet was sent that the peer should have answered, and since when
        nothing has come; infinite if none."""

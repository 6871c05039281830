"""An end of a connection as the simulation sees it, and the one of stock aioquic."""

from __future__ import annotations

from typing import Protocol

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType
from aioquic.tls import Epoch

from predastore.rpc.quic_core import long_header

ADDRESS = ("192.0.2.1", 4433)


def first_id(datagram: bytes) -> bytes | None:
    """The id that a client chose for its server, where the datagram begins a connection."""
    header = long_header(datagram)
    if header is None or header.packet_type != QuicPacketType.INITIAL or len(datagram) < 1200:
        return None
    return header.destination_cid


class Application(Protocol):
    """What an end tells."""

    def ready(self, now: float) -> None: ...
    def data(self, stream_id: int, data: bytes, end: bool, now: float) -> None: ...
    def reset(self, stream_id: int, error_code: int) -> None: ...
    def stopped(self, stream_id: int, error_code: int) -> None: ...
    def lost(self, reason: str) -> None: ...


class End(Protocol):
    """Sans-IO. `now` never goes back. Calls may make it tell its application things."""

    application: Application

    def connect(self, now: float) -> None: ...
    def receive(self, datagram: bytes, now: float) -> None: ...
    def to_send(self, now: float) -> list[bytes]: ...
    def timer(self) -> float | None: ...
    def fire(self, now: float) -> None: ...
    def open(self) -> int | None:
        """A new stream's id; None while the peer allows none."""

    def write(self, stream_id: int, data: bytes, end: bool) -> None: ...
    def reset(self, stream_id: int, error_code: int) -> None: ...
    def stop(self, stream_id: int, error_code: int) -> None: ...
    def update_keys(self) -> bool:
        """False where the last update is not settled yet."""

    def rotate(self) -> bool:
        """Uses another of the peer's connection ids; False if there is none to spare."""

    def close(self) -> None: ...
    def leftovers(self) -> dict[str, int]:
        """What is still held, by kind; all zero once every stream has ended."""


class StockEnd:
    """aioquic's own `QuicConnection`, used the way that its documentation shows."""

    application: Application

    def __init__(self, configuration: QuicConfiguration, *, chosen_id: bytes | None = None) -> None:
        self.quic = QuicConnection(
            configuration=configuration, original_destination_connection_id=chosen_id
        )
        self._phase: tuple[int, int] = (0, 0)  # the key phase, and the first packet number in it

    def connect(self, now: float) -> None:
        self.quic.connect(ADDRESS, now=now)

    def receive(self, datagram: bytes, now: float) -> None:
        self.quic.receive_datagram(datagram, ADDRESS, now=now)
        self._tell(now)

    def to_send(self, now: float) -> list[bytes]:
        datagrams = [datagram for datagram, _ in self.quic.datagrams_to_send(now=now)]
        self._note_phase()
        return datagrams

    def timer(self) -> float | None:
        return self.quic.get_timer()

    def fire(self, now: float) -> None:
        self.quic.handle_timer(now=now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        self._note_phase()
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                self.application.data(event.stream_id, event.data, event.end_stream, now)
            elif isinstance(event, events.StreamReset):
                self.application.reset(event.stream_id, event.error_code)
            elif isinstance(event, events.StopSendingReceived):
                self.application.stopped(event.stream_id, event.error_code)
            elif isinstance(event, events.HandshakeCompleted):
                self.application.ready(now)
            elif isinstance(event, events.ConnectionTerminated):
                self.application.lost(f"{event.error_code:#x} {event.reason_phrase}".strip())

    def open(self) -> int | None:
        stream_id = self.quic.get_next_available_stream_id()
        if stream_id // 4 >= self.quic._remote_max_streams_bidi:
            return None
        self.quic.send_stream_data(stream_id, b"")
        return stream_id

    def write(self, stream_id: int, data: bytes, end: bool) -> None:
        self.quic.send_stream_data(stream_id, data, end)

    def reset(self, stream_id: int, error_code: int) -> None:
        self.quic.reset_stream(stream_id, error_code)

    def stop(self, stream_id: int, error_code: int) -> None:
        self.quic.stop_stream(stream_id, error_code)

    def _note_phase(self) -> None:
        phase = self.quic._cryptos[Epoch.ONE_RTT].recv.key_phase
        if phase != self._phase[0]:
            self._phase = phase, self.quic._packet_number

    def update_keys(self) -> bool:
        acked = self.quic._spaces[Epoch.ONE_RTT].largest_acked_packet if self._confirmed else -1
        if acked < self._phase[1] or self.quic._cryptos[Epoch.ONE_RTT]._update_key_requested:
            return False
        self.quic.request_key_update()
        self.quic.send_ping(0)
        return True

    @property
    def _confirmed(self) -> bool:
        return self.quic._handshake_confirmed

    def rotate(self) -> bool:
        if not self._confirmed or not self.quic._peer_cid_available:
            return False
        self.quic.change_connection_id()
        return True

    def close(self) -> None:
        self.quic.close()

    def leftovers(self) -> dict[str, int]:
        return {"streams": len(self.quic._streams)}

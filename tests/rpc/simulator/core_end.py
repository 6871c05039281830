"""The product's own end: a `QuicCore`, driven as `rpc.quic.Connection` drives it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from aioquic.quic.configuration import QuicConfiguration

from predastore._fast.quic import BATCH_BYTES, DATA, RESET, STOP, Engine
from predastore.base.limits import RPC_BATCHES_MAX
from predastore.rpc.quic_core import READY, QuicCore
from predastore.rpc.quic_takeover import EngineCore

from .ends import ADDRESS, Application

_GATHERED_BYTES: Final = 20_000


class Outlet:
    def __init__(self) -> None:
        self.out = bytearray(BATCH_BYTES)
        self.datagrams: list[bytes] = []

    def send(
        self, data: bytes | bytearray | memoryview, size_bytes: int, segment_bytes: int, _: object
    ) -> None:
        step = segment_bytes or size_bytes
        for start in range(0, size_bytes, step):
            self.datagrams.append(bytes(data[start : min(start + step, size_bytes)]))

    def carry(self, engine: Engine, now: float, address: object) -> bool:
        for _ in range(RPC_BATCHES_MAX):
            size_bytes, segment_bytes = engine.send(self.out, now)
            if not size_bytes:
                return False
            self.send(self.out, size_bytes, segment_bytes, address)
        return True


class CoreEnd:
    """Everything that comes is consumed at once; the peer is trusted as soon as TLS is done."""

    application: Application

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        kind: type[QuicCore] = EngineCore,
        chosen_id: bytes | None = None,
        prepare: Callable[[Engine], None] = lambda engine: None,
    ) -> None:
        self.core = kind(configuration, original_destination_connection_id=chosen_id)
        self._outlet = Outlet()
        self._prepare = prepare
        self._lost = False
        self._begun: set[int] = set()

    def connect(self, now: float) -> None:
        self.core.connect(ADDRESS, now=now)

    def receive(self, datagram: bytes, now: float) -> None:
        self.core.receive(memoryview(bytearray(datagram)), 0, ADDRESS, now)
        self._tell(now)

    def to_send(self, now: float) -> list[bytes]:
        self.core.transmit(now, self._outlet)
        while self.core.more_to_send:
            self.core.transmit(now, self._outlet)
        datagrams, self._outlet.datagrams = self._outlet.datagrams, []
        return datagrams

    def timer(self) -> float | None:
        at = self.core.get_timer()
        return None if at is None or at == math.inf else at

    def fire(self, now: float) -> None:
        self.core.handle_timer(now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        for kind, number, data, value in self.core.take_events():
            if kind == DATA:
                if self._gathers(number, data, bool(value)):
                    continue
                self.core.plane.consume(len(data))
                self.application.data(number, data, bool(value), now)
            elif kind == RESET:
                self.application.reset(number, value)
            elif kind == STOP:
                self.application.stopped(number, value)
            elif kind == READY:
                self.core.trust()
                if isinstance(self.core.plane, Engine):
                    self._prepare(self.core.plane)
                self.application.ready(now)
        ended = self.core.termination
        if ended is not None and not self._lost:
            self._lost = True
            self.application.lost(f"{ended.error_code:#x} {ended.reason_phrase}".strip())

    def _gathers(self, number: int, data: bytes, end: bool) -> bool:
        """Of every third stream the bytes come in one piece, those that are here once more."""
        if end or number % 12 > 3 or number in self._begun:
            return False
        self._begun.add(number)
        return self.core.plane.gather(number, len(data), data, _GATHERED_BYTES)

    def open(self) -> int | None:
        plane = self.core.plane
        return plane.open_stream() if plane.can_open() else None

    def write(self, stream_id: int, data: bytes, end: bool) -> None:
        if self.core.plane.can_write(stream_id):  # the peer may have stopped it
            self.core.plane.write(stream_id, data, end, stream_id % 8 == 0)

    def reset(self, stream_id: int, error_code: int) -> None:
        self.core.plane.reset(stream_id, error_code)

    def stop(self, stream_id: int, error_code: int) -> None:
        self.core.plane.stop(stream_id, error_code)

    def update_keys(self) -> bool:
        if not self._carries:
            return False
        self.core.request_key_update()
        self.core.ping()
        return True

    def rotate(self) -> bool:
        if not self._carries or not self.core._peer_cid_available:
            return False
        self.core.change_connection_id()
        self.core._control_due = True
        return True

    def close(self) -> None:
        self.core.close()

    @property
    def _carries(self) -> bool:
        return getattr(self.core, "_engine", None) is not None

    def leftovers(self) -> dict[str, int]:
        if not self._carries:
            return {"streams": len(self.core._streams)}
        stats = self.core.plane.stats()
        return {name: stats[name] for name in ("streams", "bytes_in_flight", "memory_bytes")}

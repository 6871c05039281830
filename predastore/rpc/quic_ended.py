"""Stand-ins for what an ended connection, or a stream that was released, has let go of.

A connection, its owner, its socket and its streams know each other. Once it has ended they refer
to these instead, so that buffers go at once, and not with a collection some day; and who still
calls them needs not ask first.
"""

from __future__ import annotations

from typing import Final

from predastore.base.errors import RpcError
from predastore.rpc.framing import Buffer
from predastore.rpc.quic_core import QuicCore


class _NoPlane:
    """The plane of a connection that has ended."""

    def can_open(self) -> bool:
        return False

    def open_stream(self) -> int:
        raise AssertionError("nobody opens a stream where `can_open` says no")

    def write(self, stream_id: int, data: Buffer, end: bool, urgent: bool) -> None:
        pass

    def can_write(self, stream_id: int) -> bool:
        return False

    def unacked_bytes(self, stream_id: int) -> int:
        return 0

    def window_bytes(self) -> int:
        return 0

    def reset(self, stream_id: int, error_code: int) -> None:
        pass

    def stop(self, stream_id: int, error_code: int) -> None:
        pass

    def gather(self, stream_id: int, offset: int, first: bytes, size_bytes: int) -> bool:
        return False

    def consume(self, size_bytes: int) -> None:
        pass


NO_PLANE: Final = _NoPlane()


def let_go(core: QuicCore) -> None:
    """Nobody asks it for anything any more. aioquic's parts know each other in two dozen ways,
    which end here."""
    for space in core._spaces.values():
        space.sent_packets.clear()
    vars(core).clear()


def nothing(*_: object) -> None:
    """Whom a connection tells once it has ended."""


def no_stream(stream_id: int) -> _Nobody:
    raise AssertionError(f"stream {stream_id} of a connection that has ended")


class _Nobody:
    """Owner of streams that were released."""

    def data_received(self, data: bytes, end: bool) -> None:
        pass

    def reset_received(self, error_code: int) -> None:
        pass

    def stop_received(self) -> None:
        pass

    def connection_lost(self, error: RpcError) -> None:
        pass


NOBODY: Final = _Nobody()

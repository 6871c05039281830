"""The bounds of one server: those of limits.py, which a test may tighten."""

from __future__ import annotations

from dataclasses import dataclass

from predastore.base import limits


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes in bytes, times in seconds; each is explained where limits.py has its value."""

    connections_max: int = limits.HTTP_CONNECTIONS_MAX
    head_bytes_max: int = limits.HTTP_HEAD_BYTES_MAX
    headers_max: int = limits.HTTP_HEADERS_MAX
    uri_bytes_max: int = limits.HTTP_URI_BYTES_MAX
    body_buffer_bytes_max: int = limits.HTTP_BODY_BUFFER_BYTES_MAX
    write_buffer_bytes_max: int = limits.HTTP_WRITE_BUFFER_BYTES_MAX
    drain_bytes_max: int = limits.HTTP_DRAIN_BYTES_MAX
    linger_bytes_max: int = limits.HTTP_LINGER_BYTES_MAX
    linger_s: float = limits.HTTP_LINGER_S
    handshake_timeout_s: float = limits.HTTP_HANDSHAKE_TIMEOUT_S
    head_timeout_s: float = limits.HTTP_HEAD_TIMEOUT_S
    idle_timeout_s: float = limits.HTTP_IDLE_TIMEOUT_S
    progress_timeout_s: float = limits.HTTP_PROGRESS_TIMEOUT_S
    progress_bytes_min: int = limits.HTTP_PROGRESS_BYTES_MIN
    tick_s: float = limits.HTTP_TICK_S

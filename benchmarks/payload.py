"""Bodies of benchmark objects: many different ones, all slices of one shared buffer.

Body `number` of `size_bytes` is a sequence of pieces of PIECE_BYTES (the last one shorter), each a
view of the pool at a place that depends on the number and on the piece. So a body of any size
costs no memory and no copy, two bodies differ (of large ones LARGE_BODIES), and every process makes
the same ones, the load generator among them (loadgen/body.h).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = 1 << 20
LARGE_BODIES: Final = 16
_SPREAD_BYTES: Final = 4 << 20
_SEED: Final = b"predastore benchmarks"
_POOL: Final = memoryview(hashlib.shake_128(_SEED).digest(PIECE_BYTES + _SPREAD_BYTES))


def pieces(number: int, size_bytes: int) -> Iterator[memoryview]:
    """The body, piece by piece."""
    identity = number if size_bytes < PIECE_BYTES else number % LARGE_BODIES
    at = identity * 65_003
    for start in range(0, size_bytes, PIECE_BYTES):
        place = (at + start // PIECE_BYTES * 1_000_003) % _SPREAD_BYTES
        yield _POOL[place : place + min(PIECE_BYTES, size_bytes - start)]


def digest(number: int, size_bytes: int) -> bytes:
    """SHA-256 of the body."""
    found = hashlib.sha256()
    for piece in pieces(number, size_bytes):
        found.update(piece)
    return found.digest()


def key(number: int, prefix: str = "bench/") -> str:
    """The object's key; `number_of` reads it back."""
    return f"{prefix}{number % 97:02}/object-{number:08}"


def number_of(key_or_path: str) -> int:
    return int(key_or_path.rpartition("-")[2])

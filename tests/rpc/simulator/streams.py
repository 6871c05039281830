"""What the two applications do with a connection: streams whose every byte both know beforehand.

The client opens streams and writes; the server answers on the same stream, some before they have
read everything. Some streams are reset by their writer, or stopped by their reader, on the way.
Of those, what has arrived must be a beginning of what was sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from random import Random

STREAMS_MAX = 16
RESET_CODE, STOP_CODE = 11, 12


@dataclass
class Direction:
    """One way of a stream."""

    content: bytes
    chunk_bytes: int
    cut_at: int | None = None  # the writer resets, or the reader stops, after so many bytes
    by_reader: bool = False
    written: int = 0
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False  # the reader has seen the end
    cut: bool = False  # by either of them

    @property
    def settled(self) -> bool:
        return self.ended or self.cut

    def chunk(self) -> tuple[bytes, bool]:
        piece = self.content[self.written : self.written + self.chunk_bytes]
        self.written += len(piece)
        return piece, self.written == len(self.content)


@dataclass
class Plan:
    """One stream, as it was drawn."""

    number: int
    opens_at: float
    request: Direction
    response: Direction
    answers_early: bool


def of_seed(seed: int, volume_bytes: int) -> list[Plan]:
    rng = Random(f"streams {seed}")
    count = rng.randint(1, STREAMS_MAX)
    return [_plan(rng, number, volume_bytes // count) for number in range(count)]


def _plan(rng: Random, number: int, share_bytes: int) -> Plan:
    request, response = _direction(rng, share_bytes), _direction(rng, share_bytes)
    return Plan(number, rng.random() * 1.5, request, response, rng.random() < 0.4)


def _direction(rng: Random, share_bytes: int) -> Direction:
    size_bytes = int(share_bytes ** rng.random()) if rng.random() < 0.9 else 0
    made = Direction(rng.randbytes(size_bytes), rng.choice([1 << 10, 1 << 14, 1 << 20]))
    if size_bytes and rng.random() < 0.12:
        made.cut_at = rng.randrange(size_bytes)
        made.by_reader = rng.random() < 0.5
        made.chunk_bytes = min(made.chunk_bytes, 1 << 12)
    return made


def fault(direction: Direction) -> str:
    """What is wrong with a way that has come to its end; "" if nothing is."""
    if direction.cut:
        if not direction.content.startswith(direction.received):
            return "what arrived before the cut is not what was sent"
    elif not direction.ended:
        return f"unfinished: {len(direction.received)} of {len(direction.content)} bytes"
    elif _sha256(direction.received) != _sha256(direction.content):
        return f"{len(direction.received)} bytes arrived that differ from what was sent"
    return ""


def _sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()

"""Random bytes for ids: of writes, commits, versions. They are of no use to who guesses them.

The kernel is asked for many at a time: each call to it lets go of the GIL, and a busy process waits
long to have it back.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Final

PIECE_BYTES: Final = 10
_PIECES: Final = 256  # had at a time

_pieces: deque[bytes] = deque()  # a pop is one step, whatever threads there are


def random_bytes(count: int) -> bytes:
    """`count` random bytes, at most PIECE_BYTES."""
    try:
        piece = _pieces.popleft()
    except IndexError:
        pool = os.urandom(PIECE_BYTES * _PIECES)
        piece = pool[:PIECE_BYTES]
        _pieces.extend(
            pool[at : at + PIECE_BYTES] for at in range(PIECE_BYTES, len(pool), PIECE_BYTES)
        )
    return piece[:count]

"""The states of a connection.

OPENING   accepted; TLS, if any, is not there yet
IDLE      waiting for a head (or the rest of one)
SERVING   a handler has a request; pipelined bytes wait, bounded, in `Inbound`
LINGER    the last answer is out; input is dropped for a moment, so that the answer is not
          lost to a reset (closing with unread input resets a TCP connection)
CLOSED
"""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    OPENING = 0
    IDLE = 1
    SERVING = 2
    LINGER = 3
    CLOSED = 4

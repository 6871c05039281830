"""Named places where a test makes the process die or an error come up.

A step after which a process may end calls `failpoint("node.batch.written")`. The environment
variable PREDASTORE_FAILPOINTS says what happens there:

    PREDASTORE_FAILPOINTS="node.batch.written=kill, node.segment.sealed=raise:3"

`kill` sends SIGKILL to this process, `raise` raises FailpointReached; the number says at which
passage, the first by default. Without the variable, a call looks into an empty dictionary. A test
within the process uses `arm` and `disarm`. Each name stands at one place of the source.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

VARIABLE: Final = "PREDASTORE_FAILPOINTS"
ACTIONS: Final = ("kill", "raise")


class FailpointReached(Exception):
    """What a failpoint with the action `raise` raises: a fault that nobody expects."""


_armed: dict[str, tuple[str, int]] = {}  # name -> action, passages left
_lock = threading.Lock()


def failpoint(name: str) -> None:
    """A step of this name has been done."""
    if _armed:
        _pass(name)


def _pass(name: str) -> None:
    with _lock:
        if name not in _armed:
            return
        action, left = _armed[name]
        if left > 1:
            _armed[name] = (action, left - 1)
            return
        del _armed[name]
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise FailpointReached(name)


def arm(name: str, action: str, passage: int = 1) -> None:
    """The action happens once, at this many-th passage from now."""
    if action not in ACTIONS or passage < 1:
        raise ValueError(f"failpoint {name}: an action is one of {ACTIONS}, a passage is from 1 on")
    with _lock:
        _armed[name] = (action, passage)


def disarm() -> None:
    """Nothing happens anywhere."""
    with _lock:
        _armed.clear()


def arm_all(text: str) -> None:
    """What the environment variable says. ValueError if it can not be read."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, passage = rest.partition(":")
        arm(name, action, int(passage or 1))


arm_all(os.environ.get(VARIABLE, ""))

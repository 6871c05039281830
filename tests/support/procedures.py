"""Procedures and questions that tests call: a counter, a refusal, an error, a sum.

PROCEDURES are those of a program of the first level, BASE_LEVEL, NEWER those of the next; NEXT
those of the program after this one.
"""

from __future__ import annotations

from predastore.s3db import LEVEL
from predastore.s3db.procedures import Procedure, Procedures, Question, ReadView, Refusal, View

TABLE = "counters"


def count(view: View, name: bytes) -> bytes:
    """Adds one to a counter; its value."""
    value = b"%d" % (int(view.get(TABLE, name) or 0) + 1)
    view.put(TABLE, name, value)
    return value


def take(view: View, name: bytes) -> bytes:
    """Takes one away again; b"none" where there is none."""
    view.put(TABLE, b"taken", name)
    left = int(view.get(TABLE, name) or 0) - 1
    if left < 0:
        raise Refusal(b"none")
    view.put(TABLE, name, b"%d" % left)
    return b"%d" % left


def stumble(view: View, _: bytes) -> bytes:
    view.put(TABLE, b"stumbled", b"")
    raise KeyError("a mistake in a procedure")


def total(view: ReadView, _: bytes) -> bytes:
    """The sum of all counters."""
    walk = view.walk(TABLE)
    found, more = 0, walk.seek(b"")
    while more:
        found += int(walk.value()) if walk.value().isdigit() else 0
        more = walk.next()
    return b"%d" % found


def count_by_ten(view: View, name: bytes) -> bytes:
    value = b"%d" % (int(view.get(TABLE, name) or 0) + 10)
    view.put(TABLE, name, value)
    return value


_PROCEDURES = (
    Procedure("test.count", 2, count),
    Procedure("test.take", 2, take),
    Procedure("test.stumble", 2, stumble, quick_bytes=0),
)
_QUESTIONS = (
    Question("test.total", 2, total),
    Question("test.slow-total", 2, total, quick_bytes=0),
)

PROCEDURES = Procedures(_PROCEDURES, _QUESTIONS, level=2)
NEWER = Procedures(
    (*_PROCEDURES, Procedure("test.count-by-ten", 3, count_by_ten)), _QUESTIONS, level=3
)
NEXT = Procedures(
    (*_PROCEDURES, Procedure("test.count-by-ten", LEVEL + 1, count_by_ten)),
    _QUESTIONS,
    level=LEVEL + 1,
)

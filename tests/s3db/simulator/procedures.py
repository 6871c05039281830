"""What the simulated state machine runs as procedures: compare-and-set, a counter, a transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from predastore.s3db.procedures import Procedure, Procedures, Refusal, View
from predastore.s3db.raft.messages import BASE_LEVEL

TABLE = "registers"
STEP = 1_000_000_000  # of the counter: no put writes such values


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def _answer(found: int | None) -> bytes:
    return msgspec.msgpack.encode(found)


def cas(view: View, arguments: bytes) -> bytes:
    key, value, expected = msgspec.msgpack.decode(arguments)
    found = _number(view.get(TABLE, key))
    if found != expected:
        raise Refusal(_answer(found))
    view.put(TABLE, key, b"%d" % value)
    return _answer(found)


def add(view: View, arguments: bytes) -> bytes:
    (key,) = msgspec.msgpack.decode(arguments)
    found = _number(view.get(TABLE, key))
    view.put(TABLE, key, b"%d" % ((found or 0) + STEP))
    return _answer(found)


def move(view: View, arguments: bytes) -> bytes:
    """The value of `key` to `target`, if it has one."""
    key, target = msgspec.msgpack.decode(arguments)
    value = view.get(TABLE, key)
    view.delete(TABLE, key)
    if value is None:
        raise Refusal(_answer(None))
    view.put(TABLE, target, value)
    return _answer(int(value))


OLDEST = BASE_LEVEL
_NEXT = BASE_LEVEL + 1
_ALL = [
    Procedure("sim.cas", OLDEST, cas),
    Procedure("sim.add", OLDEST, add),
    Procedure("sim.move", _NEXT, move),
]

PROGRAMS = {  # by their level
    level: Procedures([one for one in _ALL if one.level <= level], level=level)
    for level in (OLDEST, _NEXT)
}
NEWEST = max(PROGRAMS)


def procedure_of(kind: str) -> Procedure | None:
    """That of a command, if it is one."""
    return PROGRAMS[NEWEST].get(f"sim.{kind}")


def level_of(kind: str) -> int:
    procedure = procedure_of(kind)
    return OLDEST if procedure is None else procedure.level


class _Registers:
    """As much of a View as the procedures above use."""

    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = dict(values)

    def get(self, _: str, key: bytes) -> bytes | None:
        value = self.values.get(key.decode())
        return None if value is None else b"%d" % value

    def put(self, _: str, key: bytes, value: bytes) -> None:
        self.values[key.decode()] = int(value)

    def delete(self, _: str, key: bytes) -> None:
        self.values.pop(key.decode(), None)


def run(name: str, arguments: tuple[Any, ...], values: Mapping[str, int]) -> tuple[Any, Any]:
    """(what the registers are then, the answer)."""
    view = _Registers(values)
    try:
        answer = PROGRAMS[NEWEST][f"sim.{name}"].run(
            cast(View, view), msgspec.msgpack.encode(arguments)
        )
    except Refusal as refusal:
        return dict(values), msgspec.msgpack.decode(refusal.answer)
    return view.values, msgspec.msgpack.decode(answer)

"""The state machine of the simulation: a few registers, and a catalog, durable only where synced.

A request is applied once: the last request of each client is kept, with what it found (Raft 6.3).
Some commands are procedures of the registers (procedures.py), whose answer is what they found;
others are those of the product's catalog, of whose answers the CRC stands for what they found.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from predastore._fast.crc import crc32c
from predastore.base.errors import MemberFailed
from predastore.catalog.procedures import PROCEDURES
from predastore.s3db import clock
from predastore.s3db.clock import ClusterTime, Tick
from predastore.s3db.raft.messages import COMMAND, Entry
from reference.database import Database, Tables

from . import procedures


class Command(msgspec.Struct, array_like=True, frozen=True):
    """Operation `number` of `client`, which counts them."""

    kind: str  # put or delete, or a procedure: cas, add, move; s3db's own, or the catalog's
    key: str
    value: int | None
    expected: int | None
    client: int
    number: int
    target: str = ""
    arguments: bytes = b""  # of a procedure of the catalog


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Command)

Requests = dict[int, tuple[int, int | None]]  # client -> (number, what it found)
# index, level, time, registers, requests, tables of the catalog
_State = tuple[int, int, bytes, dict[str, int], Requests, Tables]


def encode(command: Command) -> bytes:
    return _ENCODER.encode(command)


def encode_tick(name: str, tick: Tick) -> bytes:
    """Of a command of s3db's own (clock.py)."""
    return encode(Command(name, "", None, None, 0, 0, clock.pack(tick).hex()))


class Machine:
    def __init__(self, rng: random.Random, *, remembers: bool, keeps_answers: bool) -> None:
        """`remembers`: which requests were applied; without, a retried one is applied twice.
        `keeps_answers`: of procedures; without, a retried one is answered with nothing.
        `level_used`: the highest level of a command that was done."""
        self._rng = rng
        self._remembers = remembers
        self._keeps_answers = keeps_answers
        self.applied_index = 0
        self.level_used = procedures.OLDEST
        self.time = ClusterTime()
        self.values: dict[str, int] = {}
        self.catalog = Database()
        self._requests: Requests = {}
        self.sync()

    def apply(self, entry: Entry) -> int | None:
        """What was found at the key before."""
        assert entry.index == self.applied_index + 1
        self.applied_index = entry.index
        if entry.kind != COMMAND:
            return None
        command = _DECODER.decode(entry.data)
        if command.kind in clock.BUILT_IN:
            self.time = clock.called(command.kind, self.time, bytes.fromhex(command.target))[0]
            return None
        self.level_used = max(self.level_used, procedures.level_of(command.kind))
        number, found = self._requests.get(command.client, (0, None))
        if self._remembers and command.number <= number:
            return found
        found = kept = self.values.get(command.key)
        if command.kind == "delete":
            self.values.pop(command.key, None)
        elif command.kind == "put":
            assert command.value is not None
            self.values[command.key] = command.value
        elif command.kind in PROCEDURES:
            run = PROCEDURES[command.kind].run
            found = crc32c(self.catalog.call(run, command.arguments, self.time.time_ms))
            kept = found if self._keeps_answers else None
        else:
            self.values, found = procedures.run(command.kind, _arguments(command), self.values)
            kept = found if self._keeps_answers else None
        self._requests[command.client] = (command.number, kept)
        return found

    def sync(self) -> None:
        self._durable = self._state()

    def _state(self) -> _State:
        values, requests = dict(self.values), dict(self._requests)
        tables = self.catalog.tables  # a call makes others
        return self.applied_index, self.level_used, self.time.pack(), values, requests, tables

    def crash(self) -> None:
        """What was not synced may be there or not, as a whole."""
        if self._rng.random() < 0.5:
            self._take(*self._durable)
        self.sync()

    def _take(
        self,
        index: int,
        level: int,
        time: bytes,
        values: dict[str, int],
        requests: Requests,
        tables: Tables,
    ) -> None:
        self.applied_index, self.level_used, self.time = index, level, clock.unpack(time)
        self.values, self._requests = dict(values), dict(requests)
        self.catalog.tables = tables

    def digest(self) -> str:
        requests = sorted(self._requests.items())
        tables = [
            (name, sorted(rows.items())) for name, rows in self.catalog.tables.items() if rows
        ]
        registers = sorted(self.values.items())
        return repr((self.level_used, self.time, registers, requests, sorted(tables)))

    def dump(self) -> bytes:
        return _ENCODER.encode(self._state())

    def load(self, data: bytes) -> None:
        """Take over a dump, durably."""
        loaded: Any = msgspec.msgpack.decode(data, strict=False)
        requests = {client: (number, found) for client, (number, found) in loaded[4].items()}
        self._take(*loaded[:4], requests, loaded[5])
        self.sync()


def kind_of(command: bytes) -> str:
    try:
        return _DECODER.decode(command).kind
    except msgspec.DecodeError as error:
        raise MemberFailed("a command that can not be read") from error


def level_of(entry: Entry) -> int:
    """Of the command of an entry."""
    return procedures.OLDEST if entry.kind != COMMAND else procedures.level_of(kind_of(entry.data))


def level_of_dump(data: bytes) -> int:
    return int(msgspec.msgpack.decode(data, strict=False)[1])


def _arguments(command: Command) -> tuple[Any, ...]:
    key = command.key.encode()
    if command.kind == "cas":
        return key, command.value, command.expected
    return (key, command.target.encode()) if command.kind == "move" else (key,)

"""The state machine of the simulation: a few registers, durable only where synced.

A request is applied once: the last request of each client is kept, with what it found (Raft 6.3).
Some commands are procedures of the product (procedures.py), whose answer is what they found.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from predastore.errors import MemberFailed
from predastore.s3db.raft.messages import COMMAND, Entry

from . import procedures


class Command(msgspec.Struct, array_like=True, frozen=True):
    """Operation `number` of `client`, which counts them."""

    kind: str  # put or delete, or a procedure: cas, add, move
    key: str
    value: int | None
    expected: int | None
    client: int
    number: int
    target: str = ""


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Command)

Requests = dict[int, tuple[int, int | None]]  # client -> (number, what it found)


def encode(command: Command) -> bytes:
    return _ENCODER.encode(command)


class Machine:
    def __init__(self, rng: random.Random, *, remembers: bool, keeps_answers: bool) -> None:
        """`remembers`: which requests were applied; without, a retried one is applied twice.
        `keeps_answers`: of procedures; without, a retried one is answered with nothing."""
        self._rng = rng
        self._remembers = remembers
        self._keeps_answers = keeps_answers
        self.applied_index = 0
        self.values: dict[str, int] = {}
        self._requests: Requests = {}
        self.sync()

    def apply(self, entry: Entry) -> int | None:
        """What was found at the key before."""
        assert entry.index == self.applied_index + 1
        self.applied_index = entry.index
        if entry.kind != COMMAND:
            return None
        try:
            command = _DECODER.decode(entry.data)
        except msgspec.DecodeError as error:
            raise MemberFailed(f"entry {entry.index} can not be read") from error
        number, found = self._requests.get(command.client, (0, None))
        if self._remembers and command.number <= number:
            return found
        found = kept = self.values.get(command.key)
        if command.kind == "delete":
            self.values.pop(command.key, None)
        elif command.kind == "put":
            assert command.value is not None
            self.values[command.key] = command.value
        else:
            self.values, found = procedures.run(command.kind, _arguments(command), self.values)
            kept = found if self._keeps_answers else None
        self._requests[command.client] = (command.number, kept)
        return found

    def sync(self) -> None:
        self._durable = (self.applied_index, dict(self.values), dict(self._requests))

    def crash(self) -> None:
        """What was not synced may be there or not, as a whole."""
        if self._rng.random() < 0.5:
            index, values, requests = self._durable
            self.applied_index, self.values, self._requests = index, dict(values), dict(requests)
        self.sync()

    def digest(self) -> str:
        return repr((sorted(self.values.items()), sorted(self._requests.items())))

    def dump(self) -> bytes:
        return _ENCODER.encode((self.applied_index, self.values, self._requests))

    def load(self, data: bytes) -> None:
        """Take over a dump, durably."""
        loaded: Any = msgspec.msgpack.decode(data, strict=False)
        self.applied_index, self.values = loaded[0], loaded[1]
        self._requests = {client: (number, found) for client, (number, found) in loaded[2].items()}
        self.sync()


def _arguments(command: Command) -> tuple[Any, ...]:
    key = command.key.encode()
    if command.kind == "cas":
        return key, command.value, command.expected
    return (key, command.target.encode()) if command.kind == "move" else (key,)

"""The state machine of the simulation: a few registers, durable only where synced."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from predastore.s3db.raft.messages import COMMAND, Entry


class Command(msgspec.Struct, array_like=True, frozen=True):
    kind: str  # put or cas
    key: str
    value: int
    expected: int | None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Command)


def encode(command: Command) -> bytes:
    return _ENCODER.encode(command)


class Machine:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.applied_index = 0
        self.values: dict[str, int] = {}
        self._durable: tuple[int, dict[str, int]] = (0, {})

    def apply(self, entry: Entry) -> int | None:
        """What was found at the key before."""
        assert entry.index == self.applied_index + 1
        self.applied_index = entry.index
        if entry.kind != COMMAND:
            return None
        command = _DECODER.decode(entry.data)
        found = self.values.get(command.key)
        if command.kind == "put" or found == command.expected:
            self.values[command.key] = command.value
        return found

    def sync(self) -> None:
        self._durable = (self.applied_index, dict(self.values))

    def crash(self) -> None:
        """What was not synced may be there or not, as a whole."""
        if self._rng.random() < 0.5:
            self.applied_index, self.values = self._durable[0], dict(self._durable[1])
        self.sync()

    def digest(self) -> str:
        return repr(sorted(self.values.items()))

    def dump(self) -> bytes:
        return _ENCODER.encode((self.applied_index, self.values))

    def load(self, data: bytes) -> None:
        """Take over a dump, durably."""
        loaded: Any = msgspec.msgpack.decode(data)
        self.applied_index, self.values = loaded[0], loaded[1]
        self.sync()

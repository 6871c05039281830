"""The caller's place in a trace reaches the handler, in this process and in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
from rpc_world import WORLDS, run

from predastore.base import tracing

_place: ContextVar[str] = ContextVar("place", default="")


class Notes:
    """A tracer that notes what it is told: (method, the caller's place)."""

    def __init__(self) -> None:
        self.served: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def serving(self, method: str, trace: str) -> Iterator[None]:
        self.served.append((method, trace or _place.get()))
        yield

    def place(self) -> str:
        return _place.get()

    def record(self, name: str, begun_ns: int, ended_ns: int) -> None:
        raise AssertionError("nothing was synced")


@pytest.mark.parametrize("world", WORLDS)
def test_the_callers_place_reaches_the_handler(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    monkeypatch.setattr(tracing, "tracer", notes)

    async def test() -> None:
        async with WORLDS[world]() as made:
            await made.ask("test.echo")
            _place.set("here")
            await made.ask("test.echo")

    run(test())
    assert notes.served == [("test.echo", ""), ("test.echo", "here")]

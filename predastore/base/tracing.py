"""Where traces are taken, for all layers: off unless the process has set a tracer.

A trace follows a request of S3 through its calls to the syncs of the nodes. The place within it is
kept by contextvars, goes along with each call to another process (the W3C's traceparent), and is
taken up there. Whoever has something to trace asks `tracing.tracer` first, which is None while
traces are off: that is all that it costs then.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Tracer(Protocol):
    """predastore.process.telemetry has the one that exports by OpenTelemetry."""

    def serving(self, method: str, trace: str) -> AbstractContextManager[object]:
        """Around a call that is served. `trace`: where the caller was; "" for the current place.
        Nothing is traced where neither belongs to a request that runs."""

    def place(self) -> str:
        """The current place in a trace, for another process; "" where there is none."""

    def record(self, name: str, begun_ns: int, ended_ns: int) -> None:
        """Something that has happened at the current place; nanoseconds since 1970."""


tracer: Tracer | None = None


def place() -> str:
    """`Tracer.place` of the tracer, if there is one."""
    return "" if tracer is None else tracer.place()

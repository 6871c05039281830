"""What the process counts, and the text in which Prometheus reads it.

A family is made once, by the module that counts, under the name that it keeps; `metrics.FAMILIES`
has them all. Whoever counts holds on to its child, looked up once by the values of its labels, and
adds to plain numbers: `child.value += n`, `child.observe(seconds)`. Nothing is locked: a child is
changed by one thread. What is folded together is folded when somebody reads.

Gauges that would cost something to keep up to date are filled by sources, coroutines that are asked
before the text is made.

    # HELP predastore_s3_requests_total Requests answered.
    # TYPE predastore_s3_requests_total counter
    predastore_s3_requests_total{operation="GetObject",code="200"} 17

The format is that of "Exposition formats", version 0.0.4, in Prometheus' documentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Generic, TypeVar

from predastore.base.limits import METRICS_CHILDREN_MAX, METRICS_SOURCE_MS_MAX

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Upper bounds in seconds: from a sync of a fast disk to a request that takes minutes.
BOUNDS_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

_OVERFLOW: Final = "other"  # takes the place of label values beyond METRICS_CHILDREN_MAX

_log = logging.getLogger(__name__)


class Number:
    """A counter or a gauge: its owner changes `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """How often a time was up to each of BOUNDS_S, and all times together."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


C = TypeVar("C", Number, Histogram)


class Family(Generic[C]):
    """All children of one name, one for each combination of label values."""

    def __init__(
        self, make: type[C], kind: str, name: str, text: str, labels: tuple[str, ...]
    ) -> None:
        if name in FAMILIES:
            raise ValueError(f"{name} is counted by another module")
        self.kind = kind
        self.name = name
        self.text = text
        self.labels = labels
        self._make: type[C] = make
        self._children: dict[tuple[str, ...], C] = {}
        FAMILIES[name] = self

    def child(self, *values: str) -> C:
        """The child of these label values, made now if there is none. Bounded: where there are
        too many, those that are new count together."""
        found = self._children.get(values)
        if found is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, got {values}")
            if len(self._children) >= METRICS_CHILDREN_MAX:
                values = (_OVERFLOW,) * len(values)
            found = self._children.setdefault(values, self._make())
        return found

    def clear(self) -> None:
        """Forgets every child: for gauges that a source fills anew."""
        self._children.clear()

    def children(self) -> list[tuple[dict[str, str], C]]:
        """(labels, child) of all."""
        return [
            (dict(zip(self.labels, values, strict=True)), child)
            for values, child in list(self._children.items())
        ]


FAMILIES: Final[dict[str, Family[Any]]] = {}

Source = Callable[[], Awaitable[None]]
_sources: list[Source] = []


def counter(name: str, text: str, *labels: str) -> Family[Number]:
    return Family(Number, "counter", name, text, labels)


def gauge(name: str, text: str, *labels: str) -> Family[Number]:
    return Family(Number, "gauge", name, text, labels)


def histogram(name: str, text: str, *labels: str) -> Family[Histogram]:
    """Of seconds."""
    return Family(Histogram, "histogram", name, text, labels)


@contextlib.contextmanager
def filled_by(source: Source) -> Iterator[None]:
    """For the time of the block, `source` is asked to fill its gauges before the text is made."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.remove(source)


async def text() -> str:
    """Everything that is counted, now. A source that is slow or fails leaves its gauges stale."""
    for source in list(_sources):
        try:
            async with asyncio.timeout(METRICS_SOURCE_MS_MAX / 1000):
                await source()
        except Exception as error:
            _log.warning("gauges are stale", extra={"error": str(error) or type(error).__name__})
    lines: list[str] = []
    for name in sorted(FAMILIES):
        family = FAMILIES[name]
        lines.append(f"# HELP {name} {family.text}")
        lines.append(f"# TYPE {name} {family.kind}")
        for labels, child in family.children():
            if isinstance(child, Histogram):
                lines += _histogram_lines(name, labels, child)
            else:
                lines.append(f"{name}{_labels(labels)} {_number(child.value)}")
    return "\n".join(lines) + "\n"


def _histogram_lines(name: str, labels: dict[str, str], child: Histogram) -> list[str]:
    counts, below, lines = list(child.counts), 0, []
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
        below += count
        lines.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {below}")
    lines.append(f"{name}_sum{_labels(labels)} {_number(child.total_s)}")
    lines.append(f"{name}_count{_labels(labels)} {below}")
    return lines


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

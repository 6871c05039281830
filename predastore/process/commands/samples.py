"""The metrics of running processes, read over HTTP, and what lies between two readings."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from predastore.base.limits import TOP_ANSWER_BYTES_MAX, TOP_PROCESSES_MAX, TOP_TIMEOUT_S

_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES: Final = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_DIRECT: Final = build_opener(ProxyHandler({}))  # whatever http_proxy says

Labels = tuple[tuple[str, str], ...]  # (name, value), by name


@dataclass(frozen=True)
class SampleReading:
    """The samples of one process at one time; `problem`: why there are none."""

    url: str
    time_s: float
    samples: Mapping[str, Mapping[Labels, float]]
    problem: str = ""


def parse(text: str) -> dict[str, dict[Labels, float]]:
    """The samples of an answer, by name and labels; what is not understood is passed over."""
    found: dict[str, dict[Labels, float]] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, inner, value = match.groups()
        labels = tuple(sorted((label, _plain(text)) for label, text in _LABEL.findall(inner or "")))
        try:
            found.setdefault(name, {})[labels] = float(value)
        except ValueError:
            continue
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match.group(), match.group()), text)


def read(urls: Sequence[str]) -> list[SampleReading]:
    """All processes, asked at once."""
    with ThreadPoolExecutor(min(len(urls), TOP_PROCESSES_MAX)) as threads:
        return list(threads.map(_read, urls))


def _read(url: str) -> SampleReading:
    try:
        with _DIRECT.open(url, timeout=TOP_TIMEOUT_S) as answer:
            text = answer.read(TOP_ANSWER_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, URLError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return SampleReading(url, time.monotonic(), {}, str(reason) or type(error).__name__)
    return SampleReading(url, time.monotonic(), parse(text))


class SampleSpan:
    """What happened in one process between two readings."""

    def __init__(self, before: SampleReading, now: SampleReading) -> None:
        self.now = now
        self._before = before
        self.seconds = max(now.time_s - before.time_s, 1e-6)

    def value(self, name: str, **labels: str) -> float | None:
        """A gauge, now; None where there is none."""
        return self.now.samples.get(name, {}).get(tuple(sorted(labels.items())))

    def rows(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Every (labels, value) of a gauge, now."""
        return [(dict(labels), value) for labels, value in self.now.samples.get(name, {}).items()]

    def rates(self, name: str) -> list[tuple[dict[str, str], float]]:
        """(labels, growth in a second) of a counter. One that is less than it was began anew."""
        if not self._before.samples:
            return []
        before = self._before.samples.get(name, {})
        found = []
        for labels, value in self.now.samples.get(name, {}).items():
            grown = value - before.get(labels, 0.0)
            found.append((dict(labels), (grown if grown >= 0 else value) / self.seconds))
        return found


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The upper bound of the bucket in which `share` of all lies, of {upper bound: how many are
    up to it}; None where there is nothing. Beyond the last bound it is infinite."""
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    return min(bound for bound, count in buckets.items() if count >= share * total)

"""Timing of two things side by side, and the rows that a benchmark reports.

A ratio holds on a noisy machine where an absolute figure does not. So what is measured and its
yardstick take turns, round by round, in the same process, and the medians are compared.

A row is a dict: name, value, unit, spread ((max - min) / median of the rounds), yardstick,
yardstick_value (same unit), ratio (value / yardstick_value).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SAMPLE_S_MIN = 0.02  # one sample repeats its function until it takes this long
REPEATS_MAX = 1 << 20

Row = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, over all rounds."""

    median_s: float
    spread: float

    def per_second(self, amount: float) -> float:
        """`amount` is what one call does: bytes, requests."""
        return amount / self.median_s


def paired(
    fn: Callable[[], object], yardstick_fn: Callable[[], object], rounds: int = 7
) -> tuple[Timing, Timing]:
    """Timings of `fn` and of `yardstick_fn`, taken in turns after a warm-up of both."""
    functions = (fn, yardstick_fn)
    repeats = [_repeats(function) for function in functions]
    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            samples[which].append(_sample(functions[which], repeats[which]) / repeats[which])
    first, second = (timing(taken) for taken in samples)
    return first, second


def timing(samples_s: list[float]) -> Timing:
    """The median of samples that were taken otherwise, and their spread."""
    median = statistics.median(samples_s)
    return Timing(median, (max(samples_s) - min(samples_s)) / median)


def row(
    name: str,
    value: float,
    unit: str,
    *,
    spread: float,
    yardstick: str,
    yardstick_value: float,
) -> Row:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "spread": spread,
        "yardstick": yardstick,
        "yardstick_value": yardstick_value,
        "ratio": value / yardstick_value,
    }


def medians_row(
    name: str, unit: str, values: list[float], yardstick: str, others: list[float]
) -> Row:
    """The medians of all rounds."""
    median = statistics.median(values)
    return row(
        name,
        median,
        unit,
        spread=(max(values) - min(values)) / median if median else 0.0,
        yardstick=yardstick,
        yardstick_value=statistics.median(others),
    )


def throughput_row(
    name: str,
    amount_bytes: int,
    fn: Callable[[], object],
    yardstick: str,
    yardstick_fn: Callable[[], object],
) -> Row:
    """A row in MB/s for two functions that each work through `amount_bytes` a call."""
    mine, other = paired(fn, yardstick_fn)
    megabytes = amount_bytes / 1e6
    return row(
        name,
        mine.per_second(megabytes),
        "MB/s",
        spread=mine.spread,
        yardstick=yardstick,
        yardstick_value=other.per_second(megabytes),
    )


def _repeats(fn: Callable[[], object]) -> int:
    """Calls in one sample; finding out warms up."""
    repeats = 1
    while _sample(fn, repeats) < SAMPLE_S_MIN and repeats < REPEATS_MAX:
        repeats *= 2
    return repeats


def _sample(fn: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        fn()
    return time.perf_counter() - start

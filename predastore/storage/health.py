"""Which nodes are well, and how fast they are: learned from the requests themselves.

A node that fails is asked by requests no more, unless there are too few others, until it has
answered a question that no request waits for (`cluster.py` asks it). Before that it rests; each
further failure doubles the rest, a request's success ends it. Failures of requests that were under
way together count as one.

A node that is silent (it owes answers to reads, and has given none for HEALTH_SILENT_MS) may only
be slow, so that it has not failed; but one read in that time is all that asks it before others.

A call's deadline follows from the node's recent latencies as TCP's retransmission timer does
(RFC 6298: smoothed mean and deviation), with wide margins.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from predastore.base.limits import (
    HEALTH_BUSY_S,
    HEALTH_DEADLINE_MS_MAX,
    HEALTH_DEADLINE_MS_MIN,
    HEALTH_REST_MS_MAX,
    HEALTH_REST_MS_MIN,
    HEALTH_SAMPLES,
    HEALTH_SILENT_MS,
    HEDGE_MS_MIN,
)

_MARGIN = 8  # a deadline is so many times the latency that is to be expected
_RANKED_EVERY = 16  # samples between two looks at the percentile


class _Node:
    __slots__ = ("deviation_s", "is_well", "mean_s", "owes_since", "rest_ms", "tried_at")

    def __init__(self) -> None:
        self.mean_s = -1.0
        self.deviation_s = 0.0
        self.rest_ms = 0
        self.is_well = True
        self.owes_since = math.inf  # it was asked for something to read, and has not answered
        self.tried_at = -math.inf


class Health:
    """`clock`: loop time, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._nodes: dict[int, _Node] = {}
        self._reads_s: deque[float] = deque(maxlen=HEALTH_SAMPLES)
        self._reads_count = 0
        self._hedge_s = HEDGE_MS_MIN / 1000
        self._asked_at = -math.inf

    def is_busy(self) -> bool:
        """Whether a request had an answer of a node just now."""
        return self._clock() - self._asked_at < HEALTH_BUSY_S

    def is_well(self, node: int) -> bool:
        known = self._nodes.get(node)
        return known is None or known.is_well

    def failed(self, node: int) -> None:
        """A call to `node` failed for a reason that lies with it, or with the way there."""
        known = self._nodes.setdefault(node, _Node())
        if known.is_well:
            known.is_well = False
            self._rest_longer(known)

    def failed_again(self, node: int) -> None:
        """It did not answer the question after its rest."""
        self._rest_longer(self._nodes[node])

    def answered(self, node: int) -> None:
        """It did; requests may ask it again."""
        self._nodes[node].is_well = True

    def rest_s(self, node: int) -> float:
        """How long a node that failed rests before it is asked how it is."""
        return self._nodes[node].rest_ms / 1000

    @staticmethod
    def _rest_longer(known: _Node) -> None:
        known.rest_ms = min(max(2 * known.rest_ms, HEALTH_REST_MS_MIN), HEALTH_REST_MS_MAX)

    def wrote(self, node: int, seconds: float) -> None:
        """A write to `node` took so long."""
        self._asked_at = self._clock()
        known = self._nodes.setdefault(node, _Node())
        known.rest_ms, known.is_well = 0, True
        if known.mean_s < 0:
            known.mean_s, known.deviation_s = seconds, seconds / 2
            return
        known.deviation_s += (abs(seconds - known.mean_s) - known.deviation_s) / 4
        known.mean_s += (seconds - known.mean_s) / 8

    def write_timeout_ms(self, node: int) -> int:
        """How long a write to `node` may take before it is given up."""
        known = self._nodes.get(node)
        if known is None or known.mean_s < 0:
            return HEALTH_DEADLINE_MS_MAX
        expected_ms = 1000 * (known.mean_s + 4 * known.deviation_s)
        return int(min(max(_MARGIN * expected_ms, HEALTH_DEADLINE_MS_MIN), HEALTH_DEADLINE_MS_MAX))

    def reads(self, node: int) -> None:
        """`node` is asked for something now."""
        known = self._nodes.setdefault(node, _Node())
        known.owes_since = min(known.owes_since, self._clock())

    def replied(self, node: int) -> None:
        """It answered, if with an error."""
        self._nodes[node].owes_since = math.inf

    def is_silent(self, node: int) -> bool:
        """False for one caller now and then: who gets that is to ask it."""
        known, now = self._nodes.get(node), self._clock()
        if known is None or now - known.owes_since < HEALTH_SILENT_MS / 1000:
            return False
        if now - known.tried_at < HEALTH_SILENT_MS / 1000:
            return True
        known.tried_at = now
        return False

    def has_read(self, node: int, seconds: float) -> None:
        """A read from `node` took so long."""
        known = self._nodes.get(node)
        if known is not None:
            known.rest_ms, known.is_well = 0, True
        self._asked_at = self._clock()
        self._reads_s.append(seconds)
        self._reads_count += 1
        if self._reads_count % _RANKED_EVERY == 0:
            ranked = sorted(self._reads_s)
            self._hedge_s = max(ranked[len(ranked) * 95 // 100], HEDGE_MS_MIN / 1000)

    @property
    def hedge_s(self) -> float:
        """After so long a read is slow: the 95th percentile of recent ones, or a floor."""
        return self._hedge_s

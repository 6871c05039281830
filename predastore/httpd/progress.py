"""A minimum pace for a peer that keeps us waiting."""

from __future__ import annotations

from predastore.httpd.bounds import Bounds


class Progress:
    """Counts the time in which we waited and fewer than `progress_bytes_min` bytes moved.

    It is asked at every tick. Only time spent waiting counts: a peer is not to blame while it
    waits for us.
    """

    __slots__ = ("_bounds", "_mark", "_now_s", "_starved_s")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._mark = 0
        self._now_s = 0.0
        self._starved_s = 0.0

    def restart(self, moved_bytes: int) -> None:
        """A new transfer begins."""
        self._mark = moved_bytes
        self._starved_s = 0.0

    def stalled(self, waiting: bool, moved_bytes: int, now_s: float) -> bool:
        """Whether the peer has been too slow; `moved_bytes` is a running total."""
        bounds = self._bounds
        step_s = min(now_s - self._now_s, 2 * bounds.tick_s)
        self._now_s = now_s
        if moved_bytes - self._mark >= bounds.progress_bytes_min:
            self.restart(moved_bytes)
        elif waiting:
            self._starved_s += step_s
        return waiting and self._starved_s > bounds.progress_timeout_s

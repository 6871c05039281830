"""What requests there were, counted: by operation and answer, their bytes, their times.

A request that was refused before its operation was known (no route, a wrong signature) counts as
`Unrouted`. Status 499 is that of a client that went away before there was an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from predastore.base import metrics
from predastore.base.metrics import Histogram, Number
from predastore.httpd.message import Done, Request

UNROUTED: Final = "Unrouted"

_REQUESTS = metrics.counter(
    "predastore_s3_requests_total", "Requests, by operation and HTTP status.", "operation", "code"
)
_SECONDS = metrics.histogram(
    "predastore_s3_request_seconds",
    "Times of requests, from the head to the last byte of the response.",
    "operation",
)
_RECEIVED = metrics.counter(
    "predastore_s3_received_bytes_total", "Bytes received with requests, heads too.", "operation"
)
_SENT = metrics.counter(
    "predastore_s3_sent_bytes_total", "Bytes sent in responses, heads too.", "operation"
)
_ERRORS = metrics.counter("predastore_s3_errors_total", "Errors answered, by S3 code.", "error")


class _Operation:
    """What is counted of one operation."""

    __slots__ = ("_name", "received", "seconds", "sent", "statuses")

    def __init__(self, name: str) -> None:
        self._name = name
        self.seconds: Histogram = _SECONDS.child(name)
        self.received: Number = _RECEIVED.child(name)
        self.sent: Number = _SENT.child(name)
        self.statuses: dict[int, Number] = {}

    def status(self, status: int) -> Number:
        found = self.statuses[status] = _REQUESTS.child(self._name, str(status))
        return found


_operations: dict[str, _Operation] = {}


def count(request: Request, status: int, received: int, sent: int, seconds: float) -> None:
    """Counts a request at its end: a `Done` of httpd, on the event loop."""
    name = request.operation or UNROUTED
    found = _operations.get(name)
    if found is None:
        found = _operations[name] = _Operation(name)
    (found.statuses.get(status) or found.status(status)).value += 1
    found.seconds.observe(seconds)
    found.received.value += received
    found.sent.value += sent


def all_of(told: Sequence[Done]) -> Done:
    """Tells each of them."""
    if len(told) == 1:
        return told[0]

    def done(request: Request, status: int, received: int, sent: int, seconds: float) -> None:
        for tell in told:
            tell(request, status, received, sent, seconds)

    return done


def count_error(code: str) -> None:
    _ERRORS.child(code).value += 1

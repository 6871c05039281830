"""The access log: one line for each request, where it is asked for (`-access-log FILE`, or `-`).

    time=2026-01-02T03:04:05.678Z id=0123456789ABCDEF remote=192.0.2.7 account=000000000000
    operation=GetObject method=GET bucket=b key="a b" query="" status=200 received=412 sent=4711
    seconds=0.003 agent="aws-cli/2"

(one line, in logfmt). Secrets stay out: of the query, what signs it is left away.

The event loop only notes what there is to say. Lines are made and written by a thread, a few times
a second; when it can not keep up, so that ACCESS_LOG_WAITING_MAX requests wait, those that come
are left out, which is counted, and said in the log of the process. The file is opened anew on
SIGHUP, so that it can be moved away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TextIO
from urllib.parse import unquote_plus

from predastore.base import metrics
from predastore.base.config import Config
from predastore.base.errors import StartupError, reason
from predastore.base.limits import (
    ACCESS_LOG_FLUSH_MS,
    ACCESS_LOG_TEXT_CHARACTERS_MAX,
    ACCESS_LOG_WAITING_MAX,
)
from predastore.httpd.message import Request
from predastore.process.logs import quoted
from predastore.process.reload import Apply

_MOST: Final = ACCESS_LOG_TEXT_CHARACTERS_MAX
_SECRET: Final = frozenset(
    {"x-amz-signature", "signature", "x-amz-security-token", "x-amz-credential", "awsaccesskeyid"}
)
_SECRET_CHARACTERS_MAX: Final = 3 * max(map(len, _SECRET))  # each may be percent-encoded
_LOST = metrics.counter(
    "predastore_access_log_lost_total", "Requests that the access log has no line of."
).child()

_log = logging.getLogger(__name__)


class _Noted(NamedTuple):
    time_s: float
    id: str
    remote: str
    account: str
    operation: str
    method: str
    names: tuple[str, str]
    raw_query: bytes
    agent: str
    status: int
    received: int
    sent: int
    seconds: float


class AccessLog:
    """Made on the event loop that notes; `close` it."""

    def __init__(self, name: str) -> None:
        """StartupError where the file can not be opened."""
        self._stream = _opened(name)
        self._waiting: list[_Noted] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")
        self._writing = False
        self._lost = 0

    def note(self, request: Request, status: int, received: int, sent: int, seconds: float) -> None:
        """A `Done` of httpd."""
        if len(self._waiting) >= ACCESS_LOG_WAITING_MAX:
            self._lose(1)
            return
        bucket, key = request.names
        noted = _Noted(
            time.time(),
            request.id,
            request.remote,
            request.account,
            request.operation,
            request.method,
            (bucket[:_MOST], key[:_MOST]),
            _short(request.raw_query),
            request.headers.get("user-agent", "")[:_MOST],
            status,
            received,
            sent,
            seconds,
        )
        self._waiting.append(noted)
        if self._timer is None:
            self._timer = self._loop.call_later(ACCESS_LOG_FLUSH_MS / 1000, self._flush)

    def prepare(self, settings: Config) -> Apply:
        """Opens the file of `settings`, be it the same or another."""
        if not settings.access_log:
            return lambda: _log.warning("the access log is written until the next start")
        fresh = _opened(settings.access_log)

        def apply() -> None:
            old, self._stream = self._stream, fresh
            self._thread.submit(_close, old)

        return apply

    async def close(self) -> None:
        """Writes what was noted."""
        if self._timer is not None:
            self._timer.cancel()
        taken, self._waiting = self._waiting, []
        await self._loop.run_in_executor(self._thread, self._write, self._stream, taken)
        await self._loop.run_in_executor(self._thread, _close, self._stream)
        self._thread.shutdown()

    def _flush(self) -> None:
        if self._writing:  # the disk is slow: what comes meanwhile waits, up to the bound
            self._timer = self._loop.call_later(ACCESS_LOG_FLUSH_MS / 1000, self._flush)
            return
        self._timer = None
        taken, self._waiting = self._waiting, []
        self._writing = True
        work = self._loop.run_in_executor(self._thread, self._write, self._stream, taken)
        work.add_done_callback(self._written)

    def _written(self, work: asyncio.Future[int]) -> None:
        self._writing = False
        if work.result():
            self._lose(work.result())
        if self._lost:
            _log.warning("requests without a line in the access log", extra={"count": self._lost})
            self._lost = 0

    def _lose(self, count: int) -> None:
        self._lost += count
        _LOST.value += count

    @staticmethod
    def _write(stream: TextIO, taken: list[_Noted]) -> int:
        """In the thread; how many could not be written."""
        try:
            stream.write("".join(map(_line, taken)))
            stream.flush()
        except OSError as error:
            _log.warning("access log not written", extra={"error": reason(error)})
            return len(taken)
        return 0


def _opened(name: str) -> TextIO:
    if name == "-":
        return sys.stdout
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StartupError.because(
            error,
            f"access log {name} can not be written ({error.strerror}); name another file with "
            "-access-log, or - for standard output",
        ) from None
    return os.fdopen(descriptor, "w", encoding="utf-8")


def _close(stream: TextIO) -> None:
    if stream is not sys.stdout:
        stream.close()


def _line(noted: _Noted) -> str:
    bucket, key = noted.names
    seconds, fraction = divmod(noted.time_s, 1)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fields: dict[str, Any] = {
        "time": f"{stamp}.{int(fraction * 1000):03d}Z",
        "id": noted.id,
        "remote": noted.remote,
        "account": noted.account or "-",
        "operation": noted.operation or "-",
        "method": noted.method,
        "bucket": bucket,
        "key": key,
        "query": query_without_secrets(noted.raw_query),
        "status": noted.status,
        "received": noted.received,
        "sent": noted.sent,
        "seconds": f"{noted.seconds:.6f}",
        "agent": noted.agent,
    }
    return " ".join(f"{name}={quoted(str(value))}" for name, value in fields.items()) + "\n"


def query_without_secrets(raw_query: bytes) -> str:
    """The query as it was sent, without the parameters that sign it."""
    kept: list[str] = []
    left = 2 * _MOST  # of what is looked at: no more is shown, and this runs on the event loop
    for part in raw_query.decode("latin-1").split("&"):
        name = part.partition("=")[0]
        if _is_secret(name):
            left -= len(name) + 1
        else:
            kept.append(part)
            left -= len(part) + 1
        if left < 0:
            break
    return "&".join(kept)[:_MOST]


def _is_secret(name: str) -> bool:
    if len(name) > _SECRET_CHARACTERS_MAX:
        return False
    if "%" in name or "+" in name:
        name = unquote_plus(name)
    return name.lower() in _SECRET


def _short(raw_query: bytes) -> bytes:
    """What a line needs of a query: of a long one not more than will be shown."""
    if len(raw_query) <= _MOST:
        return raw_query
    return query_without_secrets(raw_query).encode("latin-1")

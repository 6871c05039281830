"""Times as S3 writes them, and HTTP dates as clients do. Times are milliseconds since 1970, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from predastore.base.limits import S3_DATES_CACHED_MAX
from predastore.httpd import message

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def iso8601(time_ms: int) -> str:
    """2009-10-12T17:50:30.000Z, for XML. S3 has whole seconds here, as in Last-Modified."""
    return _iso8601(time_ms // 1000)


@lru_cache(maxsize=S3_DATES_CACHED_MAX)
def _iso8601(time_s: int) -> str:
    t = time.gmtime(time_s)
    return f"{t[0]:04}-{t[1]:02}-{t[2]:02}T{t[3]:02}:{t[4]:02}:{t[5]:02}.000Z"


def iso8601_exact(time_ms: int) -> str:
    """The same with its milliseconds, as in a retention."""
    return f"{_iso8601(time_ms // 1000)[:-4]}{time_ms % 1000:03}Z"


def http_date(time_ms: int) -> str:
    """Mon, 12 Oct 2009 17:50:30 GMT (RFC 9110 section 5.6.7)."""
    return _http_date(time_ms // 1000)


@lru_cache(maxsize=S3_DATES_CACHED_MAX)
def _http_date(time_s: int) -> str:
    t = time.gmtime(time_s)
    return (
        f"{_DAYS[t[6]]}, {t[2]:02} {_MONTHS[t[1] - 1]} {t[0]:04} {t[3]:02}:{t[4]:02}:{t[5]:02} GMT"
    )


def parse_date(value: str) -> int | None:
    """Whole seconds since 1970 of an HTTP date, or of an ISO 8601 one; None if it is neither.

    A condition whose date can not be read is ignored (RFC 9110 section 13.1.3).
    """
    parsed = message.parse_date(value)
    if parsed is None:
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp())

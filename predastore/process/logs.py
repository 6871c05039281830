"""Structured logs on standard error: one event a line, in logfmt.

    2026-11-23T09:00:00.123Z info predastore.node.store msg="torn tail cut" segment=3 bytes=120

Fields are what the caller gives as `extra`. Nothing secret is ever logged: callers pass ids,
never keys.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

# What every record has; anything else is a field of the caller's.
_STANDARD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Logfmt(logging.Formatter):
    """Renders a record as one logfmt line; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = (
            f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {record.name} "
            f"msg={quoted(record.getMessage())}"
        )
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line += "".join(f" {key}={quoted(str(value))}" for key, value in fields.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def quoted(text: str) -> str:
    """`text` as a logfmt value: bare where it can be, else quoted, with control bytes escaped."""
    if text and text.isprintable() and not any(c in text for c in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in escaped) + '"'


def configure(level: str) -> None:
    """Sends every log of the process to standard error at `level` and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Logfmt())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Logs of `level` and above are sent from now on."""
    logging.getLogger().setLevel(_LEVELS[level])
    # Libraries are heard only when something is wrong. aioquic warns of what strangers send, once
    # for each datagram.
    for name, least in (
        ("quic", logging.ERROR),
        ("asyncio", logging.WARNING),
        ("pysyncobj", logging.WARNING),
    ):
        logging.getLogger(name).setLevel(max(_LEVELS[level], least))

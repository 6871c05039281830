"""Response heads as bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

SERVER_NAME: Final = "Predastore"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}

_stamp_s = -1
_stamp_lines = ""


def _common_lines() -> str:
    """Date and Server, made once a second."""
    global _stamp_s, _stamp_lines
    now_s = int(time.time())
    if now_s != _stamp_s:
        _stamp_s = now_s
        _stamp_lines = f"Date: {formatdate(now_s, usegmt=True)}\r\nServer: {SERVER_NAME}\r\n"
    return _stamp_lines


def render_head(status: int, headers: Sequence[tuple[str, str]], framing: str) -> bytes:
    """Status line, `headers`, Date, Server and `framing` (whole lines), with the empty line.

    Text is sent as Latin-1, or as UTF-8 where that can not be. ValueError where a name or value
    would break out of its line.
    """
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    count = len(headers)
    if fields.count("\n") != count or fields.count("\r") != count or "\0" in fields:
        raise ValueError("a response header holds a control character")
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"
    head = f"{line}{fields}{_common_lines()}{framing}\r\n"
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        return head.encode("utf-8")

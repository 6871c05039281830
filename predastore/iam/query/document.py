"""Answers of the Query API in XML ("Making query requests", IAM User Guide).

<ActionResponse xmlns="..."><ActionResult>...</ActionResult>
  <ResponseMetadata><RequestId>...</RequestId></ResponseMetadata></ActionResponse>
<ErrorResponse xmlns="..."><Error><Type>Sender</Type><Code>..</Code><Message>..</Message></Error>
  <RequestId>...</RequestId></ErrorResponse>
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from predastore.httpd.message import Response

# An element's content: None is no element, a sequence is a list of <member>.
Content: TypeAlias = "str | int | bool | Mapping[str, Content] | Sequence[Content] | None"
Result: TypeAlias = Mapping[str, Content]

NAMESPACES: Final = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}


class Entries(dict[str, int]):
    """A map, which has an <entry> with <key> and <value> for each."""


_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
# XML 1.0, 2.2: what no document may have, not even as a reference
_ESCAPES: Final[dict[int, str]] = {
    **dict.fromkeys((*range(9), 0xB, 0xC, *range(0xE, 0x20), 0xFFFE, 0xFFFF), "\ufffd"),
    ord("\r"): "&#xd;",
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
}


def element(name: str, content: Content) -> str:
    """<name>content</name>; nothing for None."""
    if content is None:
        return ""
    if isinstance(content, bool):
        inner = "true" if content else "false"
    elif isinstance(content, str | int):
        inner = str(content).translate(_ESCAPES)
    elif isinstance(content, Entries):
        inner = "".join(element("entry", {"key": k, "value": v}) for k, v in content.items())
    elif isinstance(content, Mapping):
        inner = "".join(element(key, value) for key, value in content.items())
    else:
        inner = "".join(element("member", value) for value in content)
    return f"<{name}>{inner}</{name}>"


def answer(service: str, action: str, result: Result | None, request_id: str) -> Response:
    """200 with the result of an action, or without one."""
    inner = "" if result is None else element(f"{action}Result", result)
    metadata = element("ResponseMetadata", {"RequestId": request_id})
    root = f"{action}Response"
    body = f'<{root} xmlns="{NAMESPACES[service]}">{inner}{metadata}</{root}>'
    return _response(200, body, request_id)


def failure(service: str, status: int, code: str, message: str, request_id: str) -> Response:
    """What an action that was not done is answered with."""
    error = element(
        "Error",
        {"Type": "Sender" if status < 500 else "Receiver", "Code": code, "Message": message},
    )
    body = (
        f'<ErrorResponse xmlns="{NAMESPACES[service]}">{error}'
        f"{element('RequestId', request_id)}</ErrorResponse>"
    )
    return _response(status, body, request_id)


def stamp(time_ms: int) -> str:
    """2026-11-30T17:14:09Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))


def _response(status: int, body: str, request_id: str) -> Response:
    encoded = (_DECLARATION + body).encode("utf-8", "replace")
    headers = [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)]
    return Response(status, headers, encoded, len(encoded))

"""The head of a request: bytes in, a checked description out. Sans-IO.

`parse_head` takes one whole head, from its method to the empty line, and leaves the grammar to
httptools (llhttp, strict): bare LF or CR, obsolete folding, blanks before a colon, control
characters and duplicate or malformed Content-Length are errors there. Here stands what it leaves
open, and what tells one request from the next (RFC 9112, 6.3), so that nobody can smuggle one:

    Content-Length and Transfer-Encoding together      400
    Transfer-Encoding other than exactly "chunked"     501 (400 from HTTP/1.0)
    Host missing (HTTP/1.1) or given twice             400
    a version other than 1.0 and 1.1                   505
    an expectation other than 100-continue             417

Every error ends the connection, since nobody knows where the next request would begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httptools

from predastore.base.errors import HttpError
from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Headers

CHUNKED: Final = -1  # a body length: chunked coding
ABSENT: Final = -2  # a body length: neither Content-Length nor a chunked coding

_UNKNOWN_CODING: Final = "the only transfer coding known here is chunked"


@dataclass(slots=True)
class Head:
    """`body_length`: bytes, or CHUNKED, or ABSENT."""

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Headers
    body_length: int
    keep_alive: bool
    http_1_0: bool
    expects_continue: bool


class _Parsed:
    """What httptools tells of one head."""

    __slots__ = ("fields", "url")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))


class HeadParser:
    """One connection's parser; used for one head after the other."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._parser: httptools.HttpRequestParser | None = None
        self._parsed = _Parsed()  # not this: the parser holds whom it tells, for good

    def parse(self, data: bytes) -> Head:
        """The head in `data`, which ends in the empty line; HttpError where it is not one."""
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self._parsed)
        fields = self._parsed.fields = []
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = None  # upgrades are not offered: the request is answered as it stands
        except httptools.HttpParserError as error:
            self._parser = None
            coding = dict(fields).get(b"transfer-encoding", b"chunked").lower()
            if coding.isalnum() and coding != b"chunked":  # llhttp knows no more than we do
                raise HttpError(501, _UNKNOWN_CODING) from None
            raise HttpError(400, f"malformed request: {error}") from None
        if len(fields) > self._bounds.headers_max:
            raise HttpError(431, f"more than {self._bounds.headers_max} header fields")
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise HttpError(505, f"HTTP/{version} is not spoken here")
        http_1_0 = version == "1.0"
        length, expects = _framing(fields, http_1_0)
        path, query = split_target(self._parsed.url, self._bounds.uri_bytes_max)
        keep_alive = _keep_alive(fields, http_1_0)
        if length not in (ABSENT, 0) or not keep_alive:
            self._parser = None  # this one now waits for a body, which it will not be given
        method = parser.get_method().decode("ascii")
        return Head(method, path, query, Headers(fields), length, keep_alive, http_1_0, expects)


def _framing(fields: list[tuple[bytes, bytes]], http_1_0: bool) -> tuple[int, bool]:
    """(body length, whether 100-continue is awaited)."""
    last = dict(fields)
    if len(last) != len(fields):
        _refuse_repeated(fields)
    if b"host" not in last and not http_1_0:
        raise HttpError(400, "a request needs a Host header")
    length = last.get(b"content-length")
    coding = last.get(b"transfer-encoding")
    expectation = last.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise HttpError(417, "the only expectation met here is 100-continue")
    expects = expectation is not None and not http_1_0
    if coding is not None:
        if length is not None or http_1_0:
            raise HttpError(400, "Transfer-Encoding beside Content-Length or in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise HttpError(501, _UNKNOWN_CODING)
        return CHUNKED, expects
    if length is None:
        return ABSENT, False
    if not length.isdigit() or len(length) > 18:
        raise HttpError(400, "Content-Length is not a number of bytes")
    count = int(length)
    return count, expects and count > 0


def _keep_alive(fields: list[tuple[bytes, bytes]], http_1_0: bool) -> bool:
    """Whether the client wants another request on this connection (RFC 9112, 9.3)."""
    keep = not http_1_0
    for name, value in fields:
        if name == b"connection":
            options = {option.strip() for option in value.lower().split(b",")}
            if b"close" in options:
                return False
            keep = keep or b"keep-alive" in options
    return keep


def _refuse_repeated(fields: list[tuple[bytes, bytes]]) -> None:
    """HttpError where a field that frames or routes a request is given more than once."""
    names = [name for name, _ in fields]
    for name in (b"host", b"content-length", b"transfer-encoding", b"expect"):
        if names.count(name) > 1:
            raise HttpError(400, f"more than one {name.decode()} header")


def split_target(url: bytes, bytes_max: int) -> tuple[bytes, bytes]:
    """(raw path, raw query) of a request target in origin or absolute form, or "*"."""
    if len(url) > bytes_max:
        raise HttpError(414, f"the request target has more than {bytes_max} bytes")
    if not url.startswith(b"/") and url != b"*":
        scheme, mark, rest = url.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            raise HttpError(400, "the request target is neither a path nor an http address")
        cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        url = rest[cut:]
        if not url.startswith(b"/"):
            url = b"/" + url
    if b"#" in url:
        raise HttpError(400, "a request target has no fragment")
    path, _, query = url.partition(b"?")
    return path, query

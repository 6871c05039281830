"""Request bodies as they come off a connection: by Content-Length, or in HTTP's chunked coding.

Both are pulled: a byte is taken from the connection when the reader asks, so a body that nobody
reads costs nothing, and what follows it in a pipeline stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from predastore._fast.chunked import Decoder
from predastore.base.errors import HttpError
from predastore.base.limits import HTTP_CHUNK_BYTES_MAX, HTTP_TRAILER_BYTES_MAX, HTTP_TRAILERS_MAX
from predastore.httpd.inbound import Inbound
from predastore.httpd.message import Body, is_field_name


class WireBody(Body):
    """A body of a connection; this one is the body of a request that has none.

    `unread`: bytes not yet taken from the connection; None where that is not known.
    """

    unread: int | None = 0

    async def readinto(self, buffer: memoryview) -> int:
        return 0


class LengthBody(WireBody):
    """`begin` is called before the reader first waits (it sends 100 Continue)."""

    def __init__(self, inbound: Inbound, length: int, begin: Callable[[], None] | None) -> None:
        self.length = length
        self.unread: int = length
        self._inbound = inbound
        self._begin = begin

    async def readinto(self, buffer: memoryview) -> int:
        unread = self.unread
        if unread == 0:
            return 0
        if self._begin is not None:
            self._begin()
            self._begin = None
        target = buffer if len(buffer) <= unread else buffer[:unread]
        count = await self._inbound.receive_into(target)
        self.unread -= count
        return count


class ChunkedBody(WireBody):
    """HTTP's chunked coding; HttpError 400 where it is malformed."""

    length = None
    unread: int | None = None

    def __init__(self, inbound: Inbound, begin: Callable[[], None] | None) -> None:
        self._inbound = inbound
        self._begin = begin
        self._decoder = Decoder(HTTP_CHUNK_BYTES_MAX, HTTP_TRAILER_BYTES_MAX)
        self._trailers: Mapping[str, str] = {}

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._trailers

    async def readinto(self, buffer: memoryview) -> int:
        if self._begin is not None:
            self._begin()
            self._begin = None
        decoder = self._decoder
        while not decoder.done:
            piece = await self._inbound.receive()
            used, written = decoder.feed(piece, buffer)
            self._inbound.skip(used)
            if decoder.fault:
                raise HttpError(400, f"malformed chunked body: {decoder.fault}")
            if written:
                return written
        if self.unread is None:
            self.unread = 0
            self._trailers = parse_trailers(decoder.trailer, bare_lf=False)
        return 0


def parse_trailers(lines: bytes, *, bare_lf: bool) -> dict[str, str]:
    """Trailer fields by lower-case name, from lines that end in CRLF; HttpError 400. `bare_lf`:
    whether a LF alone may end a value, before the CRLF, as in an example of AWS. On the wire it
    could end the body for a proxy, and not for us."""
    fields: dict[str, str] = {}
    for line in lines.split(b"\r\n")[:-1]:
        if b"\n" in line and not bare_lf:
            raise HttpError(400, "a trailer line ends in LF alone")
        name, colon, value = line.partition(b":")
        text = value.strip(b" \t\n").decode("latin-1")
        key = name.decode("latin-1").lower()
        if not colon or not is_field_name(name) or "\n" in text:
            raise HttpError(400, "malformed trailer line")
        if key in fields or len(fields) == HTTP_TRAILERS_MAX:
            raise HttpError(400, "a trailer field is given twice, or there are too many")
        fields[key] = text
    return fields

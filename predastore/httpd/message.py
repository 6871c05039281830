"""Requests and responses as the layers above see them.

Owns the types that cross the seam between the HTTP server and its handler:

    Handler = Callable[[Request], Awaitable[Response]]

A request's body is a stream that is read once, forward, by one reader. `Body.readinto` copies
into the caller's buffer, returns at least one byte while there are any, and returns 0 only when
the whole body has arrived and everything that was promised about it (length, framing, chunk and
trailer signatures) has been found true. Whoever stores a body therefore commits after the 0, and
never before. It raises

    BodyMismatch   the body is not what was declared (`what`: "length", "signature", "sha256")
    HttpError      malformed framing (400), too slow (408), too large for `read` (413)

A response's body is bytes, or an asynchronous iterator of buffers. A buffer that was yielded must
not be changed while anybody else refers to it: the transport holds it until it is sent.

Header values are Latin-1, so that every byte survives a round trip; names are lower case.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TypeAlias, overload

from predastore.base.errors import HttpError
from predastore.base.limits import KIB

Buffer: TypeAlias = bytes | bytearray | memoryview

_NO_TRAILERS: Mapping[str, str] = MappingProxyType({})
_TOKEN = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]+")
_ITERATION_BYTES = 256 * KIB  # piece size of `async for`: one socket read


def parse_date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110, 5.6.7), in UTC, which "-0000" and no zone are, too; None: it is
    none."""
    try:
        at = parsedate_to_datetime(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def is_field_name(name: bytes) -> bool:
    """Whether a field may be called so: it is a token (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


class Headers:
    """Read-only multi-map of a request's header fields, in the order of arrival.

    `raw` has the fields as (lower-case name, value) in bytes, without surrounding blanks.
    """

    __slots__ = ("_first", "raw")

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.raw = raw
        self._first: dict[str, str] | None = None

    @classmethod
    def of(cls, items: Iterable[tuple[str, str]]) -> Headers:
        """Headers from text, for tests and client-side signing."""
        return cls([(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in items])

    def _index(self) -> dict[str, str]:
        # Backwards, so that of several values the first remains.
        first = {n.decode("latin-1"): v.decode("latin-1") for n, v in reversed(self.raw)}
        self._first = first
        return first

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name` (lower case), or `default`."""
        first = self._first
        if first is None:
            first = self._index()
        return first.get(name, default)

    def get_all(self, name: str) -> list[str]:
        """Every value of `name` (lower case), in the order of arrival."""
        wanted = name.encode("latin-1")
        return [v.decode("latin-1") for n, v in self.raw if n == wanted]

    def items(self) -> Iterator[tuple[str, str]]:
        for name, value in self.raw:
            yield name.decode("latin-1"), value.decode("latin-1")

    def __contains__(self, name: str) -> bool:
        first = self._first
        if first is None:
            first = self._index()
        return name in first

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        return f"Headers({[n.decode('latin-1') for n, _ in self.raw]})"  # values may be secret


class Body(ABC):
    """A stream of bytes, read once. `length`: known beforehand (decoded), or None."""

    length: int | None = 0

    @abstractmethod
    async def readinto(self, buffer: memoryview) -> int:
        """Fill some of `buffer` (not empty): the bytes written, 0 at the verified end."""

    @property
    def trailers(self) -> Mapping[str, str]:
        """Trailer fields, lower-case names; empty before the end."""
        return _NO_TRAILERS

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body; HttpError 413 where it has more than `limit_bytes`."""
        if self.length == 0:
            await self.readinto(memoryview(bytearray(1)))  # lets the end be verified
            return b""
        if self.length is not None and self.length > limit_bytes:
            raise HttpError(413, f"the body has more than {limit_bytes} bytes")
        whole = bytearray()
        async for piece in self:
            whole += piece
            if len(whole) > limit_bytes:
                raise HttpError(413, f"the body has more than {limit_bytes} bytes")
        return bytes(whole)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        """Pieces as they arrive; a piece is valid until the next is asked for."""
        size = _ITERATION_BYTES if self.length is None else min(_ITERATION_BYTES, self.length + 1)
        piece = memoryview(bytearray(size))
        while count := await self.readinto(piece):
            yield piece[:count]


class BytesBody(Body):
    """A body that is already in memory."""

    def __init__(self, data: Buffer = b"") -> None:
        self._rest = memoryview(data)
        self.length = len(self._rest)

    async def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@dataclass(slots=True)
class Request:
    """`raw_path` and `raw_query` are as sent: undecoded, parted at the first "?".

    `has_length` is False where neither Content-Length nor a chunked coding was sent (the body
    then is empty). `id`: 16 hexadecimal digits in upper case. `body` is replaced by the decoding
    body when a signature verifier finds aws-chunked.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Headers
    body: Body
    has_length: bool = True
    remote: str = ""  # address of the client, without the port
    secure: bool = False
    id: str = ""
    operation: str = ""  # what it was found to ask for; for `Done`, as the account that asks
    account: str = ""
    names: tuple[str, str] = ("", "")  # bucket and key, as far as it names them
    trace: object = None  # what whoever traces it keeps


@dataclass(slots=True)
class Response:
    """`length` is required to be exact for an iterator; without it chunked coding is used.

    To HEAD, answer as to GET: `length` is declared and no body is sent. Content-Length,
    Transfer-Encoding, Connection, Date and Server are the server's to write.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Buffer | AsyncIterator[Buffer] = b""
    length: int | None = None


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
ErrorHook: TypeAlias = Callable[[Request | None, HttpError], Response]

# What is told of each request at its end: status (499: the client went away before there was
# any), bytes that were received for it and sent, heads included, and how long it took.
Done: TypeAlias = Callable[[Request, int, int, int, float], None]

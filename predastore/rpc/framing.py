"""The one message format of cluster calls, over QUIC streams and (header only) in the pipe.

    offset  size  field
    0       4     header_length, u32 little endian, 1..RPC_HEADER_BYTES_MAX
    4       4     payload_length, u32 little endian, 0..RPC_PAYLOAD_BYTES_MAX
    8       h     header: msgpack of RequestHeader or ResponseHeader
    8 + h   p     payload: raw bytes

A call is one request message and one response message. `FrameParser` takes bytes as they come
and never holds more than the message that was announced; it refuses a length over its bounds
before it has read a byte of what the length announces. Sans-IO: nothing here waits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from predastore.base.errors import PeerRefused, PredastoreError, RemoteFailure, from_wire, to_wire
from predastore.base.limits import (
    RPC_GATHER_BYTES_MIN,
    RPC_HEADER_BYTES_MAX,
    RPC_PAYLOAD_BYTES_MAX,
)

# What `payload` may be made of. (3.11 has no typing name for the buffer protocol.)
Buffer = bytes | bytearray | memoryview

S = TypeVar("S", bound=msgspec.Struct)

PREFIX: Final = struct.Struct("<II")
_NIL: Final = msgspec.Raw(b"\xc0")
_encode = msgspec.msgpack.Encoder().encode


class FrameError(PeerRefused):
    """The peer sent what is not a message; the stream or connection is cut."""


class WireError(msgspec.Struct, frozen=True, array_like=True):
    """A PredastoreError as `errors.to_wire` takes it apart."""

    code: str
    message: str
    detail: dict[str, Any]


class _PlainHeader(msgspec.Struct, frozen=True, array_like=True):
    method: str
    timeout_ms: int
    body: msgspec.Raw


class RequestHeader(msgspec.Struct, frozen=True, array_like=True):
    """`trace`: the caller's place in a trace; left away where there is none. Who does not know
    it passes over it."""

    method: str
    timeout_ms: int  # time left when it was sent; clocks are not compared
    body: msgspec.Raw  # the request struct
    trace: str = ""


class ResponseHeader(msgspec.Struct, frozen=True, array_like=True):
    """The response struct; or nil, and an error."""

    body: msgspec.Raw
    error: WireError | None = None


class Message(NamedTuple):
    header: bytes
    payload: memoryview


@lru_cache(maxsize=1024)
def _decoder(kind: type[Any]) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def encode_struct(value: msgspec.Struct) -> bytes:
    return _encode(value)


def decode_struct(kind: type[S], data: bytes | memoryview | msgspec.Raw) -> S:
    """`data` as a `kind`; FrameError when it is not one."""
    try:
        decoded: S = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"not a {kind.__name__}: {error}") from error
    return decoded


def check_lengths(header_bytes: int, payload_bytes: int) -> None:
    """FrameError for what is too large to be a message."""
    if header_bytes > RPC_HEADER_BYTES_MAX:
        raise FrameError(f"a header of {header_bytes} bytes is over {RPC_HEADER_BYTES_MAX}")
    if payload_bytes > RPC_PAYLOAD_BYTES_MAX:
        raise FrameError(f"a payload of {payload_bytes} bytes is over {RPC_PAYLOAD_BYTES_MAX}")


def encode_prefix(header: bytes, payload_bytes: int) -> bytes:
    """The message up to its payload; the caller sends `payload_bytes` bytes after it."""
    check_lengths(len(header), payload_bytes)
    return PREFIX.pack(len(header), payload_bytes) + header


def whole_message(data: bytes) -> Message | None:
    """The message that `data` is, neither more nor less; None where it takes a FrameParser to
    say what it is."""
    if len(data) < PREFIX.size:
        return None
    header_bytes, payload_bytes = PREFIX.unpack_from(data)
    header_end = PREFIX.size + header_bytes
    if (
        len(data) != header_end + payload_bytes
        or not 0 < header_bytes <= RPC_HEADER_BYTES_MAX
        or payload_bytes > RPC_PAYLOAD_BYTES_MAX
    ):
        return None
    return Message(data[PREFIX.size : header_end], memoryview(data)[header_end:])


def encode_request(method: str, timeout_ms: int, body: bytes, trace: str = "") -> bytes:
    """The header of a request; `body` is the encoded request struct."""
    if trace:
        return _encode(RequestHeader(method, timeout_ms, msgspec.Raw(body), trace))
    return _encode(_PlainHeader(method, timeout_ms, msgspec.Raw(body)))


def encode_response(body: bytes) -> bytes:
    return _encode(ResponseHeader(msgspec.Raw(body)))


def encode_error(error: PredastoreError) -> bytes:
    """The header of a response that carries `error`; a detail that can not cross is left out."""
    code, message, detail = to_wire(error)
    message = message[:4096]
    try:
        return _encode(ResponseHeader(_NIL, WireError(code, message, detail)))
    except (TypeError, OverflowError):
        return _encode(ResponseHeader(_NIL, WireError(RemoteFailure.code, message, {})))


def decode_response(kind: type[S], header: bytes) -> S:
    """The response struct; raises the error that the peer's handler raised."""
    response = decode_struct(ResponseHeader, header)
    if response.error is not None:
        raise from_wire(response.error.code, response.error.message, response.error.detail)
    return decode_struct(kind, response.body)


def payload_length(payload: Sequence[Buffer]) -> int:
    """Bytes in all buffers."""
    return sum(memoryview(part).nbytes for part in payload) if payload else 0


def joined(payload: Sequence[Buffer]) -> memoryview:
    """One read-only view of all bytes; copies only when there are several buffers."""
    if not payload:
        return memoryview(b"")
    if len(payload) == 1:
        return memoryview(payload[0]).cast("B").toreadonly()
    return memoryview(b"".join(payload))


class FrameParser:
    """Bytes in, at most one message out.

    `feed` says whether the header is complete; then `header` and `payload_bytes` are set, so
    that the owner can refuse the payload before it comes. `message()` is the whole once
    `complete`. Bytes after the message stand in `rest`. `gather` has a large payload come in one
    piece, where bytes can be gathered below.
    """

    __slots__ = (
        "_asked",
        "_chunks",
        "_header_bytes",
        "_header_bytes_max",
        "_missing_bytes",
        "_payload_bytes_max",
        "complete",
        "header",
        "payload_bytes",
        "rest",
    )

    def __init__(
        self,
        header_bytes_max: int = RPC_HEADER_BYTES_MAX,
        payload_bytes_max: int = RPC_PAYLOAD_BYTES_MAX,
    ) -> None:
        self._header_bytes_max = header_bytes_max
        self._payload_bytes_max = payload_bytes_max
        self._header_bytes = -1  # not known yet
        self._missing_bytes = PREFIX.size  # until the next step of the parse
        # Chunks are joined once at the end: nothing is allocated on the word of a length.
        self._chunks: list[Buffer] = []
        self._asked = False
        self.header: bytes | None = None
        self.payload_bytes = 0
        self.complete = False
        self.rest: bytes = b""

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes; True once the header is there. FrameError on a bad length."""
        if self.complete:
            self.rest += data
            return True
        view: Buffer = memoryview(data)  # of which parts are taken without a copy
        while len(view) >= self._missing_bytes:
            taken, view = view[: self._missing_bytes], view[self._missing_bytes :]
            self._chunks.append(taken)
            if self._step():
                self.rest = bytes(view)
                return True
        if len(view):
            self._chunks.append(view)
            self._missing_bytes -= len(view)
        return self.header is not None

    def gather(self, ask: Callable[[int, bytes, int], bool]) -> None:
        """`ask(offset, first, size)`, once, while much of the payload is missing: will it all come
        in one piece of `size` bytes? `first`: its bytes so far, which end at `offset` of the
        message."""
        if self._asked or self.header is None or self._missing_bytes < RPC_GATHER_BYTES_MIN:
            return
        self._asked = True
        first = b"".join(self._chunks)
        offset = PREFIX.size + self._header_bytes + len(first)
        if ask(offset, first, self.payload_bytes):
            self._chunks = []
            self._missing_bytes = self.payload_bytes

    def _step(self) -> bool:
        """One part (prefix, header or payload) is complete; True if it was the last."""
        if self.header is not None:
            self.complete = True
            return True
        whole = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        if self._header_bytes < 0:
            self._header_bytes, self.payload_bytes = PREFIX.unpack(whole)
            if not 0 < self._header_bytes <= self._header_bytes_max:
                raise FrameError(f"header length {self._header_bytes} is out of bounds")
            if self.payload_bytes > self._payload_bytes_max:
                raise FrameError(f"payload length {self.payload_bytes} is out of bounds")
            self._missing_bytes = self._header_bytes
            return False
        self.header = bytes(whole)
        self._missing_bytes = self.payload_bytes
        self.complete = self.payload_bytes == 0
        return self.complete

    def message(self) -> Message:
        assert self.complete
        assert self.header is not None
        return Message(self.header, joined(self._chunks))

"""Chunked and aws-chunked bodies in plain Python, whole at a time: the twin of _fast.chunked."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

EMPTY = hashlib.sha256(b"").hexdigest().encode()


@dataclass(frozen=True)
class Signing:
    """`stamp` is x-amz-date, `scope` the credential scope, `seed` the request's signature."""

    key: bytes
    stamp: bytes
    scope: bytes
    seed: bytes

    @property
    def prefix(self) -> bytes:
        return b"AWS4-HMAC-SHA256-PAYLOAD\n" + self.stamp + b"\n" + self.scope + b"\n"

    def chunk(self, previous: bytes, data: bytes) -> bytes:
        digest = hashlib.sha256(data).hexdigest().encode()
        text = self.prefix + b"\n".join([previous, EMPTY, digest])
        return hmac.new(self.key, text, "sha256").hexdigest().encode()

    def trailer(self, previous: bytes, lines: bytes) -> bytes:
        digest = hashlib.sha256(lines).hexdigest().encode()
        text = b"\n".join([b"AWS4-HMAC-SHA256-TRAILER", self.stamp, self.scope, previous, digest])
        return hmac.new(self.key, text, "sha256").hexdigest().encode()


def encode(
    chunks: Sequence[bytes],
    signing: Signing | None = None,
    trailers: Sequence[tuple[str, str]] = (),
    *,
    sign_trailer: bool = False,
) -> bytes:
    """The body of `chunks` (none of them empty), signed where `signing` is given."""
    out = b""
    previous = signing.seed if signing else b""
    for data in [*chunks, b""]:
        extension = b""
        if signing:
            previous = signing.chunk(previous, data)
            extension = b";chunk-signature=" + previous
        out += f"{len(data):x}".encode() + extension + b"\r\n"
        out += data + b"\r\n" if data else b""
    for name, value in trailers:
        out += f"{name}:{value}\r\n".encode()
    if signing and sign_trailer:
        lines = "".join(f"{name.lower()}:{value.strip()}\n" for name, value in trailers).encode()
        out += b"x-amz-trailer-signature:" + signing.trailer(previous, lines) + b"\r\n"
    return out + b"\r\n"


def decode(body: bytes, signing: Signing | None = None) -> tuple[bytes, bytes, bytes] | None:
    """(data, trailer lines, what follows the body); None where it is not a whole, good body."""
    data = b""
    previous = signing.seed if signing else b""
    while True:
        line, mark, body = body.partition(b"\r\n")
        digits, _, extension = line.partition(b";")
        if not mark or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            return None
        size = int(digits, 16)
        chunk = body[:size]
        if len(chunk) < size or any(byte < 0x20 and byte != 0x09 for byte in extension):
            return None
        if signing:
            previous = signing.chunk(previous, chunk)
            if extension != b"chunk-signature=" + previous:
                return None
        data += chunk
        if size == 0:
            break
        if body[size : size + 2] != b"\r\n":
            return None
        body = body[size + 2 :]
    lines = b""
    while True:
        line, mark, body = body.partition(b"\r\n")
        if not mark:
            return None
        if not line:
            return data, lines, body
        lines += line + b"\r\n"

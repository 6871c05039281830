"""aws-chunked bodies: decoded as they are read, each chunk and the trailer verified.

Formats: "Signature Calculations for the Authorization Header: Transferring a Payload in Multiple
Chunks", and the same "including trailing headers", in the Amazon S3 API Reference.

    x-amz-content-sha256                          chunks    trailer
    STREAMING-UNSIGNED-PAYLOAD-TRAILER            plain     plain
    STREAMING-AWS4-HMAC-SHA256-PAYLOAD            signed    none
    STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER    signed    signed

The coding lies inside of whatever frames the request, Content-Length or HTTP's own chunked
coding, and must end where that ends. `readinto` returns 0 only after the last chunk, all
signatures, the declared length and exactly the declared trailer fields have been seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from hmac import compare_digest
from typing import NamedTuple

from predastore._fast import sigv4 as kernel
from predastore._fast.chunked import Decoder
from predastore.base.errors import BodyMismatch, HttpError, PredastoreError, anew
from predastore.base.limits import (
    HTTP_BODY_INLINE_BYTES_MAX,
    HTTP_CHUNK_BYTES_MAX,
    HTTP_DECODE_BYTES_MAX,
    HTTP_DECODE_BYTES_MIN,
    HTTP_TRAILER_BYTES_MAX,
    KIB,
)
from predastore.httpd.message import Body, Headers
from predastore.httpd.wirebody import parse_trailers

_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class ChunkSigning(NamedTuple):
    """What the chunk signatures of a request hang on. `seed`: the request's own signature."""

    key: bytes
    stamp: bytes
    scope: bytes
    seed: bytes

    def prefix(self, kind: bytes) -> bytes:
        """How the string to sign of a chunk ("PAYLOAD") or a trailer ("TRAILER") begins."""
        return b"AWS4-HMAC-SHA256-%b\n%b\n%b\n" % (kind, self.stamp, self.scope)


class AwsChunkedBody(Body):
    """Decodes `inner`. `length`: decoded, as declared. `trailer_names`: None where none may come.

    BodyMismatch ("signature", "length") and HttpError (400) are final.
    """

    def __init__(
        self,
        inner: Body,
        length: int,
        signing: ChunkSigning | None,
        trailer_names: frozenset[str] | None,
    ) -> None:
        self.length: int = length
        self._inner = inner
        self._signing = signing
        self._trailer_names = trailer_names
        trailer_bytes_max = 0 if trailer_names is None else HTTP_TRAILER_BYTES_MAX
        if signing is None:
            self._decoder = Decoder(HTTP_CHUNK_BYTES_MAX, trailer_bytes_max)
        else:
            self._decoder = Decoder(
                HTTP_CHUNK_BYTES_MAX,
                trailer_bytes_max,
                signing.key,
                signing.prefix(b"PAYLOAD"),
                signing.seed,
            )
        self._encoded = memoryview(b"")  # made by the first read, and gone at the end
        self._start = self._end = 0  # what of `_encoded` is not decoded yet
        self._decoded_bytes = 0
        self._verified = False
        self._error: PredastoreError | None = None
        self._trailers: Mapping[str, str] = {}

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._trailers

    async def readinto(self, buffer: memoryview) -> int:
        if self._error is not None:
            raise anew(self._error)
        if not self._encoded and not self._verified:
            self._encoded = self._room(HTTP_DECODE_BYTES_MIN)
        try:
            return await self._advance(buffer)
        except PredastoreError as error:
            self._error = anew(error)
            self._encoded = memoryview(b"")
            raise

    async def _advance(self, buffer: memoryview) -> int:
        decoder = self._decoder
        while not self._verified:
            if decoder.done:
                await self._verify_end()
                break
            if self._start == self._end:
                if self._end == HTTP_DECODE_BYTES_MIN == len(self._encoded):
                    self._encoded = self._room(HTTP_DECODE_BYTES_MAX)
                self._start = 0
                self._end = await self._inner.readinto(self._encoded)
                if self._end == 0:
                    raise BodyMismatch("the aws-chunked body ends before its last chunk", "length")
            count = await self._decode(buffer)
            if count:
                return count
        return 0

    def _room(self, most_bytes: int) -> memoryview:
        """A buffer to read into: small at first, for a client that sends a head and then nothing
        keeps it."""
        return memoryview(bytearray(min(most_bytes, self.length + 4 * KIB)))

    async def _decode(self, buffer: memoryview) -> int:
        encoded = self._encoded[self._start : self._end]
        if self._signing is None or min(len(encoded), len(buffer)) <= HTTP_BODY_INLINE_BYTES_MAX:
            used, count = self._decoder.feed(encoded, buffer)
        else:
            loop = asyncio.get_running_loop()
            decode = partial(self._decoder.feed, encoded, buffer)
            used, count = await loop.run_in_executor(None, decode)
        self._start += used
        self._decoded_bytes += count
        fault = self._decoder.fault
        if fault == "signature":
            raise BodyMismatch("the signature of a chunk does not match", "signature")
        if fault:
            raise HttpError(400, f"malformed aws-chunked body: {fault}")
        if self._decoded_bytes > self.length:
            self._refuse_length()
        return count

    def _refuse_length(self) -> None:
        raise BodyMismatch(
            f"the aws-chunked body is not as long as declared ({self.length} bytes)", "length"
        )

    async def _verify_end(self) -> None:
        if self._decoded_bytes != self.length:
            self._refuse_length()
        if self._start != self._end or await self._inner.readinto(self._encoded):
            raise HttpError(400, "the body goes on after its last aws-chunked chunk")
        trailers = parse_trailers(self._decoder.trailer, bare_lf=True)
        if self._trailer_names is not None and self._signing is not None:
            self._verify_trailers(self._signing, trailers)
        if trailers.keys() != (self._trailer_names or frozenset()):
            raise HttpError(400, "the trailer fields are not those that x-amz-trailer declares")
        self._trailers = trailers
        self._verified = True
        self._encoded = memoryview(b"")

    def _verify_trailers(self, signing: ChunkSigning, trailers: dict[str, str]) -> None:
        """Checks the trailer's signature, and takes it out."""
        claimed = trailers.pop(_TRAILER_SIGNATURE, "").encode("latin-1")
        lines = "".join([f"{name}:{value}\n" for name, value in trailers.items()])
        digest = kernel.sha256(lines.encode("latin-1")).hex().encode()
        text = signing.prefix(b"TRAILER") + self._decoder.signature + b"\n" + digest
        if not compare_digest(kernel.text_signature(signing.key, text), claimed):
            raise BodyMismatch("the signature of the trailer does not match", "signature")


def declared_trailers(headers: Headers) -> frozenset[str]:
    """The names in x-amz-trailer, in lower case."""
    names = ",".join(headers.get_all("x-amz-trailer")).lower().split(",")
    return frozenset(name.strip() for name in names if name.strip())


def content_encoding(headers: Headers) -> str | None:
    """Content-Encoding as it describes the object: without aws-chunked, which is of the wire."""
    codings = ",".join(headers.get_all("content-encoding")).split(",")
    kept = [coding.strip() for coding in codings if coding.strip().lower() != "aws-chunked"]
    return ",".join(coding for coding in kept if coding) or None

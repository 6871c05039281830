"""The payload of a request, by what its signature says of it.

x-amz-content-sha256 is one of

    64 hex digits          the digest of the body; whoever reads the body compares it
    UNSIGNED-PAYLOAD       nothing is promised
    STREAMING-...          the body is aws-chunked, with signed chunks, trailers, or both
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final, NoReturn

from predastore._fast import sigv4 as kernel
from predastore.base.errors import SignatureError
from predastore.httpd.chunked import AwsChunkedBody, ChunkSigning, declared_trailers
from predastore.httpd.message import Buffer, Request

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = kernel.sha256(b"")

# x-amz-content-sha256 -> (the chunks are signed, a trailer may follow)
_STREAMING: Final = {
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
}


def verify_payload(data: Buffer, payload_sha256: bytes | None) -> None:
    """SignatureError XAmzContentSHA256Mismatch where `data` is not the body that was signed
    (`Verified.payload_sha256`)."""
    if payload_sha256 is not None and not compare_digest(kernel.sha256(data), payload_sha256):
        refuse_digest()


def refuse_digest() -> NoReturn:
    """The error of a body that is not the one that was signed."""
    raise SignatureError(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )


def open_body(request: Request, payload: str, signing: ChunkSigning | None) -> bytes | None:
    """Makes request.body what `payload` says; the digest that is to be compared, if any."""
    if payload == UNSIGNED:
        return None
    streaming = _STREAMING.get(payload)
    if streaming is not None:
        _open_streaming(request, streaming, signing)
        return None
    if payload.startswith("STREAMING-AWS4-ECDSA"):
        raise SignatureError("NotImplemented", "SigV4A (ECDSA) signatures are not supported.")
    digest = _parse_digest(payload)
    if request.body.length == 0 and digest != EMPTY_SHA256:
        refuse_digest()
    return digest


def _open_streaming(
    request: Request, streaming: tuple[bool, bool], signing: ChunkSigning | None
) -> None:
    signed, trailer = streaming
    if signed and signing is None:
        raise SignatureError("AccessDenied", "An anonymous request can not have signed chunks.")
    length = request.headers.get("x-amz-decoded-content-length")
    if length is None:
        raise SignatureError(
            "MissingContentLength", "You must provide the x-amz-decoded-content-length header."
        )
    if not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise SignatureError("InvalidArgument", "x-amz-decoded-content-length is not a number.")
    request.body = AwsChunkedBody(
        request.body,
        int(length),
        signing if signed else None,
        declared_trailers(request.headers) if trailer else None,
    )
    request.has_length = True


def _parse_digest(payload: str) -> bytes:
    if len(payload) == 64:
        try:
            return bytes.fromhex(payload)
        except ValueError:
            pass
    raise SignatureError(
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, one of the STREAMING- values, "
        "or a valid sha256 value.",
    )

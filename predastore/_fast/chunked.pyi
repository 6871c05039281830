"""Decoder of chunked bodies: HTTP's own (RFC 9112, 7.1) and aws-chunked inside of it.

    body    = *( hex-size [ ";" extension ] CRLF data CRLF ) "0" [ ";" extension ] CRLF
              *( trailer-line CRLF ) CRLF

Lines end in CRLF and nothing else. With a signing key, each extension is exactly
"chunk-signature=" and 64 digits, and the signature of every chunk (the last, empty one included)
is checked when its data has passed: data of a chunk may leave before the chunk is known to be
good, so nothing may be relied on before `done`. Without a key extensions are skipped.

Incremental and bounded: nothing is kept but the line being read and the trailer lines.
"""

from typing import Final, Literal

from typing_extensions import Buffer

SIZE_LINE_BYTES_MAX: Final[int]
"""Longest chunk-size line with its extension, without CRLF."""

Fault = Literal["", "framing", "signature", "chunk-size", "trailer-size"]

class Decoder:
    """One body. After a fault nothing more is decoded.

    `key`: the 32-byte signing key, or empty. `prefix`: what a chunk's string to sign begins with
    (algorithm, time and scope, each with its newline); `previous`: the seed signature, 64 digits.
    `trailer_bytes_max`: for all trailer lines; 0 where none may come.
    """

    def __init__(
        self,
        chunk_bytes_max: int,
        trailer_bytes_max: int,
        key: bytes = b"",
        prefix: bytes = b"",
        previous: bytes = b"",
    ) -> None: ...
    def feed(self, source: Buffer, target: Buffer) -> tuple[int, int]:
        """Decodes until one of the two is used up: (bytes of source used, bytes written).

        Stops at a fault and at the end of the body; what follows the body is not used.
        """

    @property
    def done(self) -> bool:
        """The whole body has passed, each chunk signature was right."""

    @property
    def fault(self) -> Fault:
        """What is wrong with the body; empty: nothing so far."""

    @property
    def signature(self) -> bytes:
        """The last chunk signature that was checked; the seed before."""

    @property
    def trailer(self) -> bytes:
        """The trailer lines, each with its CRLF, without the empty one."""

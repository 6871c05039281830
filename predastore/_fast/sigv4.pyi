"""AWS Signature Version 4 as Amazon S3 wants it, over the bytes of a request as they were sent.

Canonical URI: the raw path, percent-decoded and encoded again by UriEncode, "/" kept, nothing
normalised (`//`, `./` and the like stay). Canonical query: every pair decoded ("+" is a blank, as
in a form) and encoded, sorted by name and then value, in bytes. Canonical headers: blanks trimmed
and collapsed, repeated fields joined with commas. Malformed percent signs stand for themselves.

`headers` are (lower-case name, value) pairs; `signed` is the SignedHeaders list ("host;range"),
strictly ascending, else ValueError; a signed header that is absent counts as empty. Signatures
are 64 lower-case hexadecimal digits. SHA-256 uses the CPU's instructions where it has them.
"""

from typing import Literal

from typing_extensions import Buffer

Path = Literal["portable", "shani"]

PATHS: tuple[Path, ...]

def paths() -> list[Path]:
    """The code paths that this CPU offers, plainest first."""

def path() -> Path:
    """The code path in use in this extension."""

def force_path(name: Path | None) -> None:
    """Uses a code path from now on, in this extension; None: the best one. For tests."""

def sha256(data: Buffer) -> bytes:
    """The digest, 32 bytes; the GIL is released for long inputs."""

def uri_encode(data: bytes, keep_slash: bool = False) -> bytes:
    """AWS UriEncode: all but A-Z a-z 0-9 - . _ ~ (and "/") becomes %XX."""

def signing_key(secret: bytes, date: bytes, region: bytes, service: bytes) -> bytes:
    """The key of a credential scope; `date` is YYYYMMDD."""

def text_signature(key: bytes, text: bytes) -> bytes:
    """The signature of a string to sign."""

def canonical_request(
    method: bytes,
    raw_path: bytes,
    raw_query: bytes,
    headers: list[tuple[bytes, bytes]],
    signed: bytes,
    payload: bytes,
    presigned: bool = False,
) -> bytes:
    """The canonical request; `presigned` leaves X-Amz-Signature out of the query."""

def request_signature(
    key: bytes,
    stamp: bytes,
    scope: bytes,
    method: bytes,
    raw_path: bytes,
    raw_query: bytes,
    headers: list[tuple[bytes, bytes]],
    signed: bytes,
    payload: bytes,
    presigned: bool = False,
) -> bytes:
    """The signature of a request; `stamp` is x-amz-date, `scope` "date/region/service/...".

    `payload` is the value of x-amz-content-sha256.
    """

def unsigned_header(headers: list[tuple[bytes, bytes]], signed: bytes) -> bytes | None:
    """The first of Host and x-amz-* that is present and not in `signed`; None: all are."""

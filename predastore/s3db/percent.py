"""Percent-encoding of arbitrary bytes in a path and a query (RFC 3986), decoded strictly."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

from predastore.base.errors import FormatError

_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")


def decoded(data: bytes) -> bytes:
    """The bytes that `data` stands for; FormatError where a "%" has no two digits after it."""
    for part in data.split(b"%")[1:]:
        if len(part) < 2 or not _HEXADECIMAL.issuperset(part[:2]):
            raise FormatError("a percent sign is followed by two hexadecimal digits")
    return unquote_to_bytes(data)


def encoded_path(raw_path: bytes) -> bytes:
    """A path encoded once more, as SigV4 wants it for every service but S3."""
    return quote_from_bytes(raw_path, safe="/~").encode()


def query(raw_query: bytes, known: Iterable[str]) -> dict[str, bytes]:
    """The parameters of a query; FormatError for one that is not known, or is given twice.

    "+" is a blank, as the signature of a query takes it.
    """
    names = frozenset(known)
    found: dict[str, bytes] = {}
    for pair in filter(None, raw_query.split(b"&")):
        raw_name, _, value = pair.partition(b"=")
        name = decoded(raw_name).decode("latin-1")
        if name not in names or name in found:
            raise FormatError(f"query parameter {name[:40]!r} is not known, or given twice")
        found[name] = decoded(value.replace(b"+", b" "))
    return found

"""One GET of a document of another host, bounded in bytes and in time; nothing is followed."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httptools

from predastore.base.errors import PredastoreError
from predastore.base.limits import OIDC_DOCUMENT_BYTES_MAX, OIDC_TIMEOUT_S

_PIECE_BYTES: Final = 65_536
_HEAD_BYTES_MAX: Final = 65_536


class FetchFailed(PredastoreError):
    """There is no such document to be had now."""

    code = "fetch-failed"


class _Answer:
    """What a parser of httptools tells."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_whole = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.is_whole = True


async def fetch(url: str, ca: Path | None) -> bytes:
    """The document at `url`, https or http; `ca`: authorities that verify it, None: the system's.
    FetchFailed: there is none, it is too large, or all of it takes too long."""
    try:
        async with asyncio.timeout(OIDC_TIMEOUT_S):
            return await _fetched(url, ca)
    except TimeoutError:
        raise FetchFailed(f"{url}: no answer within {OIDC_TIMEOUT_S:.0f} s") from None
    except (OSError, ValueError, httptools.HttpParserError) as error:
        raise FetchFailed(f"{url}: {str(error) or type(error).__name__}") from None


async def _fetched(url: str, ca: Path | None) -> bytes:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not host or not (host + target).isascii() or any(one <= " " for one in host + target):
        raise FetchFailed(f"{url[:200]}: no URL")
    context = ssl.create_default_context(cafile=ca) if is_tls else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            "Accept: application/json\r\nConnection: close\r\n\r\n".encode()
        )
        return await _answered(url, reader)
    finally:
        writer.transport.abort()


async def _answered(url: str, reader: asyncio.StreamReader) -> bytes:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    received = 0
    while not answer.is_whole:
        piece = await reader.read(_PIECE_BYTES)
        received += len(piece)
        if received > OIDC_DOCUMENT_BYTES_MAX + _HEAD_BYTES_MAX:
            raise FetchFailed(f"{url}: over {OIDC_DOCUMENT_BYTES_MAX} bytes")
        if not piece:
            break  # the end says how long a body is that has no length
        parser.feed_data(piece)
    if not received or parser.get_status_code() != 200:
        raise FetchFailed(f"{url}: answered {parser.get_status_code() if received else 'nothing'}")
    return bytes(answer.body)

"""S3 requests written by hand, byte for byte, so that they can be wrong in any way.

Signatures come from the plain-Python twins of the kernels, not from the code under test.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reference import chunked, sigv4

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What came back. `code`: the S3 error code, or ""."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        if not self.body.startswith(b"<?xml"):
            return ""
        said = ET.fromstring(self.body)
        return said.findtext("Code") or said.findtext("Error/Code") or ""


@dataclass
class Raw:
    """A request. `signed_at`: Unix time of the signature; `leave_out`: fields sent unsigned."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    payload: str = ""  # x-amz-content-sha256; the body's own if empty
    signed_at: float = 0.0
    leave_out: frozenset[str] = frozenset()


class Signer:
    """One credential at one server."""

    def __init__(
        self,
        host: str,
        port: int,
        access_key_id: str,
        secret: str,
        region: str,
        service: str = "s3",
    ) -> None:
        self.address = (host, port)
        self.host = f"{host}:{port}"
        self.access_key_id = access_key_id
        self.region = region
        self.service = service
        self._secret = secret

    def scope(self, when: float) -> str:
        date = time.strftime("%Y%m%d", time.gmtime(when))
        return f"{date}/{self.region}/{self.service}/aws4_request"

    def _key(self, when: float) -> bytes:
        date = time.strftime("%Y%m%d", time.gmtime(when)).encode()
        return sigv4.signing_key(
            self._secret.encode(), date, self.region.encode(), self.service.encode()
        )

    def fields(self, raw: Raw) -> dict[str, str]:
        """All header fields of the request, signed."""
        when = raw.signed_at or time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(when))
        payload = raw.payload or hashlib.sha256(raw.body).hexdigest()
        fields = {"host": self.host, "x-amz-date": stamp, "x-amz-content-sha256": payload}
        fields.update({name.lower(): value for name, value in raw.headers.items()})
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        signed = ";".join(sorted(fields.keys() - raw.leave_out)).encode()
        signature = sigv4.request_signature(
            self._key(when),
            stamp.encode(),
            self.scope(when).encode(),
            raw.method.encode(),
            raw.path.encode(),
            raw.query.encode(),
            pairs,
            signed,
            fields["x-amz-content-sha256"].encode(),
        )
        fields["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key_id}/{self.scope(when)}, "
            f"SignedHeaders={signed.decode()}, Signature={signature.decode()}"
        )
        return fields

    def presigned(self, raw: Raw, expires_s: int = 60) -> str:
        """The query of a presigned URL; only Host is signed."""
        when = raw.signed_at or time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(when))
        credential = f"{self.access_key_id}/{self.scope(when)}".replace("/", "%2F")
        query = "&".join(
            filter(
                None,
                [
                    raw.query,
                    "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                    f"X-Amz-Credential={credential}",
                    f"X-Amz-Date={stamp}",
                    f"X-Amz-Expires={expires_s}",
                    "X-Amz-SignedHeaders=host",
                ],
            )
        )
        signature = sigv4.request_signature(
            self._key(when),
            stamp.encode(),
            self.scope(when).encode(),
            raw.method.encode(),
            raw.path.encode(),
            query.encode(),
            [(b"host", self.host.encode())],
            b"host",
            b"UNSIGNED-PAYLOAD",
            presigned=True,
        )
        return f"{query}&X-Amz-Signature={signature.decode()}"

    def chunks(self, fields: dict[str, str]) -> chunked.Signing:
        """How the chunks of a request with these signed fields are signed."""
        when = time.time()
        return chunked.Signing(
            self._key(when),
            fields["x-amz-date"].encode(),
            self.scope(when).encode(),
            fields["authorization"].rpartition("Signature=")[2].encode(),
        )

    def send(self, raw: Raw, *, body: bytes | None = None, **changed: str) -> Answer:
        """Signs, changes fields after signing (`_` for `-`), sends, and reads the answer."""
        fields = self.fields(raw)
        fields.update({name.replace("_", "-"): value for name, value in changed.items()})
        sent = raw.body if body is None else body
        if "content-length" not in fields and "transfer-encoding" not in fields:
            fields["content-length"] = str(len(sent))
        return exchange(self.address, raw.method, raw.path, raw.query, fields.items(), sent)


def request_bytes(
    method: str, path: str, query: str, fields: Iterable[tuple[str, str]], body: bytes
) -> bytes:
    target = f"{path}?{query}" if query else path
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(
    address: tuple[str, int],
    method: str,
    path: str,
    query: str,
    fields: Iterable[tuple[str, str]],
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own; its sending half is closed behind the body."""
    return conversation(address, request_bytes(method, path, query, fields, body), [method])[0]


def conversation(address: tuple[str, int], data: bytes, methods: Sequence[str]) -> list[Answer]:
    """The answers to requests of these methods, until the server closes the connection."""
    with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while piece := connection.recv(65536):
            received += piece
    return parse_answers(bytes(received), methods)


class _Bytes:
    """What http.client takes for a socket."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._stream


class _Unclosed(io.BytesIO):
    """Survives the end of one answer, as the next one follows it."""

    def close(self) -> None:
        pass


def parse_answers(data: bytes, methods: Sequence[str]) -> list[Answer]:
    stream = _Unclosed(data)
    answers: list[Answer] = []
    for method in methods:
        if stream.tell() == len(data):
            break
        response = http.client.HTTPResponse(_Bytes(stream), method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answers.append(Answer(response.status, headers, response.read()))
    assert answers, "the server closed the connection without an answer"
    return answers

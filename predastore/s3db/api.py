"""A client of one member's REST API, for operators' tools: blocking, one connection a request."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from predastore.auth.client import connected
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential
from predastore.base.errors import (
    NoLeader,
    PredastoreError,
    RemoteFailure,
)
from predastore.base.limits import BACKUP_CHUNK_BYTES
from predastore.s3db import percent


@dataclass(frozen=True)
class Api:
    """`context` verifies the member's certificate. Paths and queries are percent-encoded."""

    host: str
    port: int
    credential: Credential
    region: str
    context: ssl.SSLContext

    def get(self, path: str, query: str = "") -> dict[str, Any]:
        """The JSON answer. PeerUnreachable; PeerRefused where the certificate can not be verified;
        what the member refuses with."""
        with self._asked("GET", path, query, None) as answer:
            return dict(json.loads(answer.read()))

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(content).encode() if content else b""
        with self._asked("POST", path, "", body) as answer:
            return dict(json.loads(answer.read()))

    def pieces(self, path: str) -> Iterator[bytes]:
        """A large answer, as it comes; PeerUnreachable if it breaks off."""
        with self._asked("GET", path, "", None) as answer:
            while piece := answer.read(BACKUP_CHUNK_BYTES):
                yield piece

    @contextmanager
    def _asked(
        self, method: str, path: str, query: str, body: bytes | None
    ) -> Iterator[http.client.HTTPResponse]:
        where = f"{self.host} port {self.port}"
        headers = dict(self._signed(method, path, query, body or b""))
        target = f"{path}?{query}" if query else path
        with connected(self.host, self.port, self.context, where=where) as connection:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise _refusal(answer.status, answer.read(), where)
            yield answer

    def _signed(self, method: str, path: str, query: str, body: bytes) -> list[tuple[str, str]]:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return sign_request(
            self.credential,
            method=method,
            raw_path=percent.encoded_path(path.encode()),
            raw_query=query.encode(),
            headers=[("host", f"{host}:{self.port}")],
            payload=body,
            region=self.region,
            service="s3db",
        )


def _refusal(status: int, body: bytes, where: str) -> PredastoreError:
    try:
        said = json.loads(body)
        text = f"{where}: {said['message']} ({said['error']})"
    except (ValueError, TypeError, KeyError):
        text = f"{where}: answered {status}"
    return NoLeader(text) if status == 503 else RemoteFailure(text)

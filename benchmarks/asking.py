"""Signed requests to a benchmark's `s3d`, one at a time on one connection that is kept alive."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from benchmarks.served import KEY_ID, PORT, SECRET, Served
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential

TIMEOUT_S = 60


class S3:
    def __init__(self, served: Served) -> None:
        self._host = f"{served.host}:{PORT}"
        self._connection = http.client.HTTPConnection(served.host, PORT, timeout=TIMEOUT_S)

    def ask(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> bytes:
        """The answer's body; RuntimeError unless it has `status`."""
        signed = sign_request(
            Credential(KEY_ID, SECRET, ""),
            method=method,
            raw_path=path.encode(),
            raw_query=query.encode(),
            headers=[("host", self._host), *(headers or {}).items()],
            payload=body,
            region="us-east-1",
            service="s3",
        )
        url = f"{path}?{query}" if query else path
        self._connection.request(method, url, body=body, headers=dict(signed))
        answer = self._connection.getresponse()
        found = answer.read()
        if answer.status != status:
            raise RuntimeError(f"{method} {url}: {answer.status} {found!r}")
        return found

    def close(self) -> None:
        self._connection.close()

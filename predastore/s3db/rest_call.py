"""What the REST API's operations have in common: a verified call, and the forms of answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predastore.auth.payload import verify_payload
from predastore.auth.sigv4 import Verified
from predastore.base.limits import HTTP_BODY_INLINE_BYTES_MAX
from predastore.httpd.message import Request, Response


class Refused(Exception):
    """An answer other than success, on purpose."""

    def __init__(
        self, http_status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.response = error_response(http_status, code, message)
        self.response.headers += headers


@dataclass(frozen=True)
class RestCall:
    """A verified request, taken apart."""

    request: Request
    verified: Verified
    table: str
    key: bytes
    query: Mapping[str, bytes]

    @property
    def stale(self) -> bool:
        wanted = self.query.get("consistency", b"linearizable")
        if wanted not in (b"stale", b"linearizable"):
            raise Refused(400, "bad-request", "consistency is stale or linearizable")
        return wanted == b"stale"

    def wants(self, name: str, value: bytes) -> bool:
        """Whether the parameter `name` is there, as `value`, the only one it may have."""
        found = self.query.get(name)
        if found not in (None, value):
            raise Refused(400, "bad-request", f"{name} is {value.decode()}, or left out")
        return found is not None

    async def body(self, bytes_max: int) -> bytes:
        """The whole body, as it was signed."""
        data = await self.request.body.read(bytes_max)
        if len(data) <= HTTP_BODY_INLINE_BYTES_MAX:
            verify_payload(data, self.verified.payload_sha256)
        else:
            await asyncio.to_thread(verify_payload, data, self.verified.payload_sha256)
        return data


def error_response(http_status: int, code: str, message: str) -> Response:
    answer = json_response(http_status, {"error": code, "message": message})
    if http_status == 503:
        answer.headers.append(("Retry-After", "1"))
    return answer


def json_response(http_status: int, content: dict[str, Any]) -> Response:
    body = json.dumps(content).encode() + b"\n"
    return Response(http_status, [("Content-Type", "application/json")], body)

"""Forms as browsers post them, written by hand, and signed with the plain twins."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from predastore.auth.sigv4 import Credential
from reference import sigv4
from reference.multipart import encode
from support.s3raw import Answer, exchange
from support.s3server import ALICE, REGION

BOUNDARY = b"----FormBoundary7MA4YWxkTrZu0gW"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"


class Endpoint(Protocol):
    """Where a form is posted."""

    @property
    def address(self) -> tuple[str, int]: ...


def expiration(in_s: float = 600.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + in_s))


@dataclass
class Form:
    """A form for `bucket`. `conditions`: None for those that just allow its fields; `policy`: in
    place of what they make; `behind`: fields after the file; `changed`: after signing, where None
    leaves one out; `v2`: signed by Version 2; `who`: None: by nobody, without a policy."""

    bucket: str
    fields: dict[str, str] = field(default_factory=dict)
    data: bytes = b"hello"
    filename: str = "a.txt"
    conditions: list[Any] | None = None
    policy: Any = None
    behind: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str | None] = field(default_factory=dict)
    who: Credential | None = ALICE
    v2: bool = False
    region: str = REGION
    service: str = "s3"
    signed_at: float = 0.0
    expires_in_s: float = 600.0

    def signed(self) -> dict[str, str]:
        """All fields before the file."""
        fields = {"key": "k", **self.fields}
        if self.who is not None:
            fields |= self._signature(self.who, fields)
        for name, value in self.changed.items():
            fields.pop(name, None)
            if value is not None:
                fields[name] = value
        return fields

    def _signature(self, who: Credential, fields: dict[str, str]) -> dict[str, str]:
        when = self.signed_at or time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(when))
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        signing = {
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{who.access_key_id}/{scope}",
            "x-amz-date": stamp,
        }
        if self.v2:
            signing = {"AWSAccessKeyId": who.access_key_id}
        policy = self._policy({**fields, **signing})
        secret = who.secret_access_key.encode()
        if self.v2:
            digest = hmac.digest(secret, policy, hashlib.sha1)
            signing["signature"] = base64.b64encode(digest).decode()
        else:
            place = (stamp[:8].encode(), self.region.encode(), self.service.encode())
            key = sigv4.signing_key(secret, *place)
            signing["x-amz-signature"] = hmac.digest(key, policy, hashlib.sha256).hex()
        return {**signing, "policy": policy.decode()}

    def _policy(self, fields: dict[str, str]) -> bytes:
        conditions = self.conditions
        if conditions is None:
            conditions = [["starts-with", f"${name}", ""] for name in fields]
            conditions.append({"bucket": self.bucket})
        document = self.policy
        if document is None:
            document = {"expiration": expiration(self.expires_in_s), "conditions": conditions}
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        return base64.b64encode(raw)

    def body(self) -> bytes:
        parts: list[tuple[str, bytes, str | None]] = [
            (name, value.encode(), None) for name, value in self.signed().items()
        ]
        parts.append(("file", self.data, self.filename))
        parts += [(name, value.encode(), None) for name, value in self.behind.items()]
        return encode(BOUNDARY, parts, b"\r\n")

    def post(self, server: Endpoint, body: bytes | None = None, **headers: str) -> Answer:
        """`body`: in place of the form's; `headers`: further or other ones (`_` for `-`)."""
        sent = self.body() if body is None else body
        fields = {
            "host": "{}:{}".format(*server.address),
            "content-type": CONTENT_TYPE,
            "content-length": str(len(sent)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        path = "/" if fields["host"].startswith(f"{self.bucket}.") else f"/{self.bucket}"
        return exchange(server.address, "POST", path, "", fields.items(), sent)

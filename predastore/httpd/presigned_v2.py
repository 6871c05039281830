"""Presigned URLs of AWS Signature Version 2, and nothing else of that version.

boto3 and version 1 of the AWS CLI still presign so by default in the oldest regions, us-east-1
among them. Reference: "Signing and authenticating REST requests", Query String Request
Authentication Alternative, in the Amazon S3 User Guide.

    ?AWSAccessKeyId=<key id>&Signature=<base64>&Expires=<seconds since the epoch>

    string to sign = method LF Content-MD5 LF Content-Type LF Expires LF
                     name ":" value LF for each x-amz-* header, sorted
                     "/bucket" where the host names it, and the path as sent,
                     "?" and the sub-resources, sorted, values decoded
    signature      = base64(HMAC-SHA1(secret, string to sign))

Only sub-resources and response-* are covered by such a signature, so a query with anything else
is refused: an unsigned parameter is never obeyed. Expires lies at most as far ahead as that of a
Version 4 URL may.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final
from urllib.parse import unquote

from predastore.errors import SignatureError
from predastore.httpd.message import Request
from predastore.limits import SIGV4_PRESIGNED_S_MAX

_AUTHENTICATION: Final = frozenset({"AWSAccessKeyId", "Signature", "Expires"})
_COVERED: Final = frozenset(
    {
        *("acl", "cors", "delete", "lifecycle", "location", "logging", "notification"),
        *("partNumber", "policy", "requestPayment", "restore", "tagging", "torrent", "uploadId"),
        *("uploads", "versionId", "versioning", "versions", "website"),
        *("response-cache-control", "response-content-disposition", "response-content-encoding"),
        *("response-content-language", "response-content-type", "response-expires"),
    }
)


class Claim:
    """The parts of a presigned query. SignatureError where they are malformed.

    `host_bucket`: the bucket that the Host header names, in virtual-host style; else "".
    """

    def __init__(self, request: Request, host_bucket: str = "") -> None:
        self._request = request
        self._host_bucket = host_bucket
        fields: dict[str, str] = {}
        covered: list[str] = []
        for part in request.raw_query.decode("latin-1").split("&"):
            name, equals, value = part.partition("=")
            if name in _AUTHENTICATION and name not in fields:
                fields[name] = unquote(value, "latin-1")
            elif name in _COVERED:
                covered.append(f"{name}={unquote(value, 'latin-1')}" if equals else name)
            elif part:
                raise SignatureError(
                    "AccessDenied",
                    f"A Signature Version 2 URL does not cover the parameter {name[:64]}; "
                    "sign with AWS4-HMAC-SHA256.",
                )
        if fields.keys() != _AUTHENTICATION:
            raise SignatureError(
                "AccessDenied",
                "Query-string authentication requires the Signature, Expires and "
                "AWSAccessKeyId parameters",
            )
        self.access_key_id = fields["AWSAccessKeyId"]
        self._signature = fields["Signature"]
        self._expires = fields["Expires"]
        self._covered = sorted(covered)

    def check_time(self, now_s: float) -> None:
        """SignatureError where the URL has expired, or is good for longer than is allowed."""
        text = self._expires
        if not (text.isascii() and text.isdigit()) or len(text) > 15:
            raise SignatureError("AccessDenied", f"Invalid date (should be seconds): {text[:32]}")
        if now_s > int(text):
            raise SignatureError("AccessDenied", "Request has expired")
        if int(text) > now_s + SIGV4_PRESIGNED_S_MAX:
            raise SignatureError(
                "AccessDenied", f"Expires is more than {SIGV4_PRESIGNED_S_MAX} seconds ahead"
            )

    def check_signature(self, secret: str) -> None:
        """SignatureError where the signature is not that of `secret`."""
        digest = hmac.digest(secret.encode(), self._string_to_sign(), hashlib.sha1)
        wanted = base64.b64encode(digest).decode()
        if not hmac.compare_digest(wanted.encode(), self._signature.encode("latin-1")):
            raise SignatureError(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
                AWSAccessKeyId=self.access_key_id,
            )

    def _string_to_sign(self) -> bytes:
        request = self._request
        amz: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            if name.startswith("x-amz-"):
                amz.setdefault(name, []).append(value.strip())
        lines = [
            request.method,
            request.headers.get("content-md5", ""),
            request.headers.get("content-type", ""),
            self._expires,
            *(f"{name}:{','.join(amz[name])}" for name in sorted(amz)),
        ]
        bucket = f"/{self._host_bucket}" if self._host_bucket else ""
        resource = bucket + request.raw_path.decode("latin-1")
        if self._covered:
            resource += "?" + "&".join(self._covered)
        return ("\n".join(lines) + "\n" + resource).encode("latin-1")


def is_claimed(request: Request) -> bool:
    """Whether `request` is presigned by Version 2 (and has no Authorization header)."""
    return b"AWSAccessKeyId=" in request.raw_query and "authorization" not in request.headers

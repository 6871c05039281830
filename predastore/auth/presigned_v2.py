"""Presigned URLs of AWS Signature Version 2, and nothing else of that version.

boto3 and version 1 of the AWS CLI still presign so by default in the oldest regions, us-east-1
among them. Reference: "Signing and authenticating REST requests", Query String Request
Authentication Alternative, in the Amazon S3 User Guide.

    ?AWSAccessKeyId=<key id>&Signature=<base64>&Expires=<seconds since the epoch>

    string to sign = method LF Content-MD5 LF Content-Type LF Expires LF
                     name ":" value LF for each x-amz-* header, sorted
                     "/bucket" where the host names it, and the path as sent
                     ("/bucket/" for "/bucket", too, as boto3 signs it),
                     "?" and the sub-resources, sorted, values decoded
    signature      = base64(HMAC-SHA1(secret, string to sign))

Content-MD5, Content-Type and x-amz-* may stand in the query instead, where boto3 puts them, or in
both places: they count as header fields (`ClaimV2.fields`), in the signature and in what is obeyed.
Only these, sub-resources and response-* are covered by such a signature, so a query with anything
else is refused: an unsigned parameter is never obeyed. Expires lies at most as far ahead as that
of a Version 4 URL may.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final
from urllib.parse import unquote_plus

from predastore.auth.authorization import expired
from predastore.base.errors import SignatureError
from predastore.base.limits import SIGV4_PRESIGNED_S_MAX
from predastore.httpd.message import Request

CONTENT_FIELDS: Final = frozenset({"content-md5", "content-type"})
_TOKEN: Final = "x-amz-security-token"
_AUTHENTICATION: Final = frozenset({"AWSAccessKeyId", "Signature", "Expires"})
_COVERED: Final = frozenset(
    {
        *("accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle"),
        *("location", "logging", "metrics", "notification", "object-lock", "partNumber"),
        *("policy", "replication", "requestPayment", "restore", "select", "select-type"),
        *("tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions"),
        *("website",),
        *("response-cache-control", "response-content-disposition", "response-content-encoding"),
        *("response-content-language", "response-content-type", "response-expires"),
    }
)


class ClaimV2:
    """The parts of a presigned query. SignatureError where they are malformed.

    `host_bucket`: the bucket that the Host header names, in virtual-host style; else "".
    `fields`: the header fields that the query carries, lower-case names.
    """

    def __init__(self, request: Request, host_bucket: str = "") -> None:
        self._request = request
        self._host_bucket = host_bucket
        self.fields: dict[str, str] = {}
        fields: dict[str, str] = {}
        covered: list[str] = []
        for part in request.raw_query.decode("latin-1").split("&"):
            name, equals, raw_value = part.partition("=")
            value, lowered = unquote_plus(raw_value, "latin-1"), name.lower()
            if name in _AUTHENTICATION and name not in fields:
                fields[name] = value
            elif name in _COVERED:
                covered.append(f"{name}={value}" if equals else name)
            elif lowered in CONTENT_FIELDS or lowered.startswith("x-amz-"):
                if lowered in self.fields:
                    raise SignatureError("InvalidArgument", f"{name} is given twice.")
                self.fields[lowered] = value.strip()
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
        self.token = self.fields.get(_TOKEN) or request.headers.get(_TOKEN, "")
        self._signature = fields["Signature"]
        self._expires = fields["Expires"]
        self._covered = sorted(covered)

    def check_time(self, now_s: float) -> None:
        """SignatureError where the URL has expired, or is good for longer than is allowed."""
        text = self._expires
        if not (text.isascii() and text.isdigit()) or len(text) > 15:
            raise SignatureError("AccessDenied", f"Invalid date (should be seconds): {text[:32]}")
        if now_s > int(text):
            raise expired(int(text), now_s)
        if int(text) > now_s + SIGV4_PRESIGNED_S_MAX:
            raise SignatureError(
                "AccessDenied", f"Expires is more than {SIGV4_PRESIGNED_S_MAX} seconds ahead"
            )

    def check_signature(self, secret: str) -> None:
        """SignatureError where the signature is not that of `secret`."""
        head = self._signed_head()
        for path in self._paths():
            text = (head + path + self._signed_query()).encode("latin-1")
            digest = hmac.digest(secret.encode(), text, hashlib.sha1)
            if hmac.compare_digest(base64.b64encode(digest), self._signature.encode("latin-1")):
                return
        raise SignatureError(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
            AWSAccessKeyId=self.access_key_id,
        )

    def _paths(self) -> tuple[str, ...]:
        """What the signer may have taken for the path."""
        path = self._request.raw_path.decode("latin-1")
        if self._host_bucket:
            return (f"/{self._host_bucket}{path}",)
        return (path, f"{path}/") if path.count("/") == 1 and path != "/" else (path,)

    def _signed_query(self) -> str:
        return "?" + "&".join(self._covered) if self._covered else ""

    def _signed_head(self) -> str:
        request = self._request
        fields = self._all_fields()
        lines = [
            request.method,
            fields.pop("content-md5", ""),
            fields.pop("content-type", ""),
            self._expires,
            *(f"{name}:{fields[name]}" for name in sorted(fields)),
        ]
        return "\n".join([*lines, ""])

    def _all_fields(self) -> dict[str, str]:
        """The fields that are signed. One that is in the head and in the query says the same in
        both, or else it would be another one that is obeyed than is signed."""
        found: dict[str, str] = {}
        for name, value in self._request.headers.items():
            if name in CONTENT_FIELDS or name.startswith("x-amz-"):
                found[name] = f"{found[name]},{value.strip()}" if name in found else value.strip()
        for name, value in self.fields.items():
            if found.setdefault(name, value) != value:
                raise SignatureError(
                    "SignatureDoesNotMatch",
                    f"{name} says another thing in the header than in the URL.",
                    AWSAccessKeyId=self.access_key_id,
                )
        return found


def is_claimed(request: Request) -> bool:
    """Whether `request` is presigned by Version 2 (and has no Authorization header)."""
    return b"AWSAccessKeyId=" in request.raw_query and "authorization" not in request.headers

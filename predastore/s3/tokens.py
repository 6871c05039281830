"""Continuation tokens: opaque, authenticated, bound to the listing that they continue.

    token = base64url( mac (16 bytes) | place (UTF-8) )
    mac   = first 16 bytes of HMAC-SHA256(key, length-prefixed: kind, scope..., place)

`scope` is what the listing is about (bucket, prefix, delimiter, or the account), so that a token
works only for the listing that made it; anything else is InvalidArgument. The key is the
cluster's: a token made by one gateway is good at every other, and after a restart. While that is
changed, tokens under each of several keys are taken.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence

from predastore.base import limits
from predastore.base.errors import S3Error

_MAC_BYTES = 16


class Tokens:
    """Makes tokens with the first of its keys, and opens those of all."""

    def __init__(self, keys: Callable[[], Sequence[bytes]]) -> None:
        self._keys = keys

    @staticmethod
    def _mac(key: bytes, scope: tuple[str, ...], place: bytes) -> bytes:
        mac = hmac.new(key, digestmod="sha256")
        for part in (*(text.encode() for text in scope), place):
            mac.update(len(part).to_bytes(4, "little"))
            mac.update(part)
        return mac.digest()[:_MAC_BYTES]

    def make(self, place: str, *scope: str) -> str:
        raw = place.encode()
        return base64.urlsafe_b64encode(self._mac(self._keys()[0], scope, raw) + raw).decode()

    def open(self, token: str, *scope: str) -> str:
        """The place that `make` put in; InvalidArgument for any other token."""
        try:
            if len(token) > limits.S3_TOKEN_BYTES_MAX:
                raise ValueError
            raw = base64.b64decode(token.encode("ascii"), b"-_", validate=True)
            mac, place = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            for key in self._keys():
                if hmac.compare_digest(mac, self._mac(key, scope, place)):
                    return place.decode()
        except (ValueError, binascii.Error):
            pass
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        )

"""Secrets that are stored where others may look: sealed under the cluster key.

    version 1 | nonce 12 | ciphertext and tag, AES-256-GCM

The key is HKDF-SHA256 (RFC 5869) of the cluster key, another one for each purpose. What a secret
belongs to is bound to it, so that what is sealed can not be put in another's place. A nonce is
drawn for each sealing: for 2**32 of one purpose, two that are alike are not to be expected (NIST SP
800-38D, 8.3).
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from predastore.base.errors import CorruptData, UnsupportedFormat

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


def seal(cluster_key: bytes, purpose: str, secret: bytes, *, bound_to: bytes) -> bytes:
    """`secret`, for whoever has the cluster key. `bound_to`: what it belongs to."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(cluster_key, purpose)).encrypt(nonce, secret, bound_to)
    return _VERSION + nonce + sealed


def unseal(cluster_key: bytes, purpose: str, sealed: bytes, *, bound_to: bytes) -> bytes:
    """What `seal` was given. CorruptData: under another cluster key, for another purpose, of
    something else, or damaged."""
    if sealed[:1] != _VERSION:
        form = sealed[:1].hex() or "none"
        raise UnsupportedFormat(f"{purpose}: sealed in form {form}; this program reads 01")
    nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(_key(cluster_key, purpose)).decrypt(nonce, rest, bound_to)
    except (InvalidTag, ValueError):
        raise CorruptData(f"{purpose}: sealed under another cluster key, or damaged") from None


def _key(cluster_key: bytes, purpose: str) -> bytes:
    info = f"predastore sealed v1 {purpose}".encode()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(cluster_key)

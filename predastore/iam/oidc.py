"""Tokens of identity providers (OpenID Connect Core 1.0): who shows one, and whether that is true.

A token is a JWT (RFC 7519), signed with RS256 or ES256 (RFC 7518) by a key that the provider
publishes: its discovery document (OpenID Connect Discovery 1.0) says where (JWKS, RFC 7517). The
keys are read when the first token comes, then anew each hour, and where a token names one that is
not known, as after a rotation; then no more often than every OIDC_RETRY_S. Where they can not be
read anew, those that are known go on to count for as long again.

Only the issuers of the configuration are asked, over verified TLS, with a bound on bytes and on the
time that all of it takes. No redirect is followed. A token with no signature, or one of a kind that
is not named above, is none.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from predastore.base.config import Oidc
from predastore.base.limits import (
    OIDC_KEYS_MAX,
    OIDC_REFRESH_S,
    OIDC_RETRY_S,
    OIDC_SKEW_S,
    OIDC_TOKEN_CHARS_MAX,
)
from predastore.iam.errors import TokenRefused, Unavailable
from predastore.iam.fetching import FetchFailed, fetch

_DISCOVERY: Final = "/.well-known/openid-configuration"
_RSA_BITS_MIN: Final = 2_048
_RSA_BITS_MAX: Final = 8_192
_P256_BYTES: Final = 32

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says that was found true. `host`: the issuer without its scheme, as policies
    name it. `all`: every claim, by its name."""

    issuer: str
    host: str
    subject: str
    audience: str
    all: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """What condition keys begin with that are claims: the host without its port, and the
        path. Which provider a token is of, is asked for by the principal, not by these."""
        host, slash, path = self.host.partition("/")
        return host.partition(":")[0] + slash + path


@dataclass(slots=True)
class _Published:
    """The keys of an issuer, by their ids ("" for one without)."""

    keys: dict[str, PublicKey] = field(default_factory=dict)
    read_s: float = float("-inf")
    tried_s: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class OidcProviders:
    """`providers`: those of the configuration, as it is now."""

    def __init__(
        self,
        providers: Callable[[], tuple[Oidc, ...]],
        wall_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = providers
        self._wall_s = wall_s
        self._clock_s = clock_s
        self._published: dict[str, _Published] = {}

    async def claims(self, token: str) -> TokenClaims:
        """Of a token that is good now. TokenRefused, with why; Unavailable: the provider's keys can
        not be had."""
        head, claims, signed, signature = _parsed(token)
        issuer = claims.get("iss")
        provider = next((one for one in self._providers() if one.issuer == issuer), None)
        if provider is None:
            raise TokenRefused("No OpenIDConnect provider of this issuer is configured.")
        audience = _audience(claims, provider)
        self._check_time(claims)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise TokenRefused("The token has no subject.")
        key = await self._key(provider, head)
        _check_signature(key, head.get("alg"), signed, signature)
        host = provider.issuer.partition("://")[2]
        return TokenClaims(provider.issuer, host, subject, audience, claims)

    def _check_time(self, claims: Mapping[str, Any]) -> None:
        now_s = self._wall_s()
        ends, begins = _number(claims.get("exp")), _number(claims.get("nbf", 0))
        if ends is None or begins is None:
            raise TokenRefused("The token has no time at which it ends.")
        if now_s > ends + OIDC_SKEW_S:
            raise TokenRefused("Token expired", "ExpiredTokenException")
        if now_s < begins - OIDC_SKEW_S:
            raise TokenRefused("The token is not good yet.")

    # --- keys

    async def _key(self, provider: Oidc, head: Mapping[str, Any]) -> PublicKey:
        key_id = head.get("kid", "")
        if not isinstance(key_id, str):
            raise TokenRefused("The token's key id is none.")
        published = self._published.setdefault(provider.issuer, _Published())
        async with published.lock:
            now_s = self._clock_s()
            is_old = now_s - published.read_s > OIDC_REFRESH_S
            is_unknown = _chosen(published.keys, key_id) is None
            if (is_old or is_unknown) and now_s - published.tried_s > OIDC_RETRY_S:
                published.tried_s = now_s
                await self._read(provider, published)
        key = _chosen(published.keys, key_id)
        if self._clock_s() - published.read_s > 2 * OIDC_REFRESH_S:
            raise Unavailable("The keys of the identity provider can not be read.")
        if key is None:
            raise TokenRefused("The token's key is none of the identity provider's.")
        return key

    async def _read(self, provider: Oidc, published: _Published) -> None:
        try:
            published.keys = await _keys_of(provider)
            published.read_s = self._clock_s()
        except FetchFailed as error:
            _log.warning(
                "the keys of an identity provider can not be read",
                extra={"issuer": provider.issuer, "error": str(error)},
            )


async def _keys_of(provider: Oidc) -> dict[str, PublicKey]:
    """FetchFailed, also for what is no document of this issuer."""
    found = _object(await fetch(provider.issuer.rstrip("/") + _DISCOVERY, provider.ca))
    where = found.get("jwks_uri")
    if found.get("issuer") != provider.issuer or not isinstance(where, str):
        raise FetchFailed("the discovery document is not this issuer's")
    scheme = provider.issuer.partition("://")[0]
    if not where.startswith(f"{scheme}://"):
        raise FetchFailed(f"jwks_uri is no {scheme}: {where[:200]}")
    keys = _object(await fetch(where, provider.ca)).get("keys")
    if not isinstance(keys, list):
        raise FetchFailed("the JWKS has no keys")
    made = {}
    for one in keys[:OIDC_KEYS_MAX]:
        key = _public_key(one) if isinstance(one, dict) else None
        if key is not None:
            made[str(one.get("kid", ""))] = key
    return made


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise FetchFailed("the answer is no JSON") from None
    if not isinstance(found, dict):
        raise FetchFailed("the answer is no object")
    return found


def _public_key(jwk: Mapping[str, Any]) -> PublicKey | None:
    """A key that signs with RS256 or ES256; None for any other."""
    if jwk.get("use", "sig") != "sig":
        return None
    try:
        if jwk.get("kty") == "RSA":
            modulus, exponent = _integer(jwk["n"]), _integer(jwk["e"])
            if not _RSA_BITS_MIN <= modulus.bit_length() <= _RSA_BITS_MAX:
                return None
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
            x, y = _integer(jwk["x"]), _integer(jwk["y"])
            return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except (KeyError, TypeError, ValueError):
        return None
    return None


def _chosen(keys: Mapping[str, PublicKey], key_id: str) -> PublicKey | None:
    """The key of an id; where a token names none, the only one there is."""
    if not key_id and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(key_id)


# --- the token


def _parsed(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what is signed, and the signature."""
    parts = token.split(".")
    if len(token) > OIDC_TOKEN_CHARS_MAX or len(parts) != 3 or not token.isascii():
        raise TokenRefused("The token is no JWT of three parts.")
    try:
        head, claims = (json.loads(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
    except (ValueError, RecursionError):
        raise TokenRefused("The token is no JWT.") from None
    if not isinstance(head, dict) or not isinstance(claims, dict) or "crit" in head:
        raise TokenRefused("The token is none that is understood in full.")
    return head, claims, f"{parts[0]}.{parts[1]}".encode(), signature


def _audience(claims: Mapping[str, Any], provider: Oidc) -> str:
    """For whom the token is; one of those that it may be for."""
    said = claims.get("aud")
    named = said if isinstance(said, list) else [said]
    for one in named:
        if isinstance(one, str) and one in provider.audiences:
            return one
    raise TokenRefused("Incorrect token audience")


def _check_signature(key: PublicKey, algorithm: object, signed: bytes, signature: bytes) -> None:
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
            return
        is_p256 = isinstance(key, ec.EllipticCurvePublicKey)
        if algorithm == "ES256" and is_p256 and len(signature) == 2 * _P256_BYTES:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            r = int.from_bytes(signature[:_P256_BYTES], "big")
            s = int.from_bytes(signature[_P256_BYTES:], "big")
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
            return
    except InvalidSignature:
        raise TokenRefused("The token's signature is not the provider's.") from None
    raise TokenRefused("The token is not signed with RS256 or ES256.")


def _decoded(text: str) -> bytes:
    """base64url without padding; ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _integer(text: object) -> int:
    if not isinstance(text, str):
        raise TypeError
    return int.from_bytes(_decoded(text), "big")


def _number(value: object) -> float | None:
    """Seconds since the epoch; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)

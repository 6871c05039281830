"""Who sent this request: AWS Signature Version 4, verified.

`Verifier.verify` decides, in this order, whether the claim is well formed, is meant for this
service and region, is fresh, names a known key, covers every header that can change what the
request does (Host and x-amz-*), and is signed with that key's secret. `Verifier.authenticate` is
the same where keys are looked up elsewhere, with the session token that goes with them, if one
does: what a token is worth is decided by who looks it up. Then it sees to the body (payload.py).

(Other services than S3 sign the digest of a body that they have whole: `authenticate_whole`.)
A request without Authorization and without X-Amz-Signature is anonymous; its payload header, if
any, is heeded all the same. So is a form that is posted: what signs it are fields of it, and
`Verifier.authenticate_policy` is for when these were read. Every refusal is a SignatureError with
the code that S3 uses.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hmac import compare_digest
from typing import Final, NamedTuple, NoReturn, TypeAlias

from predastore._fast import sigv4 as kernel
from predastore.auth import presigned_v2
from predastore.auth.authorization import Claim, expired, parse_claim, shown_time
from predastore.auth.payload import UNSIGNED, open_body, refuse_digest
from predastore.auth.post_policy import TOKEN, ClaimOfPolicy, parse_claim_of_policy
from predastore.base.config import Policy
from predastore.base.errors import SignatureError
from predastore.base.limits import SIGV4_KEYS_CACHED_MAX, SIGV4_SKEW_S
from predastore.httpd.chunked import ChunkSigning
from predastore.httpd.message import Request

_DEFAULT_PORTS: Final = (b"443", b"80")


@lru_cache(maxsize=SIGV4_KEYS_CACHED_MAX)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of a credential scope; `date` is YYYYMMDD."""
    return kernel.signing_key(secret.encode(), date.encode(), region.encode(), service.encode())


@dataclass(frozen=True, slots=True)
class Credential:
    """`policy`: what it may do of what its account may; None: all of it."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    account_id: str
    policy: Policy | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is something that the account may do, and this credential may not."""
        return self.policy is not None and not self.policy.is_everything


# Finds the credential of an access key id and a session token, "" for none; None: there is none.
# SignatureError where the token is no good.
Find: TypeAlias = Callable[[str, str], Awaitable[Credential | None]]


class Verified(NamedTuple):
    """`credential` is None for an anonymous request.

    `payload_sha256`: what the body's digest must be; None: unsigned, or verified by the body.
    `signed_s`: when, Unix time, where the signature says so. `is_v2`, `is_form`: how.
    """

    credential: Credential | None
    payload_sha256: bytes | None
    presigned: bool = False
    signed_s: int | None = None
    is_v2: bool = False
    is_form: bool = False


def _refuse_signature(access_key_id: str) -> NoReturn:
    raise SignatureError(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        AWSAccessKeyId=access_key_id,
    )


def _refuse_token() -> NoReturn:
    raise SignatureError("InvalidToken", "There are no temporary credentials here.")


def _as_signed(headers: list[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """The header as it came, and with what else Host may have said when it was signed: clients,
    and proxies on the way, write the default port or leave it out."""
    yield headers
    host = next((value for name, value in headers if name == b"host"), b"")
    name, colon, port = host.rpartition(b":")
    others: list[bytes] = []
    if colon and port in _DEFAULT_PORTS:
        others = [name]
    elif host and not (colon and port.isdigit()):
        others = [host + b":" + default for default in _DEFAULT_PORTS]
    for other in others:
        yield [(name, other if name == b"host" else value) for name, value in headers]


def _known(
    credential: Credential | None, claim: Claim | presigned_v2.ClaimV2 | ClaimOfPolicy
) -> Credential:
    if credential is None:
        raise SignatureError(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            AWSAccessKeyId=claim.access_key_id,
        )
    return credential


class Verifier:
    """Verifies requests to one service in one region, or, where that is None, in any; `lookup`
    finds a credential by key id."""

    def __init__(
        self,
        lookup: Callable[[str], Credential | None],
        *,
        region: str | None,
        service: str = "s3",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._lookup = lookup
        self._region = region
        self._service = service
        self._now = now

    def verify(self, request: Request, host_bucket: str = "") -> Verified:
        """Who sent `request`; SignatureError where that is not proven.

        `host_bucket`: the bucket that the Host header names, in virtual-host style.
        """
        claim = self._claim(request, host_bucket)
        if claim is None:
            return self._anonymous(request)
        if claim.token:
            _refuse_token()
        return self._prove(claim, self._lookup(claim.access_key_id), request)

    async def authenticate(self, request: Request, find: Find, host_bucket: str = "") -> Verified:
        """The same, where `find` knows the credentials."""
        claim = self._claim(request, host_bucket)
        if claim is None:
            return self._anonymous(request)
        found = await find(claim.access_key_id, claim.token)
        return self._prove(claim, found, request)

    async def authenticate_whole(
        self, request: Request, find: Find, payload: bytes
    ) -> Credential | None:
        """Who sent a request whose body is `payload`; None: an anonymous one."""
        claim = self._claim(request, "")
        if claim is None:
            return None
        assert isinstance(claim, Claim)
        credential = _known(await find(claim.access_key_id, claim.token), claim)
        digest = kernel.sha256(payload).hex()
        declared = claim.payload or request.headers.get("x-amz-content-sha256", digest)
        if declared != digest:
            refuse_digest()
        self._check_signed(claim, credential, request, digest)
        return credential

    def _claim(self, request: Request, host_bucket: str) -> Claim | presigned_v2.ClaimV2 | None:
        """What the request claims, for this service and at this time."""
        if self._service == "s3" and presigned_v2.is_claimed(request):
            claim_v2 = presigned_v2.ClaimV2(request, host_bucket)
            claim_v2.check_time(self._now())
            return claim_v2
        claim = parse_claim(request)
        if claim is not None:
            self._check_scope(claim)
            self._check_time(claim)
        return claim

    def _anonymous(self, request: Request) -> Verified:
        payload = request.headers.get("x-amz-content-sha256", UNSIGNED)
        return Verified(None, open_body(request, payload, None))

    def _prove(
        self,
        claim: Claim | presigned_v2.ClaimV2,
        found: Credential | None,
        request: Request,
    ) -> Verified:
        credential = _known(found, claim)
        if isinstance(claim, presigned_v2.ClaimV2):
            claim.check_signature(credential.secret_access_key)
            payload = request.headers.get("x-amz-content-sha256", UNSIGNED)
            payload = claim.fields.get("x-amz-content-sha256", payload)
            digest = open_body(request, payload, None)
            return Verified(credential, digest, presigned=True, is_v2=True)
        payload = self._payload(claim, request)
        key = self._check_signed(claim, credential, request, payload)
        signing = ChunkSigning(key, claim.stamp, claim.scope.text, claim.signature)
        digest = open_body(request, payload, signing)
        return Verified(credential, digest, claim.presigned, claim.time_s)

    def _check_signed(
        self, claim: Claim, credential: Credential, request: Request, payload: str
    ) -> bytes:
        """The signing key, with which the request is signed."""
        self._check_coverage(claim, request)
        scope = claim.scope
        secret = credential.secret_access_key
        key = signing_key(secret, scope.date, scope.region, self._service)
        self._check_signature(claim, request, key, payload)
        return key

    async def authenticate_policy(
        self, fields: Mapping[str, str], find: Find | None = None
    ) -> Verified:
        """Who signed the policy of a form, of which `fields` (lower-case names) stand before its
        file; nobody, where there is no policy. What the policy says is not looked at.
        SignatureError where that is not proven. `find`: as in `authenticate`; None: this verifier
        knows the credentials."""
        claimed = parse_claim_of_policy(fields)
        if claimed is None:
            return Verified(None, None)
        claim, token = claimed.claim, fields.get(TOKEN, "")
        if claim is not None:
            self._check_scope(claim)
            self._check_time(claim)
        if find is not None:
            found = await find(claimed.access_key_id, token)
        else:
            found = self._lookup(claimed.access_key_id)
            if token:
                _refuse_token()
        credential = _known(found, claimed)
        secret = credential.secret_access_key
        if claim is None:
            is_signed = claimed.is_signed_v2(secret)
        else:
            key = signing_key(secret, claim.scope.date, claim.scope.region, self._service)
            signature = kernel.text_signature(key, claimed.policy)
            is_signed = compare_digest(signature, claimed.signature)
        if not is_signed:
            _refuse_signature(claimed.access_key_id)
        signed_s = None if claim is None else claim.time_s
        return Verified(credential, None, signed_s=signed_s, is_v2=claim is None, is_form=True)

    def now_s(self) -> float:
        """Unix time, by the clock that signatures are judged by."""
        return self._now()

    # --- the claim

    def _check_scope(self, claim: Claim) -> None:
        scope = claim.scope
        region = scope.region if self._region is None else self._region
        if scope.region != region:
            why = f"the region '{scope.region}' is wrong; expecting '{region}'"
        elif scope.service != self._service:
            why = f"incorrect service '{scope.service}'; this endpoint is '{self._service}'"
        elif scope.date.encode() != claim.stamp[:8]:
            why = f"the credential date '{scope.date}' is not that of x-amz-date"
        else:
            return
        if claim.presigned:
            message = f"Error parsing the X-Amz-Credential parameter; {why}"
            raise SignatureError("AuthorizationQueryParametersError", message, Region=region)
        message = f"The authorization header is malformed; {why}"
        raise SignatureError("AuthorizationHeaderMalformed", message, Region=region)

    def _check_time(self, claim: Claim) -> None:
        now_s = self._now()
        age_s = now_s - claim.time_s
        if claim.expires_s is None:
            if abs(age_s) > SIGV4_SKEW_S:
                raise SignatureError(
                    "RequestTimeTooSkewed",
                    "The difference between the request time and the current time is too large.",
                    RequestTime=claim.stamp.decode(),
                    ServerTime=shown_time(now_s),
                    MaxAllowedSkewMilliseconds=str(SIGV4_SKEW_S * 1000),
                )
        elif age_s < -SIGV4_SKEW_S:
            raise SignatureError("AccessDenied", "Request is not valid yet")
        elif age_s > claim.expires_s:
            elements = {"X-Amz-Expires": str(claim.expires_s)}
            raise expired(claim.time_s + claim.expires_s, now_s, **elements)

    def _check_coverage(self, claim: Claim, request: Request) -> None:
        name = kernel.unsigned_header(request.headers.raw, claim.signed)
        if name is not None:
            raise SignatureError(
                "AccessDenied",
                "There were headers present in the request which were not signed",
                HeadersNotSigned=name.decode("latin-1"),
            )

    def _payload(self, claim: Claim, request: Request) -> str:
        """What stands for the payload in the canonical request."""
        header = request.headers.get("x-amz-content-sha256")
        if claim.presigned:
            return claim.payload or header or UNSIGNED
        if header is None:
            raise SignatureError(
                "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
            )
        return header

    def _check_signature(self, claim: Claim, request: Request, key: bytes, payload: str) -> None:
        for headers in _as_signed(request.headers.raw):
            try:
                signature = kernel.request_signature(
                    key,
                    claim.stamp,
                    claim.scope.text,
                    request.method.encode("latin-1"),
                    request.raw_path,
                    request.raw_query,
                    headers,
                    claim.signed,
                    payload.encode("latin-1"),
                    claim.presigned,
                )
            except ValueError as error:
                code = "AuthorizationHeaderMalformed"
                if claim.presigned:
                    code = "AuthorizationQueryParametersError"
                raise SignatureError(code, f"SignedHeaders can not be used: {error}") from None
            if compare_digest(signature, claim.signature):
                return
        _refuse_signature(claim.scope.access_key_id)

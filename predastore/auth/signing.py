"""The client's side of SigV4: signing a request in its headers."""

from __future__ import annotations

import time

from predastore._fast import sigv4 as kernel
from predastore.auth.authorization import ALGORITHM
from predastore.auth.payload import UNSIGNED
from predastore.auth.sigv4 import Credential, signing_key
from predastore.httpd.message import Buffer, Headers


def sign_request(
    credential: Credential,
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: list[tuple[str, str]],
    payload: Buffer | str | None,
    region: str,
    service: str,
    now_s: float | None = None,
) -> list[tuple[str, str]]:
    """`headers` (Host among them) with x-amz-date, x-amz-content-sha256 and Authorization.

    All of them are signed. `payload`: the body; or a value for x-amz-content-sha256; or None for
    UNSIGNED-PAYLOAD. Path and query are as they will be sent, percent-encoded.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() if now_s is None else now_s))
    if payload is None:
        payload = UNSIGNED
    elif not isinstance(payload, str):
        payload = kernel.sha256(payload).hex()
    sent = [*headers, ("x-amz-date", stamp), ("x-amz-content-sha256", payload)]
    raw = Headers.of(sent).raw
    signed = b";".join(sorted({name for name, _ in raw}))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    key = signing_key(credential.secret_access_key, stamp[:8], region, service)
    signature = kernel.request_signature(
        key,
        stamp.encode(),
        scope.encode(),
        method.encode(),
        raw_path,
        raw_query,
        raw,
        signed,
        payload.encode(),
    )
    authorization = (
        f"{ALGORITHM} Credential={credential.access_key_id}/{scope}, "
        f"SignedHeaders={signed.decode()}, Signature={signature.decode()}"
    )
    return [*sent, ("authorization", authorization)]

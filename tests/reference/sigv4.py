"""SigV4 in plain Python, step by step as the AWS documentation has it: the twin of _fast.sigv4."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote, unquote_to_bytes

_UNRESERVED = "-._~"


def uri_encode(data: bytes, keep_slash: bool = False) -> bytes:
    return quote(data, safe=_UNRESERVED + ("/" if keep_slash else "")).encode()


def canonical_query(raw: bytes, presigned: bool) -> bytes:
    pairs = []
    for part in raw.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        decoded = [unquote_to_bytes(x.replace(b"+", b" ")) for x in (name, value)]
        pairs.append(tuple(uri_encode(x) for x in decoded))
    return b"&".join(
        name + b"=" + value
        for name, value in sorted(pairs)
        if not (presigned and name == b"X-Amz-Signature")
    )


def canonical_headers(headers: list[tuple[bytes, bytes]], signed: bytes) -> bytes:
    names = signed.split(b";")
    if b"" in names or names != sorted(set(names)):
        raise ValueError("signed headers")
    lines = b""
    for name in names:
        values = [b" ".join(v.replace(b"\t", b" ").split(b" ")) for n, v in headers if n == name]
        values = [b" ".join(x for x in v.split(b" ") if x) for v in values]
        lines += name + b":" + b",".join(values) + b"\n"
    return lines


def canonical_request(
    method: bytes,
    raw_path: bytes,
    raw_query: bytes,
    headers: list[tuple[bytes, bytes]],
    signed: bytes,
    payload: bytes,
    presigned: bool = False,
) -> bytes:
    return b"\n".join(
        [
            method,
            uri_encode(unquote_to_bytes(raw_path), keep_slash=True) or b"/",
            canonical_query(raw_query, presigned),
            canonical_headers(headers, signed),
            signed,
            payload,
        ]
    )


def signing_key(secret: bytes, date: bytes, region: bytes, service: bytes) -> bytes:
    key = b"AWS4" + secret
    for part in (date, region, service, b"aws4_request"):
        key = hmac.digest(key, part, "sha256")
    return key


def text_signature(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, "sha256").hexdigest().encode()


def request_signature(
    key: bytes,
    stamp: bytes,
    scope: bytes,
    method: bytes,
    raw_path: bytes,
    raw_query: bytes,
    headers: list[tuple[bytes, bytes]],
    signed: bytes,
    payload: bytes,
    presigned: bool = False,
) -> bytes:
    request = canonical_request(method, raw_path, raw_query, headers, signed, payload, presigned)
    digest = hashlib.sha256(request).hexdigest().encode()
    return text_signature(key, b"\n".join([b"AWS4-HMAC-SHA256", stamp, scope, digest]))


def unsigned_header(headers: list[tuple[bytes, bytes]], signed: bytes) -> bytes | None:
    names = signed.split(b";")
    for name, _ in headers:
        if (name == b"host" or name.startswith(b"x-amz-")) and name not in names:
            return name
    return None

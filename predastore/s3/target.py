"""What a request is addressed to: bucket, key and query parameters, out of the raw target.

Path style is `/bucket/key`; virtual-host style is `/key` with the bucket in front of one of the
configured base domains in Host. Everything after the first slash that follows the bucket is the
key, byte for byte after percent-decoding: empty segments and dots are part of it. A key is valid
UTF-8 of 1 to 1,024 bytes without NUL; anything else is refused here, so nothing below has to ask.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.s3.versions import check_version_id

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class Target(NamedTuple):
    """`bucket` is empty for the service itself, `key` for a bucket."""

    bucket: str
    key: str


class CopySource(NamedTuple):
    """`version`: the id that the client named, or ""."""

    bucket: str
    key: str
    version: str


def percent_decode(raw: bytes) -> str:
    """Percent-decoding, strictly: InvalidURI for a broken escape and for what is not UTF-8."""
    if b"%" in raw:
        at = raw.find(b"%")
        while at >= 0:
            if len(raw) < at + 3 or raw[at + 1] not in _HEX or raw[at + 2] not in _HEX:
                raise S3Error("InvalidURI")
            at = raw.find(b"%", at + 3)
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "The URI is not valid UTF-8.") from None
    if "\0" in text:
        raise S3Error("InvalidURI", "The URI contains a NUL character.")
    return text


def check_key(key: str) -> str:
    """`key`, or KeyTooLongError."""
    if len(key) * 4 > limits.S3_KEY_BYTES_MAX:
        size = len(key.encode())
        if size > limits.S3_KEY_BYTES_MAX:
            raise S3Error(
                "KeyTooLongError", Size=str(size), MaxSizeAllowed=str(limits.S3_KEY_BYTES_MAX)
            )
    return key


def host_bucket(host: str, domains: tuple[str, ...]) -> str:
    """The bucket that Host names in front of the longest of `domains` that fits; "" for a host that
    is one of them, or fits none."""
    if not domains:
        return ""
    name = host.lower()
    if not name.endswith("]"):
        head, colon, port = name.rpartition(":")
        if colon and port.isdigit():
            name = head
    if name in domains:
        return ""
    fitting = [domain for domain in domains if name.endswith(f".{domain}")]
    return name[: -len(max(fitting, key=len)) - 1] if fitting else ""


def parse_target(raw_path: bytes, host: str, domains: tuple[str, ...]) -> Target:
    """Bucket and key of a request; `domains` are lower-case base domains (may be none)."""
    if raw_path[:1] != b"/":
        raise S3Error("InvalidURI")
    bucket = host_bucket(host, domains) if domains else ""
    if bucket:
        return Target(bucket, check_key(percent_decode(raw_path[1:])))
    head, slash, rest = raw_path[1:].partition(b"/")
    if not head and slash:
        raise S3Error("InvalidBucketName", BucketName="")
    return Target(percent_decode(head), check_key(percent_decode(rest)))


def parse_query(raw_query: bytes) -> dict[str, str]:
    """The query parameters, decoded; a name given twice is refused, for it could mean either."""
    query: dict[str, str] = {}
    if not raw_query:
        return query
    pairs = raw_query.split(b"&", limits.S3_QUERY_PARAMETERS_MAX)
    if len(pairs) > limits.S3_QUERY_PARAMETERS_MAX:
        raise S3Error("InvalidURI", "The URI has too many query parameters.")
    for pair in pairs:
        if not pair:
            continue
        raw_name, _, raw_value = pair.replace(b"+", b"%20").partition(b"=")
        name = percent_decode(raw_name)
        if name in query:
            raise S3Error("InvalidArgument", f"The query parameter {name} is given twice.")
        query[name] = percent_decode(raw_value)
    return query


def parse_copy_source(value: str) -> CopySource:
    """The object that x-amz-copy-source names: [/]bucket/key[?versionId=id], encoded."""
    path, question, query = value.encode("latin-1").partition(b"?")
    version = ""
    if question:
        named = parse_query(query)
        if named.keys() != {"versionId"}:
            raise S3Error("InvalidArgument", "Invalid copy source object key")
        version = check_version_id(named["versionId"])
    bucket, _, key = percent_decode(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key")
    return CopySource(bucket, check_key(key), version)

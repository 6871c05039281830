"""What a write's header fields ask for, and what a read's answer carries: metadata and ACLs.

Values are Latin-1 text, that is, the bytes that were sent; they go back as they came. The
header fields that ask for something that is not implemented are refused here
(`check_unimplemented`), before anything else is done: none is ever ignored.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from predastore import limits
from predastore.errors import S3Error
from predastore.httpd.chunked import content_encoding
from predastore.httpd.message import Headers

DEFAULT_CONTENT_TYPE: Final = "binary/octet-stream"

_USER_PREFIX: Final = b"x-amz-meta-"
_AMZ_PREFIX: Final = b"x-amz-"

# Stored with the object and sent back: field as received -> as it is spelt in answers.
STORED: Final[dict[str, str]] = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "expires": "Expires",
    "x-amz-website-redirect-location": "x-amz-website-redirect-location",
}
_STORED_RAW: Final = {name.encode(): name for name in STORED}

# Fields of the protocol itself, which every operation understands or may ignore.
COMMON: Final = frozenset(
    {
        b"x-amz-bypass-governance-retention",  # there is no retention to bypass
        b"x-amz-cf-id",  # added by a CDN
        b"x-amz-content-sha256",
        b"x-amz-date",
        b"x-amz-decoded-content-length",
        b"x-amz-expected-bucket-owner",
        b"x-amz-mfa",  # asked for by versioned buckets alone
        b"x-amz-request-payer",
        b"x-amz-sdk-checksum-algorithm",
        b"x-amz-security-token",
        b"x-amz-te",
        b"x-amz-trailer",
        b"x-amz-user-agent",
    }
)

# On reads, fields of these families ask for something; others are of no effect.
_REFUSED_ON_READS: Final = (
    b"x-amz-server-side-encryption",
    b"x-amz-object-lock",
    b"x-amz-copy-source",
)

# Fields that are accepted with these values (lower case) and no other.
_VALUES: Final[dict[bytes, frozenset[bytes]]] = {
    b"x-amz-acl": frozenset({b"", b"private", b"bucket-owner-full-control"}),
    b"x-amz-bucket-object-lock-enabled": frozenset({b"false"}),
    b"x-amz-object-ownership": frozenset({b"bucketownerenforced"}),
    b"x-amz-storage-class": frozenset({b"", b"standard"}),
    b"x-amz-tagging": frozenset({b""}),
    b"x-amz-tagging-directive": frozenset({b"copy", b"replace"}),  # there are no tags to copy
}
_STORAGE_CLASSES: Final = frozenset(
    {
        *(b"reduced_redundancy", b"standard_ia", b"onezone_ia", b"intelligent_tiering"),
        *(b"glacier", b"deep_archive", b"outposts", b"glacier_ir", b"snow", b"express_onezone"),
        *(b"fsx_openzfs", b"fsx_ontap", b"aws_backup_warm", b"aws_backup_low_cost_warm"),
    }
)


def _refuse(name: bytes, value: bytes) -> S3Error:
    if name == b"x-amz-storage-class" and value not in _STORAGE_CLASSES:
        return S3Error("InvalidStorageClass", StorageClassRequested=value.decode("latin-1"))
    return S3Error("NotImplemented", Header=name.decode("latin-1"))


def check_unimplemented(
    headers: Headers, accepted: frozenset[bytes], families: tuple[bytes, ...], *, mutating: bool
) -> None:
    """NotImplemented for x-amz-* fields beyond COMMON, `accepted` and `families` (prefixes).

    A request that changes something may carry only what its operation knows. A read is refused
    only for what would change its meaning.
    """
    for name, value in headers.raw:
        if not name.startswith(_AMZ_PREFIX) or name in COMMON:
            continue
        if name in accepted:
            allowed = _VALUES.get(name)
            if allowed is not None and value.lower() not in allowed:
                raise _refuse(name, value.lower())
        elif mutating:
            if not name.startswith(families):
                raise _refuse(name, value.lower())
        elif name.startswith(_REFUSED_ON_READS):
            raise _refuse(name, value.lower())


class Metadata(NamedTuple):
    """What is stored beside an object's bytes. Names in lower case; user metadata unprefixed."""

    content_type: str
    headers: dict[str, str]
    user: dict[str, str]


def parse_metadata(headers: Headers) -> Metadata:
    """Content-Type, the stored fields and x-amz-meta-*; MetadataTooLarge beyond S3's 2 KiB."""
    stored: dict[str, str] = {}
    user: dict[str, str] = {}
    user_bytes = stored_bytes = 0
    for name, value in headers.raw:
        if name.startswith(_USER_PREFIX):
            key, text = name[len(_USER_PREFIX) :].decode("latin-1"), value.decode("latin-1")
            user[key] = f"{user[key]},{text}" if key in user else text
            user_bytes += len(name) - len(_USER_PREFIX) + len(value)
        elif name in _STORED_RAW:
            text = value.decode("latin-1")
            if name == b"content-encoding":
                text = content_encoding(headers) or ""
            if text:
                stored[_STORED_RAW[name]] = text
                stored_bytes += len(value)
    if user_bytes > limits.S3_USER_METADATA_BYTES_MAX:
        raise S3Error(
            "MetadataTooLarge",
            Size=str(user_bytes),
            MaxSizeAllowed=str(limits.S3_USER_METADATA_BYTES_MAX),
        )
    content_type = headers.get("content-type") or DEFAULT_CONTENT_TYPE
    if stored_bytes + len(content_type) > limits.S3_STORED_HEADERS_BYTES_MAX:
        raise S3Error("RequestHeaderSectionTooLarge")
    redirect = stored.get("x-amz-website-redirect-location")
    if redirect is not None and not redirect.startswith(("/", "http://", "https://")):
        raise S3Error("InvalidArgument", "The website redirect location must be a path or a URL.")
    return Metadata(content_type, stored, user)
